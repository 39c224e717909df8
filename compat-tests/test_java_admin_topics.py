"""Apache Kafka's Java Admin: topics, their partitions, replicas, offsets and logs."""

from __future__ import annotations

from typing import Any

import pytest
from harness.java_clients import PARTITIONS, Admin, plain, refusal


def test_creating(admin: Admin) -> None:
    new = admin.api.NewTopic(admin.topic, PARTITIONS, 1).configs({"retention.ms": "1000000"})
    dry = admin.createTopics([new], admin.api.CreateTopicsOptions().validateOnly(True))
    dry.all().get()
    assert admin.topic not in plain(admin.listTopics().names().get())
    made = admin.createTopics([new])
    made.all().get()
    assert (made.numPartitions(admin.topic).get(), made.replicationFactor(admin.topic).get()) == (PARTITIONS, 1)
    retention = made.config(admin.topic).get().get("retention.ms")
    assert (retention.value(), retention.isDefault()) == ("1000000", False)
    assert made.topicId(admin.topic).get().toString() == admin.describe().topicId().toString()


def test_creating_with_the_brokers_defaults(admin: Admin) -> None:
    none = admin.clients.optional(None)
    made = admin.createTopics([admin.api.NewTopic(admin.topic, none, none)])
    assert (made.numPartitions(admin.topic).get(), made.replicationFactor(admin.topic).get()) == (1, 1)


def test_creating_with_an_assignment(admin: Admin) -> None:
    here = admin.broker_id
    admin.createTopics([admin.api.NewTopic(admin.topic, {0: [here], 1: [here]})]).all().get()
    assert [each.leader().id() for each in admin.describe().partitions()] == [here, here]


def test_creating_what_cannot_be(admin: Admin) -> None:
    def refused(new: Any) -> tuple[str, str]:
        return refusal(lambda: admin.createTopics([new]).all().get())

    new = admin.api.NewTopic
    assert refused(new("a b", 1, 1))[0] == "InvalidTopicException"
    assert refused(new(admin.topic, 0, 1))[0] == "InvalidPartitionsException"
    assert refused(new(admin.topic, 1, 2))[0] == "InvalidReplicationFactorException"
    assert refused(new(admin.topic, {0: [999]}))[0] == "InvalidReplicaAssignmentException"
    assert refused(new(admin.topic, 1, 1).configs({"retention.ms": "soon"}))[0] == "InvalidConfigurationException"
    admin.create()
    assert refused(new(admin.topic, 1, 1)) == ("TopicExistsException", f"Topic '{admin.topic}' already exists.")


def test_describing_by_name_and_by_id(admin: Admin) -> None:
    admin.create()
    by_name = admin.describe()
    topic_id = by_name.topicId()
    by_id = admin.describeTopics(admin.clients.common.TopicCollection.ofTopicIds([topic_id]))
    described = by_id.allTopicIds().get()[topic_id]
    assert (described.name(), described.topicId().toString()) == (admin.topic, topic_id.toString())
    for topic in (by_name, described):
        assert [each.partition() for each in topic.partitions()] == [0, 1, 2]
        assert all(each.leader().id() == admin.broker_id for each in topic.partitions())
        assert all(len(each.replicas()) == len(each.isr()) == 1 for each in topic.partitions())
        assert not topic.isInternal()
    options = admin.api.DescribeTopicsOptions().includeAuthorizedOperations(True).partitionSizeLimitPerResponse(2)
    paged = admin.describeTopics([admin.topic], options).allTopicNames().get()[admin.topic]
    assert len(paged.partitions()) == PARTITIONS
    kinds = {plain(each) for each in paged.authorizedOperations()}
    assert {"READ", "WRITE", "DELETE", "ALTER_CONFIGS"} <= kinds
    missing = refusal(lambda: admin.describeTopics(["nowhere"]).allTopicNames().get())
    assert missing[0] == "UnknownTopicOrPartitionException"
    unknown = admin.clients.common.TopicCollection.ofTopicIds([admin.clients.common.Uuid.randomUuid()])
    assert refusal(lambda: admin.describeTopics(unknown).allTopicIds().get())[0] == "UnknownTopicIdException"


def test_listing(admin: Admin) -> None:
    made = admin.create()
    found = admin.listTopics(admin.api.ListTopicsOptions().listInternal(True)).namesToListings().get()[admin.topic]
    assert found.topicId().toString() == made.topicId(admin.topic).get().toString()
    assert not found.isInternal()


def test_deleting_by_name_and_by_id(admin: Admin) -> None:
    collection = admin.clients.common.TopicCollection
    admin.create()
    admin.deleteTopics([admin.topic]).all().get()
    again = refusal(lambda: admin.deleteTopics([admin.topic]).all().get())
    assert again[0] == "UnknownTopicOrPartitionException"
    topic_id = admin.create().topicId(admin.topic).get()
    admin.deleteTopics(collection.ofTopicIds([topic_id])).all().get()
    again = refusal(lambda: admin.deleteTopics(collection.ofTopicIds([topic_id])).all().get())
    assert again[0] == "UnknownTopicIdException"
    assert admin.topic not in plain(admin.listTopics().names().get())


def test_more_partitions(admin: Admin) -> None:
    admin.create()
    grow = admin.api.NewPartitions.increaseTo

    def refused(wanted: Any) -> str:
        return refusal(lambda: admin.createPartitions({admin.topic: wanted}).all().get())[0]

    admin.createPartitions({admin.topic: grow(9)}, admin.api.CreatePartitionsOptions().validateOnly(True)).all().get()
    assert len(admin.describe().partitions()) == PARTITIONS
    admin.createPartitions({admin.topic: grow(5, [[admin.broker_id]] * 2)}).all().get()
    assert len(admin.describe().partitions()) == 5
    assert refused(grow(5)) == "InvalidPartitionsException"
    assert refused(grow(6, [[999]])) == "InvalidReplicaAssignmentException"
    missing = refusal(lambda: admin.createPartitions({"nowhere": grow(2)}).all().get())
    assert missing[0] == "UnknownTopicOrPartitionException"


def test_offsets_of_each_kind(admin: Admin) -> None:
    admin.create()
    spec = admin.api.OffsetSpec
    assert admin.offset(spec.maxTimestamp()) == (-1, -1)
    record_of = admin.clients.producer_api.ProducerRecord
    with admin.clients.producer(admin.address) as producer:
        for timestamp in (1_000, 3_000, 2_000):
            producer.send(record_of(admin.topic, 0, timestamp, None, b"value")).get()
    assert admin.offset(spec.earliest()) == (0, -1)
    assert admin.offset(spec.latest()) == (3, -1)
    assert admin.offset(spec.maxTimestamp()) == (1, 3_000)
    assert admin.offset(spec.forTimestamp(1_500)) == (1, 3_000)
    assert admin.offset(spec.forTimestamp(9_000)) == (-1, -1)
    assert admin.offset(spec.earliestLocal()) == (0, -1)
    assert admin.offset(spec.latestTiered()) == (-1, -1)
    committed = admin.api.ListOffsetsOptions(admin.clients.common.IsolationLevel.READ_COMMITTED)
    found = admin.listOffsets({admin.zero: spec.latest()}, committed).partitionResult(admin.zero).get()
    assert found.offset() == 3


@pytest.mark.needs("DeleteRecords")
def test_deleting_records(admin: Admin) -> None:
    admin.create()
    admin.write(30)
    before = admin.clients.jvm.ForPython.recordsBefore
    done = admin.deleteRecords({admin.zero: before(4)})
    assert done.lowWatermarks()[admin.zero].get().lowWatermark() == 4
    assert admin.offset(admin.api.OffsetSpec.earliest())[0] == 4
    too_far = refusal(lambda: admin.deleteRecords({admin.zero: before(11)}).all().get())
    assert too_far[0] == "OffsetOutOfRangeException"
    done = admin.deleteRecords({admin.zero: before(-1)})
    assert done.lowWatermarks()[admin.zero].get().lowWatermark() == 10
    with admin.clients.consumer(admin.address) as consumer:
        consumer.assign([admin.zero])
        consumer.seekToBeginning([admin.zero])
        assert consumer.position(admin.zero) == 10


@pytest.mark.needs("DescribeProducers")
def test_describing_producers(admin: Admin) -> None:
    admin.create()
    admin.write(PARTITIONS)
    state = admin.describeProducers([admin.zero]).partitionResult(admin.zero).get()
    (producer,) = state.activeProducers()
    assert producer.producerId() >= 0
    assert (producer.producerEpoch(), producer.lastSequence()) == (0, 0)
    assert not producer.currentTransactionStartOffset().isPresent()
    assert producer.lastTimestamp() > 0


@pytest.mark.needs("DescribeLogDirs")
def test_describing_log_dirs(admin: Admin) -> None:
    admin.create()
    admin.write(300)
    (directory,) = plain(admin.describeLogDirs([admin.broker_id]).allDescriptions().get())[admin.broker_id].values()
    assert directory.error() is None
    replica = directory.replicaInfos()[admin.zero]
    assert (replica.offsetLag(), replica.isFuture()) == (0, False)
    assert replica.size() > 500
    assert directory.totalBytes().getAsLong() > directory.usableBytes().getAsLong() > 0


@pytest.mark.needs("DescribeLogDirs")
def test_describing_where_replicas_are(admin: Admin) -> None:
    admin.create()
    replica = admin.clients.common.TopicPartitionReplica(admin.topic, 0, admin.broker_id)
    (path,) = plain(admin.describeLogDirs([admin.broker_id]).allDescriptions().get())[admin.broker_id]
    info = admin.describeReplicaLogDirs([replica]).values()[replica].get()
    assert info.getCurrentReplicaLogDir() == path
    assert info.getCurrentReplicaOffsetLag() == 0
    assert info.getFutureReplicaLogDir() is None


@pytest.mark.needs("AlterReplicaLogDirs", "DescribeLogDirs")
def test_moving_replicas_between_log_dirs(admin: Admin) -> None:
    """One folder: a replica may be told to be where it is, and nowhere else."""
    admin.create()
    replica = admin.clients.common.TopicPartitionReplica(admin.topic, 0, admin.broker_id)
    (path,) = plain(admin.describeLogDirs([admin.broker_id]).allDescriptions().get())[admin.broker_id]
    admin.alterReplicaLogDirs({replica: path}).all().get()
    elsewhere = refusal(lambda: admin.alterReplicaLogDirs({replica: "/not/a/folder/of/its/own"}).all().get())
    assert elsewhere[0] == "LogDirNotFoundException"


@pytest.mark.needs("ElectLeaders")
def test_electing_leaders(admin: Admin) -> None:
    admin.create()
    kinds = admin.clients.common.ElectionType
    for kind in (kinds.PREFERRED, kinds.UNCLEAN):
        outcome = plain(admin.electLeaders(kind, {admin.zero}).partitions().get())[admin.zero]
        assert outcome.get().getClass().getSimpleName() == "ElectionNotNeededException"
    assert plain(admin.electLeaders(kinds.PREFERRED, None).partitions().get()) == {}
    nowhere = admin.clients.partition("nowhere", 0)
    outcome = plain(admin.electLeaders(kinds.PREFERRED, {nowhere}).partitions().get())[nowhere]
    assert outcome.get().getClass().getSimpleName() == "UnknownTopicOrPartitionException"


@pytest.mark.needs("AlterPartitionReassignments", "ListPartitionReassignments")
def test_reassigning_partitions(admin: Admin) -> None:
    admin.create()
    optional, reassign = admin.clients.optional, admin.alterPartitionReassignments
    to = admin.api.NewPartitionReassignment
    reassign({admin.zero: optional(to([admin.broker_id]))}).all().get()
    assert plain(admin.listPartitionReassignments().reassignments().get()) == {}
    assert plain(admin.listPartitionReassignments({admin.zero}).reassignments().get()) == {}
    nothing = refusal(lambda: reassign({admin.zero: optional(None)}).all().get())
    assert nothing[0] == "NoReassignmentInProgressException"
    stranger = refusal(lambda: reassign({admin.zero: optional(to([999]))}).all().get())
    assert stranger[0] == "InvalidReplicaAssignmentException"
    nowhere = admin.clients.partition("nowhere", 0)
    missing = refusal(lambda: reassign({nowhere: optional(to([admin.broker_id]))}).all().get())
    assert missing[0] == "UnknownTopicOrPartitionException"

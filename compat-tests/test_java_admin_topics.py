"""Apache Kafka's Java Admin: topics, their partitions, replicas, offsets and logs."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from harness.admin import end_offsets
from harness.brokers import BrokerUnderTest
from harness.java_clients import JavaClients, plain, refusal

PARTITIONS = 3


class Admin:
    """An Admin, and a name for a topic of the test's own."""

    def __init__(self, clients: JavaClients, address: str, admin: Any) -> None:
        self.clients = clients
        self.address = address
        self.admin = admin
        self.api = clients.admin_api
        self.topic = f"java-admin-{uuid.uuid4().hex[:8]}"
        self.zero = clients.partition(self.topic, 0)

    def create(self) -> Any:
        """Make the test's topic, and wait until it is led; the result of createTopics."""
        result = self.admin.createTopics([self.api.NewTopic(self.topic, PARTITIONS, 1)])
        result.all().get()
        end_offsets(self.address, self.topic, PARTITIONS)
        return result

    def describe(self) -> Any:
        return self.admin.describeTopics([self.topic]).allTopicNames().get()[self.topic]

    def write(self, count: int) -> None:
        with self.clients.producer(self.address) as producer:
            self.clients.send(producer, self.topic, PARTITIONS, [b"value"] * count)

    def offset(self, spec: Any) -> tuple[int, int]:
        """Offset and timestamp that ListOffsets gives for partition 0."""
        found = self.admin.listOffsets({self.zero: spec}).partitionResult(self.zero).get()
        return found.offset(), found.timestamp()

    @property
    def broker_id(self) -> int:
        return self.admin.describeCluster().controller().get().id()


@pytest.fixture
def kafka(java_clients: JavaClients, broker: BrokerUnderTest) -> Iterator[Admin]:
    with java_clients.admin(broker.address) as admin:
        yield Admin(java_clients, broker.address, admin)


def test_creating(kafka: Admin) -> None:
    new = kafka.api.NewTopic(kafka.topic, PARTITIONS, 1).configs({"retention.ms": "1000000"})
    dry = kafka.admin.createTopics([new], kafka.api.CreateTopicsOptions().validateOnly(True))
    dry.all().get()
    assert kafka.topic not in plain(kafka.admin.listTopics().names().get())
    made = kafka.admin.createTopics([new])
    made.all().get()
    assert (made.numPartitions(kafka.topic).get(), made.replicationFactor(kafka.topic).get()) == (PARTITIONS, 1)
    retention = made.config(kafka.topic).get().get("retention.ms")
    assert (retention.value(), retention.isDefault()) == ("1000000", False)
    assert made.topicId(kafka.topic).get().toString() == kafka.describe().topicId().toString()


def test_creating_with_the_brokers_defaults(kafka: Admin) -> None:
    none = kafka.clients.optional(None)
    made = kafka.admin.createTopics([kafka.api.NewTopic(kafka.topic, none, none)])
    assert (made.numPartitions(kafka.topic).get(), made.replicationFactor(kafka.topic).get()) == (1, 1)


def test_creating_with_an_assignment(kafka: Admin) -> None:
    here = kafka.broker_id
    kafka.admin.createTopics([kafka.api.NewTopic(kafka.topic, {0: [here], 1: [here]})]).all().get()
    assert [each.leader().id() for each in kafka.describe().partitions()] == [here, here]


def test_creating_what_cannot_be(kafka: Admin) -> None:
    def refused(new: Any) -> tuple[str, str]:
        return refusal(lambda: kafka.admin.createTopics([new]).all().get())

    new = kafka.api.NewTopic
    assert refused(new("a b", 1, 1))[0] == "InvalidTopicException"
    assert refused(new(kafka.topic, 0, 1))[0] == "InvalidPartitionsException"
    assert refused(new(kafka.topic, 1, 2))[0] == "InvalidReplicationFactorException"
    assert refused(new(kafka.topic, {0: [999]}))[0] == "InvalidReplicaAssignmentException"
    assert refused(new(kafka.topic, 1, 1).configs({"retention.ms": "soon"}))[0] == "InvalidConfigurationException"
    kafka.create()
    assert refused(new(kafka.topic, 1, 1)) == ("TopicExistsException", f"Topic '{kafka.topic}' already exists.")


def test_describing_by_name_and_by_id(kafka: Admin) -> None:
    kafka.create()
    by_name = kafka.describe()
    topic_id = by_name.topicId()
    by_id = kafka.admin.describeTopics(kafka.clients.common.TopicCollection.ofTopicIds([topic_id]))
    described = by_id.allTopicIds().get()[topic_id]
    assert (described.name(), described.topicId().toString()) == (kafka.topic, topic_id.toString())
    for topic in (by_name, described):
        assert [each.partition() for each in topic.partitions()] == [0, 1, 2]
        assert all(each.leader().id() == kafka.broker_id for each in topic.partitions())
        assert all(len(each.replicas()) == len(each.isr()) == 1 for each in topic.partitions())
        assert not topic.isInternal()
    options = kafka.api.DescribeTopicsOptions().includeAuthorizedOperations(True).partitionSizeLimitPerResponse(2)
    paged = kafka.admin.describeTopics([kafka.topic], options).allTopicNames().get()[kafka.topic]
    assert len(paged.partitions()) == PARTITIONS
    kinds = {plain(each) for each in paged.authorizedOperations()}
    assert {"READ", "WRITE", "DELETE", "ALTER_CONFIGS"} <= kinds
    missing = refusal(lambda: kafka.admin.describeTopics(["nowhere"]).allTopicNames().get())
    assert missing[0] == "UnknownTopicOrPartitionException"
    unknown = kafka.clients.common.TopicCollection.ofTopicIds([kafka.clients.common.Uuid.randomUuid()])
    assert refusal(lambda: kafka.admin.describeTopics(unknown).allTopicIds().get())[0] == "UnknownTopicIdException"


def test_listing(kafka: Admin) -> None:
    made = kafka.create()
    found = kafka.admin.listTopics(kafka.api.ListTopicsOptions().listInternal(True)).namesToListings().get()[kafka.topic]
    assert found.topicId().toString() == made.topicId(kafka.topic).get().toString()
    assert not found.isInternal()


def test_deleting_by_name_and_by_id(kafka: Admin) -> None:
    collection = kafka.clients.common.TopicCollection
    kafka.create()
    kafka.admin.deleteTopics([kafka.topic]).all().get()
    again = refusal(lambda: kafka.admin.deleteTopics([kafka.topic]).all().get())
    assert again[0] == "UnknownTopicOrPartitionException"
    topic_id = kafka.create().topicId(kafka.topic).get()
    kafka.admin.deleteTopics(collection.ofTopicIds([topic_id])).all().get()
    again = refusal(lambda: kafka.admin.deleteTopics(collection.ofTopicIds([topic_id])).all().get())
    assert again[0] == "UnknownTopicIdException"
    assert kafka.topic not in plain(kafka.admin.listTopics().names().get())


def test_more_partitions(kafka: Admin) -> None:
    kafka.create()
    grow = kafka.api.NewPartitions.increaseTo

    def refused(wanted: Any) -> str:
        return refusal(lambda: kafka.admin.createPartitions({kafka.topic: wanted}).all().get())[0]

    kafka.admin.createPartitions({kafka.topic: grow(9)}, kafka.api.CreatePartitionsOptions().validateOnly(True)).all().get()
    assert len(kafka.describe().partitions()) == PARTITIONS
    kafka.admin.createPartitions({kafka.topic: grow(5, [[kafka.broker_id]] * 2)}).all().get()
    assert len(kafka.describe().partitions()) == 5
    assert refused(grow(5)) == "InvalidPartitionsException"
    assert refused(grow(6, [[999]])) == "InvalidReplicaAssignmentException"
    missing = refusal(lambda: kafka.admin.createPartitions({"nowhere": grow(2)}).all().get())
    assert missing[0] == "UnknownTopicOrPartitionException"


def test_offsets_of_each_kind(kafka: Admin) -> None:
    kafka.create()
    spec = kafka.api.OffsetSpec
    assert kafka.offset(spec.maxTimestamp()) == (-1, -1)
    record_of = kafka.clients.jvm.org.apache.kafka.clients.producer.ProducerRecord
    with kafka.clients.producer(kafka.address) as producer:
        for timestamp in (1_000, 3_000, 2_000):
            producer.send(record_of(kafka.topic, 0, timestamp, None, b"value")).get()
    assert kafka.offset(spec.earliest()) == (0, -1)
    assert kafka.offset(spec.latest()) == (3, -1)
    assert kafka.offset(spec.maxTimestamp()) == (1, 3_000)
    assert kafka.offset(spec.forTimestamp(1_500)) == (1, 3_000)
    assert kafka.offset(spec.forTimestamp(9_000)) == (-1, -1)
    assert kafka.offset(spec.earliestLocal()) == (0, -1)
    assert kafka.offset(spec.latestTiered()) == (-1, -1)
    committed = kafka.api.ListOffsetsOptions(kafka.clients.common.IsolationLevel.READ_COMMITTED)
    found = kafka.admin.listOffsets({kafka.zero: spec.latest()}, committed).partitionResult(kafka.zero).get()
    assert found.offset() == 3


@pytest.mark.needs("DeleteRecords")
def test_deleting_records(kafka: Admin) -> None:
    kafka.create()
    kafka.write(30)
    before = kafka.api.RecordsToDelete.beforeOffset
    done = kafka.admin.deleteRecords({kafka.zero: before(4)})
    assert done.lowWatermarks()[kafka.zero].get().lowWatermark() == 4
    assert kafka.offset(kafka.api.OffsetSpec.earliest())[0] == 4
    too_far = refusal(lambda: kafka.admin.deleteRecords({kafka.zero: before(11)}).all().get())
    assert too_far[0] == "OffsetOutOfRangeException"
    done = kafka.admin.deleteRecords({kafka.zero: before(-1)})
    assert done.lowWatermarks()[kafka.zero].get().lowWatermark() == 10
    with kafka.clients.consumer(kafka.address) as consumer:
        consumer.assign([kafka.zero])
        consumer.seekToBeginning([kafka.zero])
        assert consumer.position(kafka.zero) == 10


@pytest.mark.needs("DescribeProducers")
def test_describing_producers(kafka: Admin) -> None:
    kafka.create()
    kafka.write(PARTITIONS)
    state = kafka.admin.describeProducers([kafka.zero]).partitionResult(kafka.zero).get()
    (producer,) = state.activeProducers()
    assert producer.producerId() >= 0
    assert (producer.producerEpoch(), producer.lastSequence()) == (0, 0)
    assert not producer.currentTransactionStartOffset().isPresent()
    assert producer.lastTimestamp() > 0
    nowhere = kafka.clients.partition(kafka.topic, 99)
    options = kafka.api.DescribeProducersOptions().brokerId(kafka.broker_id)
    missing = refusal(lambda: kafka.admin.describeProducers([nowhere], options).all().get())
    assert missing[0] == "UnknownTopicOrPartitionException"


@pytest.mark.needs("DescribeLogDirs")
def test_describing_log_dirs(kafka: Admin) -> None:
    kafka.create()
    kafka.write(300)
    (directory,) = plain(kafka.admin.describeLogDirs([kafka.broker_id]).allDescriptions().get())[kafka.broker_id].values()
    assert directory.error() is None
    replica = directory.replicaInfos()[kafka.zero]
    assert (replica.offsetLag(), replica.isFuture()) == (0, False)
    assert replica.size() > 500
    assert directory.totalBytes().getAsLong() > directory.usableBytes().getAsLong() > 0


@pytest.mark.needs("DescribeLogDirs")
def test_describing_where_replicas_are(kafka: Admin) -> None:
    kafka.create()
    replica = kafka.clients.common.TopicPartitionReplica(kafka.topic, 0, kafka.broker_id)
    (path,) = plain(kafka.admin.describeLogDirs([kafka.broker_id]).allDescriptions().get())[kafka.broker_id]
    info = kafka.admin.describeReplicaLogDirs([replica]).values()[replica].get()
    assert info.getCurrentReplicaLogDir() == path
    assert info.getCurrentReplicaOffsetLag() == 0
    assert info.getFutureReplicaLogDir() is None


@pytest.mark.needs("AlterReplicaLogDirs", "DescribeLogDirs")
def test_moving_replicas_between_log_dirs(kafka: Admin) -> None:
    """One folder: a replica may be told to be where it is, and nowhere else."""
    kafka.create()
    replica = kafka.clients.common.TopicPartitionReplica(kafka.topic, 0, kafka.broker_id)
    (path,) = plain(kafka.admin.describeLogDirs([kafka.broker_id]).allDescriptions().get())[kafka.broker_id]
    kafka.admin.alterReplicaLogDirs({replica: path}).all().get()
    elsewhere = refusal(lambda: kafka.admin.alterReplicaLogDirs({replica: "/not/a/folder/of/its/own"}).all().get())
    assert elsewhere[0] == "LogDirNotFoundException"


@pytest.mark.needs("ElectLeaders")
def test_electing_leaders(kafka: Admin) -> None:
    kafka.create()
    kinds = kafka.clients.common.ElectionType
    for kind in (kinds.PREFERRED, kinds.UNCLEAN):
        outcome = plain(kafka.admin.electLeaders(kind, {kafka.zero}).partitions().get())[kafka.zero]
        assert outcome.get().getClass().getSimpleName() == "ElectionNotNeededException"
    assert plain(kafka.admin.electLeaders(kinds.PREFERRED, None).partitions().get()) == {}
    nowhere = kafka.clients.partition("nowhere", 0)
    outcome = plain(kafka.admin.electLeaders(kinds.PREFERRED, {nowhere}).partitions().get())[nowhere]
    assert outcome.get().getClass().getSimpleName() == "UnknownTopicOrPartitionException"


@pytest.mark.needs("AlterPartitionReassignments", "ListPartitionReassignments")
def test_reassigning_partitions(kafka: Admin) -> None:
    kafka.create()
    optional, reassign = kafka.clients.optional, kafka.admin.alterPartitionReassignments
    to = kafka.api.NewPartitionReassignment
    reassign({kafka.zero: optional(to([kafka.broker_id]))}).all().get()
    assert plain(kafka.admin.listPartitionReassignments().reassignments().get()) == {}
    assert plain(kafka.admin.listPartitionReassignments({kafka.zero}).reassignments().get()) == {}
    nothing = refusal(lambda: reassign({kafka.zero: optional(None)}).all().get())
    assert nothing[0] == "NoReassignmentInProgressException"
    stranger = refusal(lambda: reassign({kafka.zero: optional(to([999]))}).all().get())
    assert stranger[0] == "InvalidReplicaAssignmentException"
    nowhere = kafka.clients.partition("nowhere", 0)
    missing = refusal(lambda: reassign({nowhere: optional(to([kafka.broker_id]))}).all().get())
    assert missing[0] == "UnknownTopicOrPartitionException"

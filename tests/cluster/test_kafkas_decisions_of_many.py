"""As test_kafkas_decisions, of a cluster of three brokers: deaths, ELR, unclean elections, moves, leaders that return.

What was asked can't be read off every batch: a change of in-sync replicas and the end of a move look alike. So every
request that may have led to it is tried, and one of them must come to the same records.
"""

from collections import Counter

import msgspec

from kpybroker.cluster.image import EMPTY, ResourceType
from kpybroker.cluster.loader import Loader
from kpybroker.cluster.machines.activation import activation_records
from kpybroker.cluster.machines.alter_configs import incremental_alter_configs
from kpybroker.cluster.machines.alter_partition import alter_partition
from kpybroker.cluster.machines.brokers import BrokerSession, begin_shutdown, fence, heartbeat
from kpybroker.cluster.machines.create_topics import create_topics
from kpybroker.cluster.machines.elect_leaders import elect_leaders
from kpybroker.cluster.machines.periodic_elections import elect_preferred, elect_unclean
from kpybroker.cluster.machines.producer_ids import allocate_producer_ids
from kpybroker.cluster.machines.reassignments import alter_partition_reassignments
from kpybroker.cluster.machines.unregister_broker import unregister_broker
from kpybroker.wire.internal import metadata_records as rec
from kpybroker.wire.messages.allocate_producer_ids import AllocateProducerIdsRequest
from kpybroker.wire.messages.alter_partition import (
    AlterPartitionRequest,
    BrokerState,
    RequestPartitionData,
    RequestTopicData,
)
from kpybroker.wire.messages.alter_partition_reassignments import (
    AlterPartitionReassignmentsRequest,
    ReassignablePartition,
    ReassignableTopic,
)
from kpybroker.wire.messages.broker_heartbeat import BrokerHeartbeatRequest
from kpybroker.wire.messages.create_topics import CreateTopicsRequest
from kpybroker.wire.messages.elect_leaders import ElectLeadersRequest, TopicPartitions
from kpybroker.wire.messages.incremental_alter_configs import (
    AlterableConfig,
    AlterConfigsResource,
    IncrementalAlterConfigsRequest,
)
from kpybroker.wire.messages.unregister_broker import UnregisterBrokerRequest

from .data import KAFKA, batches_of
from .making import CALLER, apply, state, wanted
from .test_kafkas_decisions import in_our_order, kinds, registered


def created(image, records):
    """Topics with the places that Kafka chose, or was told."""
    topics, ids = [], []
    for record in records:
        if isinstance(record, rec.TopicRecord):
            placed = [
                (each.partition_id, each.replicas)
                for each in records
                if isinstance(each, rec.PartitionRecord) and each.topic_id == record.topic_id
            ]
            configs = [
                (each.name, each.value)
                for each in records
                if isinstance(each, rec.ConfigRecord) and each.resource_name == record.name
            ]
            topics.append(wanted(record.name, assignments=placed, configs=configs))
            ids.append(record.topic_id)
    yield (
        "created",
        create_topics(state(image), CreateTopicsRequest(topics=topics), CALLER, topic_ids=ids, seed=0).records,
    )


def told(image, records):
    """Heartbeats: to be unfenced, of cordoned folders, to be let go; and sessions that ran out."""
    change = next(record for record in records if isinstance(record, rec.BrokerRegistrationChangeRecord))
    broker = image.brokers[change.broker_id]
    if change.fenced == 1:
        yield "fenced", fence(state(image), broker.id)
    if change.in_controlled_shutdown:
        yield "shutting down", begin_shutdown(state(image), broker)
    request = BrokerHeartbeatRequest(
        broker_id=broker.id,
        broker_epoch=broker.epoch,
        current_metadata_offset=image.offset,
        want_fence=not change.fenced and broker.fenced,
        want_shut_down=False,
        cordoned_log_dirs=change.cordoned_log_dirs,
    )
    sessions = {each: BrokerSession(registered_at=0) for each in image.brokers}
    kind = "unfenced" if change.fenced == -1 else "cordoned"
    yield kind, heartbeat(state(image), request, sessions).records


def changed(image, records):
    """Changes of partitions alone."""
    by_topic = {}
    for record in records:
        by_topic.setdefault(record.topic_id, []).append(record)
    yield "preferred leaders returned", elect_preferred(state(image))
    yield "unclean leaders sought", elect_unclean(state(image))
    for kind in (0, 1):
        partitions = [
            TopicPartitions(topic=image.topics.by_id[of].name, partitions=[each.partition_id for each in changes])
            for of, changes in by_topic.items()
        ]
        request = ElectLeadersRequest(election_type=kind, topic_partitions=partitions, timeout_ms=0)
        yield f"elected {kind}", elect_leaders(state(image), request).records
    yield from moved(image, records)
    yield from altered(image, by_topic, completes=False)
    yield from altered(image, by_topic, completes=True)


def altered(image, by_topic, *, completes):
    """AlterPartition of the leader; of one that completes a move, the request had those in sync who leave."""
    leaders = {image.topics.by_id[of].partitions[each.partition_id].leader for of in by_topic for each in by_topic[of]}
    if len(leaders) != 1 or -1 in leaders:
        return
    (leader,) = leaders

    def proposed(of, change):
        partition = image.topics.by_id[of].partitions[change.partition_id]
        isr = list(partition.isr if change.isr is None else change.isr)
        if completes:
            isr = [each for each in partition.replicas if each in (*isr, *partition.isr)]
        return RequestPartitionData(
            partition_index=change.partition_id,
            leader_epoch=partition.leader_epoch,
            new_isr_with_epochs=[BrokerState(broker_id=each) for each in isr],
            partition_epoch=partition.partition_epoch,
        )

    request = AlterPartitionRequest(
        broker_id=leader,
        broker_epoch=image.brokers[leader].epoch,
        topics=[
            RequestTopicData(topic_id=of, partitions=[proposed(of, each) for each in changes])
            for of, changes in by_topic.items()
        ],
    )
    name = "moved, in sync" if completes else "altered"
    yield name, alter_partition(state(image), request, api_version=3).records


def moved(image, records):
    if len(records) != 1:
        return
    (record,) = records
    topic = image.topics.by_id[record.topic_id]
    replicas = record.replicas or topic.partitions[record.partition_id].replicas
    for kind, places in [
        ("moving", [each for each in replicas if each not in (record.removing_replicas or [])]),
        ("not moving any more", None),
    ]:
        partition = ReassignablePartition(partition_index=record.partition_id, replicas=places)
        request = AlterPartitionReassignmentsRequest(
            timeout_ms=0, topics=[ReassignableTopic(name=topic.name, partitions=[partition])]
        )
        yield kind, alter_partition_reassignments(state(image), request).records


def configured(image, records):
    first = records[0]
    change = AlterableConfig(name=first.name, config_operation=0, value=first.value)
    resource = AlterConfigsResource(
        resource_type=first.resource_type, resource_name=first.resource_name, configs=[change]
    )
    request = IncrementalAlterConfigsRequest(resources=[resource], validate_only=False)
    yield "configured", incremental_alter_configs(state(image), request, CALLER).records


def candidates(image, records):
    """What may have been asked, by name, and what we make of it."""
    found, first = kinds(records), records[0]
    if rec.BeginTransactionRecord in found:
        yield "began", activation_records(state(image), records[1:-2], transaction_open=False)
    elif isinstance(first, rec.TopicRecord):
        yield from created(image, records)
    elif rec.RegisterBrokerRecord in found:
        yield "registered", registered(image, records)
    elif rec.UnregisterBrokerRecord in found:
        request = UnregisterBrokerRequest(broker_id=records[-1].broker_id)
        yield "unregistered", unregister_broker(state(image), request).records
    elif found == {rec.ProducerIdsRecord}:
        request = AllocateProducerIdsRequest(broker_id=first.broker_id, broker_epoch=first.broker_epoch)
        yield "producer ids", allocate_producer_ids(state(image), request).records
    elif rec.BrokerRegistrationChangeRecord in found:
        yield from told(image, records)
    elif found == {rec.PartitionChangeRecord}:
        yield from changed(image, records)
    elif isinstance(first, rec.ConfigRecord):
        yield from configured(image, records)


def comparable(records):
    """In our order; eligible leaders are a set."""
    return [
        msgspec.structs.replace(each, eligible_leader_replicas=sorted(each.eligible_leader_replicas))
        if isinstance(each, rec.PartitionChangeRecord) and each.eligible_leader_replicas
        else each
        for each in in_our_order(records)
    ]


def decisions(image, records):
    """The decisions that a batch holds: Kafka's raft puts what comes within 25 ms into one."""
    while records:
        for end in range(len(records), 0, -1):
            part = records[:end]
            mine = [kind for kind, ours in candidates(image, part) if comparable(ours) == comparable(part)]
            if mine:
                break
        else:
            raise AssertionError(f"{records}, and not {dict(candidates(image, records))}")
        yield mine[0]
        records = records[end:]
        image = apply(image, *part) if records else image


def test_every_decision_of_kafkas_is_ours():
    loader = Loader(EMPTY)
    decided = Counter()
    for batch in batches_of({"0.log": (KAFKA / "three-brokers.log").read_bytes()}):
        records = [record for record in batch.records if not isinstance(record, rec.NoOpRecord)]
        before = loader.publish().after
        if records and not isinstance(records[0], rec.RegisterControllerRecord):
            decided.update(decisions(before, records))
        loader.load(batch)
    assert loader.publish().after.config(ResourceType.BROKER, "")["min.insync.replicas"] == "2"
    assert decided == {
        "began": 1,
        "registered": 8,
        "cordoned": 8,
        "unfenced": 8,
        "created": 1,
        "producer ids": 2,
        "fenced": 9,
        "configured": 3,
        "altered": 18,
        "preferred leaders returned": 5,
        "elected 0": 2,
        "shutting down": 4,
        "moving": 5,
        "moved, in sync": 2,
        "unregistered": 1,
    }

"""What Apache Kafka 4.3.1's controller decided, in logs that it left, is what ours decides in the same situation.

Each batch of such a log is one decision. The image before it and the request that must have led to it (read off the
records) are given to our decision functions; records and order must be the same.
"""

import pytest

from kpybroker.cluster.image import EMPTY, ResourceType
from kpybroker.cluster.loader import Loader
from kpybroker.cluster.machines.activation import activation_records
from kpybroker.cluster.machines.brokers import (
    BrokerSession,
    begin_shutdown,
    fence,
    heartbeat,
    register_broker,
)
from kpybroker.cluster.machines.create_partitions import create_partitions
from kpybroker.cluster.machines.create_topics import create_topics
from kpybroker.cluster.machines.delete_topics import delete_topics
from kpybroker.cluster.machines.producer_ids import allocate_producer_ids
from kpybroker.wire.internal import metadata_records as rec
from kpybroker.wire.messages.allocate_producer_ids import AllocateProducerIdsRequest
from kpybroker.wire.messages.broker_heartbeat import BrokerHeartbeatRequest
from kpybroker.wire.messages.broker_registration import BrokerRegistrationRequest, Feature, Listener
from kpybroker.wire.messages.create_partitions import CreatePartitionsRequest, CreatePartitionsTopic
from kpybroker.wire.messages.create_topics import CreateTopicsRequest
from kpybroker.wire.messages.delete_topics import DeleteTopicsRequest, DeleteTopicState

from .data import KAFKA, batches_of, metadata_files
from .making import CALLER, CLUSTER_ID, settings, state, wanted

SETTINGS = settings()


def kinds(records):
    return {type(record) for record in records}


def bootstrap(image, records):
    """The bootstrap records are what lies between Begin and the config that ELR needs."""
    return activation_records(state(image), records[1:-2], transaction_open=False)


def created(image, records):
    """CreateTopics of one topic. Configs of a batch are in no order: Kafka goes through a hash map."""
    name, topic_id = records[0].name, records[0].topic_id
    configs = [(record.name, record.value) for record in records if isinstance(record, rec.ConfigRecord)]
    partitions = [record for record in records if isinstance(record, rec.PartitionRecord)]
    request = CreateTopicsRequest(topics=[wanted(name, len(partitions), 1, configs=configs)])
    return create_topics(state(image), request, CALLER, topic_ids=[topic_id], seed=0).records


def grown(image, records):
    topic = image.topics.by_id[records[0].topic_id]
    count = len(topic.partitions) + len(records)
    wanted_topic = CreatePartitionsTopic(name=topic.name, count=count, assignments=None)
    request = CreatePartitionsRequest(topics=[wanted_topic], timeout_ms=0, validate_only=False)
    return create_partitions(state(image), request, CALLER, seed=0).records


def deleted(image, records):
    states = [DeleteTopicState(name=None, topic_id=record.topic_id) for record in records]
    request = DeleteTopicsRequest(topics=states, timeout_ms=0)
    return delete_topics(state(image), request, CALLER).records


def producer_ids(image, records):
    request = AllocateProducerIdsRequest(broker_id=records[0].broker_id, broker_epoch=records[0].broker_epoch)
    return allocate_producer_ids(state(image), request).records


def registered(image, records):
    """Registration; the marker of a clean stop is told by there being nothing to take from the ELR."""
    record = records[-1]
    former = image.brokers.get(record.broker_id)
    clean = former is not None and len(records) == 1
    request = BrokerRegistrationRequest(
        broker_id=record.broker_id,
        cluster_id=CLUSTER_ID,
        incarnation_id=record.incarnation_id,
        listeners=[
            Listener(name=point.name, host=point.host, port=point.port, security_protocol=point.security_protocol)
            for point in record.end_points
        ],
        features=[
            Feature(
                name=feature.name,
                min_supported_version=feature.min_supported_version,
                max_supported_version=feature.max_supported_version,
            )
            for feature in record.features
        ],
        rack=record.rack,
        log_dirs=record.log_dirs,
        previous_broker_epoch=former.epoch if former is not None and clean else -1,
    )
    return register_broker(
        state(image), request, api_version=4, next_offset=image.offset + 1, finalized=image.features.levels
    ).records


def told(image, records):
    """A heartbeat: one that asks to be unfenced, or tells of cordoned folders, or both."""
    changes = [record for record in records if isinstance(record, rec.BrokerRegistrationChangeRecord)]
    request = BrokerHeartbeatRequest(
        broker_id=1,
        broker_epoch=image.brokers[1].epoch,
        current_metadata_offset=image.offset,
        want_fence=not any(change.fenced for change in changes) and image.brokers[1].fenced,
        want_shut_down=False,
        cordoned_log_dirs=next((c.cordoned_log_dirs for c in changes if c.cordoned_log_dirs is not None), None),
    )
    return heartbeat(state(image), request, {1: BrokerSession(registered_at=0)}).records


def decide(image, records):
    """Our decision for what the records say was asked, None if it is not ours to decide (yet)."""
    found = kinds(records)
    first = records[0]
    if rec.BeginTransactionRecord in found:
        return bootstrap(image, records)
    if isinstance(first, rec.TopicRecord) and sum(isinstance(record, rec.TopicRecord) for record in records) == 1:
        return created(image, records)
    if found == {rec.PartitionRecord}:
        return grown(image, records)
    if found == {rec.RemoveTopicRecord}:
        return deleted(image, records)
    if found == {rec.ProducerIdsRecord}:
        return producer_ids(image, records)
    if rec.RegisterBrokerRecord in found:
        return registered(image, records)
    if rec.BrokerRegistrationChangeRecord in found:
        change = next(record for record in records if isinstance(record, rec.BrokerRegistrationChangeRecord))
        if change.fenced != 1 and not change.in_controlled_shutdown:
            return told(image, records)
        broker = image.brokers[change.broker_id]
        return begin_shutdown(state(image), broker) if change.in_controlled_shutdown else fence(state(image), broker.id)
    return None


def in_our_order(records):
    """Kafka walks hash maps of topics and configs; sort what has no order of its own, keep the order of the kinds."""

    def key(position_record):
        position, record = position_record
        if isinstance(record, rec.PartitionChangeRecord):
            return (first_change, record.topic_id, record.partition_id)
        if isinstance(record, rec.ConfigRecord):
            return (first_config, record.name.encode(), 0)
        return (position, b"", 0)

    positions = {}
    for position, record in enumerate(records):
        positions.setdefault(type(record), position)
    first_change = positions.get(rec.PartitionChangeRecord, 0)
    first_config = positions.get(rec.ConfigRecord, 0)
    return [record for _, record in sorted(enumerate(records), key=key)]


def logs():
    yield "three-runs", {"0.log": (KAFKA / "three-runs.log").read_bytes()}
    for name in ("clean", "killed", "snapshot"):
        yield name, metadata_files(name)


@pytest.mark.parametrize(("name", "files"), [pytest.param(*given, id=given[0]) for given in logs()])
def test_every_decision_of_kafkas_is_ours(name, files):
    loader = Loader(EMPTY)
    decided = {}
    for batch in batches_of(files):
        records = [record for record in batch.records if not isinstance(record, rec.NoOpRecord)]
        if records:
            before = loader.publish().after
            mine = decide(before, records)
            if mine is not None:
                assert in_our_order(mine) == in_our_order(records), f"batch at {batch.base_offset}"
                kind = type(records[0]).__name__
                decided[kind] = decided.get(kind, 0) + 1
        loader.load(batch)
    assert decided.get("BrokerRegistrationChangeRecord", 0) >= 2
    if name == "three-runs":
        assert decided == {
            "BeginTransactionRecord": 1,
            "RegisterBrokerRecord": 2,
            "BrokerRegistrationChangeRecord": 7,
            "TopicRecord": 2,
            "PartitionChangeRecord": 2,  # the fencing after the kill, and the registration that followed
            "RemoveTopicRecord": 1,
        }


def test_defaults_of_brokers_count_for_topics():
    # The logs above have a dynamic min.insync.replicas for all brokers: without it ELR would keep nobody.
    image = Loader(EMPTY).image
    assert state(image).configs.leadership({}).min_insync_replicas == 1
    assert image.config(ResourceType.BROKER, "") == {}

"""Clusters with an older metadata.version: their records are written as their nodes can read them."""

import pytest

from kpybroker.cluster.batches import encode_batch, read_batches
from kpybroker.cluster.image import EMPTY, MIGRATING_DIRECTORY
from kpybroker.cluster.machines.activation import activation_records
from kpybroker.cluster.machines.alter_partition import alter_partition
from kpybroker.cluster.machines.brokers import fence, register_broker, unfence
from kpybroker.cluster.machines.create_topics import create_topics
from kpybroker.cluster.snapshot import image_records
from kpybroker.wire.internal import metadata_records as rec
from kpybroker.wire.internal.framing import write_version
from kpybroker.wire.messages.alter_partition import (
    AlterPartitionRequest,
    BrokerState,
    RequestPartitionData,
    RequestTopicData,
)
from kpybroker.wire.messages.create_topics import CreateTopicsRequest

from .making import CALLER, apply, broker, directory, features, state, topic, topic_id, wanted
from .test_brokers import registration

LEVELS = [7, 8, 13, 14, 15, 17, 22, 23, 29, 30]


def written(records, level):
    """As they are read back, from bytes at the versions of that metadata.version."""
    data = encode_batch(records, timestamp_ms=1, metadata_version=level)
    (batch,) = read_batches(data)
    assert list(batch.records) == list(records)
    return batch.records


@pytest.mark.parametrize("level", LEVELS)
def test_a_clusters_life(level):
    image = apply(EMPTY, *written(features(**{"metadata.version": level}), level))
    for broker_id in (1, 2):
        request = registration(broker_id=broker_id, log_dirs=[directory(broker_id)])
        finalized = {"metadata.version": level}
        decision = register_broker(state(image), request, api_version=4, next_offset=broker_id, finalized=finalized)
        image = apply(image, *written(decision.records, level))
        image = apply(image, *written(unfence(state(image), image.brokers[broker_id]), level))
    assert image.brokers[1].directories == ((directory(1),) if level >= 17 else ())
    request = CreateTopicsRequest(topics=[wanted("t", 2, 2)])
    decision = create_topics(state(image), request, CALLER, topic_ids=[topic_id(1)], seed=1)
    image = apply(image, *written(decision.records, level))
    partition = image.topics.by_name["t"].partitions[0]
    placed = {directory(1), directory(2)} if level >= 17 else {MIGRATING_DIRECTORY}
    assert set(partition.directories) == placed
    assert apply(EMPTY, *written(list(image_records(image)), level)).topics == image.topics
    gone = next(each for each in (1, 2) if each != partition.leader)
    epoch = partition.leader_epoch
    image = apply(image, *written(fence(state(image), gone), level))
    image = apply(image, *written(unfence(state(image), image.brokers[gone]), level))
    partition = image.topics.by_name["t"].partitions[0]
    assert partition.isr == (partition.leader,)
    assert partition.leader_epoch == epoch + (level < 12)  # KAFKA-15021
    decision = alter_partition(state(image), joining(partition, gone), api_version=3)
    image = apply(image, *written(decision.records, level))
    assert set(image.topics.by_name["t"].partitions[0].isr) == {1, 2}


def joining(partition, broker_id):
    isr = [BrokerState(broker_id=each) for each in (partition.leader, broker_id)]
    data = RequestPartitionData(
        partition_index=0,
        leader_epoch=partition.leader_epoch,
        new_isr_with_epochs=isr,
        partition_epoch=partition.partition_epoch,
    )
    topics = [RequestTopicData(topic_id=topic_id(1), partitions=[data])]
    return AlterPartitionRequest(broker_id=partition.leader, broker_epoch=partition.leader, topics=topics)


@pytest.mark.parametrize(
    ("record", "versions"),
    [
        # As Kafka's MetadataVersion has them.
        (broker(1), {7: 1, 8: 2, 16: 2, 17: 3, 29: 3, 30: 4}),
        (topic(1, "t", [1])[1], {7: 0, 16: 0, 17: 1, 22: 1, 23: 2, 30: 2}),
        (rec.PartitionChangeRecord(partition_id=0, topic_id=topic_id(1)), {7: 0, 16: 0, 17: 1, 22: 1, 23: 2, 30: 2}),
        (topic(1, "t", [1])[0], {7: 0, 30: 0}),
    ],
)
def test_versions(record, versions):
    assert {level: write_version(record, level) for level in versions} == versions


def test_transactions_of_records_came_with_level_13():
    def begun(level):
        bootstrap = features(**{"metadata.version": level})
        return [type(each) for each in activation_records(state(EMPTY), bootstrap, transaction_open=False)]

    assert begun(12) == [rec.FeatureLevelRecord]
    assert begun(13) == [rec.BeginTransactionRecord, rec.FeatureLevelRecord, rec.EndTransactionRecord]

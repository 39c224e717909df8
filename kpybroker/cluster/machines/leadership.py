"""The partitions that a broker's coming or going concerns, and the records that follow for them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from kpybroker.cluster.features import SHRINK_WITHOUT_EPOCH_SINCE
from kpybroker.cluster.image import (
    NO_LEADER,
    ClusterImage,
    ConfigResource,
    PartitionImage,
    ResourceType,
    TopicImage,
)
from kpybroker.cluster.machines.assignment import default_directory
from kpybroker.cluster.machines.decision import ConfigView, State
from kpybroker.cluster.machines.partition_change import Rules, change_partition
from kpybroker.wire.internal.metadata_records import PartitionChangeRecord


class Place(NamedTuple):
    """One partition."""

    topic: TopicImage
    number: int
    partition: PartitionImage


def partitions(image: ClusterImage, wanted: Callable[[PartitionImage], bool]) -> Iterator[Place]:
    """The partitions that satisfy a condition, in the order of their topics' creation."""
    for topic in image.topics.by_name.values():
        for index, partition in topic.partitions.items():
            if wanted(partition):
                yield Place(topic, index, partition)


def in_isr(image: ClusterImage, broker_id: int) -> Iterator[Place]:
    """Partitions that have the broker in their ISR."""
    return partitions(image, lambda partition: broker_id in partition.isr)


def in_elr(image: ClusterImage, broker_id: int) -> Iterator[Place]:
    """Partitions that have the broker among their eligible leaders."""
    return partitions(image, lambda partition: broker_id in partition.elr)


def in_directory(image: ClusterImage, broker_id: int, directory: bytes) -> Iterator[Place]:
    """Partitions whose replica on the broker is in one of its directories."""
    return partitions(
        image,
        lambda partition: (
            broker_id in partition.replicas and partition.directories[partition.replicas.index(broker_id)] == directory
        ),
    )


def leaderless(image: ClusterImage) -> Iterator[Place]:
    """Partitions that have no leader."""
    return partitions(image, lambda partition: partition.leader == NO_LEADER)


def leads_any(image: ClusterImage, broker_id: int) -> bool:
    """Whether the broker leads a partition."""
    return any(True for _ in partitions(image, lambda partition: partition.leader == broker_id))


def rules_of(state: State, configs: ConfigView, topic: TopicImage, acceptable: Callable[[int], bool]) -> Rules:
    """What holds for a topic's partitions now. `configs`: of the state, looked up once for many topics."""
    factor = max((len(partition.replicas) for partition in topic.partitions.values()), default=0)
    wanted = configs.leadership(state.image.configs.get(ConfigResource(ResourceType.TOPIC, topic.name), {}))
    return Rules(
        min_insync_replicas=min(wanted.min_insync_replicas, factor),
        elr_enabled=state.image.features.elr_enabled,
        unclean_election=wanted.unclean_election,
        acceptable=acceptable,
        directory=lambda broker_id: default_directory(state.image, broker_id),
        online=lambda broker_id, directory: state.image.brokers[broker_id].has_online_directory(directory),
        shrink_is_new_epoch=(state.image.features.metadata_version or 0) < SHRINK_WITHOUT_EPOCH_SINCE,
    )


def leader_changes(
    state: State,
    places: Iterable[Place],
    *,
    gone: int | None = None,
    came: int | None = None,
    lost_data: int | None = None,
) -> list[PartitionChangeRecord]:
    """The records for partitions when a broker goes, comes, or may have lost data.

    `gone` leaves ISR and leadership, but may stay eligible; `lost_data` leaves all three; `came` may lead although the
    image still has it fenced: its unfencing is in the same batch.
    """
    image = state.image

    def acceptable(broker_id: int) -> bool:
        if broker_id in (gone, lost_data):
            return False
        broker = image.brokers.get(broker_id)
        return broker_id == came or (broker is not None and broker.active)

    records = []
    configs = state.configs
    rules: dict[bytes, Rules] = {}
    for topic, number, partition in places:
        if topic.id not in rules:
            rules[topic.id] = rules_of(state, configs, topic, acceptable)
        record = change_partition(
            partition,
            rules[topic.id],
            topic_id=topic.id,
            index=number,
            isr=[replica for replica in partition.isr if replica not in (gone, lost_data)],
            unclean_shutdown=lost_data,
        )
        if record is not None:
            records.append(record)
    return records

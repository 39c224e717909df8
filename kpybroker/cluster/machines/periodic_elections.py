"""Elections that the active controller holds by itself from time to time.

Of preferred leaders, so that leadership is spread again after brokers were away (auto.leader.rebalance.enable), and of
any live replica for partitions that have no leader, where their topic allows that (unclean.leader.election.enable).
"""

from __future__ import annotations

from collections.abc import Iterable

from kpybroker.cluster.image import NO_LEADER, PartitionImage
from kpybroker.cluster.machines.decision import State
from kpybroker.cluster.machines.leadership import Place, partitions, rules_of
from kpybroker.cluster.machines.partition_change import Rules, change_partition
from kpybroker.wire.internal.metadata_records import PartitionChangeRecord

ELECTIONS_MAX = 1000
"""In one go, as Kafka's controller; what is left has its turn at once, after what came meanwhile."""


def elect_preferred(state: State) -> list[PartitionChangeRecord]:
    """Give partitions back to their first replicas, where these are in sync."""
    return _elect(state, partitions(state.image, _imbalanced), preferred=True)


def elect_unclean(state: State) -> list[PartitionChangeRecord]:
    """Give leaders to partitions without one, of topics that would rather lose records than wait."""
    return _elect(state, partitions(state.image, lambda partition: partition.leader == NO_LEADER), preferred=False)


def _imbalanced(partition: PartitionImage) -> bool:
    return partition.leader != partition.preferred_leader


def _elect(state: State, places: Iterable[Place], *, preferred: bool) -> list[PartitionChangeRecord]:
    records: list[PartitionChangeRecord] = []
    configs = state.configs
    rules: dict[bytes, Rules] = {}
    for topic, index, partition in places:
        if len(records) >= ELECTIONS_MAX:
            break
        if topic.id not in rules:
            rules[topic.id] = rules_of(state, configs, topic, state.image.is_active)
        if not preferred and not rules[topic.id].unclean_election:
            continue
        record = change_partition(partition, rules[topic.id], topic_id=topic.id, index=index, preferred=preferred)
        if record is not None:
            records.append(record)
    return records

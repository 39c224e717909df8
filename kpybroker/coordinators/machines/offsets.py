"""Committed offsets of one shard: what is persisted of them, and how records change it.

Offsets committed in a transaction wait, by producer, until a control batch decides them. A committed transaction does
not overtake a plain commit that stands later in the log: the offset of the record decides which of two is newer.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

import msgspec

from kpybroker.wire.internal.group_records import OffsetCommitKey, OffsetCommitValue

NO_PRODUCER_ID = -1
Leaf = TypeVar("Leaf")


class CommittedOffset(msgspec.Struct, frozen=True, gc=False):
    """One offset of a partition, and the offset of its record in the shard's log."""

    value: OffsetCommitValue
    record_offset: int


Partitions = dict[int, CommittedOffset]
Topics = dict[str, Partitions]
Groups = dict[str, Topics]


class Offsets:
    """The offsets of all groups of a shard. Changed by records and markers only."""

    def __init__(self) -> None:
        self.committed: Groups = {}
        self.pending: dict[int, Groups] = {}
        """Offsets of open transactions by producer id."""
        self.open_transactions: dict[str, dict[str, dict[int, set[int]]]] = {}
        """Producer ids by group, topic and partition: the index of `pending`."""

    # -- questions

    def of_group(self, group_id: str) -> Topics:
        """A group's committed offsets by topic and partition; empty if it has none. Not to be changed."""
        return self.committed.get(group_id, {})

    def get(self, group_id: str, topic: str, partition: int) -> CommittedOffset | None:
        """One committed offset."""
        return self.committed.get(group_id, {}).get(topic, {}).get(partition)

    def is_pending(self, group_id: str, topic: str, partition: int) -> bool:
        """Whether an open transaction has committed to this partition."""
        return partition in self.open_transactions.get(group_id, {}).get(topic, {})

    def has_open_transactions(self, group_id: str) -> bool:
        """Whether an open transaction has committed to the group."""
        return group_id in self.open_transactions

    def all_partitions(self, group_id: str) -> Iterator[tuple[str, int]]:
        """Every partition with an offset of the group, committed or pending, once each."""
        committed = self.of_group(group_id)
        for topic, partitions in committed.items():
            for partition in partitions:
                yield topic, partition
        for topic, producers in self.open_transactions.get(group_id, {}).items():
            for partition in producers:
                if partition not in committed.get(topic, {}):
                    yield topic, partition

    def of_topic(self, name: str) -> Iterator[tuple[str, int, CommittedOffset]]:
        """Every offset for a topic, committed and pending: (group id, partition, offset)."""
        for groups in [self.committed, *self.pending.values()]:
            for group_id, topics in groups.items():
                for partition, offset in topics.get(name, {}).items():
                    yield group_id, partition, offset

    # -- records

    def apply(
        self, record_offset: int, producer_id: int, key: OffsetCommitKey, value: OffsetCommitValue | None
    ) -> None:
        """Take over one record. A tombstone also ends what transactions still open have committed there."""
        group_id, topic, partition = key.group, key.topic, key.partition
        if value is None:
            _prune(self.committed, group_id, topic, partition)
            for open_producer in self.open_transactions.get(group_id, {}).get(topic, {}).get(partition, ()):
                _prune(self.pending.get(open_producer, {}), group_id, topic, partition)
            _prune(self.open_transactions, group_id, topic, partition)
            return
        groups = self.committed
        if producer_id != NO_PRODUCER_ID:
            groups = self.pending.setdefault(producer_id, {})
            by_topic = self.open_transactions.setdefault(group_id, {})
            by_topic.setdefault(topic, {}).setdefault(partition, set()).add(producer_id)
        _put(groups, group_id, topic, partition, CommittedOffset(value, record_offset))

    def end_transaction(self, producer_id: int, *, committed: bool) -> None:
        """Take over a control batch: the producer's offsets are committed, or were never there."""
        for group_id, topics in self.pending.pop(producer_id, {}).items():
            for topic, partitions in topics.items():
                for partition, offset in partitions.items():
                    self._close(group_id, topic, partition, producer_id)
                    standing = self.get(group_id, topic, partition)
                    if committed and (standing is None or offset.record_offset > standing.record_offset):
                        _put(self.committed, group_id, topic, partition, offset)

    def _close(self, group_id: str, topic: str, partition: int, producer_id: int) -> None:
        producers = self.open_transactions.get(group_id, {}).get(topic, {}).get(partition)
        if producers is not None:
            producers.discard(producer_id)
            if not producers:
                _prune(self.open_transactions, group_id, topic, partition)


def _put(groups: Groups, group_id: str, topic: str, partition: int, offset: CommittedOffset) -> None:
    topics = groups.get(group_id)
    if topics is None:
        topics = groups[group_id] = {}
    partitions = topics.get(topic)
    if partitions is None:
        partitions = topics[topic] = {}
    partitions[partition] = offset


def _prune(groups: dict[str, dict[str, dict[int, Leaf]]], group_id: str, topic: str, partition: int) -> None:
    """Take one entry out of a nested mapping, and the mappings that this leaves empty."""
    topics = groups.get(group_id)
    partitions = None if topics is None else topics.get(topic)
    if topics is None or partitions is None:
        return
    partitions.pop(partition, None)
    if not partitions:
        del topics[topic]
        if not topics:
            del groups[group_id]

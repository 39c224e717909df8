"""The records that consumer groups write to `__consumer_offsets`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from kpybroker.coordinators.machines.consumer.assignment import Partitions
from kpybroker.coordinators.machines.consumer.member import ConsumerMember
from kpybroker.coordinators.machines.effects import Record
from kpybroker.wire.internal.consumer_group_records import (
    ConsumerGroupCurrentMemberAssignmentKey,
    ConsumerGroupMemberMetadataKey,
    ConsumerGroupMetadataKey,
    ConsumerGroupMetadataValue,
    ConsumerGroupPartitionMetadataKey,
    ConsumerGroupRegularExpressionKey,
    ConsumerGroupRegularExpressionValue,
    ConsumerGroupTargetAssignmentMemberKey,
    ConsumerGroupTargetAssignmentMemberValue,
    ConsumerGroupTargetAssignmentMetadataKey,
    ConsumerGroupTargetAssignmentMetadataValue,
    TopicPartition,
)


def subscription(group_id: str, member: ConsumerMember) -> Record:
    """What a member told of itself."""
    key = ConsumerGroupMemberMetadataKey(group_id=group_id, member_id=member.member_id)
    return Record(key, member.subscription())


def current_assignment(group_id: str, member: ConsumerMember) -> Record:
    """What a member has."""
    key = ConsumerGroupCurrentMemberAssignmentKey(group_id=group_id, member_id=member.member_id)
    return Record(key, member.current_assignment())


def epoch(group_id: str, group_epoch: int, metadata_hash: int) -> Record:
    """The group epoch, and the hash of the topics that it was computed from."""
    value = ConsumerGroupMetadataValue(epoch=group_epoch, metadata_hash=metadata_hash)
    return Record(ConsumerGroupMetadataKey(group_id=group_id), value)


def target(group_id: str, member_id: str, partitions: Partitions) -> Record:
    """What a member is to have."""
    topics = [TopicPartition(topic_id=topic_id, partitions=list(indexes)) for topic_id, indexes in partitions.items()]
    value = ConsumerGroupTargetAssignmentMemberValue(topic_partitions=topics)
    return Record(ConsumerGroupTargetAssignmentMemberKey(group_id=group_id, member_id=member_id), value)


def target_epoch(group_id: str, assignment_epoch: int, at_ms: int) -> Record:
    """Which group epoch the target assignment is for, and when it was computed."""
    value = ConsumerGroupTargetAssignmentMetadataValue(assignment_epoch=assignment_epoch, assignment_timestamp=at_ms)
    return Record(ConsumerGroupTargetAssignmentMetadataKey(group_id=group_id), value)


def regex(group_id: str, pattern: str, topics: Iterable[str], version: int, at_ms: int) -> Record:
    """The topics that a pattern matched."""
    value = ConsumerGroupRegularExpressionValue(topics=sorted(topics), version=version, timestamp=at_ms)
    return Record(ConsumerGroupRegularExpressionKey(group_id=group_id, regular_expression=pattern), value)


def regex_tombstone(group_id: str, pattern: str) -> Record:
    """Nobody subscribes to a pattern any more."""
    return Record(ConsumerGroupRegularExpressionKey(group_id=group_id, regular_expression=pattern), None)


def partition_metadata_tombstone(group_id: str) -> Record:
    """The end of a record that is no longer written since 4.1."""
    return Record(ConsumerGroupPartitionMetadataKey(group_id=group_id), None)


def member_tombstones(group_id: str, member_id: str) -> list[Record]:
    """The end of a member, in the order in which a reader takes it."""
    return [
        Record(ConsumerGroupCurrentMemberAssignmentKey(group_id=group_id, member_id=member_id), None),
        Record(ConsumerGroupTargetAssignmentMemberKey(group_id=group_id, member_id=member_id), None),
        Record(ConsumerGroupMemberMetadataKey(group_id=group_id, member_id=member_id), None),
    ]


def group_tombstones(group_id: str, member_ids: list[str], patterns: Iterable[str]) -> Iterator[Record]:
    """The end of a group, likewise."""
    for member_id in member_ids:
        yield Record(ConsumerGroupCurrentMemberAssignmentKey(group_id=group_id, member_id=member_id), None)
    for member_id in member_ids:
        yield Record(ConsumerGroupTargetAssignmentMemberKey(group_id=group_id, member_id=member_id), None)
    yield Record(ConsumerGroupTargetAssignmentMetadataKey(group_id=group_id), None)
    for member_id in member_ids:
        yield Record(ConsumerGroupMemberMetadataKey(group_id=group_id, member_id=member_id), None)
    for pattern in patterns:
        yield regex_tombstone(group_id, pattern)
    yield partition_metadata_tombstone(group_id)
    yield Record(ConsumerGroupMetadataKey(group_id=group_id), None)

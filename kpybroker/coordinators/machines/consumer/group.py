"""A consumer group (KIP-848) as the log has it: changed by records only.

Three epochs tell how far it is. The group epoch goes up with whatever calls for a new assignment: members, their
subscriptions, their topics. The target assignment is computed for a group epoch, which is then the assignment epoch.
Each member goes from its own epoch to the assignment epoch as it gives up what it is to lose (reconciliation.py).
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Mapping
from typing import TypeVar

import msgspec

from kpybroker.coordinators.machines.consumer import records
from kpybroker.coordinators.machines.consumer.assignment import NOTHING, Partitions
from kpybroker.coordinators.machines.consumer.java_order import timeline_order
from kpybroker.coordinators.machines.consumer.member import ConsumerMember, Epochs, MemberState
from kpybroker.coordinators.machines.effects import Record
from kpybroker.wire.internal.consumer_group_records import (
    ConsumerGroupCurrentMemberAssignmentKey,
    ConsumerGroupCurrentMemberAssignmentValue,
    ConsumerGroupMemberMetadataKey,
    ConsumerGroupMemberMetadataValue,
    ConsumerGroupMetadataKey,
    ConsumerGroupMetadataValue,
    ConsumerGroupPartitionMetadataKey,
    ConsumerGroupRegularExpressionKey,
    ConsumerGroupRegularExpressionValue,
    ConsumerGroupTargetAssignmentMemberKey,
    ConsumerGroupTargetAssignmentMemberValue,
    ConsumerGroupTargetAssignmentMetadataKey,
    ConsumerGroupTargetAssignmentMetadataValue,
)
from kpybroker.wire.schema import Message

K = TypeVar("K")

FIRST_EPOCH = 1
"""The epoch of a group that has none in the log yet: its first record has the next."""
NO_OWNER = -1


class ConsumerGroupState(enum.StrEnum):
    """The states by the names that clients see."""

    EMPTY = "Empty"
    ASSIGNING = "Assigning"
    RECONCILING = "Reconciling"
    STABLE = "Stable"


class ResolvedRegex(msgspec.Struct, frozen=True):
    """The topics that a pattern matched, at which version of the metadata, and when."""

    topics: frozenset[str]
    version: int
    at_ms: int


class Counts(dict[K, int]):
    """How many there are of each; none of what is not in it."""

    def add(self, key: K, by: int = 1) -> None:
        """Count one more, or one less."""
        count = self.get(key, 0) + by
        if count > 0:
            self[key] = count
        else:
            self.pop(key, None)


class Subscriptions:
    """How many members subscribe to each topic by name, and how many patterns match it."""

    def __init__(self, names: Counts[str] | None = None, matched: Counts[str] | None = None) -> None:
        self.names: Counts[str] = Counts() if names is None else names
        self.matched: Counts[str] = Counts() if matched is None else matched

    def copy(self) -> Subscriptions:
        return Subscriptions(Counts(self.names), Counts(self.matched))

    def add_names(self, topics: Iterable[str], by: int = 1) -> None:
        for topic in topics:
            self.names.add(topic, by)

    def add_matched(self, topics: Iterable[str], by: int = 1) -> None:
        for topic in topics:
            self.matched.add(topic, by)

    def __contains__(self, topic: str) -> bool:
        return topic in self.names or topic in self.matched

    @property
    def topics(self) -> set[str]:
        """Every topic that is subscribed to one way or the other."""
        return self.names.keys() | self.matched.keys()


class ConsumerGroup:
    """One group."""

    def __init__(self, group_id: str) -> None:
        self.group_id = group_id
        self.epoch = FIRST_EPOCH
        self.metadata_hash = 0
        self.assignment_epoch = 0
        self.assigned_at_ms = 0
        """When the target assignment was computed, wall time; 0: never, or not known."""
        self.members: dict[str, ConsumerMember] = {}
        self._most_members = 0
        self.static_ids: dict[str, str] = {}
        """Member ids by instance id."""
        self.targets: dict[str, Partitions] = {}
        self.target_owners: dict[bytes, dict[int, str]] = {}
        """Whose target a partition is in, by topic id and partition: the index of `targets`."""
        self.owner_epochs: dict[bytes, dict[int, int]] = {}
        """Member epoch of whoever has a partition or has yet to give it up."""
        self.subscriptions = Subscriptions()
        self.regexes: Counts[str] = Counts()
        """How many members subscribe to each pattern."""
        self.resolved: dict[str, ResolvedRegex] = {}
        self.assignors: Counts[str] = Counts()
        self.classic_members = 0
        self.classic_protocols: Counts[str] = Counts()
        """How many of the classic members offer each protocol."""
        self.has_partition_metadata = False
        """A record that is no longer written since 4.1 waits for its tombstone."""

    # -- questions

    @property
    def is_empty(self) -> bool:
        """Whether it has no members."""
        return not self.members

    @property
    def state(self) -> ConsumerGroupState:
        """How far it is."""
        if not self.members:
            return ConsumerGroupState.EMPTY
        if self.epoch > self.assignment_epoch:
            return ConsumerGroupState.ASSIGNING
        if all(member.is_reconciled_to(self.assignment_epoch) for member in self.members.values()):
            return ConsumerGroupState.STABLE
        return ConsumerGroupState.RECONCILING

    def ordered(self) -> list[str]:
        """The members' ids in the order in which Kafka walks them."""
        return timeline_order(self.members.keys(), self._most_members)

    def subscribes(self, topic: str) -> bool:
        """Whether its members consume the topic."""
        return topic in self.subscriptions

    def static_member(self, instance_id: str | None) -> ConsumerMember | None:
        """The member with that instance id."""
        member_id = None if instance_id is None else self.static_ids.get(instance_id)
        return None if member_id is None else self.members[member_id]

    def target_of(self, member_id: str, instance_id: str | None = None) -> Partitions:
        """What a member is to have; a static member that has just come back: what its last self was to have."""
        if instance_id is not None:
            member_id = self.static_ids.get(instance_id, member_id)
        return self.targets.get(member_id, NOTHING)

    def owner_epoch(self, topic_id: bytes, index: int) -> int:
        """The epoch of whoever has a partition; NO_OWNER if it is free."""
        return self.owner_epochs.get(topic_id, {}).get(index, NO_OWNER)

    def subscriptions_if(self, before: ConsumerMember | None, after: ConsumerMember | None) -> Subscriptions:
        """What will be subscribed to once a member is replaced by its new self, or gone."""
        found = self.subscriptions.copy()
        if before is not None:
            found.add_names(before.topics, -1)
        if after is not None:
            found.add_names(after.topics)
        pattern = before.regex if before is not None else None
        if pattern and (after is None or after.regex != pattern) and self.regexes.get(pattern) == 1:
            resolved = self.resolved.get(pattern)
            found.add_matched(() if resolved is None else resolved.topics, -1)
        return found

    def regexes_if(self, before: ConsumerMember, after: ConsumerMember) -> Counts[str]:
        """The patterns subscribed to once a member is replaced by its new self."""
        found = Counts(self.regexes)
        if before.regex != after.regex:
            if before.regex:
                found.add(before.regex, -1)
            if after.regex:
                found.add(after.regex)
        return found

    def assignor_if(self, before: ConsumerMember, after: ConsumerMember) -> str | None:
        """The assignor that most members prefer once a member is replaced by its new self; None: no one cares."""
        counts = Counts(self.assignors)
        if before.assignor is not None:
            counts.add(before.assignor, -1)
        if after.assignor is not None:
            counts.add(after.assignor)
        return favourite(counts)

    def assignor(self) -> str | None:
        """The assignor that most members prefer; None: no one cares."""
        return favourite(self.assignors)

    def supports_classic(self, protocol_type: str, protocols: Iterable[str]) -> bool:
        """Whether a classic member that offers these has one in common with all classic members."""
        if protocol_type != "consumer":
            return False
        if self.is_empty:
            return any(True for _ in protocols)
        return any(self.classic_protocols.get(name, 0) == self.classic_members for name in protocols)

    def all_classic_without(self, leaving: Iterable[ConsumerMember]) -> bool:
        """Whether only classic members are left when these have gone."""
        gone = list(leaving)
        classic_gone = sum(member.classic is not None for member in gone)
        return self.classic_members - classic_gone == len(self.members) - len(gone)

    def waits_for_others(self, member: ConsumerMember) -> bool:
        """Whether a member's target has partitions that others have yet to give up."""
        if member.state is not MemberState.UNRELEASED_PARTITIONS:
            return False
        return any(
            index not in member.assigned.get(topic_id, {}) and self.owner_epoch(topic_id, index) != NO_OWNER
            for topic_id, indexes in self.targets.get(member.member_id, NOTHING).items()
            for index in indexes
        )

    def tombstones(self, replaced: Mapping[str, str] | None = None) -> Iterator[Record]:
        """What ends the group. `replaced`: members whose records stand under a new id by then."""
        ids = [member_id if replaced is None else replaced.get(member_id, member_id) for member_id in self.ordered()]
        return records.group_tombstones(self.group_id, ids, list(self.resolved))

    # -- records

    def apply(self, key: Message, value: Message | None) -> None:
        """Take over one record of the group, except for the tombstone that ends it."""
        match key, value:
            case ConsumerGroupMemberMetadataKey(member_id=member_id), ConsumerGroupMemberMetadataValue():
                member = self.members.get(member_id) or ConsumerMember(member_id=member_id)
                self._put(member.with_subscription(value))
            case ConsumerGroupMemberMetadataKey(member_id=member_id), None:
                self._remove(member_id)
            case (
                ConsumerGroupCurrentMemberAssignmentKey(member_id=member_id),
                ConsumerGroupCurrentMemberAssignmentValue(),
            ):
                member = self.members.get(member_id) or ConsumerMember(member_id=member_id)
                self._put(member.with_assignment(value))
            case ConsumerGroupCurrentMemberAssignmentKey(member_id=member_id), None:
                if member_id in self.members:
                    self._put(self.members[member_id].without_assignment())
            case ConsumerGroupMetadataKey(), ConsumerGroupMetadataValue():
                self.epoch, self.metadata_hash = value.epoch, value.metadata_hash
            case _:
                self._apply_other(key, value)

    def _apply_other(self, key: Message, value: Message | None) -> None:
        match key, value:
            case ConsumerGroupTargetAssignmentMemberKey(
                member_id=member_id
            ), ConsumerGroupTargetAssignmentMemberValue():
                target = {topic.topic_id: tuple(topic.partitions) for topic in value.topic_partitions}
                self._set_target(member_id, target)
            case ConsumerGroupTargetAssignmentMemberKey(member_id=member_id), None:
                self._set_target(member_id, None)
            case ConsumerGroupTargetAssignmentMetadataKey(), ConsumerGroupTargetAssignmentMetadataValue():
                self.assignment_epoch, self.assigned_at_ms = value.assignment_epoch, value.assignment_timestamp
            case ConsumerGroupTargetAssignmentMetadataKey(), None:
                self.assignment_epoch, self.assigned_at_ms = -1, 0
            case (
                ConsumerGroupRegularExpressionKey(regular_expression=pattern),
                ConsumerGroupRegularExpressionValue() | None,
            ):
                self._set_resolved(pattern, value)
            case ConsumerGroupPartitionMetadataKey(), _:
                self.has_partition_metadata = value is not None

    def _put(self, member: ConsumerMember) -> None:
        before = self.members.get(member.member_id)
        self.members[member.member_id] = member
        self._most_members = max(self._most_members, len(self.members))
        if before is not None:
            self._count(before, -1)
        self._count(member, 1)

    def _remove(self, member_id: str) -> None:
        before = self.members.pop(member_id, None)
        if before is not None:
            self._count(before, -1)

    def _count(self, member: ConsumerMember, by: int) -> None:
        """Count a member in, or out, wherever members are counted."""
        self.subscriptions.add_names(member.topics, by)
        if member.regex:
            self.regexes.add(member.regex, by)
        if member.assignor is not None:
            self.assignors.add(member.assignor, by)
        if member.classic is not None:
            self.classic_members += by
            for protocol in member.classic.supported_protocols:
                self.classic_protocols.add(protocol.name, by)
        if member.instance_id is not None:
            if by > 0:
                self.static_ids[member.instance_id] = member.member_id
            elif self.static_ids.get(member.instance_id) == member.member_id:
                del self.static_ids[member.instance_id]
        for partitions in (member.assigned, member.revoking):
            if by > 0:
                self._own(partitions, member.epoch)
            else:
                self._disown(partitions, member.epoch)

    def _own(self, partitions: Epochs, epoch: int) -> None:
        for topic_id, indexes in partitions.items():
            if indexes:
                self.owner_epochs.setdefault(topic_id, {}).update(dict.fromkeys(indexes, epoch))

    def _disown(self, partitions: Epochs, epoch: int) -> None:
        """A partition that somebody else has got since, at another epoch, stays theirs."""
        for topic_id, indexes in partitions.items():
            owned = self.owner_epochs.get(topic_id)
            if owned is None:
                continue
            for index in indexes:
                if owned.get(index) == epoch:
                    del owned[index]
            if not owned:
                del self.owner_epochs[topic_id]

    def _set_target(self, member_id: str, target: Partitions | None) -> None:
        """A partition that went to another member in the same assignment stays that member's in the index."""
        for topic_id, indexes in self.targets.pop(member_id, NOTHING).items():
            owners = self.target_owners.get(topic_id, {})
            for index in indexes:
                if owners.get(index) == member_id:
                    del owners[index]
            if not owners:
                self.target_owners.pop(topic_id, None)
        if target is not None:
            self.targets[member_id] = target
            for topic_id, indexes in target.items():
                if indexes:
                    self.target_owners.setdefault(topic_id, {}).update(dict.fromkeys(indexes, member_id))

    def _set_resolved(self, pattern: str, value: ConsumerGroupRegularExpressionValue | None) -> None:
        before = self.resolved.pop(pattern, None)
        if before is not None:
            self.subscriptions.add_matched(before.topics, -1)
        if value is not None:
            self.resolved[pattern] = ResolvedRegex(frozenset(value.topics), value.version, value.timestamp)
            self.subscriptions.add_matched(value.topics)


def favourite(counts: Mapping[str, int]) -> str | None:
    """What most have chosen, None if no one has. Of two chosen as often, the first as Kafka walks its map of them."""
    return max(timeline_order(counts.keys()), key=counts.__getitem__, default=None)

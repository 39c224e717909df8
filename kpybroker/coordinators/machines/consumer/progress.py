"""How a consumer group gets on: its epoch, its target assignment, its members' assignments, its patterns.

What KIP-848 calls for comes out as records. Assignments are batched: between two of them there is the group's
assignment interval, in which members that come and go only raise the group epoch.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from kpybroker.clock import Now
from kpybroker.coordinators.machines.consumer import records, regexes
from kpybroker.coordinators.machines.consumer.assignment import GroupSpec, MemberSpec, Partitions
from kpybroker.coordinators.machines.consumer.assignors import Assignor, assign
from kpybroker.coordinators.machines.consumer.group import ConsumerGroup, Counts, ResolvedRegex, Subscriptions
from kpybroker.coordinators.machines.consumer.java_order import copied, in_order, text_hash
from kpybroker.coordinators.machines.consumer.member import ConsumerMember
from kpybroker.coordinators.machines.consumer.reconciliation import Goal, reconcile
from kpybroker.coordinators.machines.consumer.state import RESOLVE, ConsumerGroupsState, Resolving
from kpybroker.coordinators.machines.effects import Record
from kpybroker.coordinators.machines.events import Effects
from kpybroker.wire.messages.consumer_group_heartbeat import TopicPartitions

REGEX_REFRESH_MS_MIN = 10_000
"""How long patterns are left as they are after they were matched, at the least: Kafka's constant."""


class Change(NamedTuple):
    """One member's new self on its way into a group, and what will be written of it."""

    group: ConsumerGroup
    before: ConsumerMember
    after: ConsumerMember
    records: list[Record]
    out: Effects


class Target(NamedTuple):
    """An assignment epoch, and what one member is to have in it."""

    epoch: int
    partitions: Partitions


class Progress(ConsumerGroupsState):
    """What happens in a group when a member is heard of."""

    # -- the group epoch

    def advance(self, change: Change, now: Now, *, bump: bool) -> tuple[int, bool]:
        """Raise the group epoch if `bump` says so or the group's topics have changed.

        Returns the epoch, and whether all members subscribe to the same; that is not looked into where there is
        nothing to assign, as in most heartbeats.
        """
        group, before, after = change.group, change.before, change.after
        if not bump and not self.metadata_expired(group, now):
            if group.assignment_epoch >= group.epoch:
                return group.epoch, True
            return group.epoch, is_homogeneous(group.regexes, group.subscriptions, len(group.members))
        subscriptions = group.subscriptions_if(before, after)
        metadata_hash = self.topics.hash_of(subscriptions.topics)
        is_new = after.member_id not in group.members and after.instance_id not in group.static_ids
        homogeneous = is_homogeneous(group.regexes_if(before, after), subscriptions, len(group.members) + is_new)
        epoch = group.epoch
        if bump or metadata_hash != group.metadata_hash:
            epoch += 1
            change.records.append(records.epoch(group.group_id, epoch, metadata_hash))
            change.out.notes.append(f"Group {group.group_id} is in epoch {epoch}")
        self.metadata_seen(group.group_id, epoch, now)
        if group.has_partition_metadata:
            change.records.append(records.partition_metadata_tombstone(group.group_id))
        return epoch, homogeneous

    # -- the target assignment

    def retarget(self, change: Change, epoch: int, now: Now, *, homogeneous: bool) -> Target:
        """Compute a new target assignment if there is to be one now; what the member is to have in any case."""
        group, after = change.group, change.after
        if group.assignment_epoch >= epoch or not self._may_assign(group, now):
            return Target(group.assignment_epoch, group.target_of(after.member_id, after.instance_id))
        name = group.assignor_if(change.before, after)
        assignor = self.own.assignors[0] if name is None else Assignor(name)
        spec = GroupSpec(self._specs(group, after), homogeneous, group.target_owners, self.topics.partitions_of)
        assignment = assign(assignor, spec)
        for member_id in spec.ordered_members():
            partitions = assignment.get(member_id, {})
            if not _same(partitions, group.targets.get(member_id)):
                change.records.append(records.target(group.group_id, member_id, partitions))
        change.records.append(records.target_epoch(group.group_id, epoch, now.wall_ms))
        change.out.notes.append(f"Group {group.group_id} is assigned anew for epoch {epoch} by {assignor}")
        return Target(epoch, assignment.get(after.member_id, {}))

    def _may_assign(self, group: ConsumerGroup, now: Now) -> bool:
        interval_ms = self.times(group.group_id).assignment_interval_ms
        return not group.assigned_at_ms or not interval_ms or now.wall_ms >= group.assigned_at_ms + interval_ms

    def _specs(self, group: ConsumerGroup, after: ConsumerMember) -> dict[str, MemberSpec]:
        """All members as the assignor sees them, this one as its new self."""
        subscribed: dict[tuple[frozenset[str], str | None], tuple[bytes, ...]] = {}

        def spec(member: ConsumerMember) -> MemberSpec:
            key = (member.topics, member.regex or None)
            topic_ids = subscribed.get(key)
            names = self.subscribed_topics(group, member)
            if topic_ids is None:
                ordered = in_order(sorted(names), text_hash, copied(len(names)))
                found = (self.topics.id_of(name) for name in ordered)
                topic_ids = subscribed[key] = tuple(topic_id for topic_id in found if topic_id is not None)
            target = group.target_of(member.member_id, member.instance_id)
            return MemberSpec(member.instance_id, topic_ids, len(names), target)

        specs = {member_id: spec(group.members[member_id]) for member_id in group.ordered()}
        if after.instance_id is not None:
            replaced = group.static_ids.get(after.instance_id)
            if replaced is not None and replaced != after.member_id:
                del specs[replaced]
        specs[after.member_id] = spec(after)
        return specs

    def subscribed_topics(self, group: ConsumerGroup, member: ConsumerMember) -> frozenset[str]:
        """The topics that a member subscribes to, by name and by pattern."""
        resolved = group.resolved.get(member.regex) if member.regex else None
        return member.topics if resolved is None else member.topics | resolved.topics

    # -- the members' assignments

    def reconcile(
        self,
        change: Change,
        target: Target,
        now: Now,
        *,
        subscription_changed: bool,
        owned: Iterable[TopicPartitions] | None,
    ) -> ConsumerMember:
        """The member's new self one step closer to its target. Raises: Refused(FENCED_MEMBER_EPOCH)."""
        group, member = change.group, change.after
        if not subscription_changed and member.is_reconciled_to(target.epoch):
            return member
        names = self.subscribed_topics(group, member)

        def subscribes(topic_id: bytes) -> bool:
            return self.topics.name_of(topic_id) in names

        goal = Goal(target.epoch, target.partitions, subscribes, subscription_changed, group.owner_epoch, owned)
        moved = reconcile(member, goal)
        if moved != member:
            change.records.append(records.current_assignment(group.group_id, moved))
            if moved.classic is None:
                self.watch_revocation(group.group_id, moved, now)
        return moved

    # -- patterns

    def plan_resolving(self, change: Change, may_describe: Resolving, now: Now, *, is_new: bool) -> None:
        """Match the group's patterns with the topics if one is new, topics are, or it was long ago.

        `may_describe.patterns` are not looked at. All patterns of a group are matched together, so that there is one
        assignment for all that changes.
        """
        group = change.group
        if group.group_id in self._resolving or not (is_new or group.regexes):
            return
        latest = next(iter(group.resolved.values()), None)
        if latest is not None and now.wall_ms <= latest.at_ms + REGEX_REFRESH_MS_MIN:
            return
        patterns = group.regexes_if(change.before, change.after)
        due = (
            is_new
            or len(patterns) != len(group.resolved)
            or latest is None
            or latest.version < self.topics_since
            or now.wall_ms > latest.at_ms + self.own.regex_refresh_interval_ms
        )
        if due and patterns:
            self._resolving[group.group_id] = Resolving(frozenset(patterns), may_describe.may_describe)
            self.deadlines.set((RESOLVE, group.group_id), now.monotonic_s)

    def resolve_due(self, group_id: str, now: Now, out: Effects) -> None:
        """Match a group's patterns with the topics. A pattern that nobody subscribes to any more is left out."""
        asked = self._resolving.pop(group_id, None)
        group = self.groups.get(group_id)
        if asked is None or group is None:
            return
        names = list(self.topics.names())
        subscriptions = group.subscriptions.copy()
        bump = False
        for pattern in sorted(asked.patterns & group.regexes.keys()):
            matched = regexes.matching(pattern, names)
            topics = frozenset(topic for topic in matched if asked.may_describe(topic))
            before = group.resolved.get(pattern) or ResolvedRegex(frozenset(), 0, 0)
            if topics != before.topics:
                bump = True
                subscriptions.add_matched(before.topics, -1)
                subscriptions.add_matched(topics)
            out.records.append(records.regex(group_id, pattern, topics, self.topics.version, now.wall_ms))
        metadata_hash = self.topics.hash_of(subscriptions.topics)
        if bump or metadata_hash != group.metadata_hash:
            epoch = group.epoch + 1
            out.records.append(records.epoch(group_id, epoch, metadata_hash))
            self.metadata_seen(group_id, epoch, now)


def is_homogeneous(patterns: Counts[str], subscriptions: Subscriptions, members: int) -> bool:
    """Whether all members subscribe to the same topics, as far as Kafka looks into that."""
    if not patterns:
        return all(subscriptions.names.get(topic, 0) == members for topic in subscriptions.topics)
    if next(iter(patterns.values())) != members:
        return False
    return not subscriptions.names and all(count == 1 for count in subscriptions.matched.values())


def _same(partitions: Partitions, target: Partitions | None) -> bool:
    """Whether a target says the same; one that is not there says nothing, not even that there is nothing."""
    if target is None or partitions.keys() != target.keys():
        return False
    return all(frozenset(indexes) == frozenset(target[topic_id]) for topic_id, indexes in partitions.items())

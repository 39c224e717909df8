"""The consumer groups of a shard, and what decisions about them rest on: topics, settings, timers."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from kpybroker.clock import Now
from kpybroker.coordinators.machines.classic_group import ClassicGroup
from kpybroker.coordinators.machines.consumer.group import ConsumerGroup
from kpybroker.coordinators.machines.consumer.member import ConsumerMember, MemberState
from kpybroker.coordinators.machines.consumer.settings import ConsumerGroupTimes
from kpybroker.coordinators.machines.consumer.topics import Topics
from kpybroker.coordinators.machines.deadlines import Deadlines
from kpybroker.coordinators.machines.settings import GroupSettings
from kpybroker.wire.codes import Code, Refused
from kpybroker.wire.internal.consumer_group_records import ConsumerGroupMetadataKey
from kpybroker.wire.schema import Message

SESSION, REBALANCE, REJOIN, RESYNC = "session", "rebalance", "rejoin", "resync"
"""Kinds of deadlines of a member: silent too long; did not give up partitions; a classic member did not join, or sync,
in time."""
MEMBER_KINDS = (SESSION, REBALANCE, REJOIN, RESYNC)
RESOLVE = "resolve"
"""The kind of deadline at which a group's patterns are matched with the topics."""

KINDS = (*MEMBER_KINDS, RESOLVE)
"""Kinds of deadlines of consumer groups."""
DOWNGRADED = "downgraded"
"""The kind of deadline at which a group that has just become a classic one starts to live as such, if nothing else
happens before."""

NEVER_MS = 2**31 - 1
"""How long a group goes by the metadata that it has seen if nothing changes, in milliseconds: Kafka's interval."""


class Refresh(msgspec.Struct, frozen=True):
    """Until when a group may go by the topics that it has seen, wall time, and since which group epoch it does."""

    at_ms: int
    epoch: int


class Resolving(msgspec.Struct, frozen=True):
    """Patterns to be matched, and who may see a topic: the client whose heartbeat asked for it."""

    patterns: frozenset[str]
    may_describe: Callable[[str], bool]


class ConsumerGroupsState:
    """The groups by id. What is not in a ConsumerGroup is soft: it goes with the coordinator."""

    def __init__(
        self,
        settings: GroupSettings,
        deadlines: Deadlines,
        classic: Mapping[str, ClassicGroup],
        foreign: Mapping[str, object],
    ) -> None:
        """`classic`, `foreign`: the other groups of the shard, to be read only."""
        self.groups: dict[str, ConsumerGroup] = {}
        self.settings = settings
        self.own = settings.consumer
        self.topics = Topics()
        self.topics_since = 0
        """The version of the metadata in which topics were last created."""
        self.deadlines = deadlines
        self.classic = classic
        self.foreign = foreign
        self.downgrades: dict[str, ClassicGroup] = {}
        """Classic groups that are about to take the place of a consumer group, with what the log does not keep of
        them; each until its record is applied."""
        self.downgraded: dict[str, str | None] = {}
        """Groups that have become classic ones with the last step, and why they have to rebalance, if they have."""
        self._refresh: dict[str, Refresh] = {}
        self._resolving: dict[str, Resolving] = {}
        self._unrevoked_epochs: dict[tuple[str, str], int] = {}
        """The epoch that a member was in when it was told to give up partitions."""

    def find(self, group_id: str) -> ConsumerGroup:
        """A group. Raises: Refused(GROUP_ID_NOT_FOUND)."""
        group = self.groups.get(group_id)
        if group is None:
            raise Refused(Code.GROUP_ID_NOT_FOUND, self.missing(group_id))
        return group

    def missing(self, group_id: str) -> str:
        """Why there is no such consumer group."""
        known = group_id in self.classic or group_id in self.foreign
        return f"Group {group_id} {'is not a consumer group' if known else 'not found'}."

    def times(self, group_id: str) -> ConsumerGroupTimes:
        """The times in force for a group."""
        return self.own.of(group_id)

    # -- records

    def apply(self, group_id: str, key: Message, value: Message | None) -> None:
        """Take over one record of a consumer group."""
        group = self.groups.get(group_id)
        if group is None:
            if value is None:
                return
            group = self.groups[group_id] = ConsumerGroup(group_id)
        if isinstance(key, ConsumerGroupMetadataKey) and value is None:
            del self.groups[group_id]
            self._refresh.pop(group_id, None)
            self._resolving.pop(group_id, None)
            self.deadlines.cancel((RESOLVE, group_id))
        else:
            group.apply(key, value)

    # -- metadata

    def follow(self, topics: Topics, changed: frozenset[str], *, created: bool) -> None:
        """The cluster's topics are these from now on. `changed`: those that were made, altered or deleted."""
        racks_moved = topics.racks != self.topics.racks
        if created or not self.topics_since:
            self.topics_since = topics.version
        self.topics = topics
        for group in self.groups.values():
            if racks_moved or any(name in group.subscriptions for name in changed):
                self._refresh.pop(group.group_id, None)

    def metadata_expired(self, group: ConsumerGroup, now: Now) -> bool:
        """Whether the group has to look at its topics again: one has changed, or what it wrote was lost."""
        refresh = self._refresh.get(group.group_id)
        return refresh is None or now.wall_ms >= refresh.at_ms or group.epoch < refresh.epoch

    def metadata_seen(self, group_id: str, epoch: int, now: Now) -> None:
        """The group has looked at its topics, and will be in that epoch."""
        self._refresh[group_id] = Refresh(now.wall_ms + NEVER_MS, epoch)

    # -- timers

    def watch(self, kind: str, group_id: str, member_id: str, timeout_ms: int, now: Now) -> None:
        """Expect something of a member within `timeout_ms`; what, the kind says."""
        self.deadlines.set((kind, group_id, member_id), now.monotonic_s + timeout_ms / 1000)

    def watch_if_not(self, kind: str, group_id: str, member_id: str, timeout_ms: int, now: Now) -> None:
        """The same, unless it is expected already."""
        if (kind, group_id, member_id) not in self.deadlines:
            self.watch(kind, group_id, member_id, timeout_ms, now)

    def stop_watching(self, kind: str, group_id: str, member_id: str) -> None:
        """Expect it no more."""
        self.deadlines.cancel((kind, group_id, member_id))

    def forget_member(self, group_id: str, member_id: str) -> None:
        """Expect nothing of a member."""
        for kind in MEMBER_KINDS:
            self.stop_watching(kind, group_id, member_id)
        self._unrevoked_epochs.pop((group_id, member_id), None)

    def watch_revocation(self, group_id: str, member: ConsumerMember, now: Now) -> None:
        """Give a member the time to give up what it has to; or stop, if it has nothing to give up."""
        if member.state is MemberState.UNREVOKED_PARTITIONS:
            self._unrevoked_epochs[group_id, member.member_id] = member.epoch
            self.watch(REBALANCE, group_id, member.member_id, member.rebalance_timeout_ms, now)
        else:
            self._unrevoked_epochs.pop((group_id, member.member_id), None)
            self.stop_watching(REBALANCE, group_id, member.member_id)

    def refused(self, now: Now) -> None:
        """The log took no record of what was to be: consumer groups go on as such, new ones have never been."""
        for group_id in self._refresh.keys() - self.groups.keys():
            del self._refresh[group_id]
        for group_id in self.downgrades:
            for member_id in self.groups[group_id].members:
                self.watch(SESSION, group_id, member_id, self.times(group_id).session_timeout_ms, now)
        self.downgrades.clear()
        self.downgraded.clear()

    def loaded(self, now: Now) -> None:
        """Begin the session of every member anew."""
        for group in self.groups.values():
            for member in group.members.values():
                timeout_ms = self.times(group.group_id).session_timeout_ms
                self.watch(SESSION, group.group_id, member.member_id, timeout_ms, now)
                if member.state is MemberState.UNREVOKED_PARTITIONS:
                    self.watch_revocation(group.group_id, member, now)

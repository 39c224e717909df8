"""Members that leave a consumer group, or are fenced; and what becomes of the group then."""

from __future__ import annotations

from collections.abc import Sequence

from kpybroker.clock import Now
from kpybroker.coordinators.machines.consumer import records
from kpybroker.coordinators.machines.consumer.group import ConsumerGroup, Counts
from kpybroker.coordinators.machines.consumer.member import ConsumerMember
from kpybroker.coordinators.machines.consumer.migration import Downgrade
from kpybroker.coordinators.machines.consumer.progress import Progress
from kpybroker.coordinators.machines.consumer.state import DOWNGRADED, REBALANCE, REJOIN, RESYNC
from kpybroker.coordinators.machines.effects import Record
from kpybroker.coordinators.machines.events import Effects
from kpybroker.wire.codes import Refused

_WHY = {
    REBALANCE: "it did not give up its partitions in time",
    REJOIN: "the classic member did not join in time",
    RESYNC: "the classic member did not sync in time",
}


class Departures(Progress):
    """What happens when members go."""

    def fence(self, group: ConsumerGroup, members: Sequence[ConsumerMember], now: Now, out: Effects) -> None:
        """Take members out of the group. If that leaves classic members only, the group may become a classic one.

        Raises: Refused if it would but can't.
        """
        if not members:
            return
        if self._downgrades_without(group, members):
            self.downgrade(group, members, None, out.records, now, why="the last consumer of the other protocol left")
            return
        group_id = group.group_id
        for member in members:
            out.records.extend(records.member_tombstones(group_id, member.member_id))
        self._bump_without(group, members, out.records)
        for member in members:
            self.forget_member(group_id, member.member_id)

    def _bump_without(self, group: ConsumerGroup, members: Sequence[ConsumerMember], to: list[Record]) -> None:
        """The next group epoch, and the end of patterns that nobody else subscribes to."""
        subscriptions = group.subscriptions.copy()
        patterns: Counts[str] = Counts()
        for member in members:
            subscriptions.add_names(member.topics, -1)
            if member.regex:
                patterns.add(member.regex)
        for pattern, count in patterns.items():
            if group.regexes.get(pattern) == count:
                to.append(records.regex_tombstone(group.group_id, pattern))
                resolved = group.resolved.get(pattern)
                subscriptions.add_matched(() if resolved is None else resolved.topics, -1)
        to.append(records.epoch(group.group_id, group.epoch + 1, self.topics.hash_of(subscriptions.topics)))

    def _downgrades_without(self, group: ConsumerGroup, members: Sequence[ConsumerMember]) -> bool:
        left = len(group.members) - len(members)
        return (
            group.all_classic_without(members)
            and 0 < left <= self.settings.members_max
            and self.own.migration.downgrades
        )

    def downgrade(
        self,
        group: ConsumerGroup,
        leaving: Sequence[ConsumerMember],
        joining: ConsumerMember | None,
        to: list[Record],
        now: Now,
        *,
        why: str | None,
    ) -> None:
        """Make a classic group of a consumer group. `why` it has to rebalance; None: it has not to. Raises: Refused."""
        conversion = Downgrade(group, self.topics, self.settings, self.deadlines)
        to.extend(conversion.convert(leaving, joining, now))
        for member_id in group.members:
            self.forget_member(group.group_id, member_id)
        self.downgrades[group.group_id] = conversion.classic
        self.downgraded[group.group_id] = why
        self.deadlines.set((DOWNGRADED, group.group_id), now.monotonic_s)

    def member_due(self, kind: str, group_id: str, member_id: str, now: Now, out: Effects) -> None:
        """A member's time is over."""
        group = self.groups.get(group_id)
        member = None if group is None else group.members.get(member_id)
        if group is None or member is None:
            return
        if kind == REBALANCE and self._unrevoked_epochs.get((group_id, member_id)) != member.epoch:
            return
        why = _WHY.get(kind, "its session ended")
        out.notes.append(f"Member {member_id} is fenced from group {group_id}: {why}")
        try:
            self.fence(group, [member], now, out)
        except Refused as refusal:
            out.notes.append(f"Member {member_id} stays in group {group_id}: {refusal}")

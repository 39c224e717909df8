"""The uniform assignor where members subscribe to different topics.

Three steps. Everyone gives up what they no longer subscribe to. What nobody has goes, topic by topic, to whoever of the
topic's subscribers has least. Then each topic in turn is balanced among its subscribers, again and again, until a whole
round changes nothing; where subscriptions overlap that may take long, so there is a limit to the rounds.
"""

from __future__ import annotations

import struct

from kpybroker.coordinators.machines.consumer.assignment import Assignment, GroupSpec

ROUNDS_MAX = 16
NOBODY = -1


class Balance:
    """One computation. Members are numbers here: their place in the order in which Kafka walks them."""

    def __init__(self, spec: GroupSpec) -> None:
        self._spec = spec
        self._members = spec.ordered_members()
        self._loads = [0] * len(self._members)
        """How many partitions each member has."""
        self._subscribers: dict[bytes, list[int]] = {}
        for number, member_id in enumerate(self._members):
            for topic_id in spec.members[member_id].topic_ids:
                self._subscribers.setdefault(topic_id, []).append(number)
        self._owners = {topic_id: [NOBODY] * spec.partitions_of(topic_id) for topic_id in self._subscribers}

    def assign(self) -> Assignment:
        """The new assignment."""
        if not self._subscribers:
            return {}
        self._keep()
        topics = sorted(self._subscribers, key=self._rank)
        for topic_id in topics:
            self._hand_out(topic_id)
        self._balance([topic_id for topic_id in topics if len(self._subscribers[topic_id]) > 1])
        return self._result()

    def _rank(self, topic_id: bytes) -> tuple[float, int, tuple[int, int]]:
        """Most partitions a subscriber first, then fewest subscribers, then by id as Kafka compares ids."""
        subscribers = len(self._subscribers[topic_id])
        return -len(self._owners[topic_id]) / subscribers, subscribers, struct.unpack(">qq", topic_id)

    def _keep(self) -> None:
        for number, member_id in enumerate(self._members):
            member = self._spec.members[member_id]
            for topic_id in member.topic_ids:
                partitions = member.target.get(topic_id, ())
                self._loads[number] += len(partitions)
                owners = self._owners[topic_id]
                for index in partitions:
                    owners[index] = number

    def _hand_out(self, topic_id: bytes) -> None:
        owners = self._owners[topic_id]
        free = [index for index, owner in enumerate(owners) if owner == NOBODY]
        if not free:
            return
        ranges = _Ranges(self._subscribers[topic_id], self._loads)
        for index in free:
            number = ranges.next_least()
            owners[index] = number
            self._loads[number] += 1

    def _balance(self, topics: list[bytes]) -> None:
        """Stops when it comes again to the last topic that it changed."""
        last = None
        for _ in range(ROUNDS_MAX):
            for topic_id in topics:
                if topic_id == last:
                    return
                if self._balance_topic(topic_id) or last is None:
                    last = topic_id

    def _balance_topic(self, topic_id: bytes) -> int:
        """Move partitions from those who have most to those who have least; returns how many."""
        subscribers, loads = self._subscribers[topic_id], self._loads
        has = [loads[number] for number in subscribers]
        if max(has) - min(has) <= 1:
            return 0
        ranges = _Ranges(subscribers, loads)
        owners = self._owners[topic_id]
        held: dict[int, list[int]] = {}
        for index, owner in enumerate(owners):
            held.setdefault(owner, []).append(index)
        moved = 0
        while not ranges.balanced:
            giver = ranges.next_most()
            while giver != NOBODY and not held.get(giver):
                ranges.exclude()
                giver = ranges.next_most()
            if giver == NOBODY:
                break
            index = held[giver].pop()
            taker = ranges.next_least()
            if ranges.balanced:
                break
            owners[index] = taker
            loads[giver] -= 1
            loads[taker] += 1
            moved += 1
        return moved

    def _result(self) -> Assignment:
        found: dict[int, dict[bytes, list[int]]] = {}
        for topic_id, owners in self._owners.items():
            for index, owner in enumerate(owners):
                found.setdefault(owner, {}).setdefault(topic_id, []).append(index)
        return {
            member_id: {topic_id: tuple(indexes) for topic_id, indexes in found.get(number, {}).items()}
            for number, member_id in enumerate(self._members)
        }


class _Ranges:
    """Subscribers by load: a range of those with least grows from the left, one of those with most from the right.

    All members of a range have the same load when its turn begins; each gets, or gives, one partition a turn.
    """

    def __init__(self, members: list[int], loads: list[int]) -> None:
        self._loads = loads
        self._sorted = sorted(members, key=lambda number: (loads[number], number))
        self._least_end = 0
        self._least = loads[self._sorted[0]] - 1
        self._next_least = 0
        self._most_begin = self._most_end = len(self._sorted)
        self._most = loads[self._sorted[-1]] + 1
        self._next_most = len(self._sorted) - 1

    @property
    def balanced(self) -> bool:
        """Whether moving a partition from one range to the other would gain nothing."""
        return self._most - self._least <= 1

    def next_least(self) -> int:
        """Who gets the next partition."""
        ordered, loads = self._sorted, self._loads
        if self._next_least >= self._least_end:
            self._least += 1
            while self._least_end < len(ordered) and loads[ordered[self._least_end]] == self._least:
                self._least_end += 1
            self._next_least = 0
        number = ordered[self._next_least]
        self._next_least += 1
        return number

    def next_most(self) -> int:
        """Who gives the next partition; NOBODY if no one is left who could."""
        ordered, loads = self._sorted, self._loads
        if self._next_most < self._most_begin:
            if self._most_end <= self._most_begin and self._most_begin > 0:
                self._most = loads[ordered[self._most_begin - 1]]  # all of the range were excluded
            else:
                self._most -= 1
            while self._most_begin > 0 and loads[ordered[self._most_begin - 1]] == self._most:
                self._most_begin -= 1
            self._next_most = self._most_end - 1
        if self._next_most < 0:
            return NOBODY
        number = ordered[self._next_most]
        self._next_most -= 1
        return number

    def exclude(self) -> None:
        """The one that was just named has no partition of this topic to give."""
        at, last = self._next_most + 1, self._most_end - 1
        self._sorted[at], self._sorted[last] = self._sorted[last], self._sorted[at]
        self._most_end = last

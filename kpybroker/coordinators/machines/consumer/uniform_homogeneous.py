"""The uniform assignor where all members subscribe to the same topics: as evenly as can be, moving as little as can be.

Everyone may keep what they have up to their quota; what is over, and what nobody had, goes to those who have room.
"""

from __future__ import annotations

from kpybroker.coordinators.machines.consumer.assignment import Assignment, GroupSpec, Partitions
from kpybroker.coordinators.machines.consumer.java_order import (
    copied,
    copied_numbers,
    grown,
    grown_from,
    in_order,
    number_hash,
    sized,
    uuid_hash,
)

TopicPartition = tuple[bytes, int]


def assign_evenly(spec: GroupSpec) -> Assignment:
    """Quotas for all that differ by one at most."""
    members = spec.ordered_members()
    first = spec.members[members[0]]
    subscribed = in_order(first.topic_ids, uuid_hash, copied(first.subscribed))
    if not subscribed:
        return {}
    free: list[TopicPartition] = []
    total = 0
    for topic_id in subscribed:
        count = spec.partitions_of(topic_id)
        owners = spec.owners.get(topic_id, {})
        free += [(topic_id, index) for index in range(count) if index not in owners]
        total += count
    return _Round(spec, members, frozenset(subscribed), free).assign(*divmod(total, len(members)))


class _Round:
    """One computation: first what everybody keeps, then who gets the rest."""

    def __init__(
        self, spec: GroupSpec, members: list[str], subscribed: frozenset[bytes], free: list[TopicPartition]
    ) -> None:
        self._spec = spec
        self._members = members
        self._subscribed = subscribed
        self._free = free

    def assign(self, quota: int, extra: int) -> Assignment:
        """`quota` for everyone and one more for `extra` of them."""
        shares: dict[str, _Share] = {}
        unfilled: list[tuple[_Share, int]] = []
        for index, member_id in enumerate(self._members):
            with_extra = extra > 0
            share = shares[member_id] = _Share(self._spec.members[member_id].target)
            room = share.keep(self._subscribed, quota + with_extra, self._free)
            if room and with_extra and len(self._members) - index > extra:
                # Somebody who comes later may need the extra one to keep what they have.
                room -= 1
                with_extra = False
            if room:
                unfilled.append((share, room))
            extra -= with_extra
        begin = 0
        for share, room in unfilled:
            share.add(self._free[begin : begin + room])
            begin += room
        assert begin >= len(self._free), "the quotas add up to all partitions"
        return {member_id: share.partitions() for member_id, share in shares.items()}


class _Share:
    """What one member had, and gets. It is written as Kafka's maps are walked, since that decides what moves next."""

    def __init__(self, target: Partitions) -> None:
        self._target = target
        self._changed = False
        self._topics = {
            topic_id: copied_numbers(target[topic_id]) for topic_id in in_order(target, uuid_hash, grown(len(target)))
        }

    def keep(self, subscribed: frozenset[bytes], quota: int, free: list[TopicPartition]) -> int:
        """Keep what is within the quota, the rest is free; returns for how many more there is room."""
        for topic_id, indexes in list(self._topics.items()):
            if topic_id not in subscribed:
                self._put(topic_id, [])
            elif len(indexes) <= quota:
                quota -= len(indexes)
            else:
                self._put(topic_id, indexes[:quota])
                free += [(topic_id, index) for index in indexes[quota:]]
                quota = 0
        return quota

    def add(self, some: list[TopicPartition]) -> None:
        """Get more. A topic that is new comes first in its bucket: that is where `computeIfAbsent` puts it."""
        for topic_id, index in some:
            if topic_id not in self._topics:
                self._topics = {topic_id: [], **self._topics}
            self._put(topic_id, [*self._topics[topic_id], index])

    def _put(self, topic_id: bytes, indexes: list[int]) -> None:
        self._changed = True
        if indexes:
            self._topics[topic_id] = indexes
        else:
            del self._topics[topic_id]

    def partitions(self) -> Partitions:
        """The share; the target itself if it is as it was."""
        if not self._changed:
            return self._target
        buckets = grown_from(sized(len(self._target)), len(self._topics))
        found = {}
        for topic_id in in_order(self._topics, uuid_hash, buckets):
            indexes = self._topics[topic_id]
            numbers = copied(len(self._target[topic_id])) if topic_id in self._target else grown(0)
            found[topic_id] = tuple(in_order(indexes, number_hash, grown_from(numbers, len(indexes))))
        return found

"""The uniform assignor where all members subscribe to the same topics: as evenly as can be, moving as little as can be.

Everyone may keep what they have up to their quota; what is over, and what nobody had, goes to those who have room.
"""

from __future__ import annotations

from kpybroker.coordinators.machines.consumer.assignors import Assignment, GroupSpec, Partitions
from kpybroker.coordinators.machines.consumer.java_order import copied, copied_numbers, grown, in_order, uuid_hash

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
        kept: Assignment = {}
        unfilled: list[tuple[str, int]] = []
        for index, member_id in enumerate(self._members):
            with_extra = extra > 0
            kept[member_id], room = self._keep(self._spec.members[member_id].target, quota + with_extra)
            if room and with_extra and len(self._members) - index > extra:
                # Somebody who comes later may need the extra one to keep what they have.
                room -= 1
                with_extra = False
            if room:
                unfilled.append((member_id, room))
            extra -= with_extra
        begin = 0
        for member_id, room in unfilled:
            given = self._free[begin : begin + room]
            begin += room
            if given:
                kept[member_id] = _with(kept[member_id], given)
        assert begin >= len(self._free), "the quotas add up to all partitions"
        return kept

    def _keep(self, target: Partitions, quota: int) -> tuple[Partitions, int]:
        """What a member keeps of what it had, and for how many more it has room."""
        kept: dict[bytes, tuple[int, ...]] = {}
        for topic_id in in_order(target, uuid_hash, grown(len(target))):
            if topic_id not in self._subscribed:
                continue
            partitions = target[topic_id]
            if len(partitions) <= quota:
                quota -= len(partitions)
                kept[topic_id] = partitions
                continue
            ordered = copied_numbers(partitions)
            if quota:
                kept[topic_id] = tuple(ordered[:quota])
            self._free += [(topic_id, index) for index in ordered[quota:]]
            quota = 0
        return kept, quota


def _with(partitions: Partitions, more: list[TopicPartition]) -> Partitions:
    both = {topic_id: list(indexes) for topic_id, indexes in partitions.items()}
    for topic_id, index in more:
        both.setdefault(topic_id, []).append(index)
    return {topic_id: tuple(sorted(indexes)) for topic_id, indexes in both.items()}

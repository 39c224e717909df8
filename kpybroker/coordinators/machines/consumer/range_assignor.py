"""The range assignor: of each topic, every subscriber gets one run of partitions.

Topics with as many partitions and the same subscribers are split alike, so their partitions with the same number meet
at one member. Static members come first, by instance id, and the others follow by member id.
"""

from __future__ import annotations

from kpybroker.coordinators.machines.consumer.assignment import Assignment, GroupSpec


class _Split:
    """One topic while it is handed out."""

    __slots__ = ("extra", "next", "partitions", "quota")

    def __init__(self, partitions: int, subscribers: int) -> None:
        self.partitions = partitions
        self.quota, self.extra = divmod(partitions, subscribers)
        self.next = 0

    def take(self) -> tuple[int, ...]:
        """The next subscriber's run."""
        begin = self.next
        self.next = min(begin + self.quota + (self.extra > 0), self.partitions)
        self.extra -= self.extra > 0
        return tuple(range(begin, self.next))


def assign_ranges(spec: GroupSpec) -> Assignment:
    """Runs of partitions for every member, in the members' order."""
    members = spec.members
    subscribers: dict[bytes, int] = {}
    for member in members.values():
        for topic_id in member.topic_ids:
            subscribers[topic_id] = subscribers.get(topic_id, 0) + 1
    splits = {topic_id: _Split(spec.partitions_of(topic_id), count) for topic_id, count in subscribers.items()}

    def rank(member_id: str) -> tuple[bool, str]:
        instance_id = members[member_id].instance_id
        return instance_id is None, member_id if instance_id is None else instance_id

    assignment: Assignment = {}
    for member_id in sorted(members, key=rank):
        taken = {topic_id: splits[topic_id].take() for topic_id in members[member_id].topic_ids}
        assignment[member_id] = {topic_id: partitions for topic_id, partitions in taken.items() if partitions}
    return assignment

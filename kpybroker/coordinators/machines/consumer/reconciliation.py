"""How a member of a consumer group gets from what it has to what it is to have (KIP-848).

    STABLE -> UNREVOKED_PARTITIONS       it has something that it is to lose: it is told to give that up, and stays in
                                         its epoch until it no longer names it among what it owns
    UNREVOKED -> STABLE, UNRELEASED      it has given up all of it: it goes to the epoch of the target assignment and
                                         gets whatever is free
    STABLE -> UNRELEASED_PARTITIONS      in the new epoch, but others have yet to give up some of its partitions
    UNRELEASED -> STABLE                 they have

A partition is free when nobody has it or is still giving it up. So no two members ever have the same one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import msgspec

from kpybroker.coordinators.machines.consumer.assignment import Partitions
from kpybroker.coordinators.machines.consumer.group import NO_OWNER
from kpybroker.coordinators.machines.consumer.member import NO_PARTITIONS, ConsumerMember, Epochs, MemberState
from kpybroker.wire.codes import Code, Refused
from kpybroker.wire.messages.consumer_group_heartbeat import TopicPartitions


class Goal(msgspec.Struct, frozen=True):
    """Where a member is to get to, and what it said that it owns."""

    epoch: int
    """The assignment epoch."""
    target: Partitions
    subscribes: Callable[[bytes], bool]
    """Whether the member subscribes to a topic."""
    subscription_changed: bool
    """Whether that has just changed: then what it no longer subscribes to is taken away at once."""
    owner_epoch: Callable[[bytes, int], int]
    """The epoch of whoever has a partition; NO_OWNER if it is free."""
    owned: Iterable[TopicPartitions] | None
    """What the member owns by its own account; None: it did not say."""

    def still_owns(self, partitions: Epochs) -> bool:
        """Whether the member has any of these, for all that is known."""
        if self.owned is None:
            return True
        return any(index in partitions.get(topic.topic_id, {}) for topic in self.owned for index in topic.partitions)


def reconcile(member: ConsumerMember, goal: Goal) -> ConsumerMember:
    """The member one step further; itself if there is no step to take.

    Raises: Refused: FENCED_MEMBER_EPOCH for a member in a state of a later release that does not own nothing.
    """
    match member.state:
        case MemberState.STABLE:
            if member.epoch != goal.epoch:
                return _next(member, member.epoch, goal)
            return _without_unsubscribed(member, goal) if goal.subscription_changed else member
        case MemberState.UNREVOKED_PARTITIONS:
            if goal.still_owns(member.revoking):
                return _without_unsubscribed(member, goal) if goal.subscription_changed else member
            return _next(member, member.epoch, goal)
        case MemberState.UNRELEASED_PARTITIONS:
            return _next(member, member.epoch, goal)
        case _:
            if goal.owned is None or any(True for _ in goal.owned):
                raise Refused(
                    Code.FENCED_MEMBER_EPOCH,
                    "The consumer group member is in a unknown state. "
                    "The member must abandon all its partitions and rejoin.",
                )
            return _next(member, goal.epoch, goal)


def _without_unsubscribed(member: ConsumerMember, goal: Goal) -> ConsumerMember:
    """The member in its epoch, giving up the topics that it no longer subscribes to."""
    dropped = {topic_id: epochs for topic_id, epochs in member.assigned.items() if not goal.subscribes(topic_id)}
    if not dropped:
        return member
    assigned = {topic_id: epochs for topic_id, epochs in member.assigned.items() if topic_id not in dropped}
    revoking = {topic_id: dict(epochs) for topic_id, epochs in member.revoking.items()}
    for topic_id, epochs in dropped.items():
        revoking.setdefault(topic_id, {}).update(epochs)
    if goal.still_owns(revoking):
        return _moved(member, member.epoch, MemberState.UNREVOKED_PARTITIONS, assigned, revoking)
    return _moved(member, member.epoch, member.state, assigned, member.revoking)


def _next(member: ConsumerMember, epoch: int, goal: Goal) -> ConsumerMember:
    """The member on its way to the target, giving up in `epoch` what it has to give up."""
    kept: dict[bytes, dict[int, int]] = {}
    lost: dict[bytes, dict[int, int]] = {}
    for topic_id, epochs in member.assigned.items():
        wanted = frozenset(goal.target.get(topic_id, ())) if goal.subscribes(topic_id) else frozenset()
        for into, some in (
            (kept, {index: at for index, at in epochs.items() if index in wanted}),
            (lost, {index: at for index, at in epochs.items() if index not in wanted}),
        ):
            if some:
                into[topic_id] = some
    if lost and goal.still_owns(lost):
        return _moved(member, epoch, MemberState.UNREVOKED_PARTITIONS, kept, lost)
    unreleased = False
    for topic_id, indexes in goal.target.items():
        if not goal.subscribes(topic_id):
            continue
        own: Mapping[int, int] = kept.get(topic_id, {})
        given_up = member.revoking.get(topic_id, {})
        missing = [index for index in indexes if index not in own]
        # What the member itself was giving up is its own: nobody else can have it.
        free = [i for i in missing if i in given_up or goal.owner_epoch(topic_id, i) == NO_OWNER]
        unreleased = unreleased or len(free) < len(missing)
        if free:
            kept.setdefault(topic_id, {}).update(dict.fromkeys(free, goal.epoch))
    state = MemberState.UNRELEASED_PARTITIONS if unreleased else MemberState.STABLE
    return _moved(member, goal.epoch, state, kept, NO_PARTITIONS)


def _moved(
    member: ConsumerMember, epoch: int, state: MemberState, assigned: Epochs, revoking: Epochs
) -> ConsumerMember:
    return msgspec.structs.replace(
        member, epoch=epoch, previous_epoch=member.epoch, state=state, assigned=assigned, revoking=revoking
    )

"""ConsumerGroupHeartbeat (KIP-848): how members join, stay, progress and leave.

A heartbeat is answered at once, from what the group is like with the very records that it leads to.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import msgspec

from kpybroker.clock import Now
from kpybroker.coordinators.machines.consumer import records, regexes
from kpybroker.coordinators.machines.consumer.departures import Departures
from kpybroker.coordinators.machines.consumer.group import ConsumerGroup
from kpybroker.coordinators.machines.consumer.java_order import grown, in_order, uuid_hash
from kpybroker.coordinators.machines.consumer.member import LEAVE, LEAVE_FOR_A_WHILE, ConsumerMember, Epochs
from kpybroker.coordinators.machines.consumer.migration import upgraded
from kpybroker.coordinators.machines.consumer.progress import Change
from kpybroker.coordinators.machines.consumer.state import SESSION, Resolving
from kpybroker.coordinators.machines.effects import Record
from kpybroker.coordinators.machines.events import ConsumerHeartbeat, Effects
from kpybroker.coordinators.machines.group_records import group_tombstone
from kpybroker.coordinators.machines.replies import consumer_heartbeat_error
from kpybroker.wire.codes import Code, Refused
from kpybroker.wire.messages.consumer_group_heartbeat import (
    Assignment,
    ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatResponse,
    TopicPartitions,
)

T = TypeVar("T")


class Heartbeats(Departures):
    """What a ConsumerGroupHeartbeat does."""

    def heartbeat(self, event: ConsumerHeartbeat, now: Now, out: Effects) -> None:
        """Answer a heartbeat; one that is refused changes nothing.

        But members of a classic group that was to be upgraded have been told to join again by then, as by Kafka.
        """
        mine = Effects()
        try:
            if event.request.member_epoch in (LEAVE, LEAVE_FOR_A_WHILE):
                response = self._leave(event.request, now, mine)
            else:
                response = self._beat(event, now, mine)
        except Refused as refusal:
            out.replies += [*mine.replies, (event.token, consumer_heartbeat_error(refusal.code, refusal.why))]
            return
        out.records += mine.records
        out.notes += mine.notes
        out.replies += [*mine.replies, (event.token, response)]
        out.group_id = mine.group_id

    # -- joining and staying

    def _beat(self, event: ConsumerHeartbeat, now: Now, out: Effects) -> ConsumerGroupHeartbeatResponse:
        request = event.request
        group_id = request.group_id
        group = self._group_for(request, now, out)
        self.require_room(group, request.member_id)
        before = self._member_for(group, request, event.new_member_id, out.records)
        after = _updated(before, event)
        change = Change(group, before, after, out.records, out)
        if after != before:
            out.records.append(records.subscription(group_id, after))
        names_changed = after.topics != before.topics
        regex_changed, resolved = self.change_regex(change, event.may_describe, now)
        epoch, homogeneous = self.advance(change, now, bump=names_changed or resolved)
        target = self.retarget(change, epoch, now, homogeneous=homogeneous)
        moved = self.reconcile(
            change,
            target,
            now,
            subscription_changed=names_changed or regex_changed,
            owned=request.topic_partitions,
        )
        self.watch(SESSION, group_id, moved.member_id, self.times(group_id).session_timeout_ms, now)
        tell = request.member_epoch == 0 or _is_full(request) or moved.assigned != before.assigned
        return ConsumerGroupHeartbeatResponse(
            throttle_time_ms=0,
            error_code=Code.NONE,
            member_id=moved.member_id,
            member_epoch=moved.epoch,
            heartbeat_interval_ms=self.times(group_id).heartbeat_interval_ms,
            assignment=_assignment(moved.assigned) if tell else None,
        )

    def _group_for(self, request: ConsumerGroupHeartbeatRequest, now: Now, out: Effects) -> ConsumerGroup:
        """The group; who joins makes one, in place of an empty classic one too, and upgrades one that is not empty.

        Raises: Refused(GROUP_ID_NOT_FOUND).
        """
        group_id = request.group_id
        group = self.groups.get(group_id)
        if group is not None:
            return group
        classic = self.classic.get(group_id)
        if group_id in self.foreign or (classic is not None and request.member_epoch != 0):
            raise Refused(Code.GROUP_ID_NOT_FOUND, self.missing(group_id))
        if request.member_epoch != 0:
            raise Refused(Code.GROUP_ID_NOT_FOUND, f"Consumer group {group_id} not found.")
        group = ConsumerGroup(group_id)
        if classic is None:
            return group
        if not classic.is_empty:
            self._require_upgrade(group_id)
            made = upgraded(classic, self.topics)
            classic.abandon(Code.REBALANCE_IN_PROGRESS, out)
            out.group_id = group_id
            for record in made:
                group.apply(record.key, record.value)
            for member in group.members.values():
                assert member.classic is not None
                self.watch(SESSION, group_id, member.member_id, member.classic.session_timeout_ms, now)
            out.records += [group_tombstone(group_id), *made]
            out.notes.append(f"Group {group_id} becomes a consumer group")
        else:
            out.records.append(group_tombstone(group_id))
        return group

    def _require_upgrade(self, group_id: str) -> None:
        """Raises: Refused(GROUP_ID_NOT_FOUND) if a classic group that is not empty can't become a consumer group."""
        classic = self.classic[group_id]
        why = None
        if not self.own.migration.upgrades:
            why = "online upgrade is disabled"
        elif not classic.uses_consumer_protocol:
            why = "the group does not use the consumer embedded protocol"
        elif len(classic.roster.members) > self.own.members_max:
            why = "the group size exceeds the consumer group maximum size"
        if why is not None:
            raise Refused(
                Code.GROUP_ID_NOT_FOUND, f"Cannot upgrade classic group {group_id} to consumer group because {why}."
            )

    def require_room(self, group: ConsumerGroup, member_id: str) -> None:
        """Raises: Refused(GROUP_MAX_SIZE_REACHED) for a new member of a group that is full."""
        if len(group.members) >= self.own.members_max and member_id not in group.members:
            raise Refused(
                Code.GROUP_MAX_SIZE_REACHED,
                f"The consumer group has reached its maximum capacity of {self.own.members_max} members.",
            )

    def _member_for(
        self, group: ConsumerGroup, request: ConsumerGroupHeartbeatRequest, new_id: str, to: list[Record]
    ) -> ConsumerMember:
        """The member as it is. Raises: Refused: UNKNOWN_MEMBER_ID, FENCED_MEMBER_EPOCH, and as `static_member_for`."""
        member_id = request.member_id or new_id
        joins = request.member_epoch == 0
        if request.instance_id is None:
            member = group.members.get(member_id)
            if member is None:
                if not joins:
                    raise unknown_member(member_id, group.group_id)
                return ConsumerMember(member_id=member_id)
        elif joins:
            return self.join_static(group, member_id, request.instance_id, to, classic=False)
        else:
            member = self.static_member_for(group, member_id, request.instance_id)
        _check_epoch(member, request)
        return member

    def join_static(
        self, group: ConsumerGroup, member_id: str, instance_id: str, to: list[Record], *, classic: bool
    ) -> ConsumerMember:
        """A static member that is new, or comes back under another id and takes its old self's place.

        Raises: Refused(UNRELEASED_INSTANCE_ID) if its old self has not left, both being of the consumer protocol.
        """
        old = group.static_member(instance_id)
        if old is None:
            return group.members.get(member_id) or ConsumerMember(member_id=member_id)
        if not classic and old.classic is None and old.epoch != LEAVE_FOR_A_WHILE:
            raise Refused(
                Code.UNRELEASED_INSTANCE_ID,
                f"Static member {member_id} with instance id {instance_id} cannot join the group because the instance "
                f"id is owned by {old.member_id} member.",
            )
        new = msgspec.structs.replace(old, member_id=member_id, epoch=0, previous_epoch=0)
        to += records.member_tombstones(group.group_id, old.member_id)
        to.append(records.subscription(group.group_id, new))
        to.append(records.target(group.group_id, member_id, group.target_of(old.member_id)))
        to.append(records.current_assignment(group.group_id, new))
        return new

    def static_member_for(self, group: ConsumerGroup, member_id: str, instance_id: str) -> ConsumerMember:
        """The member with an instance id. Raises: Refused: UNKNOWN_MEMBER_ID, FENCED_INSTANCE_ID."""
        member = group.static_member(instance_id)
        if member is None:
            raise Refused(Code.UNKNOWN_MEMBER_ID, f"Instance id {instance_id} is unknown.")
        if member.member_id != member_id:
            raise fenced_instance(member_id, instance_id, member)
        return member

    def change_regex(self, change: Change, may_describe: Callable[[str], bool], now: Now) -> tuple[bool, bool]:
        """Take over what pattern the member subscribes to: whether that changed, and whether it is resolved already.

        Raises: Refused(INVALID_REGULAR_EXPRESSION).
        """
        group, old, new = change.group, change.before.regex, change.after.regex
        changed, resolved, is_new = old != new, False, False
        if changed:
            if old and group.regexes.get(old) == 1:
                change.records.append(records.regex_tombstone(group.group_id, old))
            if new:
                if new not in group.regexes:
                    regexes.check(new)
                    is_new = True
                else:
                    resolved = new in group.resolved
            elif old:
                resolved = True
        self.plan_resolving(change, Resolving(frozenset(), may_describe), now, is_new=is_new)
        return changed, resolved

    # -- leaving

    def _leave(self, request: ConsumerGroupHeartbeatRequest, now: Now, out: Effects) -> ConsumerGroupHeartbeatResponse:
        group = self.find(request.group_id)
        member_id = request.member_id
        if request.instance_id is None:
            member = group.members.get(member_id)
            if member is None:
                raise unknown_member(member_id, group.group_id)
        else:
            member = self.static_member_for(group, member_id, request.instance_id)
        if request.instance_id is not None and request.member_epoch == LEAVE_FOR_A_WHILE:
            away = msgspec.structs.replace(
                member, epoch=LEAVE_FOR_A_WHILE, revoking={}, assigned=_since_the_beginning(member.assigned)
            )
            out.records.append(records.current_assignment(group.group_id, away))
        else:
            out.notes.append(f"Member {member_id} left group {group.group_id}")
            self.fence(group, [member], now, out)
        return ConsumerGroupHeartbeatResponse(
            throttle_time_ms=0,
            error_code=Code.NONE,
            member_id=member_id,
            member_epoch=request.member_epoch,
            heartbeat_interval_ms=0,
        )


def unknown_member(member_id: str, group_id: str) -> Refused:
    """Nobody has that id."""
    return Refused(Code.UNKNOWN_MEMBER_ID, f"Member {member_id} is not a member of group {group_id}.")


def fenced_instance(member_id: str, instance_id: str, holder: ConsumerMember) -> Refused:
    """Another process has taken the instance id over."""
    return Refused(
        Code.FENCED_INSTANCE_ID,
        f"Static member {member_id} with instance id {instance_id} was fenced by member {holder.member_id}.",
    )


def _check_epoch(member: ConsumerMember, request: ConsumerGroupHeartbeatRequest) -> None:
    """Raises: Refused(FENCED_MEMBER_EPOCH).

    The last epoch will do if the member owns nothing but what it has now: the answer that told it of the new one may
    have been lost.
    """
    epoch = request.member_epoch
    if epoch in (0, member.epoch):
        return
    if epoch < member.epoch and epoch == member.previous_epoch and _owns_within(request, member.assigned):
        return
    size = "greater" if epoch > member.epoch else "smaller"
    raise Refused(
        Code.FENCED_MEMBER_EPOCH,
        f"The consumer group member has a {size} member epoch ({epoch}) than the one known by the group coordinator "
        f"({member.epoch}). The member must abandon all its partitions and rejoin.",
    )


def _owns_within(request: ConsumerGroupHeartbeatRequest, assigned: Epochs) -> bool:
    if request.topic_partitions is None:
        return False
    return all(
        topic.topic_id in assigned and all(index in assigned[topic.topic_id] for index in topic.partitions)
        for topic in request.topic_partitions
    )


def _updated(member: ConsumerMember, event: ConsumerHeartbeat) -> ConsumerMember:
    """The member with what the heartbeat says; what it leaves out stays."""
    request = event.request
    timeout_ms = request.rebalance_timeout_ms
    return msgspec.structs.replace(
        member,
        instance_id=_or(request.instance_id, member.instance_id),
        rack_id=_or(request.rack_id, member.rack_id),
        rebalance_timeout_ms=member.rebalance_timeout_ms if timeout_ms == -1 else timeout_ms,
        assignor=_or(request.server_assignor, member.assignor),
        topics=member.topics if request.subscribed_topic_names is None else frozenset(request.subscribed_topic_names),
        regex=_or(request.subscribed_topic_regex, member.regex),
        client_id=event.client_id,
        client_host=event.client_host,
        classic=None,
    )


def _or(said: T | None, known: T | None) -> T | None:
    return known if said is None else said


def _is_full(request: ConsumerGroupHeartbeatRequest) -> bool:
    """Whether a member says all there is to say: it is not sure what the coordinator knows, so it is told all, too."""
    subscribes = request.subscribed_topic_names is not None or request.subscribed_topic_regex is not None
    return request.rebalance_timeout_ms != -1 and subscribes and request.topic_partitions is not None


def _assignment(assigned: Epochs) -> Assignment:
    ordered = in_order(assigned, uuid_hash, grown(len(assigned)))
    return Assignment(
        topic_partitions=[TopicPartitions(topic_id=each, partitions=sorted(assigned[each])) for each in ordered]
    )


def _since_the_beginning(assigned: Epochs) -> Epochs:
    """So that a static member that comes back may commit in whatever epoch."""
    return {topic_id: dict.fromkeys(epochs, 0) for topic_id, epochs in assigned.items()}

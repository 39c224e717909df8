"""Members of the classic protocol in a consumer group, while it is on its way from one protocol to the other (KIP-848).

Their generation is their member epoch. JoinGroup does for them what a full heartbeat does for others, and is answered
at once; SyncGroup asks for the assignment; Heartbeat tells them when to join again: when there is a new assignment,
when they are to give up partitions, or when what they wait for is free. Two deadlines take the place of the one for
giving up partitions: to join again once told to, and to sync once joined.
"""

from __future__ import annotations

import msgspec

from kpybroker.clock import Now
from kpybroker.coordinators.machines.consumer import records
from kpybroker.coordinators.machines.consumer.group import ConsumerGroup
from kpybroker.coordinators.machines.consumer.heartbeats import Heartbeats, fenced_instance, unknown_member
from kpybroker.coordinators.machines.consumer.member import ConsumerMember, MemberState
from kpybroker.coordinators.machines.consumer.migration import (
    PROTOCOL_TYPE,
    MalformedEmbedded,
    classic_metadata,
    embedded_assignment,
    subscription_of,
)
from kpybroker.coordinators.machines.consumer.progress import Change, Target
from kpybroker.coordinators.machines.consumer.settings import MigrationPolicy
from kpybroker.coordinators.machines.consumer.state import REJOIN, RESYNC, SESSION
from kpybroker.coordinators.machines.effects import Record
from kpybroker.coordinators.machines.events import Effects, Heartbeat, JoinGroup, LeaveGroup, SyncGroup
from kpybroker.coordinators.machines.member import offered_protocols
from kpybroker.coordinators.machines.replies import join_error, sync_error
from kpybroker.wire.codes import Code, Refused
from kpybroker.wire.internal.consumer_protocol import ConsumerProtocolSubscription
from kpybroker.wire.messages.consumer_group_heartbeat import TopicPartitions
from kpybroker.wire.messages.heartbeat import HeartbeatRequest, HeartbeatResponse
from kpybroker.wire.messages.join_group import JoinGroupRequest, JoinGroupResponse
from kpybroker.wire.messages.leave_group import LeaveGroupResponse, MemberIdentity, MemberResponse
from kpybroker.wire.messages.sync_group import SyncGroupRequest, SyncGroupResponse
from kpybroker.wire.primitives import uuid_text

MEMBER_ID_REQUIRED_SINCE = 4


class ClassicMembers(Heartbeats):
    """What requests of the classic protocol do in a consumer group."""

    # -- JoinGroup

    def join(self, event: JoinGroup, now: Now, out: Effects) -> None:
        """A JoinGroup to a consumer group that is not empty."""
        mine = Effects()
        try:
            response = self._join(self.groups[event.request.group_id], event, now, mine)
        except Refused as refusal:
            out.replies.append((event.token, join_error(refusal.code)))
            return
        out.records += mine.records
        out.notes += mine.notes
        out.replies.append((event.token, response))

    def _join(self, group: ConsumerGroup, event: JoinGroup, now: Now, out: Effects) -> JoinGroupResponse:
        request = event.request
        self._require_welcome(group, request)
        member_id = request.member_id or _modern_id(event.new_member_id)
        if not request.member_id and request.group_instance_id is None and event.version >= MEMBER_ID_REQUIRED_SINCE:
            return join_error(Code.MEMBER_ID_REQUIRED, member_id)
        instance_id = request.group_instance_id
        downgrades = instance_id is not None and self._downgrades_with(group, instance_id)
        before = self._before(group, member_id, request, out.records)
        try:
            subscription = subscription_of(request.protocols[0].metadata)
        except MalformedEmbedded:
            raise Refused(Code.UNKNOWN_SERVER_ERROR) from None  # as Kafka answers
        after = _joined(before, event, subscription)
        change = Change(group, before, after, out.records, out)
        if after != before:
            out.records.append(records.subscription(group.group_id, after))
        regex_changed, _ = self.change_regex(change, lambda _: True, now)
        changed = after.topics != before.topics or regex_changed
        epoch, homogeneous = self.advance(change, now, bump=changed)
        owned = self._named_partitions(subscription)
        moved = after
        if downgrades:
            stale = group.assignment_epoch < epoch
            if not stale:
                target = Target(group.assignment_epoch, group.target_of(member_id, instance_id))
                moved = self.reconcile(change, target, now, subscription_changed=changed, owned=owned)
            why = "its assignment is stale" if stale else None
            self.downgrade(group, (), moved, out.records, now, why=why)
        else:
            target = self.retarget(change, epoch, now, homogeneous=homogeneous)
            moved = self.reconcile(change, target, now, subscription_changed=changed, owned=owned)
            self.stop_watching(REJOIN, group.group_id, member_id)
            self.watch(SESSION, group.group_id, member_id, request.session_timeout_ms, now)
            self.watch(RESYNC, group.group_id, member_id, request.rebalance_timeout_ms, now)
        return _joined_response(moved)

    def _require_welcome(self, group: ConsumerGroup, request: JoinGroupRequest) -> None:
        """Raises: Refused: INCONSISTENT_GROUP_PROTOCOL, GROUP_MAX_SIZE_REACHED."""
        if self.own.migration is MigrationPolicy.DISABLED:
            raise Refused(Code.INCONSISTENT_GROUP_PROTOCOL)
        self.require_room(group, request.member_id)
        if not group.supports_classic(request.protocol_type, [protocol.name for protocol in request.protocols]):
            raise Refused(Code.INCONSISTENT_GROUP_PROTOCOL)

    def _before(
        self, group: ConsumerGroup, member_id: str, request: JoinGroupRequest, to: list[Record]
    ) -> ConsumerMember:
        """The member as it was. Raises: Refused, as `join_static` and `static_member_for`."""
        if request.group_instance_id is None:
            return group.members.get(member_id) or ConsumerMember(member_id=member_id)
        if not request.member_id:
            return self.join_static(group, member_id, request.group_instance_id, to, classic=True)
        return self.static_member_for(group, member_id, request.group_instance_id)

    def _downgrades_with(self, group: ConsumerGroup, instance_id: str) -> bool:
        """Whether a classic member that takes this static member's place leaves classic members only."""
        replaced = group.static_member(instance_id)
        if replaced is None or replaced.classic is not None:
            return False
        return (
            group.classic_members == len(group.members) - 1
            and self.own.migration.downgrades
            and len(group.members) <= self.settings.members_max
        )

    def _named_partitions(self, subscription: ConsumerProtocolSubscription) -> list[TopicPartitions]:
        named = ((self.topics.id_of(owned.topic), owned.partitions) for owned in subscription.owned_partitions)
        return [
            TopicPartitions(topic_id=topic_id, partitions=partitions)
            for topic_id, partitions in named
            if topic_id is not None
        ]

    # -- SyncGroup and Heartbeat

    def sync(self, event: SyncGroup, now: Now, out: Effects) -> None:
        """A SyncGroup to a consumer group: the member's assignment, which needs no leader."""
        try:
            response = self._sync(event.request, now)
        except Refused as refusal:
            response = sync_error(refusal.code)
        out.replies.append((event.token, response))

    def _sync(self, request: SyncGroupRequest, now: Now) -> SyncGroupResponse:
        group = self.groups[request.group_id]
        member = self._classic_member(group, request)
        assert member.classic is not None
        chosen = member.classic.supported_protocols[0]
        if request.protocol_type not in (None, PROTOCOL_TYPE) or request.protocol_name not in (None, chosen.name):
            raise Refused(Code.INCONSISTENT_GROUP_PROTOCOL)
        # Who is giving up partitions has joined already, and is told to join again when that is done.
        if group.assignment_epoch > member.epoch and member.state is not MemberState.UNREVOKED_PARTITIONS:
            self._expect_rejoin(group.group_id, member, now)
            raise Refused(Code.REBALANCE_IN_PROGRESS)
        self.stop_watching(RESYNC, group.group_id, member.member_id)
        self.watch(SESSION, group.group_id, member.member_id, member.classic.session_timeout_ms, now)
        return SyncGroupResponse(
            error_code=Code.NONE,
            protocol_type=request.protocol_type,
            protocol_name=request.protocol_name,
            assignment=embedded_assignment(member.assigned, self.topics, chosen.metadata),
        )

    def classic_heartbeat(self, event: Heartbeat, now: Now, out: Effects) -> None:
        """A Heartbeat to a consumer group."""
        try:
            code = self._classic_beat(event.request, now)
        except Refused as refusal:
            code = refusal.code
        out.replies.append((event.token, HeartbeatResponse(error_code=code)))

    def _classic_beat(self, request: HeartbeatRequest, now: Now) -> Code:
        group = self.groups[request.group_id]
        member = self._classic_member(group, request)
        assert member.classic is not None
        self.watch(SESSION, group.group_id, member.member_id, member.classic.session_timeout_ms, now)
        if (
            member.epoch < group.assignment_epoch
            or member.state is MemberState.UNREVOKED_PARTITIONS
            or (member.state is MemberState.UNRELEASED_PARTITIONS and not group.waits_for_others(member))
        ):
            self._expect_rejoin(group.group_id, member, now)
            return Code.REBALANCE_IN_PROGRESS
        return Code.NONE

    def _expect_rejoin(self, group_id: str, member: ConsumerMember, now: Now) -> None:
        self.watch_if_not(REJOIN, group_id, member.member_id, member.rebalance_timeout_ms, now)

    def _classic_member(self, group: ConsumerGroup, request: HeartbeatRequest | SyncGroupRequest) -> ConsumerMember:
        """Raises: Refused: UNKNOWN_MEMBER_ID, FENCED_INSTANCE_ID, ILLEGAL_GENERATION."""
        if request.group_instance_id is None:
            member = group.members.get(request.member_id)
        else:
            member = group.static_member(request.group_instance_id)
            if member is not None and member.member_id != request.member_id:
                raise fenced_instance(request.member_id, request.group_instance_id, member)
        if member is None or member.classic is None:
            raise unknown_member(request.member_id, group.group_id)
        if member.epoch != request.generation_id:
            raise Refused(Code.ILLEGAL_GENERATION)
        return member

    # -- LeaveGroup

    def leave(self, event: LeaveGroup, now: Now, out: Effects) -> None:
        """A LeaveGroup to a consumer group: of members of either protocol."""
        group = self.groups[event.request.group_id]
        going: dict[str, ConsumerMember] = {}
        responses = []
        for identity in event.request.members:
            code = Code.NONE
            try:
                member = self._leaving(group, identity)
                going[member.member_id] = member
                out.notes.append(f"Member {member.member_id} left group {group.group_id}")
            except Refused as refusal:
                code = refusal.code
            response = MemberResponse(
                member_id=identity.member_id, group_instance_id=identity.group_instance_id, error_code=code
            )
            responses.append(response)
        try:
            self.fence(group, list(going.values()), now, out)
        except Refused as refusal:
            out.replies.append((event.token, LeaveGroupResponse(error_code=refusal.code)))
        else:
            out.replies.append((event.token, LeaveGroupResponse(error_code=Code.NONE, members=responses)))

    def _leaving(self, group: ConsumerGroup, identity: MemberIdentity) -> ConsumerMember:
        """Raises: Refused: UNKNOWN_MEMBER_ID, FENCED_INSTANCE_ID."""
        if identity.group_instance_id is None:
            member = group.members.get(identity.member_id)
            if member is None:
                raise unknown_member(identity.member_id, group.group_id)
            return member
        member = group.static_member(identity.group_instance_id)
        if member is None:
            raise Refused(Code.UNKNOWN_MEMBER_ID)
        if identity.member_id not in ("", member.member_id):
            raise fenced_instance(identity.member_id, identity.group_instance_id, member)
        return member


def _modern_id(new_member_id: str) -> str:
    """The UUID of a classic member's new id, as members of consumer groups are named; another id as it is."""
    try:
        return uuid_text(bytes.fromhex(new_member_id[-36:].replace("-", "")))
    except ValueError:
        return new_member_id


def _joined(member: ConsumerMember, event: JoinGroup, subscription: ConsumerProtocolSubscription) -> ConsumerMember:
    request = event.request
    timeout_ms = request.rebalance_timeout_ms
    return msgspec.structs.replace(
        member,
        instance_id=member.instance_id if request.group_instance_id is None else request.group_instance_id,
        rack_id=subscription.rack_id or member.rack_id,
        rebalance_timeout_ms=member.rebalance_timeout_ms if timeout_ms == -1 else timeout_ms,
        topics=frozenset(subscription.topics),
        regex="",
        client_id=event.client_id,
        client_host=event.client_host,
        classic=classic_metadata(request.session_timeout_ms, offered_protocols(request)),
    )


def _joined_response(member: ConsumerMember) -> JoinGroupResponse:
    """Nobody leads; the assignment comes with SyncGroup."""
    assert member.classic is not None
    return JoinGroupResponse(
        error_code=Code.NONE,
        generation_id=member.epoch,
        protocol_type=PROTOCOL_TYPE,
        protocol_name=member.classic.supported_protocols[0].name,
        leader="",
        member_id=member.member_id,
        members=[],
    )

"""A group of the classic protocol: what its members' requests do.

JoinGroup takes part in a rebalance or begins one, SyncGroup asks for what the leader assigned, Heartbeat keeps a member
alive and tells it of a rebalance, LeaveGroup ends a membership. The rebalance itself, with its states and what is
persisted of them, stands in rebalance.py.

Static members: KIP-345. Ids handed out before a member is taken in: KIP-394. Assignment skipped by a leader that comes
back: KIP-814. Reasons given by the client, which go to the log of the broker: KIP-800.
"""

from __future__ import annotations

from kpybroker.clock import Now
from kpybroker.coordinators.machines.events import Effects, Heartbeat, JoinGroup, LeaveGroup, SyncGroup
from kpybroker.coordinators.machines.member import Member, choose_protocol, offered_protocols
from kpybroker.coordinators.machines.rebalance import GroupState, Rebalance
from kpybroker.coordinators.machines.replies import join_error, sync_error
from kpybroker.wire.codes import Code
from kpybroker.wire.messages.heartbeat import HeartbeatResponse
from kpybroker.wire.messages.join_group import JoinGroupRequest, JoinGroupResponse
from kpybroker.wire.messages.leave_group import LeaveGroupResponse, MemberIdentity, MemberResponse
from kpybroker.wire.messages.offset_commit import OffsetCommitRequest
from kpybroker.wire.messages.sync_group import SyncGroupRequest
from kpybroker.wire.messages.txn_offset_commit import TxnOffsetCommitRequest

MEMBER_ID_REQUIRED_SINCE = 4
SKIP_ASSIGNMENT_SINCE = 9


class ClassicGroup(Rebalance):
    """One group. Created empty; one without a record of its own only holds the offsets of simple consumers."""

    # -- JoinGroup

    def join(self, event: JoinGroup, now: Now, out: Effects) -> None:
        """A JoinGroup. Answers it, or parks it until the rebalance it begins or takes part in gets that far."""
        request = event.request
        member_id = request.member_id
        if not self._has_room_for(member_id):
            self.roster.remove(member_id)
            self.stop_watching(member_id)
            out.replies.append((event.token, join_error(Code.GROUP_MAX_SIZE_REACHED)))
        elif not self._has_protocol_for(request):
            out.replies.append((event.token, join_error(Code.INCONSISTENT_GROUP_PROTOCOL, member_id)))
        elif not member_id:
            self._join_unnamed(event, now, out)
        elif member_id not in self.roster.pending_joins:
            self._rejoin(event, now, out)
        elif request.group_instance_id is None:
            self._admit(event, member_id, now, out)
        else:  # ids are handed out to dynamic members only
            out.replies.append((event.token, join_error(Code.UNKNOWN_SERVER_ERROR)))

    def _has_room_for(self, member_id: str) -> bool:
        """Whether the group may take this JoinGroup in.

        While a rebalance is prepared, those who have joined it count: after group.max.size was lowered, the last to
        rejoin are the ones who do not fit. Otherwise everybody in the group counts.
        """
        member = self.roster.members.get(member_id)
        if self.state is GroupState.EMPTY:
            return True
        if self.state is GroupState.PREPARING_REBALANCE:
            waits = member is not None and member.join_token is not None
            return waits or self.roster.joining < self.settings.members_max
        return member is not None or len(self.roster.members) < self.settings.members_max

    def _has_protocol_for(self, request: JoinGroupRequest) -> bool:
        if self.state is GroupState.EMPTY:
            return bool(request.protocol_type and request.protocols)
        return self.roster.supports(request.protocol_type, [protocol.name for protocol in request.protocols])

    def _join_unnamed(self, event: JoinGroup, now: Now, out: Effects) -> None:
        """Somebody who has no member id: a process that has just started."""
        request = event.request
        if request.group_instance_id is not None:
            before = self.roster.static_ids.get(request.group_instance_id)
            if before is None:
                self._admit(event, event.new_member_id, now, out)
            else:
                self._come_back_as(event, before, now, out)
        elif event.version >= MEMBER_ID_REQUIRED_SINCE:
            out.group_id = self.group_id
            self.roster.pending_joins.add(event.new_member_id)
            self.watch(event.new_member_id, request.session_timeout_ms, now)
            out.replies.append((event.token, join_error(Code.MEMBER_ID_REQUIRED, event.new_member_id)))
        else:
            self._admit(event, event.new_member_id, now, out)

    def _admit(self, event: JoinGroup, member_id: str, now: Now, out: Effects) -> None:
        """Take a new member in. It cannot heartbeat before its first answer, so it gets longer than a session."""
        out.group_id = self.group_id
        member = Member.from_request(event.request, member_id, event.client_id, event.client_host)
        member.is_new = True
        if self.state is GroupState.PREPARING_REBALANCE and self._initial:
            self._new_member_added = True
        if not self.roster.members:
            self.roster.protocol_type = event.request.protocol_type
        self.roster.add(member, event.token)
        self.watch(member_id, self.settings.new_member_join_timeout_ms, now)
        self.rebalance(f"{_name(member)} is new{_because(event.request.reason)}", now, out)

    def _rejoin(self, event: JoinGroup, now: Now, out: Effects) -> None:
        """A JoinGroup of a member: it takes part in a rebalance, begins one, or lost the answer to its last one."""
        request = event.request
        fault = self.roster.fault(request.member_id, request.group_instance_id)
        if fault is not None:
            out.replies.append((event.token, join_error(fault, request.member_id)))
            return
        member = self.roster.members[request.member_id]
        leads = self.roster.leader == member.member_id
        unchanged = member.protocols == offered_protocols(request)
        if self.state is GroupState.COMPLETING_REBALANCE and unchanged:
            out.replies.append((event.token, self.generation_for(member, with_members=leads)))
        elif self.state is GroupState.STABLE and unchanged and not leads:
            out.replies.append((event.token, self.generation_for(member, with_members=False)))
        else:
            # A leader joins again when what it assigns has changed, which its own metadata need not show.
            out.group_id = self.group_id
            self.roster.update(member, Member.from_request(request, member.member_id, "", ""))
            self.park_join(member, event.token, out)
            self.rebalance(f"{_name(member)} joined again{_because(request.reason)}", now, out)

    def _come_back_as(self, event: JoinGroup, before: str, now: Now, out: Effects) -> None:
        """A static member's process was started anew: it gets a new id, and whoever holds the old one is fenced.

        A stable group goes on as it is if the protocol it chose would be chosen again; only the new id is written.
        """
        out.group_id = self.group_id
        new = self.roster.members[before].replaced_by(event.new_member_id, event.request)
        self.stop_watching(before)
        self.watch(new.member_id, new.session_timeout_ms, now)
        members = [new if key == before else member for key, member in self.roster.members.items()]
        if self.state is GroupState.STABLE and choose_protocol(members) == self.protocol_name:
            self._write_come_back(event, before, new, members, out)
            return
        new.join_token = event.token
        old = self.roster.replace(before, new)
        if old.join_token is not None:
            out.replies.append((old.join_token, join_error(Code.FENCED_INSTANCE_ID, before)))
        if old.sync_token is not None:
            out.replies.append((old.sync_token, sync_error(Code.FENCED_INSTANCE_ID)))
        self.rebalance(f"{_name(new)} came back, was {before}{_because(event.request.reason)}", now, out)

    def _write_come_back(self, event: JoinGroup, before: str, new: Member, members: list[Member], out: Effects) -> None:
        old_leader = self.roster.leader
        leads = old_leader == before
        leader = new.member_id if leads else old_leader
        given = {member.member_id: member.assignment for member in members}
        out.records.append(self.record_of(members, leader, given))
        self._come_back = new
        skips = event.version >= SKIP_ASSIGNMENT_SINCE
        # Before version 9 a leader that comes back hears of its old id as the leader: so it does not assign anew what
        # a stable group would not take. Since then it is told to skip that (KIP-814).
        response = JoinGroupResponse(
            error_code=Code.NONE,
            generation_id=self.generation,
            protocol_type=self.roster.protocol_type,
            protocol_name=self.protocol_name,
            leader=(leader if skips else old_leader) or "",
            skip_assignment=skips and leads,
            member_id=new.member_id,
            members=self.listed(members) if skips and leads else [],
        )
        out.replies.append((event.token, response))

    # -- SyncGroup

    def sync(self, event: SyncGroup, now: Now, out: Effects) -> None:
        """A SyncGroup. The leader's brings what everyone is to do; the others wait for it, or get it if it is there."""
        request = event.request
        fault = self._sync_fault(request)
        if fault is not None:
            out.replies.append((event.token, sync_error(fault)))
            return
        member = self.roster.members[request.member_id]
        self.roster.pending_syncs.discard(member.member_id)
        if not self.roster.pending_syncs:
            self.deadlines.cancel(("sync", self.group_id))
        if self.state is GroupState.STABLE:
            out.replies.append((event.token, self.assignment_of(member.assignment)))
            return
        self.park_sync(member, event.token, out)
        if self.roster.leader == member.member_id:
            self.complete_sync({given.member_id: given.assignment for given in request.assignments}, now, out)

    def _sync_fault(self, request: SyncGroupRequest) -> Code | None:
        fault = self.roster.fault(request.member_id, request.group_instance_id)
        if fault is not None:
            return fault
        if request.generation_id != self.generation:
            return Code.ILLEGAL_GENERATION
        if _differ(request.protocol_type, self.roster.protocol_type) or _differ(
            request.protocol_name, self.protocol_name
        ):
            return Code.INCONSISTENT_GROUP_PROTOCOL
        return Code.REBALANCE_IN_PROGRESS if self.state is GroupState.PREPARING_REBALANCE else None

    # -- Heartbeat

    def heartbeat(self, event: Heartbeat, now: Now, out: Effects) -> None:
        """A Heartbeat. Members send them from their JoinGroup's answer on, so before the assignment is there too."""
        request = event.request
        code = self.roster.fault(request.member_id, request.group_instance_id)
        if code is None:
            if request.generation_id != self.generation:
                code = Code.ILLEGAL_GENERATION
            else:
                self.keep_alive(request.member_id, now)
                preparing = self.state is GroupState.PREPARING_REBALANCE
                code = Code.REBALANCE_IN_PROGRESS if preparing else Code.NONE
        out.replies.append((event.token, HeartbeatResponse(error_code=code)))

    def keep_alive(self, member_id: str, now: Now) -> None:
        """Begin a member's session anew."""
        self.watch(member_id, self.roster.members[member_id].session_timeout_ms, now)

    # -- LeaveGroup

    def leave(self, event: LeaveGroup, now: Now, out: Effects) -> None:
        """A LeaveGroup: of a member itself, or of static members that an administrator names by their instance ids."""
        out.group_id = self.group_id
        responses = [self._leave(identity, out) for identity in event.request.members]
        left = [response.member_id for response in responses if response.error_code == Code.NONE]
        if left and self.state in (GroupState.STABLE, GroupState.COMPLETING_REBALANCE):
            self.prepare("members left", now, out)
        elif left:
            self.complete_if_all_joined(now, out)
        out.replies.append((event.token, LeaveGroupResponse(error_code=Code.NONE, members=responses)))

    def _leave(self, identity: MemberIdentity, out: Effects) -> MemberResponse:
        code: Code | None = None
        member_id = identity.member_id
        if not member_id:
            named = self.roster.static_ids.get(identity.group_instance_id or "")
            if named is None or identity.group_instance_id is None:
                code = Code.UNKNOWN_MEMBER_ID
            else:
                member_id = named
        elif member_id not in self.roster.pending_joins:
            code = self.roster.fault(member_id, identity.group_instance_id)
        if code is None:
            member = self.roster.members.get(member_id)
            if member is not None:
                self.strike(member, out)
            else:
                self.roster.remove(member_id)
                self.stop_watching(member_id)
            out.notes.append(f"Member {member_id} left group {self.group_id}{_because(identity.reason)}")
        return MemberResponse(
            member_id=identity.member_id,
            group_instance_id=identity.group_instance_id,
            error_code=code or Code.NONE,
        )

    # -- OffsetCommit

    def commit_fault(self, request: OffsetCommitRequest) -> Code | None:
        """Why this group takes no offsets from this sender now.

        Who uses the group for its offsets only has neither member id nor generation, and is welcome while it is empty.
        """
        generation = request.generation_id_or_member_epoch
        if generation < 0 and self.is_empty:
            return None
        if generation >= 0 or request.member_id or request.group_instance_id is not None:
            fault = self.roster.fault(request.member_id, request.group_instance_id)
            if fault is not None:
                return fault
            if generation != self.generation:
                return Code.ILLEGAL_GENERATION
        else:
            return Code.UNKNOWN_MEMBER_ID
        return Code.REBALANCE_IN_PROGRESS if self.state is GroupState.COMPLETING_REBALANCE else None

    def txn_commit_fault(self, request: TxnOffsetCommitRequest) -> Code | None:
        """Why this group takes no offsets from this sender's transaction.

        A producer may leave out for which member it commits, as all did before version 3; the state of the group does
        not matter, since a rebalance waits for transactions to be decided (KIP-447).
        """
        generation = request.generation_id_or_member_epoch
        if generation < 0 and self.is_empty:
            return None
        if generation < 0 and not request.member_id and request.group_instance_id is None:
            return None
        fault = self.roster.fault(request.member_id, request.group_instance_id)
        if fault is not None:
            return fault
        return None if generation == self.generation else Code.ILLEGAL_GENERATION


def _name(member: Member) -> str:
    if member.group_instance_id is None:
        return f"member {member.member_id}"
    return f"static member {member.group_instance_id} ({member.member_id})"


def _because(reason: str | None) -> str:
    """What the client said why it does this (KIP-800)."""
    return f" (client: {reason})" if reason else ""


def _differ(said: str | None, is_: str | None) -> bool:
    return said is not None and is_ is not None and said != is_

"""The rebalance of a classic group: how it gets from one generation to the next.

    Empty -> PreparingRebalance     somebody joins; the first generation waits initial_rebalance_delay_ms for more
    Stable, CompletingRebalance -> PreparingRebalance
                                    a member joins, leaves, fails, changes what it offers, or the leader joins again
    PreparingRebalance -> CompletingRebalance
                                    all have joined, or the rebalance timeout struck those who have not: a new
                                    generation, every JoinGroup is answered, the leader learns who is there
    CompletingRebalance -> Stable   the leader's SyncGroup brought the assignment and the log has it
    PreparingRebalance -> Empty     nobody is left

What is persisted is one GroupMetadata record, written when a generation is complete, when a group becomes empty, when
it is new, and when a static member of a stable group comes back under a new id. `apply` takes such a record over, in a
live group and while loading alike; that is how a group gets to Stable and to Empty, no other way. Everything between
two records (who waits, what the next generation will be, every deadline) is soft state and gone with the coordinator.

What requests do to it stands in classic_group.py.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping

from kpybroker.clock import Now
from kpybroker.coordinators.machines import group_records
from kpybroker.coordinators.machines.deadlines import Deadlines
from kpybroker.coordinators.machines.effects import Record, Token
from kpybroker.coordinators.machines.events import Effects
from kpybroker.coordinators.machines.member import Member, choose_protocol
from kpybroker.coordinators.machines.replies import join_error, sync_error
from kpybroker.coordinators.machines.roster import Roster
from kpybroker.coordinators.machines.settings import GroupSettings
from kpybroker.wire.codes import Code
from kpybroker.wire.internal.group_records import GroupMetadataValue
from kpybroker.wire.messages.join_group import JoinGroupResponse, JoinGroupResponseMember
from kpybroker.wire.messages.sync_group import SyncGroupResponse


class GroupState(enum.StrEnum):
    """The states by the names under which DescribeGroups and ListGroups show them."""

    EMPTY = "Empty"
    PREPARING_REBALANCE = "PreparingRebalance"
    COMPLETING_REBALANCE = "CompletingRebalance"
    STABLE = "Stable"
    DEAD = "Dead"
    """Only ever shown: of a group that is not there."""


class Rebalance:
    """State, generation, members and deadlines of one group."""

    def __init__(
        self, group_id: str, settings: GroupSettings, deadlines: Deadlines, *, new_at_ms: int | None = None
    ) -> None:
        """An empty group. `new_at_ms`: when somebody asked for it, wall time; None: the log has made it known."""
        self.group_id = group_id
        self.settings = settings
        self.deadlines = deadlines
        self.state = GroupState.EMPTY
        self.state_timestamp_ms = new_at_ms
        """Wall time since when it is in its state. None: the log does not say."""
        self.generation = 0
        self.protocol_name: str | None = None
        self.roster = Roster()
        self.subscribed_topics: frozenset[str] | None = None
        """Topics its members consume, as far as their metadata is the consumer protocol's; None: not known."""
        self.committed: GroupMetadataValue | None = None
        """The latest record applied: what a coordinator that loads the log starts from. None: it has no record."""
        self.in_log = new_at_ms is None
        """Whether the log has something that makes the group: its record, or an offset."""
        self._initial = False
        """The rebalance in preparation is that of an empty group: it waits for its delay, not for its members."""
        self._initial_delay_ms = 0
        self._initial_remaining_ms = 0
        self._new_member_added = False
        """Somebody joined an initial rebalance after it began: its delay may be extended."""
        self._come_back: Member | None = None
        """A static member's new self, from the decision to write it until the record is applied."""

    @property
    def is_empty(self) -> bool:
        """Whether it is in state Empty; ids handed out do not count."""
        return self.state is GroupState.EMPTY

    @property
    def is_simple(self) -> bool:
        """Whether it has never had members: it is there for offsets that somebody committed."""
        return self.roster.protocol_type is None and self.is_empty and not self.roster.pending_joins

    @property
    def uses_consumer_protocol(self) -> bool:
        """Whether its members say that they are consumers."""
        return self.roster.protocol_type == group_records.CONSUMER_PROTOCOL_TYPE

    def subscribes(self, topic: str) -> bool:
        """Whether its members consume the topic; a consumer group of unknown subscriptions is taken to."""
        if self.subscribed_topics is None:
            return self.uses_consumer_protocol
        return topic in self.subscribed_topics

    # -- preparing

    def rebalance(self, reason: str, now: Now, out: Effects) -> None:
        """Begin a rebalance; if one is being prepared already, see whether it can go on."""
        if self.state is GroupState.PREPARING_REBALANCE:
            self.complete_if_all_joined(now, out)
        else:
            self.prepare(reason, now, out)

    def prepare(self, reason: str, now: Now, out: Effects) -> None:
        """Begin a rebalance: who waits for an assignment is told to join again, everyone gets the time to do so."""
        out.group_id = self.group_id
        if self.state is GroupState.COMPLETING_REBALANCE:
            self._withdraw_assignments(Code.REBALANCE_IN_PROGRESS, now, out)
        self.roster.pending_syncs.clear()
        self.deadlines.cancel(("sync", self.group_id))
        out.notes.append(f"Preparing to rebalance group {self.group_id} after generation {self.generation}: {reason}")
        self._initial = self.is_empty
        self._enter(GroupState.PREPARING_REBALANCE, now)
        if self._initial:
            delay_ms = self.settings.initial_rebalance_delay_ms
            self._initial_delay_ms = delay_ms
            self._initial_remaining_ms = max(self.roster.rebalance_timeout_ms - delay_ms, 0)
            self._set_join_deadline(delay_ms, now)
        elif self.roster.all_joined:
            self.complete_join(now, out)
        else:
            self._set_join_deadline(self.roster.rebalance_timeout_ms, now)

    def complete_if_all_joined(self, now: Now, out: Effects) -> None:
        """Go on if nobody is missing. The initial rebalance goes on when its delay is over, not before."""
        if self.state is GroupState.PREPARING_REBALANCE and not self._initial and self.roster.all_joined:
            self.complete_join(now, out)

    def join_due(self, now: Now, out: Effects) -> None:
        """The time to join is over, or the initial delay is: extended once for each time somebody came meanwhile."""
        if self.state is not GroupState.PREPARING_REBALANCE:
            return
        if self._initial and self._new_member_added and self._initial_remaining_ms:
            self._new_member_added = False
            delay_ms = min(self.settings.initial_rebalance_delay_ms, self._initial_remaining_ms)
            self._initial_remaining_ms = max(self._initial_remaining_ms - self._initial_delay_ms, 0)
            self._initial_delay_ms = delay_ms
            self._set_join_deadline(delay_ms, now)
        else:
            self.complete_join(now, out)

    # -- completing

    def complete_join(self, now: Now, out: Effects) -> None:
        """Begin the next generation with whoever has joined. Static members stay without joining (KIP-345)."""
        out.group_id = self.group_id
        self.deadlines.cancel(("join", self.group_id))
        missing = [
            member.member_id
            for member in self.roster.members.values()
            if member.join_token is None and member.group_instance_id is None
        ]
        for member_id in missing:
            self.roster.remove(member_id)
            self.stop_watching(member_id)
        if missing:
            out.notes.append(f"Group {self.group_id} removed members that did not rejoin: {', '.join(missing)}")
        if not self.roster.members:
            self._write_empty(now, out)
        elif not self.roster.elect_joined_leader():
            # Only static members are left and none has joined: wait on, until one does or their sessions end.
            self._set_join_deadline(self.roster.rebalance_timeout_ms, now)
        else:
            self._begin_generation(now, out)

    def _write_empty(self, now: Now, out: Effects) -> None:
        out.notes.append(f"Group {self.group_id} is empty after generation {self.generation}")
        out.records.append(
            group_records.group_metadata(
                self.group_id,
                protocol_type=self.roster.protocol_type,
                generation=self.generation + 1,
                state_timestamp_ms=now.wall_ms,
            )
        )

    def _begin_generation(self, now: Now, out: Effects) -> None:
        self.generation += 1
        self.protocol_name = choose_protocol(self.roster.members.values())
        self.subscribed_topics = self._find_subscribed_topics()
        self.roster.pending_syncs.clear()
        self._enter(GroupState.COMPLETING_REBALANCE, now)
        count = len(self.roster.members)
        out.notes.append(f"Group {self.group_id} begins generation {self.generation} with {count} members")
        for member in self.roster.members.values():
            token = self.roster.wait_for_join(member, None)
            if token is not None:
                leads = member.member_id == self.roster.leader
                out.replies.append((token, self.generation_for(member, with_members=leads)))
            self.watch(member.member_id, member.session_timeout_ms, now)
            member.is_new = False
            self.roster.pending_syncs.add(member.member_id)
        self.deadlines.set(("sync", self.group_id), now.monotonic_s + self.roster.rebalance_timeout_ms / 1000)

    def complete_sync(self, assignments: Mapping[str, bytes], now: Now, out: Effects) -> None:
        """Write the leader's assignment, and answer everyone who waits for it. `apply` makes the group stable."""
        out.group_id = self.group_id
        members = self.roster.members
        given = {member_id: assignments.get(member_id, b"") for member_id in members}
        out.records.append(self.record_of(members.values(), self.roster.leader, given))
        for member in members.values():
            if member.sync_token is not None:
                out.replies.append((member.sync_token, self.assignment_of(given[member.member_id])))
                member.sync_token = None
                # A session that ended while its member waited was let pass: begin a new one.
                self.watch(member.member_id, member.session_timeout_ms, now)

    def _withdraw_assignments(self, code: Code, now: Now, out: Effects) -> None:
        for member in self.roster.members.values():
            member.assignment = b""
            if member.sync_token is not None:
                out.replies.append((member.sync_token, sync_error(code)))
                member.sync_token = None
                self.watch(member.member_id, member.session_timeout_ms, now)

    def sync_due(self, now: Now, out: Effects) -> None:
        """Members that have not asked for their assignment in time are struck, and the others rebalance."""
        late = [member_id for member_id in self.roster.members if member_id in self.roster.pending_syncs]
        if not late or self.state not in (GroupState.COMPLETING_REBALANCE, GroupState.STABLE):
            return
        for member_id in late:
            self.roster.remove(member_id)
            self.stop_watching(member_id)
        self.prepare(f"no SyncGroup came from {', '.join(late)}", now, out)

    # -- sessions

    def watch(self, member_id: str, timeout_ms: int, now: Now) -> None:
        """Expect a sign of life from a member, or from an id handed out, within `timeout_ms`."""
        self.deadlines.set(("heartbeat", self.group_id, member_id), now.monotonic_s + timeout_ms / 1000)

    def stop_watching(self, member_id: str) -> None:
        """Expect no more signs of life from it."""
        self.deadlines.cancel(("heartbeat", self.group_id, member_id))

    def session_due(self, member_id: str, now: Now, out: Effects) -> None:
        """A session is over: an id never used is forgotten; a member is struck, unless it waits for our answer."""
        if member_id in self.roster.pending_joins:
            out.group_id = self.group_id
            out.notes.append(f"Group {self.group_id} forgets {member_id}, which never joined with its id")
            self.roster.remove(member_id)
            if self.state is GroupState.PREPARING_REBALANCE and self.roster.all_joined:
                self.complete_join(now, out)
            return
        member = self.roster.members.get(member_id)
        if member is None or member.keeps_itself_alive:
            return
        out.group_id = self.group_id
        self.strike(member, out)
        if self.state in (GroupState.STABLE, GroupState.COMPLETING_REBALANCE):
            self.prepare(f"the session of {member_id} ended", now, out)
        elif self.state is GroupState.PREPARING_REBALANCE and self.roster.all_joined:
            self.complete_join(now, out)

    def strike(self, member: Member, out: Effects) -> None:
        """Take a member out. If its JoinGroup waits, its client is told to come anew, should it still be there."""
        self.stop_watching(member.member_id)
        self.roster.remove(member.member_id)
        if member.join_token is not None:
            out.replies.append((member.join_token, join_error(Code.UNKNOWN_MEMBER_ID)))
        if member.sync_token is not None:
            out.replies.append((member.sync_token, sync_error(Code.UNKNOWN_MEMBER_ID)))

    # -- answers

    def generation_for(self, member: Member, *, with_members: bool) -> JoinGroupResponse:
        """What a member learns of the generation that it is in."""
        return JoinGroupResponse(
            error_code=Code.NONE,
            generation_id=self.generation,
            protocol_type=self.roster.protocol_type,
            protocol_name=self.protocol_name,
            leader=self.roster.leader or "",
            skip_assignment=False,
            member_id=member.member_id,
            members=self.listed(self.roster.members.values()) if with_members else [],
        )

    def listed(self, members: Iterable[Member]) -> list[JoinGroupResponseMember]:
        """Members as the leader is told of them."""
        assert self.protocol_name is not None
        return [
            JoinGroupResponseMember(
                member_id=member.member_id,
                group_instance_id=member.group_instance_id,
                metadata=member.metadata(self.protocol_name),
            )
            for member in members
        ]

    def assignment_of(self, assignment: bytes) -> SyncGroupResponse:
        """What a member gets to do."""
        return SyncGroupResponse(
            error_code=Code.NONE,
            protocol_type=self.roster.protocol_type,
            protocol_name=self.protocol_name,
            assignment=assignment,
        )

    # -- records

    def record_of(self, members: Iterable[Member], leader: str | None, assignments: Mapping[str, bytes]) -> Record:
        """The record of this generation with these members, each with what it was given."""
        assert self.protocol_name is not None
        return group_records.group_metadata(
            self.group_id,
            protocol_type=self.roster.protocol_type,
            protocol=self.protocol_name,
            generation=self.generation,
            leader=leader,
            state_timestamp_ms=self.state_timestamp_ms,
            members=[
                member.described(member.metadata(self.protocol_name), assignments[member.member_id])
                for member in members
            ],
        )

    def new_record(self) -> Record:
        """The record that announces a group: it has no members yet, whoever is joining."""
        return group_records.group_metadata(self.group_id, generation=0, state_timestamp_ms=self.state_timestamp_ms)

    def apply(self, value: GroupMetadataValue) -> None:
        """Take a record over: one just appended, or one read while loading.

        A record without members that meets members joining is the one that announces a new group: their rebalance goes
        on. Members already known keep what the record does not have: the protocols that were not chosen. While a log
        is read, one known from an earlier record may have changed since: then the later record has all that is known.
        """
        self.committed = value
        self.in_log = True
        if self.state is GroupState.PREPARING_REBALANCE and self.roster.members and not value.members:
            return
        known = dict(self.roster.members)
        if self._come_back is not None:
            known[self._come_back.member_id] = self._come_back
            self._come_back = None
        roster = Roster(value.protocol_type or None, value.leader)
        for described in value.members:
            member = known.get(described.member_id)
            if member is None or not member.is_as_recorded(value.protocol, described):
                member = Member.from_record(value.protocol, described)
            member.assignment = described.assignment
            roster.add(member)
        roster.pending_joins = self.roster.pending_joins
        roster.pending_syncs = self.roster.pending_syncs & roster.members.keys()
        self.roster = roster
        self.state = GroupState.STABLE if roster.members else GroupState.EMPTY
        self.state_timestamp_ms = None if value.current_state_timestamp == -1 else value.current_state_timestamp
        self.generation = value.generation
        self.protocol_name = value.protocol
        self.subscribed_topics = self._find_subscribed_topics()
        self._initial = False

    def fall_back(self, code: Code, now: Now, out: Effects) -> None:
        """The log refused a record: whoever waits is told `code`, and the group is again what its last record says.

        Its members find out by their next heartbeat if they know a generation that the log does not.
        """
        self.abandon(code, out)
        self.cancel_deadlines()
        if self._come_back is not None:
            self.stop_watching(self._come_back.member_id)
            self._come_back = None
        self.roster = Roster()
        if self.committed is None:
            self._enter(GroupState.EMPTY, now)
            self.generation, self.protocol_name, self.subscribed_topics = 0, None, None
        else:
            self.apply(self.committed)
            self.loaded(now, out)

    def loaded(self, now: Now, out: Effects) -> None:
        """Begin the session of every member anew: their heartbeats went elsewhere, or nowhere, so far.

        A group over group.max.size rebalances, which makes it smaller.
        """
        for member in self.roster.members.values():
            self.watch(member.member_id, member.session_timeout_ms, now)
        count = len(self.roster.members)
        if count > self.settings.members_max:
            self.prepare(f"it has {count} members and may have {self.settings.members_max}", now, out)

    def abandon(self, code: Code, out: Effects) -> None:
        """Answer everyone who waits with an error."""
        for member in self.roster.members.values():
            join_token = self.roster.wait_for_join(member, None)
            if join_token is not None:
                out.replies.append((join_token, join_error(code, member.member_id)))
            if member.sync_token is not None:
                out.replies.append((member.sync_token, sync_error(code)))
                member.sync_token = None

    def cancel_deadlines(self) -> None:
        """Forget every deadline of this group."""
        for member_id in [*self.roster.members, *self.roster.pending_joins]:
            self.stop_watching(member_id)
        self.deadlines.cancel(("join", self.group_id))
        self.deadlines.cancel(("sync", self.group_id))

    # -- details

    def _enter(self, state: GroupState, now: Now) -> None:
        self.state = state
        self.state_timestamp_ms = now.wall_ms

    def _set_join_deadline(self, delay_ms: int, now: Now) -> None:
        self.deadlines.set(("join", self.group_id), now.monotonic_s + delay_ms / 1000)

    def _find_subscribed_topics(self) -> frozenset[str] | None:
        if not self.uses_consumer_protocol:
            return None
        if not self.roster.members:
            return frozenset()
        if self.protocol_name is None:
            return None
        metadata = [member.metadata(self.protocol_name) for member in self.roster.members.values()]
        return group_records.subscribed_topics(metadata)

    def park_join(self, member: Member, token: Token, out: Effects) -> None:
        """Let a member wait with its latest JoinGroup. An older one, of a connection given up, is told to try again."""
        before = self.roster.wait_for_join(member, token)
        if before is not None:
            out.replies.append((before, join_error(Code.REBALANCE_IN_PROGRESS, member.member_id)))

    def park_sync(self, member: Member, token: Token, out: Effects) -> None:
        """Let a member wait with its latest SyncGroup, likewise."""
        if member.sync_token is not None:
            out.replies.append((member.sync_token, sync_error(Code.REBALANCE_IN_PROGRESS)))
        member.sync_token = token

"""The metadata quorum's raft (KIP-595, 853, 996) as a machine: epoch, vote, leader, high watermark.

    unattached   knows no leader of its epoch; fetches from anybody who may know, until a timer runs out
    follower     fetches from the leader, until that has been silent for too long
    prospective  asks whether it would be elected (pre-vote): nothing changes for the others
    candidate    asks for votes in a new epoch
    leader       appends; followers fetch from it
    resigned     led this epoch, and neither leads nor votes in it any more

Only voters are ever prospective, candidate or leader; an observer is unattached or a follower, without timers. A quorum
of one is its own majority: it leads as soon as it starts. What holds for every step:

- At most one leader an epoch: a vote is given once an epoch, to one id and directory, and is durable before it is told.
  Whoever led an epoch or voted for itself in it never does either again in the same epoch, also after a restart.
- Votes go to logs that are not behind our own, so that a leader has everything committed.
- An epoch begins with its LeaderChange record; the high watermark does not move below it in that epoch, and never back.
- What is counted towards the high watermark is durable, our own log included.

The machine decides; `cluster/raft_node.py` performs the effects in their order and tells it what became of them. A
request that is told to `step` is answered by a Reply or FetchReply, the last of its effects.
"""

from __future__ import annotations

from collections.abc import Mapping

from kpybroker.cluster.machines import raft_events as ev
from kpybroker.cluster.machines.raft_events import Key, Moment, Quorum, Voter
from kpybroker.cluster.machines.raft_roles import Member, Role
from kpybroker.wire.codes import Code, Refused

__all__ = ["Raft", "Role", "Voter"]

_SUSPICION_S = 0.1
"""How long at most a follower waits, by luck, that hears that its leader is dead: so that not all begin at once."""


class Raft(Member):
    """The state of this node in the quorum. Only `step` changes it."""

    # Steps

    def step(self, event: ev.Event, now: Moment) -> list[ev.Effect]:
        """One event; the effects are to be performed in their order."""
        self._now = now
        effects: list[ev.Effect] = []
        self._effects = effects
        match event:
            case ev.FetchRequested():
                self._fetch_requested(event)
            case ev.FetchAnswered():
                self._fetch_answered(event)
            case ev.Appended():
                self._appended(event)
            case ev.Durable(offset):
                assert offset <= self.log.end, "what was not appended can't be durable"
                self.log.durable = max(offset, self.log.durable)
                self._advance()
            case ev.Tick():
                self._tick()
            case ev.Unanswered():
                self._unanswered(event)
            case _:
                self._seldom(event)
        return effects

    def _seldom(self, event: ev.Event) -> None:
        match event:
            case ev.Started():
                self._start(event.election)
            case ev.VoteRequested():
                self._vote_requested(event)
            case ev.VoteAnswered():
                self._vote_answered(event)
            case ev.BeginRequested():
                self._begin_requested(event)
            case ev.EndRequested():
                self._end_requested(event)
            case ev.BeginAnswered():
                self._common(event.answer)
            case ev.EndAnswered(asked, answer):
                if not self._common(answer) and self.role is Role.RESIGNED and answer.code == Code.NONE:
                    self._unacknowledged.discard(asked.to.id)
            case ev.SnapshotRequested():
                self._snapshot_requested(event)
            case ev.SnapshotAnswered():
                self._snapshot_answered(event)
            case ev.SnapshotLoaded(id_, quorum):
                self.loading = None
                self.log.begin_at(id_, quorum)
                self._commit(id_.end_offset)
            case ev.SnapshotGivenUp():
                self.loading = None
            case ev.SnapshotTaken(id_, log_start, start_epoch):
                self.log.snapshot = id_
                if log_start > self.log.start:
                    self.log.move_start(log_start, start_epoch)
            case ev.ChangeQuorum(quorum):
                assert self.is_leader, "only a leader changes the quorum"
                self._effects.append(ev.WriteQuorum(quorum))
            case ev.VoterTold(voter):
                if self.leadership is not None:
                    self.leadership.told[voter.id] = voter
            case ev.Resign():
                self._stop()
            case _:
                raise AssertionError(f"{event} is handled elsewhere")

    # Requests

    def _refusal(self, sender: int, epoch: int) -> Code | None:
        if epoch < self.epoch:
            return Code.FENCED_LEADER_EPOCH
        return Code.INVALID_REQUEST if sender < 0 else None

    def _is_for_us(self, voter: Key | None) -> bool:
        return voter is None or voter.matches(self.me)

    def _vote_requested(self, asked: ev.VoteRequested) -> None:
        illegal = asked.last_epoch > asked.epoch if asked.pre_vote else asked.last_epoch >= asked.epoch
        if illegal or asked.last_epoch < 0 or asked.last_offset < 0:
            self._effects.append(ev.Reply(Code.INVALID_REQUEST))
            return
        refusal = self._refusal(asked.candidate.id, asked.epoch)
        if refusal is not None:
            self._effects.append(ev.Reply(refusal))
            return
        if asked.epoch > self.epoch:
            self._become_unattached(asked.epoch)
        if not self._is_for_us(asked.voter):
            self._effects.append(ev.Reply(Code.INVALID_VOTER_KEY))
            return
        current = (asked.last_epoch, asked.last_offset) >= (self.log.last_epoch, self.log.end)
        granted = current and self._grants(asked)
        if granted and not asked.pre_vote and self._voted is None:
            self._voted = asked.candidate
            self._timer_s = self._election_timer()
            self._persist()
        self._effects.append(ev.Reply(Code.NONE, granted))

    def _grants(self, asked: ev.VoteRequested) -> bool:
        """Whether a log that is not behind ours gets our vote."""
        match self.role:
            case Role.UNATTACHED | Role.PROSPECTIVE if asked.pre_vote:
                return True
            case Role.UNATTACHED | Role.PROSPECTIVE:
                if self._voted is not None:
                    return self._voted.matches(asked.candidate)
                return self.leader_id is None
            case Role.FOLLOWER:
                return asked.pre_vote and (not self._heard or self._leader_dead)
            case Role.CANDIDATE | Role.RESIGNED:
                return asked.pre_vote
            case Role.LEADER:
                return False

    def _begin_requested(self, asked: ev.BeginRequested) -> None:
        refusal = self._refusal(asked.leader_id, asked.epoch)
        if refusal is None:
            self._learn(asked.epoch, asked.leader_id, asked.endpoints)
            refusal = Code.NONE if self._is_for_us(asked.voter) else Code.INVALID_VOTER_KEY
        self._effects.append(ev.Reply(refusal))

    def _end_requested(self, asked: ev.EndRequested) -> None:
        refusal = self._refusal(asked.leader_id, asked.epoch)
        if refusal is None:
            self._learn(asked.epoch, asked.leader_id, asked.endpoints)
            if self.role is Role.FOLLOWER and self.leader_id == asked.leader_id:
                self._leader_gone = self._leader_dead = True
                self._timer_s = self._now.s + self._turn(asked.preferred)
        self._effects.append(ev.Reply(Code.NONE if refusal is None else refusal))

    def _turn(self, preferred: tuple[Key, ...]) -> float:
        """How long to wait with an election for those that are to be preferred."""
        position = next((at for at, key in enumerate(preferred) if key.matches(self.me)), len(preferred))
        if position == 0:
            return 0.0
        backoff = self.timing.backoff_max_s
        if position >= len(preferred):
            return backoff
        return float(min(backoff, backoff / 2 ** (len(preferred) - 1) * 2 ** (position - 1)))

    def _leader_only(self, epoch: int) -> Code:
        if epoch < self.epoch:
            return Code.FENCED_LEADER_EPOCH
        if epoch > self.epoch:
            return Code.UNKNOWN_LEADER_EPOCH
        return Code.NONE if self.is_leader else Code.NOT_LEADER_OR_FOLLOWER

    def _fetch_requested(self, asked: ev.FetchRequested) -> None:
        code = self._leader_only(asked.epoch)
        if self.leadership is None or code != Code.NONE:
            self._effects.append(ev.FetchReply(code))
        elif self.log.needs_snapshot(asked.offset, asked.last_epoch):
            self._effects.append(ev.FetchReply(Code.NONE, snapshot=self.log.snapshot))
        elif (diverging := self.log.diverges(asked.offset, asked.last_epoch)) is not None:
            self._effects.append(ev.FetchReply(Code.NONE, diverging=diverging))
        else:
            if asked.replica.id >= 0 and not asked.replica.matches(self.me):
                self.leadership.fetched(asked.replica, asked.offset, self.log.end, self._now)
                self._advance()
            self._effects.append(ev.FetchReply(Code.NONE if self.is_leader else Code.NOT_LEADER_OR_FOLLOWER))

    def _snapshot_requested(self, asked: ev.SnapshotRequested) -> None:
        code = self._leader_only(asked.epoch)
        if self.leadership is not None and code == Code.NONE:
            self.leadership.heard(asked.replica, self._now)
        self._effects.append(ev.Reply(code))

    # Answers

    def _vote_answered(self, told: ev.VoteAnswered) -> None:
        asked = told.asked
        if told.answer.code == Code.UNSUPPORTED_VERSION and asked.pre_vote and asked.epoch == self.epoch:
            if self.role is Role.PROSPECTIVE:
                self._stand()  # a voter that knows no pre-votes
            return
        if self._common(told.answer) or asked.epoch != self.epoch:
            if told.answer.code == Code.INVALID_VOTER_KEY and asked.epoch == self.epoch:
                self._answers.setdefault(asked.to.id, False)
            return
        if self.role is not (Role.PROSPECTIVE if asked.pre_vote else Role.CANDIDATE):
            return
        self._answers[asked.to.id] = told.granted
        if not self._is_won() and self.role is Role.PROSPECTIVE and self._is_lost():
            self._give_up()

    def _fetch_answered(self, told: ev.FetchAnswered) -> None:
        if self._common(told.answer):
            return
        if self.role is not Role.FOLLOWER or told.asked.epoch != self.epoch or self.leader_id != told.answer.leader_id:
            return
        self._leader_gone = self._leader_dead = False
        if (told.asked.offset, told.asked.last_epoch) != (self.log.end, self.log.last_epoch) or self.loading:
            return  # what was asked for is not what is wanted any more
        self._heard = True
        self._leader_answered()
        if told.diverging is not None:
            epoch, end = told.diverging
            offset = self.log.agreed(epoch, end)
            assert offset >= self.high_watermark, "what is committed is never cut"
            if offset < self.log.end:
                self.log.truncate(offset)
                self._effects.append(ev.Truncate(offset))
        elif told.snapshot is not None:
            if told.snapshot.end_offset > self.log.end or told.snapshot.end_offset > self.high_watermark:
                self.loading = ev.LoadSnapshot(told.snapshot, told.answer.leader_id, self.epoch)
                self._effects.append(self.loading)
        else:
            self._leader_high_watermark = max(told.high_watermark, self._leader_high_watermark)
            if told.has_records:
                self._effects.append(ev.TakeRecords())
            self._advance()

    def _snapshot_answered(self, told: ev.SnapshotAnswered) -> None:
        if self._common(told.answer):
            if self.role is Role.FOLLOWER and told.answer.code != Code.NONE:
                self.loading = None
            return
        if self.role is Role.FOLLOWER and told.epoch == self.epoch:
            self._leader_gone = self._leader_dead = False
            self._leader_answered()

    def _unanswered(self, told: ev.Unanswered) -> None:
        asked = told.asked
        if asked.epoch != self.epoch:
            return
        if not isinstance(asked, ev.Fetch):
            if self.role in (Role.PROSPECTIVE, Role.CANDIDATE, Role.RESIGNED):
                self._retry_s = min(self._retry_s, self._now.s + self.timing.retry_s)
            return
        if self.role is not Role.FOLLOWER:
            return
        if asked.to is None:
            self._leader_gone = False  # the others do not answer either: the leader's turn again
            return
        self.loading = None
        self._leader_gone = True
        if told.refused and not self._leader_dead:
            self._leader_dead = True
            self._timer_s = min(self._timer_s, self._now.s + _SUSPICION_S * self._now.luck)

    # The log

    def _appended(self, appended: ev.Appended) -> None:
        for entry in appended.entries:
            self.log.append(entry)
            if entry.quorum is not None and self.leadership is not None:
                self.leadership.changed(entry.quorum, self._now)
        self._advance()

    def _advance(self) -> None:
        """Commit what may be."""
        if self.leadership is not None:
            committed = self.leadership.committed(self.log.durable)
            if committed is not None:
                self._commit(min(committed, self.log.end))
                if not self.is_voter and self.log.quorum_offset < committed:
                    self._resign(self.leadership.successors())
        elif self.role is Role.FOLLOWER:
            self._commit(min(self.log.end, self._leader_high_watermark))

    def _commit(self, offset: int) -> None:
        if offset > self.high_watermark:
            self.high_watermark = offset
            self._effects.append(ev.AdvanceHighWatermark(offset))


def upgraded(quorum: Quorum, told: Mapping[int, Voter], me: Voter) -> Quorum:
    """A quorum of kraft.version 0 at 1, with what its voters told of themselves. Raises: Refused if one has not."""
    known = {**told, me.id: me}
    if missing := [voter.id for voter in quorum.voters if voter.id not in known]:
        raise Refused(
            Code.INVALID_UPDATE_VERSION,
            f"Invalid update version 1 for feature kraft.version. Voters {missing} have not told the leader where they "
            "listen.",
        )
    return Quorum(1, tuple(known[voter.id] for voter in quorum.voters))

"""The roles of a member of the metadata quorum, and how it goes from one to the other: the state of `raft.py`."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from kpybroker.cluster.machines import raft_events as ev
from kpybroker.cluster.machines.raft_events import Answer, ElectionState, Endpoints, Key, Moment, Quorum, Timing, Voter
from kpybroker.cluster.machines.raft_leader import Leadership
from kpybroker.cluster.machines.raft_log import LogView
from kpybroker.wire.codes import Code

NEVER = float("inf")


class Role(StrEnum):
    """What a node is in the quorum at present."""

    UNATTACHED = "unattached"
    FOLLOWER = "follower"
    PROSPECTIVE = "prospective"
    CANDIDATE = "candidate"
    LEADER = "leader"
    RESIGNED = "resigned"


class Member:
    """A member of the quorum, and what it knows of the others. Only `Raft` changes it."""

    def __init__(self, *, me: Key, log: LogView, timing: Timing = Timing()) -> None:  # noqa: B008 (it never changes)
        self.me = me
        self.log = log
        self.timing = timing
        self.role = Role.UNATTACHED
        self.epoch = 0
        self.leader_id: int | None = None
        self.leader_endpoints: Endpoints = ()
        self.high_watermark = 0
        """Everything below is committed, as far as this node knows."""
        self.leadership: Leadership | None = None
        """While it leads."""
        self.leader_heard: tuple[int, float] | None = None
        """The leader, or former leader, that was the last to answer this node, and when."""
        self.stopping = False
        self.loading: ev.LoadSnapshot | None = None
        """The snapshot that is being read from the leader."""
        self._voted: Key | None = None
        self._timer_s = NEVER
        """When the role ends by time."""
        self._retry_s = NEVER
        """When requests are sent again that were not answered."""
        self._answers: dict[int, bool] = {}
        """Of an election: who said what."""
        self._heard = False
        """Whether this follower's leader has answered a fetch."""
        self._leader_gone = False
        """Whether the leader refused a connection, or did not answer, when it was asked last."""
        self._leader_dead = False
        """Whether it refused one."""
        self._leader_high_watermark = -1
        self._unacknowledged: set[int] = set()
        """Voters who have not heard yet that we resigned."""
        self._successors: tuple[Key, ...] = ()
        self._persisted: ElectionState | None = None
        self._now = Moment(0.0, 0, 0.0)
        self._effects: list[ev.Effect] = []

    # What it is

    @property
    def is_leader(self) -> bool:
        """Whether this node leads the quorum."""
        return self.role is Role.LEADER

    @property
    def quorum(self) -> Quorum:
        """Who votes, as the log says last."""
        return self.log.quorum

    @property
    def node_id(self) -> int:
        """This node's id."""
        return self.me.id

    @property
    def kraft_version(self) -> int:
        """The quorum's."""
        return self.quorum.kraft_version

    @property
    def voters(self) -> tuple[Voter, ...]:
        """Who votes."""
        return self.quorum.voters

    @property
    def is_voter(self) -> bool:
        """Whether this node votes."""
        return self.quorum.voter(self.me) is not None

    @property
    def may_stand(self) -> bool:
        """Whether this node may be elected: a voter, or one whose removal may not be committed.

        Its log may be the only one that has the removal; then nobody else can be elected, and it has to lead until the
        removal is committed (Ongaro's dissertation, 4.2.2; Apache Kafka's quorum waits for ever).
        """
        former = self.log.former_quorum
        return self.is_voter or (
            former is not None and self.log.quorum_offset >= self.high_watermark and former.voter(self.me) is not None
        )

    @property
    def alone(self) -> bool:
        """Whether this node is the only voter."""
        return self.is_voter and len(self.quorum.voters) == 1

    @property
    def deadline_s(self) -> float:
        """When it needs a Tick."""
        deadline = min(self._timer_s if self._times_out else NEVER, self._retry_s)
        return min(deadline, self.leadership.deadline_s) if self.leadership is not None else deadline

    @property
    def known_high_watermark(self) -> int | None:
        """The high watermark of this epoch, as the leader has it; None: not known yet."""
        if self.leadership is not None:
            return self.leadership.high_watermark
        return self._leader_high_watermark if self._leader_high_watermark >= 0 else None

    @property
    def _times_out(self) -> bool:
        return self.role is Role.RESIGNED or (self.may_stand and self.role is not Role.LEADER)

    @property
    def fetch(self) -> ev.Fetch | None:
        """What to fetch now; None: nothing, or not yet."""
        if self.role not in (Role.UNATTACHED, Role.FOLLOWER) or self.log.durable < self.log.end:
            return None
        if self.loading is not None or self.stopping:
            return None
        to = self.leader_id if self.role is Role.FOLLOWER and not self._leader_gone else None
        return ev.Fetch(to, self.epoch, self.log.end, self.log.last_epoch, self.high_watermark)

    @property
    def now(self) -> Moment:
        """When it was told something last."""
        return self._now

    @property
    def voted(self) -> Key | None:
        """For whom it voted in this epoch, itself included."""
        return self._voted

    def _start(self, election: ElectionState) -> None:
        self._persisted = election
        last = self.log.last_epoch
        self.epoch = max(election.epoch, last)
        snapshot = self.log.snapshot
        self.high_watermark = max(self.log.start, snapshot.end_offset if snapshot is not None else 0)
        if self.alone:
            self._stand()
            return
        if election.epoch < last:
            self._become_unattached(last)
        elif election.leader_id == self.me.id:
            self._resign(())
        elif election.leader_id >= 0:
            self._voted = _voted(election)
            self._follow(election.epoch, election.leader_id, self._endpoints_of(election.leader_id))
        else:
            self._voted = _voted(election)
            self._become_unattached(election.epoch)

    def _tick(self) -> None:
        now_s = self._now.s
        if self.leadership is not None:
            if self.leadership.lost_majority(self._now):
                self._resign(self.leadership.successors())
            else:
                self._effects += [ev.SendBegin(key, self.epoch) for key in self.leadership.to_begin(self._now)]
            return
        if now_s >= self._retry_s:
            self._retry_s = NEVER
            self._send_again()
        if now_s < self._timer_s or not self._times_out:
            return
        match self.role:
            case Role.UNATTACHED | Role.FOLLOWER | Role.CANDIDATE:
                if self.stopping:
                    self._timer_s = NEVER
                else:
                    self._would_stand()
            case Role.PROSPECTIVE:
                self._give_up()
            case Role.RESIGNED:
                if self.stopping:
                    self._timer_s = NEVER
                else:
                    self._become_unattached(self.epoch + 1)
            case Role.LEADER:
                raise AssertionError("a leader has no election timer")

    # Roles

    def _set(self, role: Role, *, timer_s: float) -> None:
        self.role = role
        self._timer_s = timer_s
        self._retry_s = NEVER
        self._answers = {}
        self.leadership = None
        self.loading = None
        self._heard = self._leader_gone = self._leader_dead = False
        self._leader_high_watermark = -1

    def _new_epoch(self, epoch: int) -> None:
        assert epoch >= self.epoch, "epochs never go back"
        if epoch > self.epoch:
            self.epoch = epoch
            self._voted = None

    def _persist(self) -> None:
        """Have written down what must not be forgotten, if it is news."""
        voted = self._voted if self._voted is not None and self.leader_id != self.me.id else Key(-1)
        election = ElectionState(
            epoch=self.epoch,
            leader_id=-1 if self.leader_id is None else self.leader_id,
            voted_id=voted.id,
            voted_directory_id=voted.directory_id,
        )
        if election != self._persisted:
            self._persisted = election
            self._effects.append(ev.Persist(election))

    def _election_timer(self) -> float:
        return self._now.s + self.timing.election_s * (1 + self._now.luck)

    def _become_unattached(self, epoch: int, leader_id: int | None = None) -> None:
        keeps = self.role in (Role.CANDIDATE, Role.UNATTACHED, Role.RESIGNED) and self._now.s < self._timer_s < NEVER
        timer_s = self._timer_s if keeps else self._election_timer()
        self._new_epoch(epoch)
        self.leader_id = leader_id
        self.leader_endpoints = ()
        self._set(Role.UNATTACHED, timer_s=timer_s)
        self._persist()

    def _follow(self, epoch: int, leader_id: int, endpoints: Endpoints) -> None:
        assert leader_id != self.me.id, "nobody follows itself"
        self._new_epoch(epoch)
        self.leader_id = leader_id
        self.leader_endpoints = endpoints or self._endpoints_of(leader_id)
        self._set(Role.FOLLOWER, timer_s=self._now.s + self.timing.fetch_s)
        self._persist()

    def _endpoints_of(self, voter_id: int) -> Endpoints:
        return next((voter.endpoints for voter in self.quorum.voters if voter.id == voter_id), ())

    def _would_stand(self) -> None:
        """Ask whether we would be elected."""
        leader_id, endpoints = self.leader_id, self.leader_endpoints
        self._set(Role.PROSPECTIVE, timer_s=self._election_timer())
        self.leader_id, self.leader_endpoints = leader_id, endpoints
        self._answers[self.me.id] = True
        self._ask_for_votes()

    def _stand(self) -> None:
        """Ask to be elected, in a new epoch."""
        self._new_epoch(self.epoch + 1)
        self._voted = self.me
        self.leader_id = None
        self.leader_endpoints = ()
        self._set(Role.CANDIDATE, timer_s=self._election_timer())
        self._answers[self.me.id] = True
        if not self.alone:
            self._persist()
        self._ask_for_votes()

    def _ask_for_votes(self) -> None:
        if self._is_won():
            return
        self._send_again()

    def _send_again(self) -> None:
        match self.role:
            case Role.PROSPECTIVE | Role.CANDIDATE:
                self._effects += [
                    ev.SendVote(voter.key, self.epoch, self.log.last_epoch, self.log.end, self.role is Role.PROSPECTIVE)
                    for voter in self.quorum.voters
                    if voter.id not in self._answers
                ]
            case Role.RESIGNED:
                self._effects += [
                    ev.SendEnd(voter.key, self.epoch, self._successors)
                    for voter in self.quorum.voters
                    if voter.id in self._unacknowledged
                ]

    def _is_won(self) -> bool:
        """Go on to the next role if the votes are enough."""
        ids = {voter.id for voter in self.quorum.voters}
        granting = sorted(voter_id for voter_id, granted in self._answers.items() if granted and voter_id in ids)
        if len(granting) < self.quorum.majority:
            return False
        if self.role is Role.PROSPECTIVE:
            self._stand()
        else:
            self._lead(granting)
        return True

    def _is_lost(self) -> bool:
        ids = {voter.id for voter in self.quorum.voters}
        refusing = [voter_id for voter_id, granted in self._answers.items() if not granted and voter_id in ids]
        return len(ids) - len(refusing) < self.quorum.majority

    def _give_up(self) -> None:
        """We would not be elected: back to what we were."""
        leader_id = self.leader_id
        if leader_id is not None and leader_id != self.me.id:
            self._follow(self.epoch, leader_id, self.leader_endpoints)
        else:
            self._become_unattached(self.epoch)

    def _lead(self, granting: Sequence[int]) -> None:
        self.leader_id = self.me.id
        self.leader_endpoints = self._endpoints_of(self.me.id)
        self._set(Role.LEADER, timer_s=NEVER)
        self._persist()
        self.leadership = Leadership(self.me, self.quorum, self.log.end, self.timing, self._now)
        write_voters = self.quorum.kraft_version > 0 and self.log.quorum_offset < 0 and self.log.snapshot is None
        ids = tuple(voter.id for voter in self.quorum.voters)
        self._effects.append(ev.Lead(self.epoch, ids, tuple(granting), write_voters))
        self._effects += [ev.SendBegin(key, self.epoch) for key in self.leadership.to_begin(self._now)]

    def _resign(self, successors: tuple[Key, ...]) -> None:
        """Lead this epoch no longer; also where a node begins that led when it died."""
        self._voted = self.me
        self.leader_id = self.me.id
        self._set(Role.RESIGNED, timer_s=self._election_timer())
        self._successors = successors
        self._unacknowledged = {voter.id for voter in self.quorum.voters if voter.id != self.me.id}
        self._send_again()

    def _stop(self) -> None:
        self.stopping = True
        if self.leadership is not None and not self.alone:
            self._resign(self.leadership.successors())

    # Hearing of epochs and leaders

    def _leader_answered(self) -> None:
        """The leader lives: it has the time of another fetch to answer again."""
        assert self.leader_id is not None
        self._timer_s = self._now.s + self.timing.fetch_s
        self.leader_heard = (self.leader_id, self._now.s)

    def _learn(self, epoch: int, leader_id: int, endpoints: Endpoints) -> None:
        """Somebody says who leads an epoch (-1: nobody that they know of)."""
        leads = leader_id >= 0 and leader_id != self.me.id
        if epoch > self.epoch:
            if leads:
                self._follow(epoch, leader_id, endpoints)
            else:
                self._become_unattached(epoch)
        elif epoch == self.epoch and leads and self._may_follow(endpoints):
            self._follow(epoch, leader_id, endpoints)

    def _may_follow(self, endpoints: Endpoints) -> bool:
        if self.role in (Role.LEADER, Role.RESIGNED):
            return False
        return self.leader_id is None or (self.role is Role.UNATTACHED) or len(endpoints) > len(self.leader_endpoints)

    def _common(self, answer: Answer) -> bool:
        """What any answer may tell; whether that is all there is to it."""
        before = (self.role, self.epoch)
        if answer.epoch < self.epoch or answer.code == Code.UNKNOWN_LEADER_EPOCH:
            return True
        self._learn(answer.epoch, answer.leader_id, answer.endpoints)
        if answer.code != Code.NONE:
            return True
        return before != (self.role, self.epoch) and answer.epoch != before[1]


def _voted(election: ElectionState) -> Key | None:
    return Key(election.voted_id, election.voted_directory_id) if election.voted_id >= 0 else None

"""What the leader of a partition knows of its followers, and what follows: high watermark and in-sync replicas.

Followers fetch; the offset that one asks for is where its log ends. A record counts as replicated when every replica of
the *maximal* ISR has it: of those that the controller knows to be in sync, and of those that it was asked to take in.
That may be too many and never too few, whatever became of the question (KIP-497): a replica that was asked to be left
out counts until the controller has agreed, one that was asked to be taken in counts at once.

The leader asks the controller (a Proposal) to leave out a follower that has not been at the end of the log for
`lag_s_max`, and to take in one that has reached both the high watermark and the start of the leader's epoch, as the
incarnation of its broker that the controller knows and does not hold for fenced. There is one proposal at a time.
Answers and metadata may come in either order: the greater partition epoch is the newer state.

The high watermark does not move while the ISR is smaller than `min.insync.replicas` (KIP-966), and waits for a follower
that has caught up and is about to join, which else would never catch up with a busy leader.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from kpybroker.wire.codes import Code

UNKNOWN = -1
NEVER_S = float("-inf")
"""When something was that has not been."""

Eligible = Callable[[int, int], bool]
"""Whether a broker, as the incarnation of that epoch, may be in an ISR: registered, not fenced, not shutting down."""


class Heard:
    """When a fetcher last asked. A session that fetches has one for all of its partitions: none is touched for it."""

    __slots__ = ("at_s",)

    def __init__(self, at_s: float) -> None:
        self.at_s = at_s


class Proposal(msgspec.Struct, frozen=True, gc=False):
    """What the controller is asked to make the ISR: broker ids, each with the broker epoch it fetched with (or -1)."""

    isr: tuple[tuple[int, int], ...]
    leader_epoch: int
    partition_epoch: int


class Decided(msgspec.Struct, frozen=True, gc=False):
    """What the controller says a partition is like now."""

    leader_epoch: int
    partition_epoch: int
    isr: tuple[int, ...]


WAITS_FOR_METADATA = frozenset(
    {
        Code.UNKNOWN_TOPIC_OR_PARTITION,
        Code.UNKNOWN_TOPIC_ID,
        Code.FENCED_LEADER_EPOCH,
        Code.INVALID_UPDATE_VERSION,
        Code.INVALID_REQUEST,
        Code.NEW_LEADER_ELECTED,
    }
)
"""Nobody knows whether the proposal was carried out: it counts as pending until the metadata says what is."""
NOT_CARRIED_OUT = frozenset({Code.INELIGIBLE_REPLICA, Code.OPERATION_NOT_ATTEMPTED})
"""The proposal certainly was not carried out, and the partition epoch was right."""
REFUSED_S = 0.5
"""How long a follower's fetches are no reason to propose again what was not carried out: a busy one sends hundreds a
second. What changes in the metadata is one at once."""


class Follower:
    """One follower, as far as its fetches tell."""

    __slots__ = (
        "broker_epoch",
        "caught_up_s",
        "dropped_s",
        "fetched_s",
        "heard",
        "leader_end_at_fetch",
        "log_end",
        "log_start",
        "told_high_watermark",
    )

    def __init__(self, caught_up_s: float) -> None:
        self.log_end = UNKNOWN
        self.log_start = UNKNOWN
        self.broker_epoch = UNKNOWN
        self.caught_up_s = caught_up_s
        """It had everything that was in the leader's log at that time."""
        self.dropped_s = NEVER_S
        """When the controller has left it out of the ISR."""
        self.fetched_s = NEVER_S
        self.leader_end_at_fetch = UNKNOWN
        self.heard: Heard | None = None
        self.told_high_watermark = UNKNOWN

    def dropped(self, now_s: float) -> None:
        """It is no longer in the ISR, and not about to join before it is heard again: its folder may have failed."""
        self.caught_up_s, self.dropped_s = NEVER_S, now_s

    @property
    def heard_s(self) -> float:
        """When it last asked, or if it has not: since when it has been waited for."""
        return self.caught_up_s if self.heard is None else max(self.heard.at_s, self.caught_up_s)

    @property
    def is_back(self) -> bool:
        """Whether it has asked since it was dropped, naming the partition or not."""
        return self.heard is not None and self.heard.at_s > self.dropped_s

    def has_had_all(self, leader_end: int) -> None:
        """It was at the end when it last asked, and is about to fall behind: it was caught up until that time."""
        if self.heard is not None and self.is_back and self.log_end >= leader_end:
            self.caught_up_s = max(self.caught_up_s, self.heard.at_s)


class Leader:
    """The state of a partition that has several replicas, at its leader. Times are monotonic seconds."""

    def __init__(
        self,
        me: int,
        *,
        leader_epoch: int,
        partition_epoch: int,
        replicas: tuple[int, ...],
        isr: tuple[int, ...],
        log_end: int,
        high_watermark: int,
        min_isr: int,
        lag_s_max: float,
        eligible: Eligible,
        now_s: float,
    ) -> None:
        """`high_watermark`: as far as it was known before this node led. `min_isr`: min.insync.replicas."""
        self._me = me
        self._eligible = eligible
        self.lag_s_max = lag_s_max
        self._asked_min_isr = min_isr
        self.leader_epoch = leader_epoch
        self.partition_epoch = partition_epoch
        self.isr = isr
        """The ISR that the controller is known to have recorded."""
        self.maximal_isr = frozenset(isr)
        self.pending: Proposal | None = None
        self._patient_until_s = NEVER_S
        self.log_end = log_end
        self.epoch_start = log_end
        """Where the leader's epoch begins: whoever is to be in sync has reached it."""
        self.high_watermark = high_watermark
        self.followers: dict[int, Follower] = {}
        self._assign(replicas, isr, now_s)
        self._advance(now_s)

    # what the metadata says

    def updated(self, decided: Decided, replicas: tuple[int, ...], now_s: float) -> bool:
        """The metadata has the partition so, and led by this node still. Returns whether the high watermark moved."""
        if decided.partition_epoch < self.partition_epoch:
            return False  # the controller's answer came first
        news = (decided.leader_epoch, decided.partition_epoch) != (self.leader_epoch, self.partition_epoch)
        if decided.leader_epoch > self.leader_epoch:
            self.leader_epoch = decided.leader_epoch
            self.epoch_start = self.log_end
            for replica, follower in self.followers.items():
                follower.caught_up_s = now_s if replica in decided.isr else NEVER_S
        if news:  # else it was in the controller's answer, and what was proposed since may yet be carried out
            for replica in set(self.isr) - set(decided.isr):
                if replica in self.followers:
                    self.followers[replica].dropped(now_s)
            self._committed(decided.partition_epoch, decided.isr)
        self._assign(replicas, decided.isr, now_s)
        return self._advance(now_s)

    def _assign(self, replicas: tuple[int, ...], isr: tuple[int, ...], now_s: float) -> None:
        others = [replica for replica in replicas if replica != self._me]
        # One in sync gets as long as any to be heard of; others were not caught up, for all that is known.
        self.followers = {
            replica: self.followers.get(replica) or Follower(now_s if replica in isr else NEVER_S) for replica in others
        }

    def _committed(self, partition_epoch: int, isr: tuple[int, ...]) -> None:
        self.partition_epoch = partition_epoch
        self.isr = isr
        self.maximal_isr = frozenset(isr)
        self.pending = None

    def require(self, min_isr: int, now_s: float) -> bool:
        """min.insync.replicas was changed. Returns whether the high watermark moved."""
        self._asked_min_isr = min_isr
        return self._advance(now_s)

    # what happens to the log

    def appended(self, log_end: int, now_s: float) -> bool:
        """The leader's log ends here now. Returns whether the high watermark moved."""
        if log_end > self.log_end:
            for follower in self.followers.values():
                follower.has_had_all(self.log_end)
        self.log_end = log_end
        return self._advance(now_s)

    def fetched(
        self, replica: int, offset: int, log_start: int, broker_epoch: int, heard: Heard, now_s: float
    ) -> bool | None:
        """A follower has everything below `offset`. Returns whether the high watermark moved.

        None: the fetch is of an earlier incarnation of its broker, and tells nothing.
        """
        follower = self.followers[replica]
        if UNKNOWN < broker_epoch < follower.broker_epoch:
            return None
        if offset >= self.log_end:
            follower.caught_up_s = max(follower.caught_up_s, now_s)
        elif offset >= follower.leader_end_at_fetch:
            follower.caught_up_s = max(follower.caught_up_s, follower.fetched_s)
        follower.log_end, follower.log_start = offset, log_start
        follower.broker_epoch = broker_epoch
        follower.leader_end_at_fetch, follower.fetched_s = self.log_end, now_s
        follower.heard = heard
        return self._advance(now_s)

    def unheard(self, heard: Heard) -> None:
        """A session does not ask for this partition any longer."""
        for follower in self.followers.values():
            if follower.heard is heard:
                follower.heard = None

    def tick(self, now_s: float) -> bool:
        """Time has passed. Returns whether the high watermark moved: somebody is not waited for any longer."""
        return self._advance(now_s)

    # in-sync replicas

    def misses(self, since_s: float) -> bool:
        """Whether a replica that has to have everything has not been heard since then."""
        return any(self.followers[each].heard_s < since_s for each in self.maximal_isr & self.followers.keys())

    @property
    def under_min_isr(self) -> bool:
        """Whether fewer replicas are in sync than acks=all asks for (never more than there are)."""
        return len(self.isr) < self.min_isr

    @property
    def enough_have_it(self) -> bool:
        """What is below the high watermark is on enough replicas for acks=all."""
        return len(self.maximal_isr) >= self.min_isr

    @property
    def min_isr(self) -> int:
        """min.insync.replicas, and never more than there are."""
        return min(self._asked_min_isr, len(self.followers) + 1)

    def propose_joining(self, now_s: float, fetched: int | None = None) -> Proposal | None:
        """That those be taken into the ISR who have reached the high watermark, if any has.

        To be asked after a fetch of one (`fetched`) that is not in it, and when anything else has changed that may have
        been in the way: a follower of a quiet partition may have nothing to say for a long time. Then it counts that it
        has everything, or had not long ago: one that has fallen silent is not taken in again.
        """
        if self.pending is not None or (fetched is not None and now_s < self._patient_until_s):
            return None
        reached = max(self.high_watermark, self.epoch_start)
        joining = tuple(
            replica
            for replica, follower in self.followers.items()
            if replica not in self.isr
            and follower.log_end >= reached
            and (replica == fetched or self._caught_up(follower, now_s))
            and (replica == fetched or follower.is_back)
            and self._eligible(replica, follower.broker_epoch)
        )
        return self._propose((*self.isr, *joining)) if joining else None

    def propose_leaving(self, now_s: float) -> Proposal | None:
        """That those be left out of the ISR who have lagged for too long, if any has."""
        if self.pending is not None:
            return None
        late = {
            replica
            for replica in self.isr
            if replica != self._me and not self._caught_up(self.followers.get(replica), now_s)
        }
        return self._propose(tuple(replica for replica in self.isr if replica not in late)) if late else None

    def _propose(self, isr: tuple[int, ...]) -> Proposal:
        with_epochs = tuple(  # in their order, as Kafka's leaders have them
            (replica, self.followers[replica].broker_epoch if replica in self.followers else UNKNOWN)
            for replica in sorted(isr)
        )
        self.pending = Proposal(with_epochs, self.leader_epoch, self.partition_epoch)
        self.maximal_isr = frozenset(self.isr) | frozenset(isr)
        return self.pending

    def answered(self, proposal: Proposal, code: Code, decided: Decided, now_s: float) -> tuple[bool, bool]:
        """The controller's answer to a proposal: whether to ask again, and whether the high watermark moved."""
        if proposal is not self.pending:
            return False, False  # the metadata was quicker
        if code is Code.NONE:
            if decided.leader_epoch == self.leader_epoch and decided.partition_epoch >= self.partition_epoch:
                self._committed(decided.partition_epoch, decided.isr)
                return False, self._advance(now_s)
            return False, False
        if code in NOT_CARRIED_OUT:
            self._committed(self.partition_epoch, self.isr)
            self._patient_until_s = now_s + REFUSED_S
            return False, self._advance(now_s)
        return code not in WAITS_FOR_METADATA, False

    # the high watermark

    def _advance(self, now_s: float) -> bool:
        if self.under_min_isr:
            return False
        reached = self.log_end
        for replica, follower in self.followers.items():
            if follower.log_end < reached and (
                replica in self.maximal_isr
                or (self._caught_up(follower, now_s) and self._eligible(replica, follower.broker_epoch))
            ):
                reached = follower.log_end
        if reached <= self.high_watermark:
            return False
        self.high_watermark = reached
        return True

    def _caught_up(self, follower: Follower | None, now_s: float) -> bool:
        if follower is None:  # no replica of the partition any more
            return False
        return follower.log_end == self.log_end or now_s - follower.caught_up_s <= self.lag_s_max

    @property
    def low_watermark(self) -> int:
        """The least log start of the followers that may be in an ISR; -1 if one's is not known."""
        starts = [
            follower.log_start
            for replica, follower in self.followers.items()
            if self._eligible(replica, follower.broker_epoch) or replica in self.isr
        ]
        return min(starts, default=2**63 - 1)

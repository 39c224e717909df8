"""What the leader of the metadata quorum knows of the others: how far each one is, and whether enough of them fetch.

A replica's fetch offset says what it holds durably, as voters sync before they fetch again. The high watermark is what
a majority of the voters hold so, once that includes a record of the leader's own epoch: records of older epochs may
otherwise be committed by count and yet be overwritten by a later leader (raft, section 5.4.2).
"""

from __future__ import annotations

import msgspec

from kpybroker.cluster.machines.raft_events import Key, Moment, Quorum, Timing, Voter

OBSERVER_SESSION_S = 300.0
"""After which an observer that does not fetch is forgotten."""


CAUGHT_UP_S = 3600.0
"""For how long a replica counts as caught up that once was."""


class Progress(msgspec.Struct, kw_only=True):
    """How far one replica is."""

    key: Key
    offset: int = -1
    """It holds everything below durably; -1: unknown."""
    fetched_s: float = float("-inf")
    fetched_ms: int = -1
    """When it fetched last, by both clocks."""
    leader_end: int = -1
    """Where the leader's log ended then."""
    caught_up_ms: int = -1
    """When it last had everything that the leader had."""
    caught_up_s: float = float("-inf")

    def fetched(self, offset: int, log_end: int, now: Moment) -> None:
        """It fetched from `offset` on."""
        if offset >= log_end:
            self.caught_up_s, self.caught_up_ms = now.s, now.wall_ms
        elif self.leader_end >= 0 and offset >= self.leader_end:
            self.caught_up_s, self.caught_up_ms = self.fetched_s, self.fetched_ms
        self.offset = max(offset, self.offset)
        self.fetched_s, self.fetched_ms = now.s, now.wall_ms
        self.leader_end = log_end


class Leadership:
    """One epoch of leading, from its LeaderChange record on."""

    def __init__(self, me: Key, quorum: Quorum, epoch_start: int, timing: Timing, now: Moment) -> None:
        self.me = me
        self.epoch_start = epoch_start
        """Offset of this epoch's LeaderChange record."""
        self.high_watermark: int | None = None
        """Unknown before something of this epoch is committed."""
        self.progress: dict[Key, Progress] = {}
        self.told: dict[int, Voter] = {}
        """What voters told of themselves, with kraft.version 0."""
        self._timing = timing
        self._recently: set[int] = set()
        """Voters that have fetched since a majority had."""
        self._majority_until_s = now.s + 1.5 * timing.fetch_s
        self._begin_at_s = now.s
        self._quorum = quorum

    def changed(self, quorum: Quorum, now: Moment) -> None:
        """The voters are others."""
        if not self._others:  # nobody had to fetch so far
            self._majority_until_s = now.s + 1.5 * self._timing.fetch_s
            self._begin_at_s = now.s
        self._quorum = quorum
        self._recently &= {voter.id for voter in quorum.voters}

    @property
    def deadline_s(self) -> float:
        """When there is something to do."""
        if not self._others:
            return float("inf")
        return min(self._majority_until_s, self._begin_at_s)

    @property
    def _others(self) -> list[Key]:
        return [voter.key for voter in self._quorum.voters if not voter.key.matches(self.me)]

    def lost_majority(self, now: Moment) -> bool:
        """Whether too few voters have fetched for too long."""
        return bool(self._others) and now.s >= self._majority_until_s

    def to_begin(self, now: Moment) -> list[Key]:
        """The voters that have to be told again that we lead; asked for when it is time only."""
        if now.s < self._begin_at_s:
            return []
        period = self._timing.fetch_s / 2
        self._begin_at_s = now.s + period
        return [key for key in self._others if now.s - self.of(key).fetched_s >= period]

    def of(self, key: Key) -> Progress:
        """How far a replica is."""
        if key in self.progress:
            return self.progress[key]
        same = [each for known, each in self.progress.items() if known.matches(key)]
        return max(same, key=lambda each: each.fetched_s, default=Progress(key=key))

    def heard(self, key: Key, now: Moment) -> None:
        """A replica reads from us: if it is a voter, it counts for the majority that we need."""
        voter = self._quorum.voter(key)
        if voter is None:
            return
        self._recently.add(voter.id)
        needed = self._quorum.majority - (1 if self._quorum.voter(self.me) is not None else 0)
        if len(self._recently) >= needed:
            self._recently.clear()
            self._majority_until_s = now.s + 1.5 * self._timing.fetch_s

    def fetched(self, key: Key, offset: int, log_end: int, now: Moment) -> None:
        """A replica has everything below `offset`."""
        self.heard(key, now)
        if key not in self.progress:
            self._forget(now)
            self.progress[key] = Progress(key=key)
        self.progress[key].fetched(offset, log_end, now)

    def _forget(self, now: Moment) -> None:
        """Drop observers that are gone, so that ids without end can't fill memory."""
        gone = [
            key
            for key, each in self.progress.items()
            if self._quorum.voter(key) is None and now.s - each.fetched_s > OBSERVER_SESSION_S
        ]
        for key in gone:
            del self.progress[key]

    def committed(self, durable: int) -> int | None:
        """What a majority of voters hold, if that is news and of this epoch. `durable`: what we hold ourselves."""
        held = sorted(
            (durable if voter.key.matches(self.me) else self.of(voter.key).offset for voter in self._quorum.voters),
            reverse=True,
        )
        offset = held[self._quorum.majority - 1]
        if offset <= self.epoch_start or (self.high_watermark is not None and offset <= self.high_watermark):
            return None
        self.high_watermark = offset
        return offset

    def caught_up(self, key: Key, now: Moment) -> bool:
        """Whether a replica once had all that we had, and has fetched since not too long ago: it may be a voter."""
        each = self.of(key)
        return each.caught_up_ms >= 0 and now.s - each.fetched_s < CAUGHT_UP_S

    def successors(self) -> tuple[Key, ...]:
        """The other voters, the one with the longest log first."""
        return tuple(sorted(self._others, key=lambda key: (-self.of(key).offset, key)))

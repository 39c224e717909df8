"""Incremental fetch sessions (KIP-227): what a fetcher asked for, remembered between its requests.

A session knows which of its partitions are worth a look: those that the request named, those that changed since they
were looked at (their partition says so, by the session's Watch), and those whose data the last answer had no room for
or which the fetcher has not moved past. A fetch over ten thousand quiet partitions looks at none of them.

The cache is bounded. A new session takes the place of an old one only by KIP-227's rules, else the fetcher goes on
without one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, TypeAlias

from kpybroker.replication.machines.leader import Heard
from kpybroker.replication.waiters import Watch
from kpybroker.wire.codes import Code, Refused

if TYPE_CHECKING:
    from kpybroker.ids import Ids
    from kpybroker.replication.partition import Partition

Key: TypeAlias = tuple[str | bytes, int]
"""A partition as the fetcher names it: topic name (up to Fetch v12) or topic id (from v13), and index."""

NO_SESSION = 0
FINAL_EPOCH = -1
"""The epoch of a fetch that wants no session (any more)."""
INITIAL_EPOCH = 0
"""The epoch of a full fetch that asks for a new session."""
EVICTION_S = 120.0
"""A session that was not used, or a smaller one that has lived, for this long may be evicted (Kafka's fixed value)."""

LOOK_AGAIN_S = 1.0
"""All sessions are looked through for one to evict no more often: fetchers without a session ask each time."""


class Interest:
    """One partition of a fetch: from where, how much, and what its fetcher was last told of it."""

    __slots__ = (
        "bytes_max",
        "current_leader_epoch",
        "fetch_offset",
        "key",
        "last_fetched_epoch",
        "log_start_offset",
        "sent_high_watermark",
        "sent_log_start_offset",
        "watched",
    )

    def __init__(
        self,
        key: Key,
        fetch_offset: int,
        bytes_max: int,
        current_leader_epoch: int = -1,
        last_fetched_epoch: int = -1,
        log_start_offset: int = -1,
    ) -> None:
        self.key = key
        self.fetch_offset = fetch_offset
        self.bytes_max = bytes_max
        self.current_leader_epoch = current_leader_epoch
        self.last_fetched_epoch = last_fetched_epoch
        self.log_start_offset = log_start_offset
        self.sent_high_watermark = -1
        self.sent_log_start_offset = -1
        self.watched: Partition | None = None

    def update(self, newer: Interest) -> None:
        """Take over what the fetcher now asks for, keeping what it was told."""
        self.fetch_offset = newer.fetch_offset
        self.bytes_max = newer.bytes_max
        self.current_leader_epoch = newer.current_leader_epoch
        self.last_fetched_epoch = newer.last_fetched_epoch
        self.log_start_offset = newer.log_start_offset


class Fetch:
    """What one request asks for, with or without a session: the partitions to look at, in order."""

    def __init__(
        self,
        interests: dict[Key, Interest],
        watch: Watch[Key],
        session: FetchSession | None = None,
        incremental: bool = False,
    ) -> None:
        self.watch = watch
        self.session = session
        self.incremental = incremental
        """Whether the answer leaves out what has not changed."""
        self._interests = interests

    @property
    def size(self) -> int:
        """How many partitions the fetcher is interested in."""
        return len(self._interests)

    @property
    def session_id(self) -> int:
        """The id to answer with; 0 without a session."""
        return self.session.id if self.session is not None else NO_SESSION

    def ready(self) -> list[Interest]:
        """The partitions worth a look; those that were served last come last, so that none starves."""
        return [self._interests[key] for key in self.watch.changed]

    def quiet(self, interest: Interest) -> None:
        """There was nothing to tell of this partition: not looked at again before it changes."""
        self.watch.changed.pop(interest.key, None)

    def served(self, interest: Interest) -> None:
        """Data of this partition went into the answer: next time it is looked at after all others."""
        self.watch.changed.pop(interest.key, None)
        self.watch.changed[interest.key] = None

    def close(self) -> None:
        """The request is answered. A session goes on watching; a fetch without one, or whose session is over, stops."""
        if self.session is None or self.session.closed:
            unwatch(self._interests.values(), self.watch)


def _without_session(interests: Iterable[Interest]) -> Fetch:
    wanted = {interest.key: interest for interest in interests}
    watch: Watch[Key] = Watch()
    watch.changed.update(dict.fromkeys(wanted))
    return Fetch(wanted, watch)


def unwatch(interests: Iterable[Interest], watch: Watch[Key]) -> None:
    """Stop watching the partitions of `interests`."""
    for interest in interests:
        if interest.watched is not None:
            interest.watched.unwatch(watch)
            interest.watched = None


class FetchSession:
    """A fetcher's standing order."""

    def __init__(
        self, session_id: int, interests: dict[Key, Interest], by_topic_id: bool, privileged: bool, now_s: float
    ) -> None:
        self.id = session_id
        self.interests = interests
        self.by_topic_id = by_topic_id
        self.privileged = privileged  # a follower's
        self.created_s = now_s
        self.last_used_s = now_s
        self.heard = Heard(now_s)
        """When its user last asked, for the partitions that the request did not name."""
        self.epoch = 1  # the epoch that the next request must have
        self.watch: Watch[Key] = Watch()
        self.watch.changed.update(dict.fromkeys(interests))
        self.closed = False
        """A request of it that was waiting just then may go on watching: `Fetch.close` ends that."""

    def update(self, interests: Iterable[Interest], forgotten: Iterable[Key]) -> None:
        """Carry out what an incremental request changes. What it names is looked at, in its order."""
        for interest in interests:
            known = self.interests.get(interest.key)
            if known is None:
                self.interests[interest.key] = interest
            else:
                known.update(interest)
            self.watch.changed[interest.key] = None
        for key in forgotten:
            gone = self.interests.pop(key, None)
            if gone is not None:
                self.watch.changed.pop(key, None)
                if gone.watched is not None:
                    gone.watched.unheard(self.heard)
                unwatch((gone,), self.watch)

    def next_epoch(self) -> None:
        """The current request has been accepted."""
        self.epoch = 1 if self.epoch == 2**31 - 1 else self.epoch + 1

    def close(self) -> None:
        """The session is over."""
        self.closed = True
        unwatch(self.interests.values(), self.watch)


class FetchSessions:
    """All sessions of a node; at most `slots_max` (max.incremental.fetch.session.cache.slots)."""

    def __init__(self, slots_max: int, ids: Ids) -> None:
        self._slots_max = slots_max
        self._ids = ids
        self._sessions: dict[int, FetchSession] = {}  # in the order of their last use
        self._in_vain = (False, 0)
        self._in_vain_until_s = 0.0
        """Until then a session that is privileged and large like that, or less so, need not look for a place again."""

    def __len__(self) -> int:
        return len(self._sessions)

    def __iter__(self) -> Iterator[FetchSession]:
        return iter(self._sessions.values())

    def open(
        self,
        *,
        session_id: int,
        epoch: int,
        interests: Iterable[Interest],
        forgotten: Iterable[Key],
        by_topic_id: bool,
        privileged: bool,
        now_s: float,
    ) -> Fetch:
        """What a request with these session fields asks for.

        Raises: Refused with FETCH_SESSION_ID_NOT_FOUND, INVALID_FETCH_SESSION_EPOCH or FETCH_SESSION_TOPIC_ID_ERROR.
        """
        if epoch in (FINAL_EPOCH, INITIAL_EPOCH):
            self.close(session_id)
            if epoch == FINAL_EPOCH:
                return _without_session(interests)
            wanted = {interest.key: interest for interest in interests}
            session = self._create(wanted, by_topic_id, privileged, now_s)
            return Fetch(wanted, session.watch, session) if session else _without_session(wanted.values())
        known = self._sessions.get(session_id)
        if known is None:
            raise Refused(Code.FETCH_SESSION_ID_NOT_FOUND)
        if known.epoch != epoch:
            raise Refused(Code.INVALID_FETCH_SESSION_EPOCH)
        if known.by_topic_id != by_topic_id:
            raise Refused(Code.FETCH_SESSION_TOPIC_ID_ERROR)
        known.update(interests, forgotten)
        if not known.interests:
            self.close(session_id)
            return _without_session(())
        known.next_epoch()
        known.last_used_s = known.heard.at_s = now_s
        self._sessions[session_id] = self._sessions.pop(session_id)
        return Fetch(known.interests, known.watch, known, incremental=True)

    def close(self, session_id: int) -> None:
        """End a session, if there is one of that id."""
        session = self._sessions.pop(session_id, None)
        if session is not None:
            session.close()

    def _create(
        self, interests: dict[Key, Interest], by_topic_id: bool, privileged: bool, now_s: float
    ) -> FetchSession | None:
        """A new session; None when the cache is full of sessions that have a better right to their place."""
        if len(self._sessions) >= self._slots_max and not self._evict(len(interests), privileged, now_s):
            return None
        while (session_id := 1 + self._ids.randrange(2**31 - 1)) in self._sessions:
            pass
        session = self._sessions[session_id] = FetchSession(session_id, interests, by_topic_id, privileged, now_s)
        return session

    def _evict(self, size: int, privileged: bool, now_s: float) -> bool:
        """Make room for a session of so many partitions, if there is one of less right to its place.

        A follower's yields to a larger one of a follower that was in use for EVICTION_S, and never to a consumer's.
        """
        if not self._sessions:
            return False
        oldest = next(iter(self._sessions.values()))
        if now_s - oldest.last_used_s > EVICTION_S:
            self.close(oldest.id)
            return True
        if (privileged, size) <= self._in_vain and now_s < self._in_vain_until_s:
            return False
        rivals = [
            session
            for session in self._sessions.values()
            if session.last_used_s - session.created_s > EVICTION_S or (privileged and not session.privileged)
        ]
        weakest = min(rivals, key=lambda session: (session.privileged, len(session.interests)), default=None)
        if weakest is None or (weakest.privileged, len(weakest.interests)) >= (privileged, size):
            self._in_vain, self._in_vain_until_s = (privileged, size), now_s + LOOK_AGAIN_S
            return False
        self.close(weakest.id)
        return True

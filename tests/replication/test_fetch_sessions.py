"""Fetch sessions: KIP-227's rules as a table of requests and what they open."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from kpybroker.ids import Ids
from kpybroker.replication.fetch_sessions import EVICTION_S, LOOK_AGAIN_S, Fetch, FetchSessions, Interest
from kpybroker.wire.codes import Code, Refused


class Fetcher:
    """One client of a FetchSessions."""

    def __init__(self, sessions: FetchSessions, *, privileged: bool = False) -> None:
        self.sessions = sessions
        self.privileged = privileged
        self.now_s = 0.0

    def fetch(
        self,
        session_id: int,
        epoch: int,
        *interests: tuple[str, int],
        forgotten: tuple[str, ...] = (),
        by_id: bool = False,
    ) -> Fetch:
        return self.sessions.open(
            session_id=session_id,
            epoch=epoch,
            interests=[Interest((topic, 0), offset, 1000) for topic, offset in interests],
            forgotten=[(topic, 0) for topic in forgotten],
            by_topic_id=by_id,
            privileged=self.privileged,
            now_s=self.now_s,
        )


def looked_at(fetch: Fetch) -> list[tuple[str | bytes, int]]:
    return [(interest.key[0], interest.fetch_offset) for interest in fetch.ready()]


@pytest.fixture
def sessions() -> FetchSessions:
    return FetchSessions(2, Ids(1))


@pytest.fixture
def fetcher(sessions: FetchSessions) -> Fetcher:
    return Fetcher(sessions)


def test_a_fetch_that_wants_no_session_gets_none(fetcher: Fetcher) -> None:
    fetch = fetcher.fetch(0, -1, ("a", 5), ("b", 6))
    assert (fetch.session_id, fetch.incremental, looked_at(fetch)) == (0, False, [("a", 5), ("b", 6)])
    assert len(fetcher.sessions) == 0


def test_a_session_remembers_what_is_not_said_again(fetcher: Fetcher) -> None:
    first = fetcher.fetch(0, 0, ("a", 5), ("b", 6))
    assert first.session_id != 0
    for interest in first.ready():
        first.quiet(interest)
    second = fetcher.fetch(first.session_id, 1, ("b", 7))
    assert second.incremental
    assert looked_at(second) == [("b", 7)]
    first.watch.readable(("a", 0), 1)
    third = fetcher.fetch(first.session_id, 2)
    assert looked_at(third) == [("b", 7), ("a", 5)]


def test_what_was_served_is_looked_at_after_all_others(fetcher: Fetcher) -> None:
    first = fetcher.fetch(0, 0, ("a", 1), ("b", 1), ("c", 1))
    first.served(first.ready()[0])
    assert [topic for topic, _ in looked_at(fetcher.fetch(first.session_id, 1))] == ["b", "c", "a"]


def test_forgotten_partitions_are_not_looked_at_again(fetcher: Fetcher) -> None:
    first = fetcher.fetch(0, 0, ("a", 1), ("b", 1))
    assert looked_at(fetcher.fetch(first.session_id, 1, forgotten=("a",))) == [("b", 1)]


def test_a_session_without_partitions_ends(fetcher: Fetcher) -> None:
    first = fetcher.fetch(0, 0, ("a", 1))
    last = fetcher.fetch(first.session_id, 1, forgotten=("a",))
    assert (last.session_id, len(fetcher.sessions)) == (0, 0)


@pytest.mark.parametrize(
    ("session_offset", "epoch", "by_id", "code"),
    [
        pytest.param(1, 1, False, Code.FETCH_SESSION_ID_NOT_FOUND, id="unknown session"),
        pytest.param(0, 2, False, Code.INVALID_FETCH_SESSION_EPOCH, id="an epoch ahead"),
        pytest.param(0, 1, True, Code.FETCH_SESSION_TOPIC_ID_ERROR, id="names became ids"),
    ],
)
def test_refusals(fetcher: Fetcher, session_offset: int, epoch: int, by_id: bool, code: Code) -> None:
    first = fetcher.fetch(0, 0, ("a", 1))
    with pytest.raises(Refused) as refused:
        fetcher.fetch(first.session_id + session_offset, epoch, by_id=by_id)
    assert refused.value.code is code


def test_the_epoch_wraps_to_one(fetcher: Fetcher) -> None:
    first = fetcher.fetch(0, 0, ("a", 1))
    assert first.session is not None
    first.session.epoch = 2**31 - 1
    fetcher.fetch(first.session_id, 2**31 - 1)
    assert first.session.epoch == 1


def test_a_new_full_fetch_ends_the_old_session(fetcher: Fetcher) -> None:
    first = fetcher.fetch(0, 0, ("a", 1))
    second = fetcher.fetch(first.session_id, 0, ("a", 1))
    assert second.session_id != first.session_id
    assert len(fetcher.sessions) == 1


def test_a_request_whose_session_ends_while_it_waits_leaves_no_watch(fetcher: Fetcher) -> None:
    watching: set[object] = set()
    partition: Any = SimpleNamespace(unwatch=watching.discard)
    first = fetcher.fetch(0, 0, ("a", 1))
    fetcher.fetch(first.session_id, 0, ("a", 1))
    (interest,) = first.ready()  # it looks once more
    watching.add(first.watch)
    interest.watched = partition
    first.close()
    assert not watching


def test_a_full_cache_keeps_what_is_used(fetcher: Fetcher) -> None:
    fetcher.fetch(0, 0, ("a", 1))
    fetcher.fetch(0, 0, ("a", 1), ("b", 1))
    assert fetcher.fetch(0, 0, ("c", 1), ("d", 1), ("e", 1)).session_id == 0


def test_a_full_cache_gives_up_what_is_not_used_any_more(fetcher: Fetcher) -> None:
    old = fetcher.fetch(0, 0, ("a", 1))
    fetcher.now_s = EVICTION_S
    fetcher.fetch(0, 0, ("b", 1))
    fetcher.now_s += 1
    assert fetcher.fetch(0, 0, ("c", 1)).session_id != 0
    assert old.session_id not in {session.id for session in fetcher.sessions}


def test_a_larger_session_takes_the_place_of_an_old_smaller_one(fetcher: Fetcher) -> None:
    small = fetcher.fetch(0, 0, ("a", 1))
    fetcher.fetch(0, 0, ("a", 1), ("b", 1))
    fetcher.now_s = EVICTION_S + 1
    fetcher.fetch(small.session_id, 1)  # in use, but small
    large = next(session for session in fetcher.sessions if session.id != small.session_id)
    large.last_used_s = fetcher.now_s
    assert fetcher.fetch(0, 0, ("c", 1), ("d", 1)).session_id != 0
    assert small.session_id not in {session.id for session in fetcher.sessions}


def test_a_follower_takes_the_place_of_a_consumer(sessions: FetchSessions) -> None:
    consumer = Fetcher(sessions)
    consumer.fetch(0, 0, ("a", 1))
    consumer.fetch(0, 0, ("a", 1))
    assert Fetcher(sessions, privileged=True).fetch(0, 0, ("a", 1)).session_id != 0
    assert len(sessions) == 2


@pytest.mark.parametrize("age_s", [0.0, EVICTION_S, EVICTION_S + 1])
def test_a_follower_takes_the_place_of_another_only_when_that_had_its_time(
    sessions: FetchSessions, age_s: float
) -> None:
    follower = Fetcher(sessions, privileged=True)
    small = [follower.fetch(0, 0, ("a", 1)) for _ in range(2)]
    follower.now_s = age_s
    for each in small:
        follower.fetch(each.session_id, 1)
    assert (follower.fetch(0, 0, ("a", 1), ("b", 1)).session_id != 0) is (age_s > EVICTION_S)
    assert len(sessions) == 2


def test_a_consumer_never_takes_the_place_of_a_follower_in_use(sessions: FetchSessions) -> None:
    follower, consumer = Fetcher(sessions, privileged=True), Fetcher(sessions)
    followers = [follower.fetch(0, 0, ("a", 1)) for _ in range(2)]
    follower.now_s = consumer.now_s = EVICTION_S + 1
    for each in followers:
        follower.fetch(each.session_id, 1)
    assert consumer.fetch(0, 0, ("a", 1), ("b", 1)).session_id == 0
    assert {each.session_id for each in followers} == {session.id for session in sessions}


def test_how_long_a_session_was_in_use_counts_not_when_it_was_made(fetcher: Fetcher) -> None:
    for _ in range(2):
        fetcher.fetch(0, 0, ("a", 1))
    fetcher.now_s = EVICTION_S
    for session in list(fetcher.sessions):
        fetcher.fetch(session.id, 1)
    fetcher.now_s += 60
    assert fetcher.fetch(0, 0, ("a", 1), ("b", 1)).session_id == 0


def test_a_full_cache_is_not_looked_through_for_every_fetch(fetcher: Fetcher) -> None:
    for _ in range(2):
        fetcher.fetch(0, 0, ("a", 1))
    fetcher.now_s = EVICTION_S
    assert fetcher.fetch(0, 0, ("a", 1), ("b", 1)).session_id == 0
    fetcher.now_s += LOOK_AGAIN_S / 2
    for session in list(fetcher.sessions):
        fetcher.fetch(session.id, 1)
    assert fetcher.fetch(0, 0, ("a", 1), ("b", 1)).session_id == 0, "looked a moment ago"
    assert fetcher.fetch(0, 0, ("a", 1), ("b", 1), ("c", 1)).session_id != 0, "a better one may be luckier"
    fetcher.now_s += LOOK_AGAIN_S
    assert fetcher.fetch(0, 0, ("a", 1), ("b", 1)).session_id != 0

"""Produce requests whose answers are late: those that came together are carried out together, and answered in order."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from kpybroker.handlers.context import CloseConnection, Later
from kpybroker.server.connection import AHEAD_MAX, Connection
from kpybroker.server.dispatch import LateReply

from .test_connection import Peer, framed

AT_ONCE, LATE, SILENT = b"\0\0at once ", b"\0\0late ", b"\0\0silent "
OTHER = b"\0\1other "


class Promise(Later):
    """Something to wait for. What is answered is the business of Promised."""

    def response(self) -> None:
        raise AssertionError("never asked for")


class Promised(LateReply):
    """A reply that comes when the test says so."""

    def __init__(self, frame: bytes, limit_s: float) -> None:
        self.later = Promise(limit_s)
        self.later.awaited = 1
        self.frame = frame

    def parts(self) -> list[bytes] | None:
        if self.frame.startswith(SILENT):
            raise CloseConnection("no answer to that")
        return [framed(b"timed out" if self.later.awaited else self.frame)]


class Story:
    """One peer, and what it was promised."""

    def __init__(self, nursery: trio.Nursery, limit_s: float) -> None:
        self.limit_s = limit_s
        self.promised: dict[bytes, Promised] = {}
        self.peer = Peer(nursery, self._work, idle_s=5)

    async def _work(self, frame: bytes, connection: Connection) -> object:  # noqa: ARG002
        if not frame.startswith((LATE, SILENT)):
            return [framed(frame)]
        self.promised[frame] = promised = Promised(frame, self.limit_s)
        return promised

    async def send(self, *frames: bytes) -> None:
        await self.peer.stream.send_all(framed(*frames))
        await trio.testing.wait_all_tasks_blocked()

    def come(self, frame: bytes) -> None:
        self.promised[frame].later.happened()

    async def answered(self, *frames: bytes) -> None:
        """These are all the answers there are."""
        await trio.testing.wait_all_tasks_blocked()
        expected = framed(*frames)
        got = b""
        while len(got) < len(expected):
            got += await self.peer.stream.receive_some(len(expected) - len(got))
        assert got == expected
        with trio.move_on_after(0) as scope:
            more = await self.peer.stream.receive_some()
            assert more == b"", "the connection has ended"
        assert scope.cancelled_caught or self.peer.ended.is_set()


@asynccontextmanager
async def story(limit_s: float = 1e6) -> AsyncIterator[Story]:
    async with trio.open_nursery() as nursery:
        told = Story(nursery, limit_s)
        yield told
        nursery.cancel_scope.cancel()


async def test_the_next_is_carried_out_and_answered_after_it() -> None:
    async with story() as told:
        one, two, three = LATE + b"1", LATE + b"2", AT_ONCE + b"3"
        await told.send(one, two, three)
        assert told.peer.scripted.seen == [one, two, three]
        told.come(two)
        await told.answered()
        told.come(one)
        await told.answered(one, two, three)


async def test_what_comes_later_has_its_turn_when_they_are_answered() -> None:
    async with story() as told:
        one, two, three = LATE + b"1", LATE + b"2", LATE + b"3"
        await told.send(one, two)
        await told.send(three)
        told.come(one)
        await told.answered(one)
        assert told.peer.scripted.seen == [one, two]
        told.come(two)
        await told.answered(two)
        assert told.peer.scripted.seen == [one, two, three]


async def test_an_answer_is_sent_when_it_is_there_though_the_next_is_not() -> None:
    async with story() as told:
        one, two = LATE + b"1", LATE + b"2"
        await told.send(one, two)
        told.come(one)
        await told.answered(one)
        told.come(two)
        await told.answered(two)
        await told.send(AT_ONCE)
        await told.answered(AT_ONCE)


async def test_what_is_no_produce_waits_for_all_before_it() -> None:
    async with story() as told:
        one = LATE + b"1"
        await told.send(one, OTHER)
        assert told.peer.scripted.seen == [one]
        told.come(one)
        await told.answered(one, OTHER)


async def test_so_many_are_carried_out_ahead_and_no_more() -> None:
    async with story() as told:
        frames = [LATE + b"%d" % number for number in range(AHEAD_MAX + 3)]
        await told.send(*frames)
        assert told.peer.scripted.seen == frames[:AHEAD_MAX]
        for have, frame in enumerate(frames):
            told.come(frame)
            await told.answered(frame)
            assert told.peer.scripted.seen == frames[: AHEAD_MAX + have + 1]


@pytest.mark.simulated_time
async def test_time_is_up_for_each_in_its_turn() -> None:
    async with story(limit_s=2.0) as told:
        one, two = LATE + b"1", LATE + b"2"
        await told.send(one, two)
        told.come(two)
        await trio.sleep(1.9)
        await told.answered()
        await trio.sleep(0.2)
        await told.answered(b"timed out", two)


async def test_who_waits_is_not_idle() -> None:
    async with story() as told:
        one = LATE + b"1"
        await told.send(one)
        assert told.peer.connection.answering
        told.come(one)
        await told.answered(one)
        assert not told.peer.connection.answering


async def test_who_has_sent_all_is_told_what_there_is() -> None:
    async with story() as told:
        one, two, three = LATE + b"1", LATE + b"2", AT_ONCE
        await told.send(one, two, three)
        told.come(two)
        await told.peer.stream.send_eof()
        await told.answered(b"timed out", two, three)
        await told.peer.ended.wait()


async def test_after_one_without_an_answer_nothing_is_answered() -> None:
    async with story() as told:
        one, silent, three = LATE + b"1", SILENT, LATE + b"3"
        await told.send(one, silent, three)
        for frame in (three, silent, one):
            told.come(frame)
        await told.answered(one)
        await told.peer.ended.wait()


async def test_a_peer_that_leaves_ends_it() -> None:
    async with story() as told:
        await told.send(LATE + b"1", LATE + b"2")
        await told.peer.stream.aclose()
        await told.peer.ended.wait()

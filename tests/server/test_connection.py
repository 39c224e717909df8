"""A connection's promises: order, bounded reading, and what the end of the stream does and does not end."""

from __future__ import annotations

import logging
import struct
from collections.abc import Awaitable, Callable, Sequence

import pytest
import trio
from trio.testing import lockstep_stream_pair, memory_stream_pair

from kpybroker.clock import Clock
from kpybroker.handlers.context import Client, CloseConnection
from kpybroker.security.principal import ANONYMOUS
from kpybroker.seldom import SeldomLog
from kpybroker.server.connection import READ_AHEAD_BYTES, Connection
from kpybroker.server.dispatch import NotServed
from kpybroker.server.idle import IdleConnections
from kpybroker.server.transport import Part, StreamTransport
from kpybroker.wire.frames import FrameReader

Work = Callable[[bytes, Connection], Awaitable[list[bytes] | None]]


class Scripted:
    """Stands in for the dispatcher: carries out frames with a function of the test."""

    def __init__(self, work: Work) -> None:
        self.work = work
        self.seen: list[bytes] = []

    async def answer(self, frame: memoryview, client: Client, connection: Connection) -> list[bytes] | None:  # noqa: ARG002
        self.seen.append(bytes(frame))
        return await self.work(bytes(frame), connection)


def framed(*bodies: bytes) -> bytes:
    return b"".join(struct.pack(">i", len(body)) + body for body in bodies)


async def echo(frame: bytes, connection: Connection) -> list[bytes]:
    return [framed(frame)]


class Sending(StreamTransport):
    """Notes the parts of each send."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        super().__init__(stream)
        self.sends: list[list[Part]] = []

    async def send(self, parts: Sequence[Part]) -> None:
        self.sends.append(list(parts))
        await super().send(parts)


class Peer:
    """The two ends of a connection that runs in a nursery."""

    def __init__(self, nursery: trio.Nursery, work: Work, idle_s: float = -1) -> None:
        self.stream, theirs = memory_stream_pair()
        self.scripted = Scripted(work)
        self.idle = IdleConnections(idle_s)
        client = Client(listener="PLAINTEXT", host="test", port=1, principal=ANONYMOUS)
        say = SeldomLog(logging.getLogger("kpybroker.server"), Clock())
        reader = FrameReader(1_000_000)
        self.transport = Sending(theirs)
        self.connection = Connection(self.transport, client, self.scripted, reader, self.idle, say)
        self.ended = trio.Event()
        nursery.start_soon(self._run)

    async def _run(self) -> None:
        await self.connection.run()
        self.ended.set()

    async def receive(self, size: int) -> bytes:
        data = b""
        while len(data) < size and (more := await self.stream.receive_some(size - len(data))):
            data += more
        return data


async def test_requests_are_answered_in_order() -> None:
    async with trio.open_nursery() as nursery:
        peer = Peer(nursery, echo)
        requests = framed(b"one", b"two", b"three")
        await peer.stream.send_all(requests)
        assert await peer.receive(len(requests)) == requests
        await peer.stream.aclose()
        await peer.ended.wait()


async def test_what_was_received_before_the_end_is_carried_out() -> None:
    async with trio.open_nursery() as nursery:

        async def no_answer(frame: bytes, connection: Connection) -> None:
            await trio.lowlevel.checkpoint()

        peer = Peer(nursery, no_answer)
        await peer.stream.send_all(framed(b"one", b"two") + b"\0\0\0\x09part")
        await peer.stream.aclose()
        await peer.ended.wait()
        assert peer.scripted.seen == [b"one", b"two"]


async def test_the_end_of_the_stream_ends_a_wait_and_nothing_else() -> None:
    async with trio.open_nursery() as nursery:
        outcomes: list[bool] = []
        waiting = trio.Event()

        async def wait(frame: bytes, connection: Connection) -> None:
            waiting.set()
            outcomes.append(await connection.wait(trio.Event(), 1e6))

        peer = Peer(nursery, wait)
        await peer.stream.send_all(framed(b"one", b"two"))
        await waiting.wait()
        await peer.stream.aclose()
        await peer.ended.wait()
        assert peer.scripted.seen == [b"one", b"two"]
        assert outcomes == [False, False]


async def test_an_event_ends_a_wait_and_what_came_meanwhile_is_next() -> None:
    async with trio.open_nursery() as nursery:
        event, waiting = trio.Event(), trio.Event()

        async def wait(frame: bytes, connection: Connection) -> list[bytes]:
            waiting.set()
            assert await connection.wait(event, 1e6)
            return [framed(frame)]

        peer = Peer(nursery, wait)
        await peer.stream.send_all(framed(b"one"))
        await waiting.wait()
        await peer.stream.send_all(framed(b"two"))
        event.set()
        assert await peer.receive(14) == framed(b"one", b"two")
        await peer.stream.aclose()


@pytest.mark.simulated_time
async def test_a_wait_has_its_limit() -> None:
    async with trio.open_nursery() as nursery:

        async def wait(frame: bytes, connection: Connection) -> list[bytes]:
            started = trio.current_time()
            assert not await connection.wait(trio.Event(), 7)
            assert trio.current_time() - started == pytest.approx(7)
            return [framed(frame)]

        peer = Peer(nursery, wait)
        await peer.stream.send_all(framed(b"one"))
        assert await peer.receive(7) == framed(b"one")
        await peer.stream.aclose()


PRODUCE, OTHER = b"\x00\x00 produce", b"\x00\x03 metadata"


async def test_answers_of_produce_requests_that_came_together_leave_together() -> None:
    async with trio.open_nursery() as nursery:
        peer = Peer(nursery, echo)
        requests = framed(PRODUCE, PRODUCE, PRODUCE, OTHER, PRODUCE)
        await peer.stream.send_all(requests)
        assert await peer.receive(len(requests)) == requests
        await peer.stream.aclose()
        await peer.ended.wait()
    three, two = [framed(PRODUCE)] * 3, [framed(OTHER), framed(PRODUCE)]
    assert peer.transport.sends == [three, two]


async def test_no_answer_waits_for_a_request_that_waits() -> None:
    done = trio.Event()

    async def work(frame: bytes, connection: Connection) -> list[bytes]:
        if frame != PRODUCE:
            await connection.wait(done, 1000)
        return [framed(frame)]

    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            peer = Peer(nursery, work)
            slow = PRODUCE + b" with acks=all"
            await peer.stream.send_all(framed(PRODUCE, slow))
            assert await peer.receive(len(framed(PRODUCE))) == framed(PRODUCE)
            done.set()
            assert await peer.receive(len(framed(slow))) == framed(slow)
            await peer.stream.aclose()
            await peer.ended.wait()


async def test_what_ends_a_connection_does_not_swallow_earlier_answers() -> None:
    async def work(frame: bytes, connection: Connection) -> list[bytes]:
        if frame != PRODUCE:
            raise NotServed("a test")
        return [framed(frame)]

    async with trio.open_nursery() as nursery:
        peer = Peer(nursery, work)
        await peer.stream.send_all(framed(PRODUCE, PRODUCE + b" of no version"))
        assert await peer.receive(len(framed(PRODUCE))) == framed(PRODUCE)
        await peer.ended.wait()


async def test_a_peer_that_left_is_noticed_before_a_wait_and_the_wait_is_over() -> None:
    ended_early = trio.Event()

    async def work(frame: bytes, connection: Connection) -> list[bytes]:
        if frame != PRODUCE and not await connection.wait(trio.Event(), 1000):
            ended_early.set()
        return [framed(frame)]

    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            peer = Peer(nursery, work)
            await peer.stream.send_all(framed(PRODUCE, PRODUCE + b" with acks=all"))
            await peer.stream.aclose()
            await ended_early.wait()
            await peer.ended.wait()


class Late:
    """An answer that comes when the test says so."""

    def __init__(self) -> None:
        self.answered = False
        self.wake: Callable[[], None] | None = None

    def come(self) -> None:
        self.answered = True
        if self.wake is not None:
            self.wake()


async def test_waiting_for_an_answer_ends_when_the_peer_leaves() -> None:
    async with trio.open_nursery() as nursery:
        waiting = trio.Event()
        went_on: list[bytes] = []

        async def wait(frame: bytes, connection: Connection) -> None:
            waiting.set()
            await connection.wait_answer(Late())
            went_on.append(frame)

        peer = Peer(nursery, wait)
        await peer.stream.send_all(framed(b"one"))
        await waiting.wait()
        await peer.stream.aclose()
        await peer.ended.wait()
        assert went_on == []


@pytest.mark.parametrize("pipelined", [0, 1, 200])
async def test_an_answer_ends_its_wait_and_what_came_meanwhile_is_next(pipelined: int) -> None:
    async with trio.open_nursery() as nursery:
        late = Late()

        async def wait(frame: bytes, connection: Connection) -> list[bytes]:
            await connection.wait_answer(late)
            return [framed(frame)]

        peer = Peer(nursery, wait)
        frames = framed(b"one", *[bytes(1000)] * pipelined)
        nursery.start_soon(peer.stream.send_all, frames)
        await trio.testing.wait_all_tasks_blocked()
        assert peer.connection._reader.buffered_bytes <= 2 * READ_AHEAD_BYTES
        late.come()
        assert await peer.receive(len(frames)) == frames
        await peer.stream.aclose()


async def test_a_peer_that_pipelines_without_end_is_not_read_without_end() -> None:
    async with trio.open_nursery() as nursery:
        waiting = trio.Event()

        async def wait(frame: bytes, connection: Connection) -> None:
            waiting.set()
            await connection.wait(trio.Event(), 1e6)

        peer = Peer(nursery, wait)
        frame = framed(bytes(1000))
        await peer.stream.send_all(frame)
        await waiting.wait()
        for _ in range(200):
            await peer.stream.send_all(frame)
        await trio.testing.wait_all_tasks_blocked()
        assert peer.connection._reader.buffered_bytes <= 2 * READ_AHEAD_BYTES
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("reason", [NotServed("what is that"), CloseConnection()])
async def test_a_request_without_an_answer_ends_the_connection(reason: Exception) -> None:
    async with trio.open_nursery() as nursery:

        async def refuse(frame: bytes, connection: Connection) -> None:
            raise reason

        peer = Peer(nursery, refuse)
        await peer.stream.send_all(framed(b"one", b"two"))
        await peer.ended.wait()
        assert peer.scripted.seen == [b"one"]
        assert await peer.stream.receive_some() == b""


async def test_an_absurd_size_ends_the_connection(caplog: pytest.LogCaptureFixture) -> None:
    async with trio.open_nursery() as nursery:
        peer = Peer(nursery, echo)
        await peer.stream.send_all(struct.pack(">i", 1_000_001))
        await peer.ended.wait()
    assert "frame of 1000001 bytes" in caplog.text
    assert "test:1" in caplog.text


@pytest.mark.simulated_time
async def test_an_idle_connection_is_closed_a_busy_one_is_not() -> None:
    async with trio.open_nursery() as nursery:

        async def work(frame: bytes, connection: Connection) -> list[bytes]:
            await trio.sleep(35)
            return [framed(frame)]

        peer = Peer(nursery, work, idle_s=10)
        nursery.start_soon(peer.idle.run)
        await trio.sleep(5)
        await peer.stream.send_all(framed(b"one"))
        assert await peer.receive(7) == framed(b"one")
        answered = trio.current_time()
        assert answered == pytest.approx(40)
        await peer.ended.wait()
        assert trio.current_time() - answered == pytest.approx(10)
        nursery.cancel_scope.cancel()


@pytest.mark.simulated_time
async def test_a_muted_connection_is_not_read_until_its_pause_is_over() -> None:
    """The answer goes out at once (KIP-219); what had been sent meanwhile is next."""
    async with trio.open_nursery() as nursery:
        times: list[float] = []

        async def mute(frame: bytes, connection: Connection) -> list[bytes]:
            times.append(trio.current_time())
            connection.mute(30_000)
            return [framed(frame)]

        peer = Peer(nursery, mute, idle_s=100)
        nursery.start_soon(peer.idle.run)
        await peer.stream.send_all(framed(b"one", b"two"))
        assert await peer.receive(7) == framed(b"one")
        assert trio.current_time() == times[0]
        assert await peer.receive(7) == framed(b"two")
        assert times[1] - times[0] == pytest.approx(30)
        nursery.cancel_scope.cancel()


@pytest.mark.simulated_time
async def test_a_pause_that_is_longer_than_a_connection_may_be_idle_ends_it() -> None:
    async with trio.open_nursery() as nursery:

        async def mute(frame: bytes, connection: Connection) -> list[bytes]:
            connection.mute(10_000_000)
            return [framed(frame)]

        peer = Peer(nursery, mute, idle_s=100)
        nursery.start_soon(peer.idle.run)
        await peer.stream.send_all(framed(b"one"))
        started = trio.current_time()
        await peer.ended.wait()
        assert trio.current_time() - started == pytest.approx(100)
        nursery.cancel_scope.cancel()


async def test_a_peer_that_sends_ahead_does_not_keep_others_waiting() -> None:
    async with trio.open_nursery() as nursery:
        order: list[bytes] = []
        began = trio.Event()

        async def note(frame: bytes, connection: Connection) -> None:
            began.set()
            order.append(frame)

        async def send_modestly() -> None:
            await began.wait()
            await modest.stream.send_all(framed(b"modest"))

        greedy, modest = Peer(nursery, note), Peer(nursery, note)
        nursery.start_soon(send_modestly)
        await greedy.stream.send_all(framed(*[b"greedy"] * 500))
        await trio.testing.wait_all_tasks_blocked()
        assert len(order) == 501
        assert order.index(b"modest") < 100
        nursery.cancel_scope.cancel()


@pytest.mark.simulated_time
async def test_a_peer_that_does_not_read_its_answer_is_closed_when_it_has_been_idle() -> None:
    async with trio.open_nursery() as nursery:
        ours, theirs = lockstep_stream_pair()
        idle = IdleConnections(100)
        nursery.start_soon(idle.run)
        client = Client(listener="PLAINTEXT", host="test", port=1, principal=ANONYMOUS)
        say = SeldomLog(logging.getLogger("kpybroker.server"), Clock())
        connection = Connection(StreamTransport(theirs), client, Scripted(echo), FrameReader(1000), idle, say)
        ended = trio.Event()

        async def run() -> None:
            await connection.run()
            ended.set()

        nursery.start_soon(run)
        started = trio.current_time()
        await ours.send_all(framed(b"one"))
        await ended.wait()
        assert trio.current_time() - started == pytest.approx(100)
        nursery.cancel_scope.cancel()

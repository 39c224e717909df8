"""A connection to another node: what becomes of a request when the node, or what it says, is not as it should be."""

from __future__ import annotations

import struct
from collections.abc import Awaitable, Callable
from functools import partial

import pytest
import trio
import trio.testing

from kpybroker.peers.channel import Channel, PeerGone, PeerRefused, PeerTooOld, is_refused
from kpybroker.wire.api_keys import APIS, ApiKey
from kpybroker.wire.codec import encode
from kpybroker.wire.frames import FrameReader, frame_header
from kpybroker.wire.headers import RequestStart, ResponseHeader, parse_request_header
from kpybroker.wire.messages.api_versions import ApiVersion, ApiVersionsResponse
from kpybroker.wire.messages.heartbeat import HeartbeatRequest, HeartbeatResponse
from kpybroker.wire.schema import Message

simulated = pytest.mark.simulated_time

HEARTBEAT = HeartbeatRequest(group_id="g", generation_id=1, member_id="m")
ADDRESS = ("peer", 9092)


class Peer:
    """What answers at the other end, one step for each request that it gets."""

    def __init__(self, *steps: Callable[[Peer, RequestStart], Awaitable[None]]) -> None:
        self.steps = list(steps)
        self.seen: list[tuple[int, int]] = []
        self.connections = 0
        self.stream: trio.abc.Stream

    async def connector(self, nursery: trio.Nursery, _host: str, _port: int) -> trio.abc.Stream:
        ours, theirs = trio.testing.memory_stream_pair()
        self.connections += 1
        nursery.start_soon(self.serve, theirs)
        return ours

    async def serve(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        reader = FrameReader(1 << 20)
        try:
            while data := await stream.receive_some(4096):
                reader.feed(data)
                while (frame := reader.next_frame()) is not None:
                    start = parse_request_header(frame)
                    self.seen.append((start.api_key, start.api_version))
                    await self.steps.pop(0)(self, start)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass

    async def send(self, data: bytes) -> None:
        await self.stream.send_all(data)


def framed(start: RequestStart, response: Message, version: int | None = None, off: int = 0) -> bytes:
    api = APIS[start.api_key]
    version = start.api_version if version is None else version
    header = encode(ResponseHeader(correlation_id=start.correlation_id + off), api.response_header_version(version))
    body = header + encode(response, version)
    return frame_header(len(body)) + body


def versions(**ranges: tuple[int, int]) -> Callable[[Peer, RequestStart], Awaitable[None]]:
    async def step(peer: Peer, start: RequestStart) -> None:
        keys = [ApiVersion(api_key=ApiKey[n], min_version=a, max_version=b) for n, (a, b) in ranges.items()]
        await peer.send(framed(start, ApiVersionsResponse(error_code=0, api_keys=keys)))

    return step


KNOWS = versions(HEARTBEAT=(0, 4), API_VERSIONS=(0, 4))


async def answer(peer: Peer, start: RequestStart) -> None:
    await peer.send(framed(start, HeartbeatResponse(error_code=27)))


async def hang_up(peer: Peer, start: RequestStart) -> None:
    await peer.stream.aclose()


async def silence(peer: Peer, start: RequestStart) -> None:
    pass


def raw(data: bytes) -> Callable[[Peer, RequestStart], Awaitable[None]]:
    return lambda peer, _: peer.send(data)


async def another(peer: Peer, start: RequestStart) -> None:
    await peer.send(framed(start, HeartbeatResponse(error_code=0), off=1))


def channel(peer: Peer, nursery: trio.Nursery, *, negotiate: bool = True) -> Channel:
    return Channel(lambda: ADDRESS, client_id="me", connector=partial(peer.connector, nursery), negotiate=negotiate)


async def ask(channel: Channel, **how: int) -> int:
    response = await channel.ask(HEARTBEAT, HeartbeatResponse, timeout_s=how.pop("timeout_s", 5), **how)
    return response.error_code


@simulated
async def test_versions_are_asked_for_once_a_connection() -> None:
    peer = Peer(versions(HEARTBEAT=(0, 3)), answer, answer)
    async with trio.open_nursery() as nursery:
        to = channel(peer, nursery)
        assert [await ask(to), await ask(to)] == [27, 27]
        assert peer.seen == [(18, 4), (12, 3), (12, 3)]
        assert peer.connections == 1
        to.close()


@simulated
async def test_a_version_that_is_given() -> None:
    peer = Peer(answer)
    async with trio.open_nursery() as nursery:
        to = channel(peer, nursery, negotiate=False)
        assert await ask(to, version=2) == 27
        assert peer.seen == [(12, 2)]
        to.close()


@pytest.mark.parametrize(
    "knows",
    [
        pytest.param(versions(HEARTBEAT=(5, 9)), id="no common version"),
        pytest.param(versions(VOTE=(0, 2)), id="no such API"),
    ],
)
@simulated
async def test_no_common_version(knows: Callable[[Peer, RequestStart], Awaitable[None]]) -> None:
    peer = Peer(knows)
    async with trio.open_nursery() as nursery:
        to = channel(peer, nursery)
        for _ in range(2):
            with pytest.raises(PeerTooOld):
                await ask(to)
        assert peer.connections == 1
        to.close()


@simulated
async def test_an_old_peer_tells_its_range() -> None:
    async def unsupported(peer: Peer, start: RequestStart) -> None:
        only = [ApiVersion(api_key=ApiKey.API_VERSIONS, min_version=0, max_version=3)]
        await peer.send(framed(start, ApiVersionsResponse(error_code=35, api_keys=only), version=0))

    peer = Peer(unsupported, versions(HEARTBEAT=(0, 1)), answer)
    async with trio.open_nursery() as nursery:
        to = channel(peer, nursery)
        assert await ask(to) == 27
        assert peer.seen == [(18, 4), (18, 3), (12, 1)]
        to.close()


@pytest.mark.parametrize(
    ("step", "why"),
    [
        pytest.param(hang_up, "closed", id="closed"),
        pytest.param(silence, "did not answer", id="silent"),
        pytest.param(another, "another request", id="another's answer"),
        pytest.param(raw(b"HTTP/1.1 400 Bad Request"), "frame of", id="no Kafka"),
        pytest.param(raw(struct.pack(">i", -3)), "frame of -3", id="negative length"),
        pytest.param(raw(struct.pack(">i", 0x7FFFFFFF)), "frame of", id="absurd length"),
        pytest.param(raw(struct.pack(">ii", 4, 2)), "ResponseHeader", id="cut short in the header"),
        pytest.param(raw(struct.pack(">iib", 5, 2, 0)), "HeartbeatResponse", id="cut short in the body"),
        pytest.param(raw(struct.pack(">i", 2) + b"ab"), "ResponseHeader", id="too short for a header"),
    ],
)
@simulated
async def test_no_answer_ends_the_connection(step: Callable[[Peer, RequestStart], Awaitable[None]], why: str) -> None:
    peer = Peer(KNOWS, step, KNOWS, answer)
    async with trio.open_nursery() as nursery:
        to = channel(peer, nursery)
        with pytest.raises(PeerGone, match=why):
            await ask(to)
        assert not to.connected
        assert await ask(to) == 27, "the next request connects anew"
        assert peer.connections == 2
        to.close()


@simulated
async def test_one_that_is_cancelled_takes_its_connection_with_it() -> None:
    peer = Peer(KNOWS, silence, KNOWS, answer)
    async with trio.open_nursery() as nursery:
        to = channel(peer, nursery)
        with trio.move_on_after(1):
            await ask(to)
        assert not to.connected
        assert await ask(to) == 27
        to.close()


@simulated
async def test_waiting_for_its_turn_breaks_nothing() -> None:
    async def slow(peer: Peer, start: RequestStart) -> None:
        await trio.sleep(3)
        await answer(peer, start)

    peer = Peer(KNOWS, slow, answer)
    async with trio.open_nursery() as nursery:
        to = channel(peer, nursery)
        nursery.start_soon(ask, to)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(PeerGone):
            await ask(to, timeout_s=1)
        assert await ask(to) == 27
        assert peer.connections == 1
        to.close()


async def test_nowhere_to_go() -> None:
    with pytest.raises(PeerGone, match="nobody knows"):
        await ask(Channel(lambda: None, client_id="me"))


@simulated
async def test_a_peer_that_has_moved() -> None:
    peer, places = Peer(KNOWS, answer, KNOWS, answer), [ADDRESS, ADDRESS, ("elsewhere", 1)]
    async with trio.open_nursery() as nursery:
        to = Channel(lambda: places[0], client_id="me", connector=partial(peer.connector, nursery))
        await ask(to)
        places.pop(0)
        places.pop(0)
        await ask(to)
        assert peer.connections == 2
        to.close()


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "after an answer"])
@simulated
async def test_a_connection_that_breaks_while_idle(busy: bool) -> None:
    peer, told = Peer(KNOWS, *[answer] * (1 + busy)), trio.Event()
    async with trio.open_nursery() as nursery:
        to = channel(peer, nursery)
        to.lost = told.set
        nursery.start_soon(to.watch)
        for _ in range(1 + busy):
            await ask(to)
            await trio.testing.wait_all_tasks_blocked()
        assert not told.is_set()
        await peer.stream.aclose()
        await told.wait()
        assert not to.connected
        nursery.cancel_scope.cancel()


async def test_real_sockets() -> None:
    peer, told = Peer(KNOWS, answer, answer, KNOWS, answer), trio.Event()
    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(partial(trio.serve_tcp, peer.serve, 0, host="127.0.0.1"))
        port = listener.socket.getsockname()[1]
        to = Channel(lambda: ("127.0.0.1", port), client_id="me")
        watching = await nursery.start(_watched, to, told)
        assert [await ask(to), await ask(to)] == [27, 27]
        await peer.stream.aclose()
        await told.wait()
        watching.cancel()
        assert await ask(to) == 27
        await peer.stream.aclose()
        peer.steps += [KNOWS, answer]
        assert await ask(to) == 27, "what has ended meanwhile is noticed before a request is lost in it"
        assert not await is_refused("127.0.0.1", port, timeout_s=5)
        to.close()
        nursery.cancel_scope.cancel()
    with pytest.raises(PeerRefused):
        await ask(to)
    assert await is_refused("127.0.0.1", port, timeout_s=5)


async def _watched(
    to: Channel, told: trio.Event, task_status: trio.TaskStatus[trio.CancelScope] = trio.TASK_STATUS_IGNORED
) -> None:
    to.lost = told.set
    with trio.CancelScope() as scope:
        task_status.started(scope)
        await to.watch()

"""A plain socket as a connection's other end."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
import trio
import trio.testing

from kpybroker.server.transport import AT_ONCE_MAX, SocketTransport
from kpybroker.wire.frames import FrameReader


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


async def test_what_is_there_is_taken_without_asking_the_event_loop(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    theirs.sendall(b"x" * 10)
    transport, reader = SocketTransport(ours), FrameReader(1000)
    with trio.CancelScope() as scope:
        scope.cancel()  # whoever asked the loop would be cancelled
        assert await transport.receive(reader)
    assert reader.buffered_bytes == 10


async def test_a_peer_that_never_pauses_does_not_starve_others(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    transport, turns = SocketTransport(ours), 0

    async def others() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(others)
        await trio.lowlevel.checkpoint()
        for _ in range(10 * AT_ONCE_MAX):
            theirs.sendall(b"x")
            assert await transport.receive(FrameReader(1000))
        nursery.cancel_scope.cancel()
    assert turns >= 8  # nine waits; in the last turn others may come second, and too late


async def test_an_empty_socket_is_waited_for(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    transport, reader = SocketTransport(ours), FrameReader(1000)

    async def later() -> None:
        await trio.testing.wait_all_tasks_blocked()
        theirs.sendall(b"later")
        theirs.close()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(later)
        assert await transport.receive(reader)
    assert reader.buffered_bytes == 5
    assert not await transport.receive(reader)

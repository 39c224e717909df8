"""A plain socket as a connection's other end."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
import trio.testing

from kpybroker.server.transport import AT_ONCE_MAX, COALESCE_BYTES, PeerGone, SocketTransport, StreamTransport
from kpybroker.storage.errors import StorageFailed
from kpybroker.storage.files import RealFiles
from kpybroker.storage.region import FileRegion, SharedFile
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


def test_what_is_there_is_taken_now_and_nothing_is_waited_for(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    transport, reader = SocketTransport(ours), FrameReader(1000)
    assert not transport.receive_now(reader)
    theirs.sendall(b"x" * 10)
    assert transport.receive_now(reader)
    assert reader.buffered_bytes == 10
    theirs.close()
    assert not transport.receive_now(reader)


def test_no_more_is_taken_now_than_in_a_turn(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    transport, taken = SocketTransport(ours), 0
    theirs.sendall(b"x")
    while transport.receive_now(FrameReader(1000)):
        taken += 1
        theirs.sendall(b"x")
    assert taken == AT_ONCE_MAX


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


@pytest.mark.parametrize("error", [errno.EIO, errno.ECONNRESET], ids=errno.errorcode.get)
async def test_a_disk_that_fails_under_an_answer_is_not_taken_for_the_peer(
    pair: tuple[socket.socket, socket.socket], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    def failing(*_: object) -> int:
        raise OSError(error, os.strerror(error))

    file = RealFiles().open(tmp_path / "log", create=True)
    file.write_at(0, bytes(COALESCE_BYTES + 1))
    shared = SharedFile(file)
    region = FileRegion(shared, 0, COALESCE_BYTES + 1)
    monkeypatch.setattr(os, "sendfile", failing)
    with pytest.raises(StorageFailed if error == errno.EIO else PeerGone):
        await SocketTransport(pair[0]).send([b"head", region])
    region.release()
    shared.release()


async def test_a_small_region_goes_with_what_stands_before_it(
    pair: tuple[socket.socket, socket.socket], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "sendfile")
    file = RealFiles().open(tmp_path / "log", create=True)
    file.write_at(0, b"0123456789")
    shared = SharedFile(file)
    region = FileRegion(shared, 2, 5)
    transport = SocketTransport(pair[0])
    await transport.send([b"head", region, b"tail"])
    assert pair[1].recv(100) == b"head23456tail"
    shared.truncated()
    with pytest.raises(PeerGone):
        await transport.send([b"head", region])
    region.release()
    shared.release()


async def test_any_stream_is_sent_a_region(tmp_path: Path) -> None:
    file = RealFiles().open(tmp_path / "log", create=True)
    file.write_at(0, b"0123456789")
    shared = SharedFile(file)
    ours, theirs = trio.testing.memory_stream_pair()
    region = FileRegion(shared, 2, 5)
    await StreamTransport(ours).send([b"head", region])
    region.release()
    assert await theirs.receive_some(100) == b"head23456"
    shared.release()

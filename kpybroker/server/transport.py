"""The two ends a connection can have: a plain socket (sendfile), or any stream (TLS, simulation).

Both receive into a FrameReader and send a reply: a list of bytes, memoryviews and file regions.
"""

import errno
import os
import socket
from collections.abc import Callable, Sequence
from struct import Struct
from typing import Protocol, TypeAlias

import trio

from kpybroker.storage.region import FileRegion
from kpybroker.wire.frames import FrameReader
from kpybroker.wire.primitives import Region

Buffer: TypeAlias = bytes | memoryview
Part: TypeAlias = Buffer | Region
"""A reply is a list of these; the one kind of region that a node sends is storage's FileRegion."""

RECEIVE_BYTES = 64 * 1024
COALESCE_BYTES = 32 * 1024
"""Parts up to this size in all are joined for one send; larger ones are handed to the kernel as they are."""
PARTS_MAX = 512
"""Buffers handed to one sendmsg (IOV_MAX is 1024)."""
READ_STEP_BYTES = 1024 * 1024
AT_ONCE_MAX = 8
"""Receives from one peer, which always has something there, before others have their turn."""

_OF_THE_FILE = {errno.EIO, errno.ENXIO, errno.ENODEV, errno.ESTALE, getattr(errno, "EUCLEAN", errno.EIO)}
"""What sendfile says when it is the disk that failed; anything else is about the socket."""

_RESET = Struct("ii").pack(1, 0)
_MORE_FOLLOWS: int = getattr(socket, "MSG_MORE", 0)
"""Linux's; elsewhere a reply costs a packet more."""


def _nothing() -> None:
    pass


class PeerGone(Exception):
    """The peer closed or reset the connection."""


class Transport(Protocol):
    """What a connection needs of its other end."""

    moved: Callable[[], None]
    """Called whenever the peer has taken a part of what is sent to it, and had let us wait for that."""

    async def receive(self, reader: FrameReader) -> bool:
        """Wait for bytes and hand them to `reader`; False at the end of the stream (a reset counts as one)."""
        ...

    def receive_now(self, reader: FrameReader) -> bool:
        """Hand bytes that are here already to `reader`; whether there were any that others needn't wait for."""
        ...

    async def send(self, parts: Sequence[Part]) -> None:
        """Send all of `parts`. Raises: PeerGone."""
        ...

    async def aclose(self) -> None:
        """Close at once, without a goodbye."""
        ...


class SocketTransport:
    """A connected TCP socket."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._socket = sock
        self._cut_off = False  # an answer was begun, and not sent to its end
        self._taken_at_once = 0  # receives since others had their turn
        self.moved: Callable[[], None] = _nothing

    async def receive(self, reader: FrameReader) -> bool:
        """As Transport.receive. What is there already is taken without asking the loop, so many times in a row."""
        sock = self._socket
        while True:
            if self._taken_at_once >= AT_ONCE_MAX:
                await self._readable()
            try:
                count = sock.recv_into(reader.room())
                self._taken_at_once += 1
            except (BlockingIOError, InterruptedError):
                await self._readable()
                continue
            except OSError:
                return False
            if count:
                reader.received(count)
            return count > 0

    def receive_now(self, reader: FrameReader) -> bool:
        """As Transport.receive_now."""
        if self._taken_at_once >= AT_ONCE_MAX:
            return False
        try:
            count = self._socket.recv_into(reader.room())
        except OSError:  # nothing, or an error, which `receive` hears of too
            return False
        self._taken_at_once += 1
        if count:
            reader.received(count)
        return count > 0

    async def _readable(self) -> None:
        """Wait for more, while others have their turn."""
        self._taken_at_once = 0
        await trio.lowlevel.wait_readable(self._socket)

    async def send(self, parts: Sequence[Part]) -> None:
        """As Transport.send: small parts joined, file regions by sendfile."""
        self._cut_off = True
        try:
            buffers: list[Buffer] = []
            for part in parts:
                if isinstance(part, FileRegion):
                    if len(part) <= COALESCE_BYTES and (data := _read(part)) is not None:
                        buffers.append(data)
                        continue
                    await self._send_buffers(buffers, _MORE_FOLLOWS)
                    buffers = []
                    await self._send_region(part)
                elif isinstance(part, bytes | memoryview):
                    buffers.append(part)
            await self._send_buffers(buffers, 0)
        except OSError as failure:
            raise PeerGone(str(failure)) from failure
        self._cut_off = False

    async def _send_buffers(self, buffers: list[Buffer], flags: int) -> None:
        if not buffers:
            return
        if len(buffers) == 1 or sum(map(len, buffers)) <= COALESCE_BYTES:
            await self._send_one(buffers[0] if len(buffers) == 1 else b"".join(buffers), flags)
            return
        for start in range(0, len(buffers), PARTS_MAX):
            await self._send_many(buffers[start : start + PARTS_MAX], flags)

    async def _send_one(self, data: Buffer, flags: int) -> None:
        try:
            sent = self._socket.send(data, flags)
        except (BlockingIOError, InterruptedError):
            sent = 0
        if sent == len(data):
            return
        rest = memoryview(data)[sent:]
        while rest:
            await trio.lowlevel.wait_writable(self._socket)
            self.moved()
            try:
                rest = rest[self._socket.send(rest, flags) :]
            except (BlockingIOError, InterruptedError):
                continue

    async def _send_many(self, buffers: list[Buffer], flags: int) -> None:
        try:
            sent = self._socket.sendmsg(buffers, (), flags)
        except (BlockingIOError, InterruptedError):
            sent = 0
        for buffer in buffers:
            if sent >= len(buffer):
                sent -= len(buffer)
            else:
                await self._send_one(memoryview(buffer)[sent:], flags)
                sent = 0

    async def _send_region(self, region: FileRegion) -> None:
        if not region.is_warm():
            await trio.to_thread.run_sync(region.warm)
        target, source = self._socket.fileno(), region.fileno()
        position, remaining = region.position, len(region)
        while remaining:
            if region.stale:  # truncated since: its bytes are no longer what was promised
                raise PeerGone("the log was truncated under a reply")
            try:
                count = os.sendfile(target, source, position, remaining)
            except (BlockingIOError, InterruptedError):
                await trio.lowlevel.wait_writable(self._socket)
                self.moved()
                continue
            except OSError as error:
                if error.errno in _OF_THE_FILE:
                    raise region.failed(error) from error
                raise
            if count == 0:
                raise PeerGone(f"{region} is shorter than announced")
            position += count
            remaining -= count

    async def aclose(self) -> None:
        """Close the socket; whoever waits on it is woken with an error.

        A peer that takes no answer is reset: otherwise the kernel keeps what it holds for it, and the connection, until
        the peer reads on.
        """
        if self._cut_off:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        trio.lowlevel.notify_closing(self._socket)
        self._socket.close()


def _read(region: FileRegion) -> memoryview | None:
    """A small region's bytes if they are in memory: to send them with what stands before them costs less than sendfile.

    Raises: PeerGone.
    """
    if region.stale:
        raise PeerGone("the log was truncated under a reply")
    return region.read_warm()


class StreamTransport:
    """Any byte stream of trio's: TLS, or an in-memory stream in a test."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self.moved: Callable[[], None] = _nothing

    async def receive(self, reader: FrameReader) -> bool:
        """As Transport.receive."""
        try:
            data = await self._stream.receive_some(RECEIVE_BYTES)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return False
        if data:
            reader.feed(data)
        return bool(data)

    def receive_now(self, reader: FrameReader) -> bool:  # noqa: ARG002
        """As Transport.receive_now: a stream does not say what it has."""
        return False

    async def send(self, parts: Sequence[Part]) -> None:
        """As Transport.send: regions are read in a worker, a step at a time."""
        try:
            for part in parts:
                if isinstance(part, FileRegion):
                    await self._send_region(part)
                elif isinstance(part, bytes | memoryview):
                    await self._stream.send_all(part)
                    self.moved()
        except (trio.BrokenResourceError, trio.ClosedResourceError) as failure:
            raise PeerGone(str(failure)) from failure

    async def _send_region(self, region: FileRegion) -> None:
        position, end = region.position, region.position + len(region)
        while position < end:
            if region.stale:  # truncated since: its bytes are no longer what was promised
                raise PeerGone("the log was truncated under a reply")
            data = await trio.to_thread.run_sync(region.read, position - region.position, READ_STEP_BYTES)
            if not data:
                raise PeerGone(f"{region} is shorter than announced")
            await self._stream.send_all(data)
            self.moved()
            position += len(data)

    async def aclose(self) -> None:
        """Close without a goodbye."""
        await trio.aclose_forcefully(self._stream)

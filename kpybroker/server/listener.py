"""Sockets that accept: one Listener for each entry of `listeners`."""

from __future__ import annotations

import errno
import logging
import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING

import trio

from kpybroker.handlers.context import Client
from kpybroker.security.principal import ANONYMOUS
from kpybroker.server.connection import Connection
from kpybroker.server.transport import SocketTransport
from kpybroker.wire.frames import FrameReader

if TYPE_CHECKING:
    from kpybroker.seldom import SeldomLog
    from kpybroker.server.dispatch import Dispatcher
    from kpybroker.server.gate import Gate
    from kpybroker.server.idle import IdleConnections

log = logging.getLogger("kpybroker.server")

ACCEPT_PAUSE_S = 0.1
"""How long a listener rests when it cannot accept, for want of file descriptors for example."""
DESCRIPTORS_KEPT = 64
"""File descriptors that connections leave to the logs, and to modules imported late; of few, a quarter of them."""
_NOT_TO_BE = {errno.EAGAIN, errno.EWOULDBLOCK, errno.EINTR, errno.ECONNABORTED, errno.EPROTO, errno.EPERM}
_NOT_TO_BE |= {errno.ENOPROTOOPT, errno.ENETDOWN, errno.ENETUNREACH, errno.EHOSTDOWN, errno.EHOSTUNREACH}
"""What accept says of the one connection that did not come to be (see accept(2)); anything else is about us."""


def bind(host: str, port: int, backlog: int) -> list[socket.socket]:
    """Listening sockets for every address of `host` (empty: all of them), on one port (0: a free one).

    Raises: OSError, as the system puts it.
    """
    addresses = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    sockets: list[socket.socket] = []
    try:
        for family, kind, protocol, _, address in dict.fromkeys(addresses):
            if port == 0 and sockets:  # the same free port on every address
                address = (address[0], sockets[0].getsockname()[1], *address[2:])
            sock = _bound(family, kind, protocol, address, backlog)
            if sock is not None:
                sockets.append(sock)
        if not sockets:
            raise OSError(errno.EADDRNOTAVAIL, f"no address of {host} can be listened on")
    except BaseException:
        for sock in sockets:
            sock.close()
        raise
    return sockets


def _bound(family: int, kind: int, protocol: int, address: Sequence[object], backlog: int) -> socket.socket | None:
    """A listening socket; None if this machine has no such address family (localhost may be ::1 too)."""
    try:
        sock = socket.socket(family, kind, protocol)
    except OSError as failure:
        if failure.errno == errno.EAFNOSUPPORT:
            return None
        raise
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(tuple(address))
        sock.listen(backlog)
    except OSError as failure:
        sock.close()
        if family == socket.AF_INET6 and failure.errno == errno.EADDRNOTAVAIL:
            return None
        raise
    sock.setblocking(False)
    return sock


class Listener:
    """Accepts connections on one named listener and serves each in a task of its own."""

    def __init__(
        self,
        name: str,
        sockets: Sequence[socket.socket],
        dispatcher: Dispatcher,
        idle: IdleConnections,
        frame_bytes_max: int,
        staging: bytearray,
        gate: Gate,
        say: SeldomLog,
    ) -> None:
        self.name = name
        self._sockets = sockets
        self._dispatcher = dispatcher
        self._idle = idle
        self._frame_bytes_max = frame_bytes_max
        self._staging = staging
        self._gate = gate
        self._say = say
        limit = _descriptor_limit()
        self._descriptors_max = limit - min(DESCRIPTORS_KEPT, limit // 4)

    async def run(self, connections: trio.Nursery) -> None:
        """Accept until cancelled; each connection runs in `connections`. Closes the sockets when it ends."""
        try:
            async with trio.open_nursery() as nursery:
                for sock in self._sockets:
                    nursery.start_soon(self._accept, sock, connections)
        finally:
            self.close()

    def close(self) -> None:
        """Stop listening."""
        for sock in self._sockets:
            if sock.fileno() >= 0:
                trio.lowlevel.notify_closing(sock)
                sock.close()

    async def _accept(self, listening: socket.socket, connections: trio.Nursery) -> None:
        while True:
            await trio.lowlevel.wait_readable(listening)
            try:
                sock, address = listening.accept()
            except OSError as failure:
                if failure.errno not in _NOT_TO_BE:
                    await self._rest(str(failure))
                continue
            if sock.fileno() >= self._descriptors_max:
                sock.close()
                await self._rest("nearly all file descriptors are in use, and the logs need some")
                continue
            try:
                admitted = await self._gate.let_in(sock, self.name, address[0], connections)
            except BaseException:
                sock.close()
                raise
            if admitted:
                connections.start_soon(
                    self._serve, sock, address[0], address[1], name=f"connection {address[0]}:{address[1]}"
                )

    async def _rest(self, why: str) -> None:
        self._say(logging.ERROR, (self.name, why), "listener %s cannot accept: %s", self.name, why)
        await trio.sleep(ACCEPT_PAUSE_S)

    async def _serve(self, sock: socket.socket, host: str, port: int) -> None:
        client = Client(listener=self.name, host=host, port=port, principal=ANONYMOUS)
        reader = FrameReader(self._frame_bytes_max, self._staging)
        transport = SocketTransport(sock)
        connection = Connection(transport, client, self._dispatcher, reader, self._idle, self._say)
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        except OSError as gone:
            log.debug("connection from %s closed: %s", connection, gone)
            await transport.aclose()
        else:
            await connection.run()
        finally:
            self._gate.left(connection, self.name, host)


def _descriptor_limit() -> int:
    """How many files the process may have open."""
    try:
        import resource
    except ImportError:  # not on Windows
        return 2**31
    limit: int = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return limit if limit > 0 else 2**31

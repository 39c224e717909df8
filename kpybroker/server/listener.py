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
    from kpybroker.server.dispatch import Dispatcher
    from kpybroker.server.idle import IdleConnections

log = logging.getLogger("kpybroker.server")

ACCEPT_PAUSE_S = 0.1
"""How long a listener rests when the process is out of file descriptors."""
_OUT_OF_DESCRIPTORS = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


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
    ) -> None:
        self.name = name
        self._sockets = sockets
        self._dispatcher = dispatcher
        self._idle = idle
        self._frame_bytes_max = frame_bytes_max
        self._staging = staging

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
                if failure.errno in _OUT_OF_DESCRIPTORS:
                    log.error("listener %s cannot accept: %s", self.name, failure)
                    await trio.sleep(ACCEPT_PAUSE_S)
                # Anything else was about the one connection that did not come to be.
                continue
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            client = Client(listener=self.name, host=address[0], port=address[1], principal=ANONYMOUS)
            reader = FrameReader(self._frame_bytes_max, self._staging)
            connection = Connection(SocketTransport(sock), client, self._dispatcher, reader, self._idle)
            connections.start_soon(connection.run, name=f"connection {client.host}:{client.port}")

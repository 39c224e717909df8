"""A small HTTP/1.1 server for pages that are read by machines: GET of a few paths, one request a connection.

h11 says what the bytes mean; whoever is slow, too long or too many is cut off.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple

import h11
import trio

log = logging.getLogger("kpybroker.metrics")

CONNECTIONS_MAX = 16
REQUEST_BYTES_MAX = 16 * 1024
REQUEST_S_MAX = 10.0
"""From the first byte to the last of the answer."""
_RECEIVED_BYTES = 4096


class Answer(NamedTuple):
    """A page."""

    content_type: str
    body: bytes
    status: int = 200


Page = Callable[[str], Awaitable[Answer]]
"""Gives a page, told what the Accept header says."""


class HttpServer:
    """Pages by their paths."""

    def __init__(self, host: str, port: int, pages: Mapping[str, Page]) -> None:
        self._host = host
        self._port = port
        self._pages = pages
        self._listeners: list[trio.SocketListener] = []
        self._connections = 0

    @property
    def port(self) -> int:
        """Where it listens, once bound."""
        return int(self._listeners[0].socket.getsockname()[1])

    async def bind(self) -> None:
        """Begin to listen. No host: on every interface. Raises: OSError."""
        self._listeners = await trio.open_tcp_listeners(self._port, host=self._host or None)

    async def run(self) -> None:
        """Answer until cancelled."""
        await trio.serve_listeners(self._serve, self._listeners)

    async def _serve(self, stream: trio.SocketStream) -> None:
        if self._connections >= CONNECTIONS_MAX:
            await trio.aclose_forcefully(stream)
            return
        self._connections += 1
        try:
            with trio.move_on_after(REQUEST_S_MAX):
                await self._answer(stream)
        except trio.BrokenResourceError:
            pass  # the peer has gone
        finally:
            self._connections -= 1
            await trio.aclose_forcefully(stream)

    async def _answer(self, stream: trio.SocketStream) -> None:
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=REQUEST_BYTES_MAX)
        head_only = False
        try:
            request = await _request(connection, stream)
            if request is None:
                return
            head_only = request.method == b"HEAD"
            answer = await self._page(request)
        except h11.RemoteProtocolError as wrong:
            answer = _plain(wrong.error_status_hint, str(wrong))
        except Exception:  # a bug of ours: told, and the node goes on
            log.exception("a page failed")
            answer = _plain(500, "a bug of this node; its log has more")
        headers = [
            ("content-type", answer.content_type),
            ("content-length", str(len(answer.body))),
            ("connection", "close"),
        ]
        if answer.status == 405:
            headers.append(("allow", "GET, HEAD"))
        head = h11.Response(status_code=answer.status, headers=headers)
        body = h11.Data(data=b"" if head_only else answer.body)
        for event in (head, body, h11.EndOfMessage()):
            if data := connection.send(event):
                await stream.send_all(data)
        await stream.send_eof()

    async def _page(self, request: h11.Request) -> Answer:
        path = request.target.decode("ascii").partition("?")[0]
        page = self._pages.get(path)
        if page is None:
            return _plain(404, f"there is {', '.join(self._pages)}")
        if request.method not in (b"GET", b"HEAD"):
            return _plain(405, "only GET and HEAD")
        accept = b",".join(value for name, value in request.headers if name == b"accept")
        return await page(accept.decode("latin-1"))


def _plain(status: int, text: str) -> Answer:
    return Answer("text/plain; charset=utf-8", f"{text}\n".encode(), status)


async def _request(connection: h11.Connection, stream: trio.SocketStream) -> h11.Request | None:
    """The head of the request; None if the peer leaves first. Raises: h11.RemoteProtocolError."""
    while True:
        event = connection.next_event()
        if isinstance(event, h11.Request):
            return event
        if isinstance(event, h11.ConnectionClosed):
            return None
        connection.receive_data(await stream.receive_some(_RECEIVED_BYTES))

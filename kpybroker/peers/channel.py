"""A connection to another node, which answers one request at a time.

    channel = Channel(lambda: ("10.0.0.2", 9093), client_id="raft-client-1")
    response = await channel.ask(VoteRequest(...), VoteResponse, timeout_s=2.0)

The connection is made by the first request, and made again by the first one after it was lost, or after the peer has
got another address. Nothing is sent twice: whoever asked hears that the peer is gone and decides. A request that was
cancelled takes its connection with it, since its answer would be taken for the next one's. A request that may wait long
at the peer (a Fetch) holds up what comes after it: those that must not wait have a Channel of their own.
"""

from __future__ import annotations

import select
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import NamedTuple, Protocol, TypeVar, runtime_checkable

import trio

from kpybroker import __version__
from kpybroker.wire.api_keys import APIS, Api, ApiKey
from kpybroker.wire.codec import decode, decode_prefix, encode
from kpybroker.wire.codes import Code
from kpybroker.wire.errors import MalformedMessage, WireError
from kpybroker.wire.frames import FrameReader, frame_header
from kpybroker.wire.headers import RequestHeader, ResponseHeader
from kpybroker.wire.messages.api_versions import ApiVersionsRequest, ApiVersionsResponse
from kpybroker.wire.schema import Message

R = TypeVar("R", bound=Message)

Address = Callable[[], "tuple[str, int] | None"]
"""Where the peer is now; None: nobody knows."""

Connector = Callable[[str, int], Awaitable[trio.abc.Stream]]
"""Makes a connection; raises OSError. The seam for simulation, and where TLS will come in."""

FRAME_BYTES_MAX = 1024 * 1024 * 1024
"""Longer answers are taken for garbage. Memory follows what arrives, not what was announced."""
RECEIVE_BYTES = 64 * 1024

API_VERSIONS_VERSION = 4
"""What Apache Kafka's nodes ask one another with: from it on a feature's least version may be 0."""

SOFTWARE_NAME = "kpybroker"


class PeerGone(Exception):
    """No answer: there is no connection, or it was lost, or the peer was silent for too long."""


class PeerRefused(PeerGone):
    """Nobody listens where the peer should be: its process is dead."""


class PeerTooOld(Exception):
    """The peer does not know the API, or no version of it that we know."""


@runtime_checkable
class _Closeable(Protocol):
    """What else a connector may come with (trio's memory streams)."""

    def close(self) -> None: ...


class _Connection(NamedTuple):
    address: tuple[str, int]
    stream: trio.abc.Stream
    reader: FrameReader


async def connect(host: str, port: int) -> trio.abc.Stream:
    """A TCP connection. Raises: OSError."""
    return await trio.open_tcp_stream(host, port)


class Channel:
    """One connection to one peer, made when it is needed."""

    def __init__(
        self,
        address: Address,
        *,
        client_id: str,
        connector: Connector = connect,
        negotiate: bool = True,
        frame_bytes_max: int = FRAME_BYTES_MAX,
    ) -> None:
        """`negotiate`: ask for the peer's versions first. Without it each request has to say its version."""
        self.lost: Callable[[], None] | None = None
        """Told by `watch` that the connection broke while nobody waited for an answer."""
        self._address = address
        self._client_id = client_id
        self._connector = connector
        self._negotiate = negotiate
        self._frame_bytes_max = frame_bytes_max
        self._connection: _Connection | None = None
        self._versions: Mapping[int, tuple[int, int]] = {}
        self._correlation_id = 0
        self._turn = trio.Lock()
        self._idle = trio.Event()
        self._watching: trio.CancelScope | None = None
        self._unwatched = trio.Event()

    @property
    def connected(self) -> bool:
        """Whether there is a connection, as far as we have heard."""
        return self._connection is not None

    @property
    def versions(self) -> Mapping[int, tuple[int, int]]:
        """What the peer serves, least and greatest version by API; empty while there is no connection."""
        return {} if self._connection is None else self._versions

    async def ask(
        self, request: Message, response_class: type[R], *, version: int | None = None, timeout_s: float
    ) -> R:
        """The peer's answer. `version`: at that one; None: at the greatest that both know.

        `timeout_s` is for all of it: its turn, the connection, the answer. Raises: PeerGone, PeerTooOld.
        """
        try:
            with trio.fail_after(timeout_s):
                async with self._turn:
                    return await self._ask(request, response_class, version)
        except trio.TooSlowError:
            raise PeerGone(f"{self._whom()} did not answer {type(request).__name__} in {timeout_s:g} s") from None

    async def version_of(self, key: ApiKey, *, timeout_s: float) -> int:
        """The greatest version of an API that both know, asking the peer if need be. Raises: PeerGone, PeerTooOld."""
        try:
            with trio.fail_after(timeout_s):
                async with self._turn:
                    await self._unwatch()
                    whole = False
                    try:
                        await self._connect()
                        whole = True
                    finally:
                        self._end_of_turn(whole)
        except trio.TooSlowError:
            raise PeerGone(f"{self._whom()} did not answer in {timeout_s:g} s") from None
        return self._version(APIS[key], None)

    async def watch(self) -> None:
        """Tell `lost` whenever the connection breaks while it is idle, until cancelled: a task of whoever cares."""
        while True:
            await self._idle.wait()
            connection = self._connection
            if connection is None or not self._idle.is_set():
                self._idle = trio.Event() if connection is None else self._idle
                continue
            scope = self._watching = trio.CancelScope()
            try:
                with scope:
                    await _until_readable(connection.stream)
            finally:
                self._watching = None
                self._unwatched.set()
            if not scope.cancelled_caught and connection is self._connection:  # the end, or an answer to nothing
                self._drop()
                if self.lost is not None:
                    self.lost()

    def close(self) -> None:
        """Close the connection, if there is one; the next request makes another."""
        self._drop()

    # One at a time

    async def _ask(self, request: Message, response_class: type[R], version: int | None) -> R:
        await self._unwatch()
        whole = False  # of one that was cut off, nobody knows what the next answer would belong to
        try:
            connection = await self._connect()
            api = APIS[request.API_KEY]
            response = await self._round_trip(connection, api, request, response_class, self._version(api, version))
            whole = True
        except PeerTooOld:
            whole = True
            raise
        finally:
            self._end_of_turn(whole)
        return response

    def _end_of_turn(self, whole: bool) -> None:
        if whole:
            self._idle.set()
        else:
            self._drop()

    async def _connect(self) -> _Connection:
        address = self._address()
        if address is None:
            raise PeerGone("nobody knows where to connect to")
        connection = self._connection
        if connection is not None:
            if connection.address == address and not _has_ended(connection.stream):
                return connection
            self._drop()
        try:
            stream = await self._connector(*address)
        except OSError as failure:
            kind = PeerRefused if was_refused(failure) else PeerGone
            raise kind(f"{_text(address)}: {failure.strerror or failure}") from failure
        connection = self._connection = _Connection(address, stream, FrameReader(self._frame_bytes_max))
        if self._negotiate:
            self._versions = {}
            self._versions = await self._ask_versions(connection)
        return connection

    async def _ask_versions(self, connection: _Connection) -> dict[int, tuple[int, int]]:
        api = APIS[ApiKey.API_VERSIONS]
        request = ApiVersionsRequest(client_software_name=SOFTWARE_NAME, client_software_version=__version__)
        version = API_VERSIONS_VERSION
        body = await self._exchange(connection, api, request, version)
        if body[4:6] == Code.UNSUPPORTED_VERSION.to_bytes(
            2, "big"
        ):  # told at version 0, with the range it has (KIP-511)
            told = self._decoded(connection, body, api, ApiVersionsResponse, 0)
            known = {each.api_key: each.max_version for each in told.api_keys}
            version = min(known.get(ApiKey.API_VERSIONS, 0), version)
            body = await self._exchange(connection, api, request, version)
        response = self._decoded(connection, body, api, ApiVersionsResponse, version)
        if response.error_code:
            raise PeerGone(f"{_text(connection.address)} refuses ApiVersions: error {response.error_code}")
        return {each.api_key: (each.min_version, each.max_version) for each in response.api_keys}

    def _version(self, api: Api, version: int | None) -> int:
        if not self._negotiate:
            assert version is not None, f"{api.name}: without negotiation a request says its version"
            return version
        theirs = self._versions.get(api.key)
        if theirs is None:
            raise PeerTooOld(f"{self._whom()} does not know {api.name}")
        least, greatest = _ours(api) if version is None else (version, version)
        common = min(greatest, theirs[1])
        if common < max(least, theirs[0]):
            raise PeerTooOld(f"{self._whom()} knows versions {theirs[0]} to {theirs[1]} of {api.name}")
        return common

    async def _round_trip(
        self, connection: _Connection, api: Api, request: Message, response_class: type[R], version: int
    ) -> R:
        return self._decoded(
            connection, await self._exchange(connection, api, request, version), api, response_class, version
        )

    async def _exchange(self, connection: _Connection, api: Api, request: Message, version: int) -> memoryview:
        """Send a request; the frame that comes back. Raises: PeerGone."""
        self._correlation_id = (self._correlation_id + 1) & 0x7FFF_FFFF
        header = RequestHeader(
            request_api_key=api.key,
            request_api_version=version,
            correlation_id=self._correlation_id,
            client_id=self._client_id,
        )
        head, body = encode(header, api.request_header_version(version)), encode(request, version)
        stream, reader = connection.stream, connection.reader
        try:
            await stream.send_all(b"".join((frame_header(len(head) + len(body)), head, body)))
            while (frame := reader.next_frame()) is None:
                if not await _receive(stream, reader):
                    raise PeerGone(f"{_text(connection.address)} closed the connection")
        except (trio.BrokenResourceError, trio.ClosedResourceError, OSError) as failure:
            why = failure.__cause__ or failure
            raise PeerGone(f"the connection to {_text(connection.address)} was lost: {why}") from failure
        except MalformedMessage as malformed:
            raise PeerGone(f"{_text(connection.address)} answered {malformed}") from malformed
        return frame

    def _decoded(
        self, connection: _Connection, frame: memoryview, api: Api, response_class: type[R], version: int
    ) -> R:
        """The response in a frame. Raises: PeerGone for one that is none, or is another's."""
        try:
            header, body = decode_prefix(ResponseHeader, api.response_header_version(version), frame)
            if header.correlation_id != self._correlation_id:
                raise PeerGone(f"{_text(connection.address)} answered another request")
            return decode(response_class, version, frame[body:])
        except WireError as malformed:
            raise PeerGone(f"{_text(connection.address)} answered {malformed}") from malformed

    # The connection

    async def _unwatch(self) -> None:
        """Take the stream back from `watch`: one task at a time may read it."""
        if not self._idle.is_set():
            return
        self._idle = trio.Event()
        if self._watching is not None:
            self._unwatched = trio.Event()
            self._watching.cancel()
            await self._unwatched.wait()

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            _close(connection.stream)

    def _whom(self) -> str:
        address = self._connection.address if self._connection is not None else self._address()
        return "the peer" if address is None else _text(address)


def _ours(api: Api) -> tuple[int, int]:
    """The versions of an API whose meaning we know: those that are served, on either kind of listener."""
    served = [each for each in (api.served_broker, api.served_controller) if each is not None]
    if not served:
        return api.schema
    return min(least for least, _ in served), max(greatest for _, greatest in served)


async def is_refused(host: str, port: int, *, connector: Connector = connect, timeout_s: float) -> bool:
    """Whether nobody listens there, by trying: False if somebody does, and if nothing is heard in `timeout_s`."""
    with trio.move_on_after(timeout_s):
        try:
            stream = await connector(host, port)
        except OSError as failure:
            return was_refused(failure)
        _close(stream)
    return False


def was_refused(failure: BaseException | None) -> bool:
    """Whether a connection failed because nobody listens; of several addresses, at each of them."""
    if isinstance(failure, BaseExceptionGroup):
        return all(map(was_refused, failure.exceptions))
    if isinstance(failure, ConnectionRefusedError):
        return True
    return failure is not None and failure.__cause__ is not None and was_refused(failure.__cause__)


async def _receive(stream: trio.abc.Stream, reader: FrameReader) -> bool:
    """Hand what comes next to `reader`; False at the end of the stream."""
    if isinstance(stream, trio.SocketStream):  # straight to where a large frame is put together
        count = await stream.socket.recv_into(reader.room())
        if count:
            reader.received(count)
        return count > 0
    data = await stream.receive_some(RECEIVE_BYTES)
    if data:
        reader.feed(data)
    return bool(data)


async def _until_readable(stream: trio.abc.Stream) -> None:
    """Return when something can be read: bytes that nobody asked for, or the end."""
    with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        if isinstance(stream, trio.SocketStream):
            await trio.lowlevel.wait_readable(stream.socket.fileno())
        else:
            await stream.receive_some(1)


def _has_ended(stream: trio.abc.Stream) -> bool:
    """Whether the peer of an idle connection has closed it, asked without waiting: before a request is lost in it."""
    if not isinstance(stream, trio.SocketStream):
        return False
    poll = select.poll()
    poll.register(stream.socket.fileno(), select.POLLIN)
    return bool(poll.poll(0))


def _close(stream: trio.abc.AsyncResource) -> None:
    """Close at once, without a goodbye: also from within a task that is being cancelled."""
    match stream:
        case trio.SocketStream():
            stream.socket.close()
        case trio.SSLStream():
            _close(stream.transport_stream)
        case trio.StapledStream():
            _close(stream.send_stream)
            _close(stream.receive_stream)
        case _Closeable():
            stream.close()


def _text(address: tuple[str, int]) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

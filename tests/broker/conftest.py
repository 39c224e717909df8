"""A broker, and a client that says exactly what a test wants said."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Iterator
from typing import TypeVar

import pytest

from kpybroker.testing import Broker
from kpybroker.wire.api_keys import APIS
from kpybroker.wire.codec import decode, encode
from kpybroker.wire.headers import RequestHeader, ResponseHeader
from kpybroker.wire.schema import Message

M = TypeVar("M", bound=Message)
LIMIT_S = 20.0


class Client:
    """One connection; requests and responses are typed messages, or bytes."""

    def __init__(self, port: int, client_id: str | None = "test") -> None:
        self.socket = socket.create_connection(("localhost", port), timeout=LIMIT_S)
        self.client_id = client_id
        self.correlation_id = 0

    def close(self) -> None:
        self.socket.close()

    def send(self, request: Message, version: int) -> None:
        api = APIS[request.API_KEY]
        self.correlation_id += 1
        header = RequestHeader(
            request_api_key=request.API_KEY,
            request_api_version=version,
            correlation_id=self.correlation_id,
            client_id=self.client_id,
        )
        self.send_frame(encode(header, api.request_header_version(version)) + encode(request, version))

    def send_frame(self, frame: bytes) -> None:
        self.socket.sendall(struct.pack(">i", len(frame)) + frame)

    def receive_frame(self) -> bytes:
        """The next frame; empty at the end of the stream."""
        head = self._receive(4)
        return self._receive(struct.unpack(">i", head)[0]) if head else b""

    def _receive(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            more = self.socket.recv(size - len(data))
            if not more:
                assert not data, "the stream ended within a frame"
                return b""
            data += more
        return bytes(data)

    def receive(self, response_class: type[M], version: int) -> M:
        frame = self.receive_frame()
        assert frame, "the broker closed the connection"
        header_version = APIS[response_class.API_KEY].response_header_version(version)
        size = 4 + header_version
        assert decode(ResponseHeader, header_version, frame[:size]).correlation_id == self.correlation_id
        return decode(response_class, version, frame[size:])

    def ask(self, request: Message, response_class: type[M], version: int) -> M:
        self.send(request, version)
        return self.receive(response_class, version)


@pytest.fixture
def broker() -> Iterator[Broker]:
    with Broker() as broker:
        yield broker


@pytest.fixture
def connect_to() -> Iterator[Callable[[int], Client]]:
    """Makes connections to a port; they are closed when the test ends."""
    clients: list[Client] = []

    def connect_to(port: int) -> Client:
        clients.append(Client(port))
        return clients[-1]

    yield connect_to
    for client in clients:
        client.close()


@pytest.fixture
def connect(broker: Broker, connect_to: Callable[[int], Client]) -> Callable[..., Client]:
    """Makes connections to the broker, or to another port."""
    return lambda port=None: connect_to(broker.port if port is None else port)


@pytest.fixture
def client(connect: Callable[..., Client]) -> Client:
    return connect()

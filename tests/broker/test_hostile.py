"""Requests that make little sense: well-formed ones full of extremes, and damaged ones. Nobody else is disturbed."""

from __future__ import annotations

import gzip
import json
import random
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kpybroker.handlers.finder import HandlerFinder, Side
from kpybroker.testing import Broker
from kpybroker.wire.api_keys import APIS
from kpybroker.wire.codec import encode
from kpybroker.wire.codes import Code
from kpybroker.wire.headers import RequestHeader
from kpybroker.wire.messages.api_versions import ApiVersionsRequest, ApiVersionsResponse

VECTORS = Path(__file__).parents[1] / "data/messages/clients-requests.jsonl.gz"
MUTATIONS = 1500
QUIET_S = 0.25
"""A request that waits (a join, a long poll) has no answer by then; the connection is given up."""


def frames() -> Iterator[tuple[str, bytes]]:
    """Java's request vectors of every API that is served, as frames."""
    finder = HandlerFinder(Side.BROKER)
    names = {f"{APIS[api.key].name}Request": api.key for api, _, _ in finder.advertised()}
    with gzip.open(VECTORS, "rt", encoding="utf-8") as lines:
        for vector in map(json.loads, lines):
            key = names.get(vector["message"])
            first, last = (finder.served(key) or (0, -1)) if key is not None else (0, -1)
            if key is None or not first <= vector["version"] <= last:
                continue
            header = RequestHeader(
                request_api_key=key, request_api_version=vector["version"], correlation_id=1, client_id="hostile"
            )
            head = encode(header, APIS[key].request_header_version(vector["version"]))
            yield f"{vector['message']} v{vector['version']}", head + bytes.fromhex(vector["hex"])


class Peer:
    """Sends frames, and connects anew whenever the broker hangs up or has nothing to say."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.socket: socket.socket | None = None

    def send(self, frame: bytes) -> bool:
        """Whether there was an answer."""
        if self.socket is None:
            self.socket = socket.create_connection(("localhost", self.port), timeout=QUIET_S)
        try:
            self.socket.sendall(struct.pack(">i", len(frame)) + frame)
            head = self.socket.recv(4, socket.MSG_WAITALL)
            if len(head) == 4:
                size = struct.unpack(">i", head)[0]
                while size > 0:
                    size -= len(self.socket.recv(size))
                return True
        except OSError:
            pass
        self.close()
        return False

    def close(self) -> None:
        if self.socket is not None:
            self.socket.close()
            self.socket = None


@pytest.fixture
def hostile(broker: Broker) -> Iterator[Peer]:
    peer = Peer(broker.port)
    yield peer
    peer.close()


def tracebacks(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() + "\n" + str(record.exc_text) for record in caplog.records if record.exc_info]


def test_well_formed_requests_full_of_extremes(client: Any, hostile: Peer, caplog: pytest.LogCaptureFixture) -> None:
    seen = set()
    for name, frame in frames():
        if hostile.send(frame):
            seen.add(name.partition(" ")[0])
    assert tracebacks(caplog) == []
    assert len(seen) >= 20
    alive = ApiVersionsRequest(client_software_name="test", client_software_version="1")
    assert client.ask(alive, ApiVersionsResponse, 4).error_code == Code.NONE


def test_damaged_requests(client: Any, hostile: Peer, caplog: pytest.LogCaptureFixture) -> None:
    chance = random.Random(20261122)
    sound = [frame for _, frame in frames() if len(frame) < 4000 and frame[:2] != b"\0\x0b"]  # joins only wait
    for _ in range(MUTATIONS):
        damaged = bytearray(chance.choice(sound))
        for _ in range(chance.randrange(1, 6)):
            damaged[chance.randrange(4, len(damaged))] = chance.choice((0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)))
        if chance.random() < 0.2:
            del damaged[chance.randrange(8, len(damaged)) :]
        hostile.send(bytes(damaged))
    assert tracebacks(caplog) == []
    alive = ApiVersionsRequest(client_software_name="test", client_software_version="1")
    assert client.ask(alive, ApiVersionsResponse, 4).error_code == Code.NONE


@pytest.fixture
def connect_all(connect: Callable[..., Any]) -> Callable[[int], list[Any]]:
    return lambda count: [connect() for _ in range(count)]


def test_a_flood_of_connections(client: Any, connect_all: Callable[[int], list[Any]]) -> None:
    alive = ApiVersionsRequest(client_software_name="test", client_software_version="1")
    for peer in connect_all(300):
        peer.socket.sendall(b"\0\0\1\0half a frame")
    assert client.ask(alive, ApiVersionsResponse, 4).error_code == Code.NONE

"""Sends what `requests` makes up, and opens connections that behave badly.

    python -m harness.hostile.attack requests ADDRESS COUNT SEED
    python -m harness.hostile.attack connections ADDRESS COUNT SEED

Each is a process of its own, at a low priority: it is not to take the processor from those who are measured. It
ends with one line of JSON that says what it did.
"""

from __future__ import annotations

import json
import os
import random
import selectors
import socket
import struct
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress

from harness.hostile.requests import Hostile, frame_of
from kpybroker.wire.api_keys import ApiKey
from kpybroker.wire.codec import decode, encode
from kpybroker.wire.messages.api_versions import ApiVersionsRequest, ApiVersionsResponse
from kpybroker.wire.messages.metadata import MetadataRequest

PEERS = 3
"""Connections that one process sends requests by, each with one at a time."""
QUIET_S = 0.3
"""What has no answer by then waits for others (a join, a long poll), or is muted: its connection is given up."""
LIMIT_S = 30.0


def connected(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    return socket.create_connection((host, int(port)), timeout=LIMIT_S)


def served_by(address: str) -> dict[int, tuple[int, int]]:
    """The APIs and versions that a broker advertises."""
    request = ApiVersionsRequest(client_software_name="hostile", client_software_version="1")
    frame = frame_of(ApiKey.API_VERSIONS, 4, encode(request, 4))
    with connected(address) as sock, sock.makefile("rb") as reader:
        sock.sendall(struct.pack(">i", len(frame)) + frame)
        (size,) = struct.unpack(">i", reader.read(4))
        answer = decode(ApiVersionsResponse, 4, reader.read(size)[4:])
    return {api.api_key: (api.min_version, api.max_version) for api in answer.api_keys}


class Peer:
    """A connection that has sent one request, and is made anew when the broker hangs up or has nothing to say."""

    def __init__(self, address: str, selector: selectors.BaseSelector) -> None:
        self._address = address
        self._selector = selector
        self._socket: socket.socket | None = None
        self._left = -1
        self.since = 0.0

    def send(self, frame: bytes) -> None:
        if self._socket is None:
            self._socket = connected(self._address)
            self._socket.settimeout(LIMIT_S)
            self._selector.register(self._socket, selectors.EVENT_READ, self)
        self._left = -1
        self.since = time.monotonic()
        with suppress(OSError):  # the answer, or that there is none, says so
            self._socket.sendall(frame)

    def received(self) -> str | None:
        """What became of the request, None: nothing yet."""
        assert self._socket is not None
        try:
            if self._left < 0:
                head = self._socket.recv(4, socket.MSG_WAITALL)
                if len(head) < 4:
                    return self.close("closed")
                (self._left,) = struct.unpack(">i", head)
            else:
                data = self._socket.recv(min(self._left, 1 << 16))
                if not data:
                    return self.close("cut")
                self._left -= len(data)
        except OSError:
            return self.close("closed")
        return None if self._left else "answered"

    def close(self, why: str) -> str:
        if self._socket is not None:
            self._selector.unregister(self._socket)
            self._socket.close()
            self._socket = None
        return why


def send_requests(address: str, count: int, seed: int) -> Counter[str]:
    """So many requests; how many were answered, closed upon, or left waiting."""
    frames = iter(Hostile(served_by(address), seed))
    done: Counter[str] = Counter()
    with selectors.DefaultSelector() as selector:
        waiting = [Peer(address, selector) for _ in range(PEERS)]
        for peer in waiting:
            peer.send(next(frames))
        left = count - PEERS
        while waiting:
            outcomes: list[tuple[Peer, str]] = []
            for key, _ in selector.select(QUIET_S / 3):
                outcome = key.data.received()
                if outcome is not None:
                    outcomes.append((key.data, outcome))
            late = time.monotonic() - QUIET_S
            outcomes += [
                (peer, peer.close("waiting"))
                for peer in waiting
                if peer.since < late and all(peer is not each for each, _ in outcomes)
            ]
            for peer, outcome in outcomes:
                done[outcome] += 1
                if left > 0:
                    left -= 1
                    peer.send(next(frames))
                else:
                    peer.close("")
                    waiting.remove(peer)
    return done


def bad_connections(address: str, count: int, seed: int) -> Counter[str]:
    """So many connections, in groups of one kind."""
    chance = random.Random(seed)
    done: Counter[str] = Counter()
    sound = frame_of(ApiKey.METADATA, 12, encode(MetadataRequest(topics=None), 12))
    sound = struct.pack(">i", len(sound)) + sound
    kinds: dict[str, Callable[[list[socket.socket]], None]] = {
        "open and close": lambda _: None,
        "reset": _reset,
        "half a frame": lambda socks: _each(socks, lambda _: sound[: chance.randrange(1, len(sound))]),
        "drip": lambda socks: _drip(socks, sound),
        "absurd length": lambda socks: _each(
            socks, lambda _: struct.pack(">i", chance.choice((-1, -(2**31), 2**31 - 1, 104_857_601, 104_857_600)))
        ),
        "announced and not sent": lambda socks: _each(socks, lambda _: struct.pack(">i", 100_000_000) + bytes(40_000)),
        "random bytes": lambda socks: _each(socks, lambda _: chance.randbytes(chance.randrange(1, 3000))),
        "another protocol": lambda socks: _each(
            socks,
            lambda _: chance.choice((b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00", b"\r\n")),
        ),
        "does not read": lambda socks: _deaf(socks, sound),
    }
    while (left := count - done.total()) > 0:
        kind = chance.choice(list(kinds))
        socks = list(_opened(address, min(left, chance.randrange(20, 200))))
        done[kind] += len(socks)
        kinds[kind](socks)
        time.sleep(0.05)
        for sock in socks:
            sock.close()
    return done


def _opened(address: str, count: int) -> Iterator[socket.socket]:
    for _ in range(count):
        sock = connected(address)
        sock.settimeout(1.0)
        yield sock


def _each(socks: list[socket.socket], data: Callable[[socket.socket], bytes]) -> None:
    for sock in socks:
        try:
            sock.sendall(data(sock))
        except OSError:
            continue


def _reset(socks: list[socket.socket]) -> None:
    _each(socks, lambda _: b"\0\0\1\0abc")
    for sock in socks:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _drip(socks: list[socket.socket], frame: bytes) -> None:
    for index in range(len(frame)):
        _each(socks, lambda _, at=index: frame[at : at + 1])  # type: ignore[misc]


def _deaf(socks: list[socket.socket], frame: bytes) -> None:
    """Ask without end, and read nothing."""
    for sock in socks:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.setblocking(False)
        try:
            for _ in range(20):
                sock.send(frame * 100)
        except OSError:
            continue


def main(arguments: list[str]) -> None:
    what, address, count, seed = arguments[0], arguments[1], int(arguments[2]), int(arguments[3])
    os.nice(5)
    done = {"requests": send_requests, "connections": bad_connections}[what](address, count, seed)
    print(json.dumps(done))


if __name__ == "__main__":
    main(sys.argv[1:])

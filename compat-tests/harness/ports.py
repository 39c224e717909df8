"""Ports for brokers under test, and the two requests that tell whether a broker serves on one."""

from __future__ import annotations

import random
import socket
import struct
import time

PORTS = range(20000, 32000)
"""Below 32768: above it the kernel hands ports to clients, and a bind now and then meets one of those."""

API_VERSIONS, METADATA = 18, 3
PROBE_CLIENT_ID = "probe"
ARE_YOU_THERE = struct.pack(">hhih5s", API_VERSIONS, 0, 7, 5, PROBE_CLIENT_ID.encode())
"""An ApiVersions request, version 0: request header version 1, no body."""
WHO_SERVES = struct.pack(">hhih5si", METADATA, 1, 8, 5, PROBE_CLIENT_ID.encode(), 0)
"""A Metadata request, version 1, about no topics: it is answered with the brokers."""


def free_ports(count: int) -> list[int]:
    """That many ports that nobody listens on now. Raises: OSError when a hundred tries a port found too few."""
    found: set[int] = set()
    for port in random.sample(PORTS, min(len(PORTS), 100 * count)):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.add(port)
        if len(found) == count:
            return list(found)
    raise OSError(f"no {count} free ports in {PORTS}")


def answers(host: str, port: int, *, limit_s: float = 5.0) -> bool:
    """Whether a broker answers there now, and knows of one that serves: itself, or it is too early to ask it anything.

    Kafka answers before its broker is unfenced. A client that asks then is told of no brokers, and librdkafka waits for
    a minute before it asks again.
    """
    try:
        with socket.create_connection((host, port), timeout=limit_s) as connection:
            if _ask(connection, ARE_YOU_THERE)[:6] != struct.pack(">ih", 7, 0):
                return False
            correlation_id, brokers = struct.unpack_from(">ii", _ask(connection, WHO_SERVES))
    except (OSError, struct.error):
        return False
    return correlation_id == 8 and brokers > 0


def _ask(connection: socket.socket, request: bytes) -> bytes:
    """The body of the answer; less of it if the peer leaves. Raises: OSError, struct.error."""
    connection.sendall(struct.pack(">i", len(request)) + request)
    with connection.makefile("rb") as reader:
        (size,) = struct.unpack(">i", reader.read(4))
        return reader.read(size)


def wait_until_answering(host: str, port: int, *, limit_s: float, alive: object = None) -> bool:
    """Ask again until a broker serves; False when it does not within `limit_s`, or when its process has ended.

    `alive` is a subprocess.Popen, or None for a broker that is not ours.
    """
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        if answers(host, port):
            return True
        if alive is not None and alive.poll() is not None:  # type: ignore[attr-defined]
            return False
        time.sleep(0.01)  # between two questions: a process that starts has nothing else to wait on
    return False

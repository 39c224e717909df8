"""Ports for brokers under test, and the one request that tells whether a broker answers on one."""

from __future__ import annotations

import random
import socket
import struct
import time

PORTS = range(20000, 32000)
"""Below 32768: above it the kernel hands ports to clients, and a bind now and then meets one of those."""

API_VERSIONS = 18
PROBE_CLIENT_ID = "probe"
PROBE = struct.pack(">hhih5s", API_VERSIONS, 0, 7, 5, PROBE_CLIENT_ID.encode())
"""An ApiVersions request, version 0: request header version 1, no body."""


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
    """Whether a broker answers ApiVersions there now (with correlation id 7 and error 0)."""
    try:
        with socket.create_connection((host, port), timeout=limit_s) as connection:
            connection.sendall(struct.pack(">i", len(PROBE)) + PROBE)
            with connection.makefile("rb") as reader:
                size_bytes = reader.read(4)
                if len(size_bytes) < 4:
                    return False
                body = reader.read(struct.unpack(">i", size_bytes)[0])
    except OSError:
        return False
    return body[:6] == struct.pack(">ih", 7, 0)


def wait_until_answering(host: str, port: int, *, limit_s: float, alive: object = None) -> bool:
    """Ask again until a broker answers; False when it does not within `limit_s`, or when its process has ended.

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

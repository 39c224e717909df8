"""Ports for nodes that keep theirs over restarts."""

from __future__ import annotations

import random
import socket

PORTS = range(20_000, 32_000)
"""Below those that the kernel gives to clients' ends of connections: one of those may be taken between two starts."""


def free_ports(count: int) -> list[int]:
    """That many ports on which nobody listens. Raises: RuntimeError."""
    found: list[int] = []
    for port in random.sample(PORTS, len(PORTS)):
        try:
            socket.create_server(("localhost", port)).close()
        except OSError:
            continue
        found.append(port)
        if len(found) == count:
            return found
    raise RuntimeError(f"fewer than {count} ports are free")

"""The seam to the network: how a node reaches others and is reached. TCP, unless a simulation says otherwise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kpybroker.server.listener import Listener, bind

if TYPE_CHECKING:
    import socket

    from kpybroker.peers.channel import Connector


@dataclass(frozen=True)
class Network:
    """What a node does with the network, in three calls."""

    connector: Connector | None = None
    """How to connect to another node; None: by TCP."""
    bind: Callable[[str, int, int], list[socket.socket]] = bind
    """The listening sockets for a host, a port and a backlog. Raises: OSError."""
    listener: Callable[..., Listener] = Listener
    """What accepts on listening sockets, made as a Listener is."""

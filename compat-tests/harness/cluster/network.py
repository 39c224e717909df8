"""Where the nodes of a cluster are: all on 127.0.0.1, or each in a network namespace of its own, which can be cut off.

A cut is made with `ip` alone: a node is told a wrong hardware address of another, and what it sends there is lost
without a word, as on a broken network; either direction by itself. It takes root and Linux.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Protocol

from harness.ports import free_ports

CLIENTS: Final = 0
"""Stands for everybody outside the cluster where a node's id is asked for."""
NOBODY: Final = "02:00:00:00:00:fe"
"""A hardware address that nobody has."""
BROKER_PORT, CONTROLLER_PORT = 19092, 19093


@dataclass(frozen=True)
class Place:
    """Where a node listens: for clients and brokers, and as a controller."""

    host: str
    port: int
    controller_port: int

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def controller_address(self) -> str:
        return f"{self.host}:{self.controller_port}"


class Network(Protocol):
    """Gives every node its place, and its command a way to run there."""

    can_cut: bool

    def place(self, node_id: int) -> Place: ...

    def command(self, node_id: int, command: list[str]) -> list[str]: ...

    def cut(self, node_id: int, peers: Iterable[int], *, out: bool = True, back: bool = True) -> None: ...

    def heal(self, node_id: int) -> None: ...

    def close(self) -> None: ...


class Loopback:
    """127.0.0.1, with ports that are free."""

    can_cut = False

    def place(self, node_id: int) -> Place:  # noqa: ARG002
        return Place("127.0.0.1", *free_ports(2))

    def command(self, node_id: int, command: list[str]) -> list[str]:  # noqa: ARG002
        return command

    def cut(self, node_id: int, peers: Iterable[int], *, out: bool = True, back: bool = True) -> None:
        raise NotImplementedError("nodes on one loopback can't be cut off")

    def heal(self, node_id: int) -> None:
        """Nothing was cut."""

    def close(self) -> None:
        """Nothing to take down."""


class Namespaces:
    """A network namespace for each node, joined by a bridge that this process is on as well."""

    can_cut = True

    def __init__(self) -> None:
        """Raises: OSError when the machine does not let us."""
        self._name = f"kpy{os.urandom(3).hex()}"
        self._prefix = _free_prefix()
        self._nodes: list[int] = []
        self._cuts: dict[int, set[tuple[int, int]]] = {}
        _ip("link", "add", self._name, "type", "bridge")
        try:
            _ip("addr", "add", f"{self._host(CLIENTS)}/24", "dev", self._name)
            _ip("link", "set", self._name, "up")
        except OSError:
            self.close()
            raise

    def place(self, node_id: int) -> Place:
        """Raises: OSError."""
        assert node_id != CLIENTS
        space, outside = self._space(node_id), f"{self._name}v{node_id}"
        _ip("netns", "add", space)
        self._nodes.append(node_id)
        _ip("link", "add", outside, "type", "veth", "peer", "name", "eth0", "netns", space)
        _ip("link", "set", outside, "master", self._name, "up")
        _ip("-n", space, "addr", "add", f"{self._host(node_id)}/24", "dev", "eth0")
        for device in ("lo", "eth0"):
            _ip("-n", space, "link", "set", device, "up")
        return Place(self._host(node_id), BROKER_PORT, CONTROLLER_PORT)

    def command(self, node_id: int, command: list[str]) -> list[str]:
        """It becomes `command`, so its process id is the one that is started."""
        return ["ip", "netns", "exec", self._space(node_id), *command]

    def cut(self, node_id: int, peers: Iterable[int], *, out: bool = True, back: bool = True) -> None:
        """Lose what this node sends to the peers (out), and what they send to it (back)."""
        for peer in peers:
            for cut, wanted in (((node_id, peer), out), ((peer, node_id), back)):
                if wanted:
                    self._cuts.setdefault(node_id, set()).add(cut)
                    self._neighbour("replace", *cut, "lladdr", NOBODY, "nud", "permanent")

    def heal(self, node_id: int) -> None:
        """Undo what was cut of this node."""
        for cut in self._cuts.pop(node_id, set()):
            self._neighbour("del", *cut)

    def close(self) -> None:
        """Take all of it down; its processes must have ended. Deleting a namespace deletes what is in it."""
        for node_id in self._nodes:
            subprocess.run(["ip", "netns", "del", self._space(node_id)], check=False, capture_output=True)
        subprocess.run(["ip", "link", "del", self._name], check=False, capture_output=True)

    def _neighbour(self, action: str, sender: int, receiver: int, *how: str) -> None:
        space = () if sender == CLIENTS else ("-n", self._space(sender))
        device = self._name if sender == CLIENTS else "eth0"
        _ip(*space, "neigh", action, self._host(receiver), *how, "dev", device)

    def _host(self, node_id: int) -> str:
        return f"{self._prefix}.{node_id + 1}"

    def _space(self, node_id: int) -> str:
        return f"{self._name}n{node_id}"


def _ip(*arguments: str) -> str:
    result = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise OSError(f"ip {' '.join(arguments)}: {result.stderr.strip()}")
    return result.stdout


def _free_prefix() -> str:
    """The first three numbers of a private network that nobody here uses. Raises: OSError."""
    if shutil.which("ip") is None:
        raise OSError("no ip command on the path")
    taken = {each["local"] for link in json.loads(_ip("-j", "addr")) for each in link.get("addr_info", ())}
    for _ in range(100):
        prefix = f"10.{random.randrange(200, 250)}.{random.randrange(1, 255)}"
        if not any(address.startswith(prefix + ".") for address in taken):
            return prefix
    raise OSError("no private network is free")


def network() -> Network:
    """The network that nodes can be cut off from, if the machine lets us; else the loopback."""
    try:
        return Namespaces()
    except OSError:
        return Loopback()

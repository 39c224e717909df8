"""The folder of a cluster on one machine: what `kpybroker cluster` makes, and finds again.

    cluster.json                 the cluster's id, and whether all its nodes are formatted
    cluster.pid                  locked by the process that runs the nodes, and its id
    node-1/server.properties     the node's settings, with Kafka's names
    node-1/data/                 its data

A node is nothing but its folder: `kpybroker serve --config DIR/node-1/server.properties` starts the same node, and what
the file says can be edited. One without server.properties is no member of the cluster (any more).
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from kpybroker.config.sources import read_properties
from kpybroker.ids import Ids

HOST: Final = "localhost"
BASE_PORT: Final = 9092
REPLICAS_MAX: Final = 3
"""As many copies as Kafka's own topics have by default."""
CONTROLLERS_MAX: Final = 3
"""As many controllers as a cluster has unless it is told otherwise: one of them may be lost."""
PORTS_A_NODE: Final = 2

STATE_FILE: Final = "cluster.json"
PROPERTIES_FILE: Final = "server.properties"
REMOVED_FILE: Final = "server.properties.removed"
_NODE_FOLDER = re.compile(r"node-([1-9][0-9]{0,8})")


class ClusterRefused(Exception):
    """The folder is not what it has to be; the text says why."""


class _State(msgspec.Struct, kw_only=True):
    """What is the cluster's, and no node's own."""

    cluster_id: str
    formatted: bool = False
    """Until then no node has run, and what is there may be made anew."""


class Controller(NamedTuple):
    """A member of the controller quorum, as the nodes are formatted with it."""

    node_id: int
    host: str
    port: int
    directory_id: str

    def __str__(self) -> str:
        return f"{self.node_id}@{self.host}:{self.port}:{self.directory_id}"


class NodeFolder:
    """One node of the cluster."""

    def __init__(self, path: Path, node_id: int) -> None:
        self.path = path
        self.id = node_id

    @property
    def properties_file(self) -> Path:
        """The node's settings."""
        return self.path / PROPERTIES_FILE

    @property
    def is_member(self) -> bool:
        """Whether it belongs to the cluster."""
        return self.properties_file.exists()

    def settings(self) -> dict[str, str]:
        """What the file says. Raises: ConfigError."""
        return read_properties(self.properties_file)

    @property
    def address(self) -> tuple[str, int]:
        """Where clients of this machine reach it. Raises: ConfigError, ClusterRefused."""
        found = re.search(r"PLAINTEXT://([^:/,]*):(\d+)", self.settings().get("listeners", ""))
        if found is None:
            raise ClusterRefused(f"{self.properties_file}: listeners has no PLAINTEXT://host:port")
        return found[1] or HOST, int(found[2])

    @property
    def is_controller(self) -> bool:
        """Whether it is a member of the controller quorum. Raises: ConfigError."""
        return "controller" in self.settings().get("process.roles", "")

    def write(self, settings: Mapping[str, str]) -> None:
        """Make these its settings."""
        self.path.mkdir(exist_ok=True)
        lines = [f"{name}={_escaped(value)}" for name, value in settings.items()]
        _write_whole(self.properties_file, "\n".join([f"# node {self.id} of a cluster", *lines, ""]))

    def change(self, settings: Mapping[str, str]) -> None:
        """Change some of its settings. Raises: ConfigError."""
        if settings:
            self.write({**self.settings(), **settings})

    def leave(self) -> None:
        """It is no member any more. Its data stays where it is."""
        self.properties_file.rename(self.path / REMOVED_FILE)


class ClusterFolder:
    """The folder of a cluster that has been made."""

    def __init__(self, path: Path) -> None:
        """Raises: ClusterRefused if there is no cluster."""
        self.path = path
        try:
            self._state = msgspec.json.decode((path / STATE_FILE).read_bytes(), type=_State)
        except FileNotFoundError:
            raise ClusterRefused(f"{path} has no cluster: kpybroker cluster --data {path} makes one") from None
        except (OSError, msgspec.DecodeError) as error:
            raise ClusterRefused(f"cannot read {path / STATE_FILE}: {error}") from None

    @classmethod
    def plan(
        cls, path: Path, *, nodes: int, controllers: int, base_port: int, settings: Mapping[str, str], ids: Ids
    ) -> tuple[ClusterFolder, list[Controller]]:
        """A new cluster, and the controllers that its nodes are to be formatted with.

        What a plan before it has left, whose nodes were not all formatted, goes. Raises: ClusterRefused.
        """
        path.mkdir(parents=True, exist_ok=True)
        _clear(path)
        _write_whole(path / STATE_FILE, msgspec.json.encode(_State(cluster_id=ids.uuid_text())).decode())
        folder = cls(path)
        voters = [
            Controller(node_id, HOST, _controller_port(base_port, node_id), ids.uuid_text())
            for node_id in range(1, controllers + 1)
        ]
        common = _common(nodes, voters)
        for node_id in range(1, nodes + 1):
            own = _own(folder.node(node_id), base_port, controller=node_id <= controllers)
            folder.node(node_id).write({**own, **common, **settings})
        return folder, voters

    @property
    def id(self) -> str:
        """The cluster's id."""
        return self._state.cluster_id

    @property
    def is_formatted(self) -> bool:
        """Whether its nodes may be started."""
        return self._state.formatted

    def formatted(self) -> None:
        """All nodes have been formatted."""
        self._state.formatted = True
        _write_whole(self.path / STATE_FILE, msgspec.json.encode(self._state).decode())

    def node(self, node_id: int) -> NodeFolder:
        """One node, whether it is there or not."""
        return NodeFolder(self.path.absolute() / f"node-{node_id}", node_id)

    def nodes(self) -> list[NodeFolder]:
        """The nodes of the cluster, by their ids."""
        return [each for each in self._all() if each.is_member]

    def _all(self) -> list[NodeFolder]:
        found = (_NODE_FOLDER.fullmatch(each.name) for each in self.path.iterdir())
        return [self.node(node_id) for node_id in sorted(int(each[1]) for each in found if each is not None)]

    def another(self) -> NodeFolder:
        """A new broker beside those that there are, with the settings of the first; ids are not used again.

        Raises: ConfigError, ClusterRefused.
        """
        everyone = self._all()
        first = next((each for each in everyone if each.is_member), None)
        if first is None:
            raise ClusterRefused(f"{self.path} has no nodes")
        node = self.node(everyone[-1].id + 1)
        base_port = first.address[1] - PORTS_A_NODE * (first.id - 1)
        node.write({**first.settings(), **_own(node, base_port, controller=False)})
        return node

    def forget_controller(self, node: NodeFolder) -> None:
        """Nobody asks this node for the controller quorum any more. Raises: ConfigError."""
        found = re.search(r"CONTROLLER://([^,]*)", node.settings().get("listeners", ""))
        gone = found[1] if found is not None else ""
        name = "controller.quorum.bootstrap.servers"
        for each in self.nodes():
            servers = each.settings().get(name, "").split(",")
            each.change({name: ",".join(server for server in servers if server.strip() != gone)})

    def bootstrap_servers(self) -> str:
        """Where clients come to. Raises: ConfigError, ClusterRefused."""
        return ",".join(f"{host}:{port}" for host, port in (each.address for each in self.nodes()))


def controllers_of(nodes: int) -> int:
    """How many of so many nodes are controllers. Two would be worse than one: the loss of either ends the quorum."""
    return 1 if nodes < CONTROLLERS_MAX else CONTROLLERS_MAX


def _broker_port(base_port: int, node_id: int) -> int:
    return base_port + PORTS_A_NODE * (node_id - 1)


def _controller_port(base_port: int, node_id: int) -> int:
    return _broker_port(base_port, node_id) + 1


def _own(node: NodeFolder, base_port: int, *, controller: bool) -> dict[str, str]:
    """The settings in which the nodes differ."""
    told = f"PLAINTEXT://{HOST}:{_broker_port(base_port, node.id)}"
    if controller:
        told += f",CONTROLLER://{HOST}:{_controller_port(base_port, node.id)}"
    return {
        "process.roles": "broker,controller" if controller else "broker",
        "node.id": str(node.id),
        "listeners": told,
        "advertised.listeners": told,
        "log.dirs": str(node.path / "data"),
    }


def _common(nodes: int, voters: list[Controller]) -> dict[str, str]:
    """The settings that all nodes share: Kafka's defaults, with as many copies of everything as there is room for."""
    replicas = min(nodes, REPLICAS_MAX)
    in_sync = max(1, replicas - 1)
    return {
        "controller.listener.names": "CONTROLLER",
        "inter.broker.listener.name": "PLAINTEXT",
        "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
        "controller.quorum.bootstrap.servers": ",".join(f"{each.host}:{each.port}" for each in voters),
        "default.replication.factor": str(replicas),
        "min.insync.replicas": str(in_sync),
        "offsets.topic.replication.factor": str(replicas),
        "transaction.state.log.replication.factor": str(replicas),
        "transaction.state.log.min.isr": str(in_sync),
        "group.initial.rebalance.delay.ms": "0",
    }


def _clear(path: Path) -> None:
    """Remove what an unfinished plan has left. Raises: ClusterRefused if there is anything else."""
    entries = list(path.iterdir())
    if not entries:
        return
    state: Any = None
    if (path / STATE_FILE).exists():
        state = ClusterFolder(path)
    if state is None or state.is_formatted:
        raise ClusterRefused(f"{path} is not empty, and has no cluster to go on with")
    for entry in entries:
        if _NODE_FOLDER.fullmatch(entry.name):
            shutil.rmtree(entry)


def _write_whole(file: Path, text: str) -> None:
    """All of it or nothing, whatever happens meanwhile."""
    new = file.with_name(file.name + ".new")
    new.write_text(text)
    new.replace(file)


def _escaped(text: str) -> str:
    """A value as .properties files want it."""
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")

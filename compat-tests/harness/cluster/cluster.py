"""A cluster of real processes, and what may be asked of it.

with Cluster(folder, combined("kafka", 3)) as cluster:
    cluster.start()
    cluster.node(1).kill()

All questions go over bare connections of their own, to nodes that run: what a stock client would make of it is its own
affair.
"""

from __future__ import annotations

import shutil
import time
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from harness.brokers import BrokerFailed
from harness.cluster.network import Loopback, Network
from harness.cluster.nodes import BOTH, KINDS, JvmNode, Node
from harness.versions.world import Wire
from kpybroker.wire.api_keys import ApiKey

READY_LIMIT_S: Final = 120.0
ASK_LIMIT_S: Final = 5.0
METADATA_TOPIC: Final = "__cluster_metadata"

Plan = Sequence[tuple[str, str]]
"""For each node, which get the ids 1, 2, 3...: its kind, and its process.roles."""


def combined(kind: str, count: int = 3) -> Plan:
    """Nodes that are broker and controller."""
    return [(kind, BOTH)] * count


@dataclass(frozen=True)
class PartitionState:
    """A partition as a broker tells of it."""

    topic: str
    index: int
    leader: int
    leader_epoch: int
    replicas: tuple[int, ...]
    isr: tuple[int, ...]

    @property
    def whole(self) -> bool:
        return self.leader >= 0 and set(self.isr) == set(self.replicas)


@dataclass(frozen=True)
class Quorum:
    """The metadata quorum as its leader tells of it."""

    leader: int
    epoch: int
    high_watermark: int
    voters: tuple[int, ...]
    observers: tuple[int, ...]
    ends: dict[int, int]
    """Of each replica that is known: the end of its log."""
    addresses: dict[int, str]
    """Where each voter says that its controller listens."""


class NotNow(Exception):
    """No node has an answer to give now."""


class Cluster:
    """Nodes on one network. Its folder has a folder for each node."""

    def __init__(
        self,
        folder: Path,
        plan: Plan,
        *,
        network: Network | None = None,
        settings: dict[str, str] | None = None,
        voters: Collection[int] | None = None,
        static: bool = False,
        release: str | None = None,
        jvm: tuple[str, ...] | None = None,
    ) -> None:
        """`settings` are every node's, beside those of nodes.CLUSTER_PROFILE.

        `voters`: the controllers that vote from the beginning, if not all do. `static`: they are told of in
        controller.quorum.voters, which makes kraft.version 0. `release`: whose features the cluster has at first.
        `jvm`: settings of the JVM for nodes of Apache Kafka, nodes.NODE_JVM by default.
        """
        self.folder = folder
        self._voters = voters
        self._static = static
        self._release = () if release is None else ("--release-version", release)
        self.network = network or Loopback()
        self.cluster_id = random_id()
        self.nodes = [
            KINDS[kind](node_id, roles, folder / f"node-{node_id}", self.network, settings or {})
            for node_id, (kind, roles) in enumerate(plan, 1)
        ]
        for node in self.nodes:
            if jvm is not None and isinstance(node, JvmNode):
                node.jvm = jvm
        self._formatted = False

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    @property
    def brokers(self) -> list[Node]:
        return [node for node in self.nodes if node.is_broker]

    @property
    def controllers(self) -> list[Node]:
        return [node for node in self.nodes if node.is_controller]

    @property
    def address(self) -> str:
        """All brokers, for a client's bootstrap.servers."""
        return ",".join(node.place.address for node in self.brokers)

    @property
    def controller_address(self) -> str:
        """All controllers, for --bootstrap-controller."""
        return ",".join(node.place.controller_address for node in self.controllers)

    def node(self, node_id: int) -> Node:
        return self.nodes[node_id - 1]

    def others(self, *node_ids: int) -> list[Node]:
        """The nodes but these."""
        return [node for node in self.nodes if node.node_id not in node_ids]

    def format(self) -> None:
        """Write the nodes' settings, and format their folders. Raises: BrokerFailed."""
        voters = [node for node in self.controllers if self._voters is None or node.node_id in self._voters]
        directory_ids = {node.node_id: random_id() for node in voters}
        initial = ",".join(
            f"{node.node_id}@{node.place.controller_address}:{directory_ids[node.node_id]}" for node in voters
        )
        formatted: dict[tuple[str, bool], Node] = {}
        for node in self.nodes:
            self.write_properties(node)
            like = formatted.setdefault((node.kind, node in voters), node)
            if like is node:
                how = ("--initial-controllers", initial) if node in voters else ("--no-initial-controllers",)
                node.format(self.cluster_id, *(() if self._static else how), *self._release)
            else:  # what a tool that takes seconds to start would write again
                _copy_formatted(like, node, directory_ids.get(node.node_id) or random_id())
        self._formatted = True

    def write_properties(self, node: Node) -> None:
        """The node's server.properties, as it and the others are placed now."""
        if self._static:
            voters = (f"{each.node_id}@{each.place.controller_address}" for each in self.controllers)
            node.write_properties({"controller.quorum.voters": ",".join(voters)})
        else:
            node.write_properties({"controller.quorum.bootstrap.servers": self.controller_address})

    def start(self) -> None:
        """Start every node that is down, and wait until all is whole. Raises: BrokerFailed."""
        if not self._formatted:
            self.format()
        for node in self.nodes:
            if not node.running:
                node.launch()
        self.wait_whole()

    def close(self) -> None:
        """Kill what still runs, and take the network down."""
        for node in self.nodes:
            node.kill()
        self.network.close()

    def stop(self) -> None:
        """SIGTERM to all at once, and wait. Raises: BrokerFailed."""
        running = [node for node in self.nodes if node.running]
        for node in running:
            node.terminate()
        for node in running:
            node.wait_stopped()

    # What the cluster says of itself

    def fenced(self, asked: Node | None = None) -> dict[int, bool]:
        """Every registered broker: whether it is fenced. Raises: NotNow."""
        request = {"include_cluster_authorized_operations": False, "endpoint_type": 1, "include_fenced_brokers": True}
        response = self._of_broker(ApiKey.DESCRIBE_CLUSTER, 2, asked, **request)
        return {each.broker_id: each.is_fenced for each in response.brokers}

    def partitions(self, topic: str | None = None, asked: Node | None = None) -> list[PartitionState]:
        """The partitions of a topic, or of all. Raises: NotNow."""
        topics = None if topic is None else [{"name": topic}]
        response = self._of_broker(ApiKey.METADATA, 9, asked, topics=topics, allow_auto_topic_creation=False)
        return [
            PartitionState(
                topic=each.name,
                index=part.partition_index,
                leader=part.leader_id,
                leader_epoch=part.leader_epoch,
                replicas=tuple(part.replica_nodes),
                isr=tuple(part.isr_nodes),
            )
            for each in response.topics
            for part in sorted(each.partitions, key=lambda part: part.partition_index)
        ]

    def leader(self, topic: str, index: int = 0) -> int:
        """The id of the partition's leader; -1 if it has none. Raises: NotNow."""
        return self.partitions(topic)[index].leader

    def quorum(self) -> Quorum:
        """What the active controller says, asked on the controllers' own listeners. Raises: NotNow."""
        topics = [{"topic_name": METADATA_TOPIC, "partitions": [{"partition_index": 0}]}]
        found = []
        for node in self._awake(self.controllers):
            response = ask(node.place.controller_address, ApiKey.DESCRIBE_QUORUM, 2, topics=topics)
            if response is None or response.error_code != 0:
                continue
            (state,) = response.topics[0].partitions
            if state.error_code == 0 and state.leader_id == node.node_id:
                found.append(
                    Quorum(
                        leader=state.leader_id,
                        epoch=state.leader_epoch,
                        high_watermark=state.high_watermark,
                        voters=tuple(sorted(each.replica_id for each in state.current_voters)),
                        observers=tuple(sorted(each.replica_id for each in state.observers)),
                        ends={
                            each.replica_id: each.log_end_offset for each in (*state.current_voters, *state.observers)
                        },
                        addresses={
                            each.node_id: f"{each.listeners[0].host}:{each.listeners[0].port}"
                            for each in response.nodes
                        },
                    )
                )
        if not found:
            raise NotNow("no controller says that it leads")
        return max(found, key=lambda quorum: quorum.epoch)  # one that was cut off may not know yet

    def wait_whole(self, limit_s: float = READY_LIMIT_S) -> None:
        """Until all brokers know each other as unfenced, and all replicas as in sync. Raises: BrokerFailed."""
        expected = {node.node_id for node in self.brokers}

        def whole() -> bool:
            self.quorum()
            for node in self.brokers:
                fenced = self.fenced(node)
                if {each for each, is_fenced in fenced.items() if not is_fenced} != expected:
                    return False
                if not all(partition.whole for partition in self.partitions(asked=node)):
                    return False
            return True

        self.wait_until(whole, "all brokers unfenced, all replicas in sync", limit_s)

    def wait_until(self, reached: Callable[[], bool], what: str, limit_s: float = READY_LIMIT_S) -> None:
        """Ask until it is so. Raises: BrokerFailed with what the nodes said last."""
        deadline = time.monotonic() + limit_s
        why = "it is not so"
        while time.monotonic() < deadline:
            try:
                if reached():
                    return
                why = "it is not so"
            except NotNow as not_now:
                why = str(not_now)
            time.sleep(0.02)  # between two questions: there is nothing else to wait on
        words = "\n".join(f"--- {node}: {node.last_words()[-1500:]}" for node in self.nodes)
        raise BrokerFailed(f"not within {limit_s} s: {what}: {why}; {self.picture()}\n{words}")

    def create_topic(self, name: str, partitions: int = 3, replication: int = 3, **configs: str) -> None:
        """Create a topic, and wait until all brokers know that it is whole. Raises: BrokerFailed."""
        settings = [{"name": key.replace("_", "."), "value": value} for key, value in configs.items()]
        asked = {"name": name, "num_partitions": partitions, "replication_factor": replication, "configs": settings}
        self._create(asked, name, partitions)

    def create_assigned_topic(self, name: str, assignments: Sequence[Sequence[int]], **configs: str) -> None:
        """Create a topic whose partitions have these replicas, the preferred leader first. Raises: BrokerFailed."""
        settings = [{"name": key.replace("_", "."), "value": value} for key, value in configs.items()]
        given = [{"partition_index": index, "broker_ids": list(each)} for index, each in enumerate(assignments)]
        asked = {"name": name, "num_partitions": -1, "replication_factor": -1, "configs": settings}
        self._create({**asked, "assignments": given}, name, len(assignments))

    def elect_preferred(self) -> None:
        """Let every preferred replica lead that can. Raises: NotNow."""
        self._of_broker(ApiKey.ELECT_LEADERS, 2, None, election_type=0, topic_partitions=None, timeout_ms=10_000)

    def _create(self, asked: dict[str, Any], name: str, partitions: int) -> None:
        def created() -> bool:
            response = self._of_broker(ApiKey.CREATE_TOPICS, 7, None, topics=[asked], timeout_ms=10_000)
            (made,) = response.topics
            if made.error_code in (0, 36):  # 36: an attempt before, whose answer was lost, has made it
                return True
            raise NotNow(f"{name} was not created: {made.error_code} {made.error_message}")

        self.wait_until(created, f"{name} created", 60)

        def known() -> bool:
            found = [self.partitions(name, node) for node in self._awake(self.brokers)]
            return all(len(each) == partitions and all(part.whole for part in each) for each in found)

        self.wait_until(known, f"{name} known to all", 60)

    def _of_broker(self, key: ApiKey, version: int, asked: Node | None, **request: Any) -> Any:
        """What this broker says, or the first that answers. Raises: NotNow."""
        for node in [asked] if asked is not None else self._awake(self.brokers):
            response = ask(node.place.address, key, version, **request)
            if response is not None:
                return response
        raise NotNow("no broker answers" if asked is None else f"{asked} does not answer")

    def _awake(self, nodes: list[Node]) -> Iterator[Node]:
        return (node for node in nodes if node.running and not node.frozen)

    def picture(self) -> str:
        """What is known, for a message."""
        lines = []
        for what in (self.quorum, self.fenced, self.partitions):
            try:
                lines.append(str(what()))
            except NotNow as not_now:
                lines.append(f"{what.__name__}: {not_now}")
        return "; ".join(lines)


def ask(address: str, key: ApiKey, version: int, **request: Any) -> Any:
    """One question over a connection of its own; None when there is no answer."""
    try:
        wire = Wire(address, limit_s=ASK_LIMIT_S)
    except OSError:
        return None
    try:
        return wire.ask(key, version, request)
    except OSError:
        return None
    finally:
        wire.close()


def random_id() -> str:
    """A random id as Kafka writes them: 22 characters, not beginning with a dash."""
    return urlsafe_b64encode(uuid.UUID(int=uuid.uuid4().int >> 8).bytes).decode().rstrip("=")


def _copy_formatted(like: Node, node: Node, directory_id: str) -> None:
    """A folder as the tool formats it: the same for every node of a role but for the ids in meta.properties."""
    shutil.copytree(like.data_dir, node.data_dir)
    path = node.data_dir / "meta.properties"
    own = {"node.id": str(node.node_id), "directory.id": directory_id}
    lines = [line for line in path.read_text().splitlines() if line.partition("=")[0] not in own]
    path.write_text("".join(f"{line}\n" for line in [*lines, *(f"{name}={own[name]}" for name in own)]))


def gone(nodes: Sequence[Node]) -> list[str]:
    """Nodes that should run and have ended, each with its last words."""
    return [f"{node}: {node.last_words()}" for node in nodes if not node.running]


__all__ = ["BrokerFailed", "Cluster", "NotNow", "PartitionState", "Plan", "Quorum", "ask", "combined", "random_id"]

"""One node of a cluster: a process that can be killed, frozen, stopped and started again on its folder."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path
from typing import ClassVar, Final

from harness import kafka_jars
from harness.brokers import STOP_LIMIT_S, BrokerFailed, _kpybroker_command
from harness.cluster.network import Network

NODE_JVM: Final = ("-Xmx256m", "-Xms64m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
"""Small, and soon up. A comparison of speed has to give them what Kafka's start script does."""
BOTH: Final = "broker,controller"

CLUSTER_PROFILE: Final = {
    "default.replication.factor": "3",
    "min.insync.replicas": "2",
    "num.partitions": "3",
    "offsets.topic.num.partitions": "3",
    "offsets.topic.replication.factor": "3",
    "transaction.state.log.num.partitions": "3",
    "transaction.state.log.replication.factor": "3",
    "transaction.state.log.min.isr": "2",
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": "500",
    "auto.create.topics.enable": "false",
}
"""Internal topics small, so that they are soon there, and replicated; nothing else differs from Kafka's defaults."""


class Node:
    """A node and its folder: `data` is its data directory, `node.log` what it said."""

    kind: ClassVar[str]
    clean_exit_codes: ClassVar[tuple[int, ...]] = (0,)

    def __init__(self, node_id: int, roles: str, folder: Path, network: Network, settings: dict[str, str]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.node_id = node_id
        self.roles = roles
        self.folder = folder
        self.data_dir = folder / "data"
        self.log_path = folder / "node.log"
        self.properties_path = folder / "server.properties"
        self.place = network.place(node_id)
        self.frozen = False
        self._network = network
        self.settings = dict(settings)
        """Beside the profile's; a change counts from the next time that its server.properties are written."""
        self._process: subprocess.Popen[bytes] | None = None

    def __str__(self) -> str:
        return f"{self.kind} node {self.node_id}"

    @property
    def is_broker(self) -> bool:
        return "broker" in self.roles

    @property
    def is_controller(self) -> bool:
        return "controller" in self.roles

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def write_properties(self, quorum: dict[str, str]) -> None:
        """server.properties, in Kafka's names, whatever reads it; `quorum`: where the controllers are."""
        place = self.place
        listeners = [f"PLAINTEXT://{place.address}"] if self.is_broker else []
        listeners += [f"CONTROLLER://{place.controller_address}"] if self.is_controller else []
        properties = {
            "process.roles": self.roles,
            "node.id": str(self.node_id),
            **quorum,
            "listeners": ",".join(listeners),
            "controller.listener.names": "CONTROLLER",
            "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
            "log.dirs": str(self.data_dir),
            **CLUSTER_PROFILE,
            **self.settings,
        }
        if self.is_broker:
            properties["inter.broker.listener.name"] = "PLAINTEXT"
        self.properties_path.write_text("".join(f"{name}={value}\n" for name, value in properties.items()))

    def command(self) -> list[str]:
        """What serves server.properties."""
        raise NotImplementedError

    def format_command(self, cluster_id: str, *how: str) -> list[str]:
        """What formats the data directory; `how` as kafka-storage format takes it."""
        raise NotImplementedError

    def format(self, cluster_id: str, *how: str) -> None:
        """Raises: BrokerFailed."""
        command = self.format_command(cluster_id, *how)
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode != 0:
            raise BrokerFailed(f"{self} was not formatted: {result.stdout[-1000:]}{result.stderr[-1000:]}")

    def launch(self) -> None:
        """Start the process, and return at once."""
        assert not self.running
        self.frozen = False
        command = self._network.command(self.node_id, self.command())
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def kill(self) -> None:
        """kill -9, and wait until the process is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self.frozen = False

    def freeze(self) -> None:
        """SIGSTOP: it keeps its connections and says nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        self.frozen = True

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)
        self.frozen = False

    def terminate(self) -> None:
        """SIGTERM, and return at once."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)

    def stop(self) -> None:
        """SIGTERM, and wait until it has ended, if it runs. Raises: BrokerFailed."""
        if self.running:
            self.terminate()
            self.wait_stopped()

    def wait_stopped(self) -> None:
        """After `terminate`. Raises: BrokerFailed, also when it ends with a code of failure."""
        assert self._process is not None
        try:
            code = self._process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise BrokerFailed(f"{self} did not stop within {STOP_LIMIT_S} s: {self.last_words()}") from None
        if code not in self.clean_exit_codes:
            raise BrokerFailed(f"{self} ended with {code}: {self.last_words()}")

    def last_words(self) -> str:
        """The end of its log."""
        return self.log_path.read_bytes()[-3000:].decode("utf-8", "replace")


class JvmNode(Node):
    """Apache Kafka. Raises: kafka_jars.JavaMissing when it is made, if there is no Java here."""

    kind = "kafka"
    clean_exit_codes = (0, 143)  # a JVM that SIGTERM has ended cleanly says 128 + 15

    def __init__(self, node_id: int, roles: str, folder: Path, network: Network, settings: dict[str, str]) -> None:
        kafka_jars.classpath()
        super().__init__(node_id, roles, folder, network, settings)
        self.jvm: tuple[str, ...] = NODE_JVM

    def command(self) -> list[str]:
        return kafka_jars.java("kafka.Kafka", str(self.properties_path), jvm=self.jvm)

    def format_command(self, cluster_id: str, *how: str) -> list[str]:
        return kafka_jars.java(
            "kafka.tools.StorageTool", "format", "-t", cluster_id, "-c", str(self.properties_path), *how
        )


class KpyNode(Node):
    """kpybroker."""

    kind = "kpybroker"

    def command(self) -> list[str]:
        return [_kpybroker_command(), "serve", "--config", str(self.properties_path), "--log-level", "info"]

    def format_command(self, cluster_id: str, *how: str) -> list[str]:
        return [_kpybroker_command(), "format", "-t", cluster_id, "-c", str(self.properties_path), *how]


KINDS: Final[dict[str, type[Node]]] = {each.kind: each for each in (JvmNode, KpyNode)}

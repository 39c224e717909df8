"""The broker under test: kpybroker or Apache Kafka in a child process, or one that runs elsewhere.

A child has a folder of its own: `data` is its data directory, `broker.log` what it said. It can be stopped (SIGTERM),
killed (SIGKILL) and started again on the same directory and port.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import uuid
from base64 import urlsafe_b64encode
from pathlib import Path
from typing import ClassVar, Final, Protocol

from harness import kafka_jars
from harness.ports import answers, free_ports, wait_until_answering

START_LIMIT_S = 120.0
STOP_LIMIT_S = 60.0
BROKER_JVM: Final = ("-Xmx512m", "-Xms256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")

EMBEDDED_PROFILE: Final = {
    "num.network.threads": "3",
    "num.io.threads": "8",
    "socket.send.buffer.bytes": "102400",
    "socket.receive.buffer.bytes": "102400",
    "socket.request.max.bytes": "104857600",
    "num.partitions": "1",
    "num.recovery.threads.per.data.dir": "2",
    "offsets.topic.replication.factor": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "log.retention.hours": "168",
    "log.segment.bytes": "1073741824",
    "log.retention.check.interval.ms": "300000",
    "group.initial.rebalance.delay.ms": "0",
}
"""What Apache Kafka ships for a single node, and no delay for groups: kpybroker's settings without a file."""


SOON_FENCED: Final = {"broker.session.timeout.ms": "2000", "broker.heartbeat.interval.ms": "500"}
"""For an Apache Kafka that starts where a node was killed: it waits until its predecessor is fenced, 9 s by default."""


class BrokerFailed(Exception):
    """The broker did not start, or did not stop, within its time; the message has the end of its log."""


class BrokerUnderTest(Protocol):
    """What a test may do with the broker it is given."""

    kind: str
    restartable: bool

    @property
    def address(self) -> str:
        """HOST:PORT for a client's bootstrap.servers."""

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def kill(self) -> None: ...


class OutsideBroker:
    """A broker that runs elsewhere: never started or stopped by a test."""

    kind = "outside"
    restartable = False

    def __init__(self, address: str) -> None:
        self.address = address

    def start(self) -> None:
        host, _, port = self.address.rpartition(":")
        if not answers(host.strip("[]"), int(port)):
            raise BrokerFailed(f"no broker answers at {self.address}")

    def stop(self) -> None:
        """Left running: it is not ours."""

    def kill(self) -> None:
        raise BrokerFailed("an outside broker is not ours to kill")


class ChildBroker:
    """A broker in a child process, on 127.0.0.1."""

    kind = "child"
    restartable = True

    def __init__(self, folder: Path, *, data_dir: Path | None = None, settings: dict[str, str] | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.data_dir = data_dir or folder / "data"
        self.settings = settings or {}
        self.log_path = folder / "broker.log"
        self.port, self.controller_port = free_ports(2)
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def command(self) -> list[str]:
        """The command line that serves `data_dir` at `address`."""
        raise NotImplementedError

    def start(self) -> None:
        """Start it and wait until it answers ApiVersions. Raises: BrokerFailed."""
        self.launch()
        if not wait_until_answering("127.0.0.1", self.port, limit_s=START_LIMIT_S, alive=self.process):
            self.kill()
            raise BrokerFailed(f"{self.kind} did not start: {self.last_words()}")

    def launch(self) -> None:
        """Start the process, and return at once."""
        assert not self.running
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(self.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def stop(self) -> None:
        """Ask it to stop, and wait until it has. Raises: BrokerFailed, also when it ends with a code of failure."""
        if not self.running:
            return
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise BrokerFailed(f"{self.kind} did not stop within {STOP_LIMIT_S} s: {self.last_words()}") from None
        if code not in self.clean_exit_codes:
            raise BrokerFailed(f"{self.kind} ended with {code}: {self.last_words()}")

    clean_exit_codes: tuple[int, ...] = (0,)

    def kill(self) -> None:
        """kill -9, and wait until the process is gone."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def last_words(self) -> str:
        """The end of its log."""
        return self.log_path.read_bytes()[-3000:].decode("utf-8", "replace")


class Kpybroker(ChildBroker):
    """The kpybroker command of this environment."""

    kind = "kpybroker"
    recorded: ClassVar[list[Path] | None] = None
    """With --record: the logs of all that were made, with a line for each request. None: requests are not logged."""

    def __init__(self, folder: Path, *, data_dir: Path | None = None, settings: dict[str, str] | None = None) -> None:
        super().__init__(folder, data_dir=data_dir, settings=settings)
        if self.recorded is not None:
            self.recorded.append(self.log_path)

    def command(self) -> list[str]:
        settings = [f"--set={name}={value}" for name, value in self.settings.items()]
        listen = ["--listen", self.address, "--data-dir", str(self.data_dir)]
        logging = [] if self.recorded is None else ["--log-level", "kafka.request.logger=debug"]
        return [_kpybroker_command(), "serve", *listen, *settings, *logging]


def _kpybroker_command() -> str:
    beside = Path(sys.executable).parent / "kpybroker"
    found = str(beside) if beside.exists() else shutil.which("kpybroker")
    if found is None:
        raise BrokerFailed("there is no kpybroker command in this environment: pip install the project first")
    return found


class ApacheKafka(ChildBroker):
    """Apache Kafka, a broker and controller in one node; on a directory that has been formatted, or a new one.

    Raises: kafka_jars.JavaMissing when it is made, if there is no Java here.
    """

    kind = "kafka"
    clean_exit_codes = (0, 143)  # a JVM that SIGTERM has ended cleanly says 128 + 15

    def __init__(
        self,
        folder: Path,
        *,
        data_dir: Path | None = None,
        settings: dict[str, str] | None = None,
        jvm: tuple[str, ...] = BROKER_JVM,
    ) -> None:
        kafka_jars.classpath()
        super().__init__(folder, data_dir=data_dir, settings=settings)
        self.jvm = jvm
        self.properties_path = folder / "server.properties"

    def command(self) -> list[str]:
        return kafka_jars.java("kafka.Kafka", str(self.properties_path), jvm=self.jvm)

    def launch(self) -> None:
        meta = self.data_dir / "meta.properties"
        identity = read_properties(meta) if meta.exists() else {}
        self._write_properties(identity.get("node.id", "1"))
        if not identity:
            self._format()
        super().launch()

    def _write_properties(self, node_id: str) -> None:
        properties = {
            "process.roles": "broker,controller",
            "node.id": node_id,
            "controller.quorum.bootstrap.servers": f"127.0.0.1:{self.controller_port}",
            "listeners": f"PLAINTEXT://{self.address},CONTROLLER://127.0.0.1:{self.controller_port}",
            "inter.broker.listener.name": "PLAINTEXT",
            "controller.listener.names": "CONTROLLER",
            "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
            "log.dirs": str(self.data_dir),
            **EMBEDDED_PROFILE,
            **self.settings,
        }
        self.properties_path.write_text("".join(f"{name}={value}\n" for name, value in properties.items()))

    def _format(self) -> None:
        cluster_id = urlsafe_b64encode(uuid.UUID(int=uuid.uuid4().int >> 8).bytes).decode().rstrip("=")
        arguments = ("format", "--standalone", "-t", cluster_id, "-c", str(self.properties_path))
        command = kafka_jars.java("kafka.tools.StorageTool", *arguments)
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode != 0:
            raise BrokerFailed(f"Apache Kafka's storage tool did not format {self.data_dir}: {result.stderr}")


def read_properties(path: Path) -> dict[str, str]:
    """A Java properties file as Kafka writes meta.properties: name=value lines, comments."""
    pairs = (line.partition("=") for line in path.read_text().splitlines() if line and not line.startswith("#"))
    return {name.strip(): value.strip() for name, _, value in pairs}


def broker_named(choice: str, folder: Path) -> BrokerUnderTest:
    """The broker that `--broker` asks for: kpybroker, kafka, or HOST:PORT. Not started yet."""
    if choice == "kpybroker":
        return Kpybroker(folder)
    if choice == "kafka":
        return ApacheKafka(folder)
    return OutsideBroker(choice)

"""Apache Kafka's command-line tools, run inside one JVM that stays up: java/ToolHost.java.

with ToolHost(folder) as tools:
    result = tools.run(TOPICS, "--bootstrap-server", address, "--list")
    assert result.code == 0, result.err
"""

from __future__ import annotations

import itertools
import subprocess
import threading
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final
from urllib.parse import quote

from harness import kafka_jars

CONSOLE_PRODUCER: Final = "org.apache.kafka.tools.ConsoleProducer"
CONSOLE_CONSUMER: Final = "org.apache.kafka.tools.consumer.ConsoleConsumer"
PRODUCER_PERFORMANCE: Final = "org.apache.kafka.tools.ProducerPerformance"
CONSUMER_PERFORMANCE: Final = "org.apache.kafka.tools.ConsumerPerformance"
DUMP_LOG: Final = "org.apache.kafka.tools.DumpLogSegments"
TOPICS: Final = "org.apache.kafka.tools.TopicCommand"
CONSUMER_GROUPS: Final = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand"
API_VERSIONS: Final = "org.apache.kafka.tools.BrokerApiVersionsCommand"
GROUPS: Final = "org.apache.kafka.tools.GroupsCommand"
CONFIGS: Final = "kafka.admin.ConfigCommand"
DELETE_RECORDS: Final = "org.apache.kafka.tools.DeleteRecordsCommand"
LOG_DIRS: Final = "org.apache.kafka.tools.LogDirsCommand"
FEATURES: Final = "org.apache.kafka.tools.FeatureCommand"
CLUSTER: Final = "org.apache.kafka.tools.ClusterTool"
METADATA_QUORUM: Final = "org.apache.kafka.tools.MetadataQuorumCommand"
LEADER_ELECTION: Final = "org.apache.kafka.tools.LeaderElectionCommand"
REASSIGN_PARTITIONS: Final = "org.apache.kafka.tools.reassign.ReassignPartitionsCommand"
CLIENT_METRICS: Final = "org.apache.kafka.tools.ClientMetricsCommand"
TRANSACTIONS: Final = "org.apache.kafka.tools.TransactionsCommand"
MESSAGE_COPIER: Final = "org.apache.kafka.tools.TransactionalMessageCopier"
END_TO_END_LATENCY: Final = "org.apache.kafka.tools.EndToEndLatency"
VERIFIABLE_PRODUCER: Final = "org.apache.kafka.tools.VerifiableProducer"
VERIFIABLE_CONSUMER: Final = "org.apache.kafka.tools.VerifiableConsumer"
REPLICA_VERIFICATION: Final = "org.apache.kafka.tools.ReplicaVerificationTool"
STREAMS_RESET: Final = "org.apache.kafka.tools.StreamsResetter"
GET_OFFSETS: Final = "org.apache.kafka.tools.GetOffsetShell"
ACLS: Final = "org.apache.kafka.tools.AclCommand"
DELEGATION_TOKENS: Final = "org.apache.kafka.tools.DelegationTokenCommand"
SHARE_GROUPS: Final = "org.apache.kafka.tools.consumer.group.ShareGroupCommand"
STREAMS_GROUPS: Final = "org.apache.kafka.tools.streams.StreamsGroupCommand"
CONSOLE_SHARE_CONSUMER: Final = "org.apache.kafka.tools.consumer.ConsoleShareConsumer"
STORAGE: Final = "kafka.tools.StorageTool"
METADATA_SHELL: Final = "org.apache.kafka.shell.MetadataShell"

RUN_LIMIT_S = 600.0


class ToolFailed(Exception):
    """The tool host did not do what it was asked, or has ended."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a tool left behind: its exit code, and what it wrote."""

    code: int
    out_path: Path
    err_path: Path

    @property
    def out(self) -> str:
        return self.out_path.read_text("utf-8", "replace")

    @property
    def err(self) -> str:
        return self.err_path.read_text("utf-8", "replace")


class Running:
    """A tool that runs: `stop` is Ctrl-C, `result` waits for its end."""

    def __init__(self, host: ToolHost, run_id: str, answer: Future[str], out: Path, err: Path) -> None:
        self.run_id = run_id
        self._host = host
        self._answer = answer
        self._out = out
        self._err = err

    def stop(self) -> None:
        """Run its shutdown hooks, as the end of its JVM would."""
        self._host.ask("stop", self.run_id)

    def result(self, limit_s: float = RUN_LIMIT_S) -> Result:
        """Raises: TimeoutError when it goes on for longer than `limit_s`; ToolFailed."""
        kind, _, code = self._answer.result(limit_s).partition(" ")
        if kind != "ended":
            raise ToolFailed(f"{kind} {code}")
        return Result(code=int(code), out_path=self._out, err_path=self._err)


class ToolHost:
    """One JVM with Apache Kafka's tools in it. Raises: kafka_jars.JavaMissing when there can be none."""

    def __init__(self, folder: Path, jvm: tuple[str, ...] = kafka_jars.SMALL_JVM + kafka_jars.OPEN_TO_PYTHON) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._ids = itertools.count(1)
        self._waiting: dict[str, Future[str]] = {}
        self._lock = threading.Lock()
        with (folder / "jvm.log").open("wb") as log:
            self._process = subprocess.Popen(
                kafka_jars.java("ToolHost", jvm=jvm), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log
            )
        self._reader = threading.Thread(target=self._read_answers, name="tool-host", daemon=True)
        self._reader.start()

    def __enter__(self) -> ToolHost:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the JVM and whatever runs in it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join()
        self._process.stdout.close()

    def start(self, main: str, *arguments: str, stdin: Path | None = None) -> Running:
        """Start a tool, by its main class; it reads `stdin` if given."""
        run_id = str(next(self._ids))
        out, err = self._folder / f"{run_id}.out", self._folder / f"{run_id}.err"
        encoded = [quote(each, safe="") for each in arguments]
        answer = self._send(run_id, "run", main, str(stdin or "-"), str(out), str(err), *encoded)
        return Running(self, run_id, answer, out, err)

    def run(self, main: str, *arguments: str, stdin: Path | None = None, limit_s: float = RUN_LIMIT_S) -> Result:
        """Start a tool and wait for its end. Raises: TimeoutError, ToolFailed."""
        return self.start(main, *arguments, stdin=stdin).result(limit_s)

    def wait_for_lines(self, runs: list[Running], total: int, limit_s: float) -> bool:
        """Wait until these runs have written so many lines to stdout together; False when they did not in time."""
        fields = ("lines", str(total), str(int(limit_s * 1000)), *(run.run_id for run in runs))
        return self.ask(*fields, limit_s=limit_s + 60).startswith("reached")

    def wait_for_assignment(self, client_ids: list[str], each: int, limit_s: float) -> str:
        """Wait until each of these consumers in the JVM has `each` partitions; "ok", or how many each has."""
        return self.ask("assigned", str(each), str(int(limit_s * 1000)), *client_ids, limit_s=limit_s + 60)

    def ask(self, *fields: str, limit_s: float = 60.0) -> str:
        """One command of the host and its answer. Raises: ToolFailed, TimeoutError."""
        answer = self._send(str(next(self._ids)), *fields).result(limit_s)
        if answer.startswith("failed"):
            raise ToolFailed(answer)
        return answer

    def _send(self, request_id: str, *fields: str) -> Future[str]:
        future: Future[str] = Future()
        assert self._process.stdin is not None
        with self._lock:
            self._waiting[request_id] = future
            self._process.stdin.write("\t".join((request_id, *fields)).encode() + b"\n")
            self._process.stdin.flush()
        return future

    def _read_answers(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            request_id, _, answer = line.decode().rstrip("\n").partition("\t")
            with self._lock:
                future = self._waiting.pop(request_id)
            future.set_result(answer)
        code = self._process.wait()
        words = (self._folder / "jvm.log").read_text("utf-8", "replace")
        with self._lock:
            waiting, self._waiting = self._waiting, {}
        for future in waiting.values():
            future.set_exception(ToolFailed(f"the JVM has ended with {code}: {words[-1000:]}"))


class Tools:
    """The tools, each called with the broker's address."""

    def __init__(self, host: ToolHost, address: str) -> None:
        self._host = host
        self._address = address

    def __call__(self, main: str, *arguments: str, stdin: Path | None = None) -> Result:
        return self.bare(main, "--bootstrap-server", self._address, *arguments, stdin=stdin)

    def out(self, main: str, *arguments: str) -> str:
        """What a tool writes when it succeeds."""
        result = self(main, *arguments)
        assert result.code == 0, f"{result.out}\n{result.err}"
        return result.out

    def last(self, main: str, *arguments: str) -> str:
        """What a tool writes when it succeeds that takes the address after its subcommand."""
        result = self.bare(main, *arguments, "--bootstrap-server", self._address)
        assert result.code == 0, f"{result.out}\n{result.err}"
        return result.out

    def bare(self, main: str, *arguments: str, stdin: Path | None = None) -> Result:
        """A tool with nothing added to its arguments."""
        return self._host.run(main, *arguments, stdin=stdin, limit_s=120)

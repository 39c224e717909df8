"""The campaign: stock clients at work, hostile processes beside them, and what it came to.

The broker limits how many partitions a second a client may create or delete (a quota of all client ids), as any broker
should that lets everybody make topics: what is left is what a client can do without rights.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from confluent_kafka.admin import AdminClient, NewTopic

from harness.brokers import ChildBroker
from harness.hostile.work import PARTITIONS
from harness.versions.world import Wire
from kpybroker.wire.api_keys import ApiKey

ROOT = Path(__file__).parents[2]
CLIENTS = ("confluent-kafka", "kafka-python")
SETTINGS = {"auto.create.topics.enable": "false", "connections.max.idle.ms": "60000"}
MUTATIONS_A_SECOND = 5.0
READY_S = 60.0
SAMPLE_S = 0.5
REQUEST_PROCESSES = 2
REQUEST_LOG = "(kafka.request.logger)"
LEVELS = re.compile(r"^\[[^\]]*\] (ERROR|CRITICAL|WARNING) (.*)$")


@dataclass
class Found:
    """What a campaign came to."""

    errors: list[str] = field(default_factory=list)
    """What the stock clients saw that they should not have seen."""
    records: dict[str, int] = field(default_factory=dict)
    requests: Counter[str] = field(default_factory=Counter)
    connections: Counter[str] = field(default_factory=Counter)
    before_mb: float = 0.0
    most_mb: float = 0.0
    after_mb: float = 0.0
    p50_ms: tuple[float, float] = (0.0, 0.0)
    p99_ms: tuple[float, float] = (0.0, 0.0)
    seconds: float = 0.0
    bugs: list[str] = field(default_factory=list)
    """Lines of the broker's log that should not be there."""
    warnings: int = 0
    log_bytes: int = 0


def resident_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise ValueError(f"process {pid} has ended")


class Worker:
    """One stock client, in a process of its own."""

    def __init__(self, what: str, client: str, address: str, topic: str) -> None:
        self.name = f"{client} {what}"
        self.topic = topic
        command = [sys.executable, "-m", "harness.hostile.work", what, client, address, topic]
        self._process = subprocess.Popen(
            command, cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        self._lines: list[str] = []
        self._said: list[str] = []
        self._ready = threading.Event()
        self._threads = [
            threading.Thread(target=self._read, daemon=True),
            threading.Thread(target=self._listen, daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.append(line)
            self._ready.set()
        self._ready.set()

    def _listen(self) -> None:
        assert self._process.stderr is not None
        self._said += self._process.stderr

    def wait_until_ready(self) -> None:
        if not self._ready.wait(READY_S) or not self._lines:
            raise RuntimeError(f"{self.name} does not come to work: {''.join(self._said)[-2000:]}")

    def end(self, line: str = "") -> list[dict[str, Any]]:
        """Tell it to end; the JSON that it says, the last of which has its count and its errors."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        self._process.wait(300)
        for thread in self._threads:
            thread.join()
        said = [json.loads(each) for each in self._lines if each.startswith("{")]
        if not said:
            raise RuntimeError(f"{self.name} ended badly: {''.join(self._said)[-2000:]}")
        said[-1]["errors"] += [each.strip() for each in self._said if "rror" in each]
        return said

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


class Campaign:
    """One run against one broker, which is started and stopped by others."""

    def __init__(self, broker: ChildBroker, *, requests: int, connections: int, seed: int, quiet_s: float) -> None:
        self.broker = broker
        self.found = Found()
        self._requests = requests
        self._connections = connections
        self._seed = seed
        self._quiet_s = quiet_s
        self._workers: list[Worker] = []
        self._attackers: list[tuple[str, subprocess.Popen[str]]] = []

    def run(self) -> Found:
        """All of it. Raises: RuntimeError if a client or an attacker did not do its part."""
        try:
            self._limit_mutations()
            self._start_work()
            began = time.time()
            time.sleep(self._quiet_s)  # the measure that the rest is compared with
            self.found.before_mb = self.found.most_mb = resident_mb(self.broker.pid)
            attack = time.time()
            self._attack()
            over = time.time()
            self.found.seconds = over - attack
            time.sleep(self._quiet_s)
            self._end_work((began, attack), (attack, over))
            self.found.after_mb = resident_mb(self.broker.pid)
            self._read_log()
        finally:
            for worker in self._workers:
                worker.kill()
            for _, process in self._attackers:
                process.kill()
        return self.found

    def _limit_mutations(self) -> None:
        wire = Wire(self.broker.address)
        entity = [{"entity_type": "client-id", "entity_name": None}]
        ops = [{"key": "controller_mutation_rate", "value": MUTATIONS_A_SECOND, "remove": False}]
        wire.ask(ApiKey.ALTER_CLIENT_QUOTAS, 1, {"entries": [{"entity": entity, "ops": ops}], "validate_only": False})
        wire.close()

    def _start_work(self) -> None:
        run = uuid.uuid4().hex
        topics = {client: f"work-{client}-{run}" for client in CLIENTS}
        admin = AdminClient({"bootstrap.servers": self.broker.address})
        sizes = {**dict.fromkeys(topics.values(), PARTITIONS), f"work-latency-{run}": 1}
        for future in admin.create_topics([NewTopic(name, size, 1) for name, size in sizes.items()]).values():
            future.result(READY_S)
        address = self.broker.address
        self._workers = [
            *(Worker("produce", client, address, topic) for client, topic in topics.items()),
            *(Worker("consume", client, address, topic) for client, topic in topics.items()),
            Worker("latency", "raw", address, f"work-latency-{run}"),
        ]
        for worker in self._workers:
            worker.wait_until_ready()

    def _attack(self) -> None:
        share = self._requests // REQUEST_PROCESSES
        for number in range(REQUEST_PROCESSES):
            self._start("requests", share, self._seed + number)
        self._start("connections", self._connections, self._seed)
        while any(process.poll() is None for _, process in self._attackers):
            self.found.most_mb = max(self.found.most_mb, resident_mb(self.broker.pid))
            time.sleep(SAMPLE_S)  # between two readings of /proc
        for what, process in self._attackers:
            out, err = process.communicate()
            if process.returncode != 0:
                raise RuntimeError(f"the process with hostile {what} failed: {err[-2000:]}")
            getattr(self.found, what).update(json.loads(out))

    def _start(self, what: str, count: int, seed: int) -> None:
        command = [sys.executable, "-m", "harness.hostile.attack", what, self.broker.address, str(count), str(seed)]
        process = subprocess.Popen(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self._attackers.append((what, process))

    def _end_work(self, quiet: tuple[float, float], hostile: tuple[float, float]) -> None:
        counts: dict[str, int] = {}
        for worker in self._workers:  # producers first: what they say is what consumers must have
            *more, last = worker.end(str(counts.get(worker.topic, 0)))
            counts[worker.topic] = last["count"]
            self.found.records[worker.name] = last["count"]
            self.found.errors += [f"{worker.name}: {error}" for error in last["errors"]]
            if more:
                times = more[0]["times"]
                both = [sorted(took for at, took in times if first <= at < end) for first, end in (quiet, hostile)]
                self.found.p50_ms, self.found.p99_ms = (
                    tuple(round(each[min(len(each) - 1, len(each) * part // 100)] * 1000, 3) for each in both)  # type: ignore[assignment]
                    for part in (50, 99)
                )

    def _read_log(self) -> None:
        text = self.broker.log_path.read_text("utf-8", "replace")
        lines = [line for line in text.splitlines() if REQUEST_LOG not in line]  # there with --record
        self.found.log_bytes = sum(map(len, lines))
        for number, line in enumerate(lines):
            level = LEVELS.match(line)
            if level is not None and level[1] == "WARNING":
                self.found.warnings += 1
            elif level is not None or "Traceback" in line:
                self.found.bugs.append("\n".join(lines[number : number + 40]))

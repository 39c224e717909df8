"""The campaign around the processors: who feeds them, kills them, starts them again, and looks at what comes out."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

from confluent_kafka import Consumer, IsolationLevel, KafkaError, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from harness.admin import create_topic, until_ready
from harness.brokers import ChildBroker
from harness.exactly_once.processor import POISON

PARTITIONS = 3
COPIES = 3
INPUTS_PER_ROUND = 300
SESSION_MS = 2000
ROUND_LIMIT_S = 120.0
BROKER_SETTINGS = {
    "group.min.session.timeout.ms": "1000",
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": "500",
}
"""So that a processor that has died is noticed within a round."""


class Copy:
    """One processor's process, started again whenever it has ended."""

    def __init__(self, command: list[str], chance: random.Random, ends: Counter[int], log_path: Path) -> None:
        """`command`, to which the seed of its chance is added. `ends`: exit codes, counted."""
        self.process: subprocess.Popen[bytes] | None = None
        self._command = command
        self._chance = chance
        self._ends = ends
        self._log_path = log_path

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def ensure(self) -> None:
        """Start it if it does not run."""
        if self.running:
            return
        if self.process is not None:
            self._ends[self.process.returncode] += 1
        command = [*self._command, str(self._chance.randrange(1 << 30))]
        with self._log_path.open("ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def signal(self, number: int) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)

    def end(self) -> None:
        """Let it finish; kill it if it does not."""
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        if self.process is not None:
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


class Campaign:
    """Rounds of input under kills; the output is checked after each, and as a whole at the end."""

    def __init__(self, broker: ChildBroker, folder: Path, seed: int, processor: list[str]) -> None:
        """`processor`: the command of one, to which its arguments are added."""
        self.broker = broker
        self.chance = random.Random(seed)
        self.log_path = folder / "processors.log"
        self.source, self.target, self.group = f"in-{seed}", f"out-{seed}", f"app-{seed}"
        self.kills = Counter[str]()
        self.ends = Counter[int]()
        self.sent = 0
        self.seen: list[list[int]] = [[] for _ in range(PARTITIONS)]
        for topic in (self.source, self.target):
            create_topic(broker.address, topic, PARTITIONS)
        self.producer = Producer(
            {
                "bootstrap.servers": broker.address,
                "enable.idempotence": True,
                "message.timeout.ms": 120_000,
                "reconnect.backoff.max.ms": 200,
                "linger.ms": 2,
            }
        )
        self.reader = Consumer(
            {
                "bootstrap.servers": broker.address,
                "group.id": f"reader-{seed}",
                "isolation.level": "read_committed",
                "reconnect.backoff.max.ms": 200,
                "fetch.wait.max.ms": 50,
            }
        )
        self.reader.assign([TopicPartition(self.target, index, 0) for index in range(PARTITIONS)])
        arguments = (broker.address, self.source, self.target, self.group)
        self.copies = [
            Copy([*processor, *arguments, f"copy-{number}", str(SESSION_MS)], self.chance, self.ends, self.log_path)
            for number in range(COPIES)
        ]

    def run(self, rounds: int) -> None:
        """Raises: AssertionError for the first thing that is not as it must be."""
        try:
            for copy in self.copies:
                copy.ensure()
            for _ in range(rounds):
                self._round()
        finally:
            for copy in self.copies:
                copy.end()
            self.broker.start() if not self.broker.running else None
        self._check_ends()
        self.reader.close()

    def _round(self) -> None:
        """Feed, and hurt in between; then wait until all of it has come out."""
        for _ in range(3):
            self._feed(INPUTS_PER_ROUND // 3)
            self._hurt()
            self._read(self.chance.random() * 0.5)
            for copy in self.copies:
                copy.signal(signal.SIGCONT)
                copy.ensure()
        deadline = time.monotonic() + ROUND_LIMIT_S
        while sum(map(len, self.seen)) < self.sent:
            assert time.monotonic() < deadline, f"only {sum(map(len, self.seen))} of {self.sent} have come out"
            self._read(0.2)
            for copy in self.copies:
                copy.ensure()

    def _feed(self, count: int) -> None:
        for _ in range(count):
            self.producer.produce(self.source, str(self.sent).encode(), partition=self.sent % PARTITIONS)
            self.sent += 1
        self.producer.poll(0)

    def _hurt(self) -> None:
        time.sleep(self.chance.random() * 0.3)  # at any instant of what the processors do
        copy = self.chance.choice(self.copies)
        what = self.chance.choice(["copy", "copy", "broker", "both", "pause", "two copies"])
        self.kills[what] += 1
        if what in ("copy", "both"):
            copy.signal(signal.SIGKILL)
        if what == "two copies":
            for each in self.chance.sample(self.copies, 2):
                each.signal(signal.SIGKILL)
        if what in ("broker", "both"):
            self.broker.kill()
            self.broker.start()
        if what == "pause":  # it comes back as a zombie, after its partitions were given to others
            copy.signal(signal.SIGSTOP)
            self._read(SESSION_MS / 1000 * (0.5 + self.chance.random()))

    def _read(self, limit_s: float) -> None:
        """Take in what is committed, and look at it."""
        deadline = time.monotonic() + limit_s
        while True:
            for message in self.reader.consume(500, timeout=0.05):
                error = message.error()
                if error is not None:
                    assert error.retriable() or error.code() in (KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN)
                    continue
                self._take(message.partition(), message.value())
            self.producer.poll(0)
            if time.monotonic() >= deadline:
                return

    def _take(self, partition: int, value: bytes) -> None:
        assert value != POISON, f"a record of an aborted transaction was shown, in partition {partition}"
        seen = self.seen[partition]
        expected = len(seen) * PARTITIONS + partition
        assert int(value) == expected, f"partition {partition}: {int(value)} where {expected} was to come"
        seen.append(int(value))

    def _check_ends(self) -> None:
        """No transaction hangs: what is stable reaches the end of every partition, of offsets as of records."""
        admin = AdminClient({"bootstrap.servers": self.broker.address})

        def ends(level: IsolationLevel) -> dict[TopicPartition, int]:
            asked = {
                TopicPartition(topic, index): OffsetSpec.latest()
                for topic, count in ((self.target, PARTITIONS), ("__consumer_offsets", 50))
                for index in range(count)
            }
            found = admin.list_offsets(asked, isolation_level=level)
            return {place: future.result(30).offset for place, future in found.items()}

        deadline = time.monotonic() + ROUND_LIMIT_S
        while True:
            all_, stable = (until_ready(lambda level=level: ends(level)) for level in IsolationLevel)
            behind = {str(place): (stable[place], all_[place]) for place in all_ if stable[place] != all_[place]}
            if not behind:
                return
            assert time.monotonic() < deadline, f"transactions hang: {behind}"
            time.sleep(0.1)  # until the coordinator has aborted what the dead have left

"""What stock clients do with a cluster while it is hurt, and what must hold of it whatever happened.

Each partition has one idempotent producer with acks=all that lives through everything, and its records are numbered: so
record n must be at offset n, by what a delivery report says and by what is read. Groups of two, one for
each group protocol, read and commit all the time: they may read twice what they had not committed, and may leave
nothing out. Copies of a read-process-write application carry the numbers into a second topic in transactions: there
each must come once, and in order.
"""

from __future__ import annotations

import random
import signal
import sys
import threading
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Final

from confluent_kafka import Consumer, KafkaError, Message, Producer, TopicPartition

from harness.clients.confluent import close
from harness.exactly_once import processor
from harness.exactly_once.campaign import Copy
from harness.exactly_once.processor import POISON

PARTITIONS: Final = 3
COPIES: Final = 2
MEMBERS: Final = 2
SESSION_MS: Final = 3000
BATCH: Final = 500
"""Records in a transaction of the copies at most: enough to catch up with what has gathered while they were cut off."""
SAYS_WITHIN_S: Final = 5.0
OUTERMOST: Final = b" in <module>\n"
"""What faulthandler says of a process's main thread ends so."""
LIMIT_S: Final = 180.0
CLIENT: Final = {
    "log_level": 0,  # a line for every attempt to connect to a broker that is down
    "reconnect.backoff.ms": 20,
    "reconnect.backoff.max.ms": 200,
    "socket.timeout.ms": 3000,  # of a broker that is frozen or cut off, nothing else tells
    "socket.connection.setup.timeout.ms": 2000,
    "topic.metadata.refresh.interval.ms": 2000,
    "topic.metadata.refresh.fast.interval.ms": 50,
}


PROTOCOLS: Final[dict[str, dict[str, str | int]]] = {
    "classic": {"group.protocol": "classic", "session.timeout.ms": SESSION_MS, "heartbeat.interval.ms": 500},
    "consumer": {"group.protocol": "consumer"},
}


class Writer:
    """One partition's producer, and when what was acknowledged."""

    def __init__(self, address: str, topic: str, index: int, in_flight: int) -> None:
        self.sent = self.acknowledged = 0
        self.acks_s: list[float] = []
        """When each was acknowledged, by time.monotonic."""
        self.latencies_s: list[float] = []
        self.flaws: list[str] = []
        self._topic = topic
        self._index = index
        self._sent_s: list[float] = []
        self._producer = Producer(
            {
                "bootstrap.servers": address,
                "enable.idempotence": True,
                "max.in.flight": in_flight,
                "acks": "all",
                "linger.ms": 2,
                "message.timeout.ms": 300_000,
                "request.timeout.ms": 3000,
                "retry.backoff.ms": 20,
                "retry.backoff.max.ms": 100,
                **CLIENT,
            }
        )

    def send(self) -> None:
        try:
            report = partial(self._delivered, self.sent)
            self._producer.produce(self._topic, b"%d" % self.sent, partition=self._index, on_delivery=report)
        except BufferError:  # its queue is full: nobody has taken anything for a long time
            return
        self.sent += 1
        self._sent_s.append(time.monotonic())

    def poll(self) -> None:
        self._producer.poll(0)

    def flush(self, limit_s: float) -> int:
        """How many are not acknowledged by then."""
        return int(self._producer.flush(limit_s))

    def give_up(self) -> None:
        """Forget what is not acknowledged."""
        self._producer.purge()

    def _delivered(self, number: int, error: KafkaError | None, message: Message) -> None:
        now_s = time.monotonic()
        if error is not None:
            self.flaws.append(f"partition {self._index}: the producer gave up: {error}")
        elif message.offset() not in (number, -1, None):  # the broker knew it as a duplicate, and no more
            self.flaws.append(f"partition {self._index}: record {number} was acknowledged at {message.offset()}")
        elif number != self.acknowledged:
            self.flaws.append(f"partition {self._index}: {number} was acknowledged, {self.acknowledged} was due")
        self.acks_s.append(now_s)
        self.latencies_s.append(now_s - self._sent_s[number])
        self.acknowledged = max(self.acknowledged, number + 1)


class Load:
    """Writers for all partitions, in a thread of their own, at a steady rate."""

    def __init__(self, address: str, topic: str, *, per_s: int = 100, in_flight: int = 1) -> None:
        """`per_s`: records for each partition. `in_flight`: requests that its producer has on the way.

        With several, librdkafka may write a record twice when a partition gets another leader: told by the former one
        that it leads no more, it sends what comes next before what was refused, is told so by the new one, and begins
        anew under another epoch, with records that were written (confluentinc/librdkafka#4953; on a busy machine seen
        in 2 of 10 runs of a test of controlled shutdowns with Apache Kafka 4.3.1, in 3 of 12 with this broker beside
        it).
        """
        self.writers = [Writer(address, topic, index, in_flight) for index in range(PARTITIONS)]
        self._per_s = per_s
        self._running = threading.Event()
        self._running.set()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        due_s = time.monotonic()
        while self._running.is_set():
            while due_s <= time.monotonic():
                due_s += 1 / self._per_s
                for writer in self.writers:
                    writer.send()
            for writer in self.writers:
                writer.poll()
            time.sleep(0.002)  # the rate's grain

    def check(self) -> None:
        """Raises: AssertionError for whatever a delivery report had against it."""
        assert not (flaws := [flaw for writer in self.writers for flaw in writer.flaws]), flaws

    def served(self, index: int, since_s: float) -> int:
        """How many records of a partition were acknowledged after `since_s`."""
        acks_s = self.writers[index].acks_s
        return len(acks_s) - bisect_left(acks_s, since_s)

    def longest_gap_s(self, begin_s: float, end_s: float) -> float:
        """The longest time that a partition had nothing acknowledged."""
        return max(_longest_gap_s(writer.acks_s, begin_s, end_s) for writer in self.writers)

    def give_up(self) -> None:
        """Send no more, and forget what is not acknowledged."""
        self._running.clear()
        self._thread.join()
        for writer in self.writers:
            writer.give_up()

    def stop(self) -> None:
        """Send no more, and wait until all is acknowledged. Raises: AssertionError."""
        self._running.clear()
        self._thread.join()
        deadline_s = time.monotonic() + LIMIT_S
        left = sum(writer.flush(max(0.0, deadline_s - time.monotonic())) for writer in self.writers)
        assert left == 0, f"{left} records were never acknowledged"
        self.check()

    def __str__(self) -> str:
        return (
            f"acknowledged {[writer.acknowledged for writer in self.writers]} of {[each.sent for each in self.writers]}"
        )


def _longest_gap_s(acks_s: list[float], begin_s: float, end_s: float) -> float:
    within = [each for each in acks_s if begin_s <= each <= end_s]
    points = [begin_s, *within, end_s]
    return max(later - earlier for earlier, later in pairwise(points))


def wait_until(
    reached: Callable[[], bool],
    otherwise: Callable[[], str],
    check: Callable[[], None],
    progress: Callable[[], object] = lambda: None,
) -> None:
    """Look again until it is so.

    Raises: AssertionError when LIMIT_S have passed without `progress` being another, and whatever `check` raises.
    """
    known, deadline_s = progress(), time.monotonic() + LIMIT_S
    while not reached():
        check()
        if (found := progress()) != known:
            known, deadline_s = found, time.monotonic() + LIMIT_S
        assert time.monotonic() < deadline_s, f"no further for {LIMIT_S} s: {otherwise()}"
        time.sleep(0.01)  # between two looks: what is waited for is other threads' and processes' work


class Group:
    """Two members that read and commit, each in a thread of its own."""

    def __init__(self, address: str, group_id: str, topic: str, protocol: str = "classic") -> None:
        """`protocol`: group.protocol of the members."""
        self.read: dict[int, int] = {}
        """Partition -> the offset after the last record that was ever read."""
        self.committed: dict[int, int] = {}
        """Partition -> the last offset that was committed."""
        self.commits = self.assignments = 0
        self.flaws: list[str] = []
        self._lock = threading.Lock()
        self._running = threading.Event()
        self._running.set()
        self._threads = [
            threading.Thread(target=self._run, args=(address, group_id, topic, PROTOCOLS[protocol]), daemon=True)
            for _ in range(MEMBERS)
        ]
        for thread in self._threads:
            thread.start()

    def _run(self, address: str, group_id: str, topic: str, protocol: dict[str, str | int]) -> None:
        position: dict[int, int] = {}

        def assigned(_consumer: Consumer, _partitions: list[TopicPartition]) -> None:
            self.assignments += 1
            position.clear()

        consumer = Consumer(
            {
                "bootstrap.servers": address,
                "group.id": group_id,
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "fetch.wait.max.ms": 50,
                "on_commit": self._committed,
                **protocol,
                **CLIENT,
            }
        )
        consumer.subscribe([topic], on_assign=assigned)
        due_s = 0.0
        while self._running.is_set():
            for message in consumer.consume(500, timeout=0.05):
                if message.error() is None:
                    self._take(position, message)
            if position and time.monotonic() >= due_s:
                due_s = time.monotonic() + 0.1
                offsets = [TopicPartition(topic, index, offset) for index, offset in position.items()]
                consumer.commit(offsets=offsets, asynchronous=True)
        close(consumer)

    def _take(self, position: dict[int, int], message: Message) -> None:
        index, offset = message.partition(), message.offset()
        with self._lock:
            read, expected = self.read.get(index, 0), position.get(index)
            if int(message.value()) != offset:
                self.flaws.append(f"the group read {message.value()!r} at offset {offset} of partition {index}")
            if (expected is None and offset > read) or (expected is not None and offset != expected):
                self.flaws.append(
                    f"the group read offset {offset} of partition {index} where {expected or read} was due"
                )
            position[index] = offset + 1
            self.read[index] = max(read, offset + 1)

    def _committed(self, error: KafkaError | None, partitions: list[TopicPartition]) -> None:
        if error is None:
            self.commits += 1
            with self._lock:
                self.committed |= {each.partition: each.offset for each in partitions if each.error is None}

    def check(self) -> None:
        """Raises: AssertionError."""
        assert not self.flaws, self.flaws

    def stop(self) -> None:
        self._running.clear()
        for thread in self._threads:
            thread.join(LIMIT_S)

    def __str__(self) -> str:
        return f"read {self.read} in {self.assignments} assignments, {self.commits} commits"


class Copied:
    """The copies of the application, and who reads what comes out."""

    def __init__(self, address: str, source: str, target: str, chance: random.Random, folder: Path) -> None:
        self.seen = [0] * PARTITIONS
        """How many have come out of each partition."""
        self.moved_s = [0.0] * PARTITIONS
        """When the last did, by time.monotonic."""
        self.ends: Counter[int] = Counter()
        self.hangs = self.stalls = 0
        """How often copies were killed because nothing came out: by where they were."""
        self._log_path = folder / "copies.log"
        command = [sys.executable, processor.__file__, address, source, target, f"copies-{source}"]
        self._copies = [
            Copy([*command, f"copy-{number}", str(SESSION_MS), str(BATCH)], chance, self.ends, self._log_path)
            for number in range(COPIES)
        ]
        self._reader = Consumer(
            {
                "bootstrap.servers": address,
                "group.id": "nobody",
                "isolation.level": "read_committed",
                "enable.auto.commit": False,
                "fetch.wait.max.ms": 50,
                **CLIENT,
            }
        )
        self._reader.assign([TopicPartition(target, index, 0) for index in range(PARTITIONS)])
        self.keep_up()

    def keep_up(self) -> None:
        """Start the copies that do not run, and take in what has come out. Raises: AssertionError."""
        for copy in self._copies:
            copy.ensure()
        for message in self._reader.consume(2000, timeout=0.05):
            if (error := message.error()) is not None:
                assert error.retriable() or error.code() in (KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN), error
                continue
            index, value = message.partition(), message.value()
            assert value != POISON, f"a record of an aborted transaction was shown, in partition {index}"
            assert int(value) == self.seen[index], f"copy {int(value)} of partition {index}, {self.seen[index]} was due"
            self.seen[index] += 1
            self.moved_s[index] = time.monotonic()

    def restart(self) -> None:
        """kill -9 of all copies, which say first where they are; those that follow them go on from there.

        In send_offsets_to_transaction librdkafka waits for ever if the group's coordinator has left the cluster's
        metadata since it was asked last, and is another one now (confluentinc/librdkafka#5511): a hang of the client's.
        Whatever else they do is a stall.
        """
        # One after the other: they write to the same file, a piece of a line at a time.
        said = b"".join(self._where(copy) for copy in self._copies)
        if b"in _send_offsets" in said:
            self.hangs += 1
        else:
            self.stalls += 1
        for copy in self._copies:
            copy.signal(signal.SIGKILL)

    def _where(self, copy: Copy) -> bytes:
        """The stack of a copy, as it says it; what there is of that if it has ended, or takes SAYS_WITHIN_S."""
        begin, deadline_s = self._log_path.stat().st_size, time.monotonic() + SAYS_WITHIN_S
        copy.signal(signal.SIGUSR1)
        while OUTERMOST not in (said := self._log_path.read_bytes()[begin:]):
            if not copy.running or time.monotonic() > deadline_s:
                break
            time.sleep(0.01)  # between two looks
        return said

    def stop(self) -> None:
        for copy in self._copies:
            copy.end()
        self._reader.close()

    def __str__(self) -> str:
        return f"copied {self.seen}, copies ended by {dict(self.ends)}, {self.hangs} hangs, {self.stalls} stalls"


def read_back(address: str, topic: str, ends: list[int]) -> None:
    """Read a topic from its beginning: record n at offset n, and up to these ends. Raises: AssertionError."""
    consumer = Consumer(
        {
            "bootstrap.servers": address,
            "group.id": "nobody",
            "enable.auto.commit": False,
            "auto.offset.reset": "error",  # or it would go on elsewhere, and what it left out would pass for lost
            **CLIENT,
        }
    )
    try:
        consumer.assign([TopicPartition(topic, index, 0) for index in range(len(ends))])
        read = [0] * len(ends)
        deadline_s = time.monotonic() + LIMIT_S
        while read != ends:
            assert time.monotonic() < deadline_s, f"{topic}: read {read} of {ends}, and nothing for {LIMIT_S} s"
            for message in consumer.consume(5000, timeout=0.2):
                if (error := message.error()) is not None:
                    assert error.code() != KafkaError._AUTO_OFFSET_RESET, error
                    continue
                index = message.partition()
                found, due = (message.offset(), int(message.value())), (read[index], read[index])
                assert found == due, f"{topic}-{index}: offset and number are {found}, {due} were due"
                read[index] += 1
                deadline_s = time.monotonic() + LIMIT_S
    finally:
        consumer.close()

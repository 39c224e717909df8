"""The load under which a broker is killed again and again, and what must hold of it whatever happened.

Every record bears its number in its partition, as a header. Each partition has one producer, idempotent, with acks=all,
that lives through all the kills; so in every topic the record with number n must be at offset n. That holds of what a
delivery report says and of what a consumer reads, also where retention or compaction has taken others: a record that is
lost, written twice or out of order shifts all that follow.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Mapping
from functools import partial
from hashlib import shake_128
from typing import Final, NamedTuple

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from harness.admin import end_offsets
from harness.clients.confluent import close

PARTITIONS: Final = 2
KEYS: Final = 150
TOMBSTONES: Final = 0.15
NUMBER: Final = "number"
LIMIT_S: Final = 120.0
CLIENT: Final = {
    "log_level": 0,  # a line for every attempt to connect to a broker that is down
    "reconnect.backoff.ms": 10,
    "reconnect.backoff.max.ms": 100,
    "socket.timeout.ms": 10_000,
}


class Kind(NamedTuple):
    """A topic of the load."""

    config: Mapping[str, str]
    compacted: bool
    whole: bool
    """Nothing is ever to go."""


SMALL: Final = {"internal.segment.bytes": "16384", "index.interval.bytes": "1024", "file.delete.delay.ms": "300"}
COMPACTED: Final = {"min.cleanable.dirty.ratio": "0.2", "delete.retention.ms": "400"}
TOPICS: Final = {
    "kept": Kind({**SMALL, "internal.segment.bytes": "200000", "retention.ms": "-1"}, compacted=False, whole=True),
    "retained": Kind({**SMALL, "retention.bytes": "65536"}, compacted=False, whole=False),
    "table": Kind({**SMALL, **COMPACTED, "cleanup.policy": "compact"}, compacted=True, whole=False),
    "both": Kind(
        {**SMALL, **COMPACTED, "cleanup.policy": "compact,delete", "retention.bytes": "65536"},
        compacted=True,
        whole=False,
    ),
}
"""By the topic's name."""

Place = tuple[str, int]


class Load:
    """Producers of numbered records for all topics, in a thread of their own, until they are told to stop."""

    def __init__(self, address: str, *, per_s: int, seed: str) -> None:
        """`per_s`: how many records for each partition, as long as the broker takes them."""
        self._per_s = per_s
        self._choose = random.Random(seed)
        self._producers = {topic: _producer(address, topic) for topic in TOPICS}
        self.sent: dict[Place, list[int]] = {(topic, index): [] for topic in TOPICS for index in range(PARTITIONS)}
        """By number: the number of its key, negative if it is a tombstone."""
        self.acknowledged: dict[Place, int] = dict.fromkeys(self.sent, 0)
        self.flaws: list[str] = []
        self._changed = threading.Condition()
        self._running = threading.Event()
        self._pausing = threading.Lock()
        self._running.set()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        began_s, due = time.monotonic(), 0.0
        while self._running.is_set():
            with self._pausing:
                now_s = time.monotonic()
                due += min(now_s - began_s, 0.1) * self._per_s
                began_s = now_s
                while due >= 1:
                    due -= 1
                    for place in self.sent:
                        self._send(place)
            for producer in self._producers.values():
                producer.poll(0)
            time.sleep(0.005)  # the rate's grain

    def _send(self, place: Place) -> None:
        topic, index = place
        number, key = len(self.sent[place]), self._choose.randrange(1, KEYS)
        gone = TOPICS[topic].compacted and self._choose.random() < TOMBSTONES
        value = None if gone else value_of(number)
        try:
            self._producers[topic].produce(
                topic,
                value,
                b"key-%d" % key,
                partition=index,
                headers=[(NUMBER, b"%d" % number)],
                on_delivery=partial(self._delivered, place, number),
            )
        except BufferError:  # its queue is full: the broker is down
            return
        self.sent[place].append(-key if gone else key)

    def _delivered(self, place: Place, number: int, error: KafkaError | None, message: Message) -> None:
        with self._changed:
            if error is not None:
                self.flaws.append(f"{place}: the producer gave up: {error}")
            elif message.offset() not in (number, -1):  # -1: the broker knew it as a duplicate, and no more
                self.flaws.append(f"{place}: record {number} was acknowledged at {message.offset()}")
            elif number != self.acknowledged[place]:
                self.flaws.append(f"{place}: record {number} was acknowledged, not {self.acknowledged[place]}")
            self.acknowledged[place] = max(self.acknowledged[place], number + 1)
            self._changed.notify_all()

    def wait_for_acknowledged(self, more: int) -> None:
        """Until so many more are acknowledged than are now. Raises: AssertionError."""
        with self._changed:
            wanted = sum(self.acknowledged.values()) + more
            self._changed.wait_for(lambda: self.flaws or sum(self.acknowledged.values()) >= wanted, LIMIT_S)
            assert not self.flaws, self.flaws
            assert sum(self.acknowledged.values()) >= wanted, f"not {more} more acknowledged within {LIMIT_S} s"

    def pause(self) -> None:
        """Send nothing until `resume`; all that was sent is acknowledged. Raises: AssertionError."""
        self._pausing.acquire()
        deadline_s = time.monotonic() + LIMIT_S
        for producer in self._producers.values():
            assert producer.flush(deadline_s - time.monotonic()) == 0, "not all acknowledged in time"
        assert not self.flaws, self.flaws
        assert self.acknowledged == {place: len(numbers) for place, numbers in self.sent.items()}

    def resume(self) -> None:
        """After `pause`."""
        self._pausing.release()

    def stop(self) -> None:
        """For good."""
        self._running.clear()
        self._thread.join()


def value_of(number: int) -> bytes:
    """A record's value, of a size of its own, and such that compression does not make it small."""
    return shake_128(b"%d" % number).digest(100 + number * 37 % 200)


def _producer(address: str, topic: str) -> Producer:
    return Producer(
        {
            "bootstrap.servers": address,
            "enable.idempotence": True,
            "acks": "all",
            "linger.ms": 5,
            "batch.num.messages": 40,
            "compression.type": {"table": "lz4", "both": "zstd"}.get(topic, "none"),
            "message.timeout.ms": 300_000,
            "retry.backoff.ms": 20,
            "queue.buffering.max.messages": 5000,
            **CLIENT,
        }
    )


class Group:
    """A member of a group that reads all topics and commits what it has read, in a thread of its own."""

    def __init__(self, address: str, group_id: str) -> None:
        self.consumed: dict[Place, int] = {}
        """The offset after the last record that was ever read."""
        self.committed: dict[Place, int] = {}
        """The highest offset whose commit was acknowledged."""
        self.commits = self.assignments = 0
        self.flaws: list[str] = []
        self._position: dict[Place, int] = {}
        self._consumer = Consumer(
            {
                "bootstrap.servers": address,
                "group.id": group_id,
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "session.timeout.ms": 30_000,
                "heartbeat.interval.ms": 500,
                "fetch.wait.max.ms": 50,
                "on_commit": self._has_committed,
                **CLIENT,
            }
        )
        self._running = threading.Event()
        self._running.set()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        self._consumer.subscribe(list(TOPICS), on_assign=self._assigned)
        commit_due_s = 0.0
        while self._running.is_set():
            for message in self._consumer.consume(500, timeout=0.05):
                if message.error() is None:
                    self._read(message)
            if self._position and time.monotonic() >= commit_due_s:
                commit_due_s = time.monotonic() + 0.05
                offsets = [TopicPartition(*place, offset) for place, offset in self._position.items()]
                self._consumer.commit(offsets=offsets, asynchronous=True)
        close(self._consumer)

    def _assigned(self, _consumer: Consumer, _partitions: list[TopicPartition]) -> None:
        self.assignments += 1
        self._position = {}

    def _read(self, message: Message) -> None:
        place, offset = (message.topic(), message.partition()), message.offset()
        number = int(dict(message.headers() or ())[NUMBER])
        expected = self._position.get(place)
        if number != offset:
            self.flaws.append(f"{place}: record {number} at offset {offset}")
        if expected is None:
            if not self.committed.get(place, 0) <= offset and TOPICS[place[0]].whole:
                self.flaws.append(f"{place}: begun at {offset}, behind the committed {self.committed[place]}")
            if offset > self.consumed.get(place, 0) and TOPICS[place[0]].whole:
                self.flaws.append(f"{place}: begun at {offset}, ahead of what was read, {self.consumed.get(place)}")
        elif offset < expected or (offset > expected and TOPICS[place[0]].whole):
            self.flaws.append(f"{place}: offset {offset} came after {expected - 1}")
        self._position[place] = offset + 1
        self.consumed[place] = max(self.consumed.get(place, 0), offset + 1)

    def _has_committed(self, error: KafkaError | None, partitions: list[TopicPartition]) -> None:
        for each in partitions:
            if error is None and each.error is None:
                self.commits += 1
                place = each.topic, each.partition
                self.committed[place] = max(self.committed.get(place, 0), each.offset)

    def stop(self) -> None:
        """Leave the group. Raises: AssertionError for whatever was wrong."""
        self._running.clear()
        self._thread.join(LIMIT_S)
        assert not self.flaws, self.flaws


class Reader:
    """Reads what a broker holds and compares it with what was sent. Only while the load pauses."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._whole_from: dict[Place, int] = {}
        self.records = 0

    def check(self, load: Load) -> None:
        """All topics. Raises: AssertionError."""
        for topic, kind in TOPICS.items():
            ends = end_offsets(self._address, topic, PARTITIONS)
            for index in range(PARTITIONS):
                place = topic, index
                sent = load.sent[place]
                assert ends[index] == len(sent), f"{place} ends at {ends[index]}, {len(sent)} were acknowledged"
                if sent:
                    self._check(place, kind, sent)

    def _check(self, place: Place, kind: Kind, sent: list[int]) -> None:
        start = self._whole_from.get(place, 0)
        low, offsets = self._offsets(place, start, sent)
        if kind.whole:
            assert low == 0
            assert offsets == list(range(start, len(sent))), f"{place}: not all from {start} on"
            self._whole_from[place] = len(sent)
        elif not kind.compacted:  # while it was read, retention may have taken what is below `low`
            assert [offset for offset in offsets if offset >= low] == list(range(low, len(sent))), f"{place}: a gap"
        else:
            last = {abs(key): number for number, key in enumerate(sent)}
            found = {abs(sent[offset]): offset for offset in offsets}
            for key, number in last.items():
                if number >= low and (sent[number] > 0 or key in found):
                    assert found.get(key) == number, f"{place}: key {key} is of {found.get(key)}, not of {number}"

    def _offsets(self, place: Place, start: int, sent: list[int]) -> tuple[int, list[int]]:
        """The log start after reading, and the offsets of all records, each compared with what was sent."""
        offsets: list[int] = []
        consumer = Consumer(
            {
                **CLIENT,
                "bootstrap.servers": self._address,
                "group.id": "nobody",
                "enable.partition.eof": True,
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "fetch.wait.max.ms": 20,
            }
        )
        try:
            consumer.assign([TopicPartition(*place, start)])
            while True:
                message = consumer.poll(LIMIT_S)
                assert message is not None, f"{place}: nothing more after {offsets[-1:]}"
                error = message.error()
                if error is None:
                    _compare(place, message, sent)
                    offsets.append(message.offset())
                elif error.code() != KafkaError._PARTITION_EOF:
                    raise KafkaException(error)
                elif message.offset() >= len(sent):
                    break
            low, _ = consumer.get_watermark_offsets(TopicPartition(*place), timeout=LIMIT_S)
        finally:
            consumer.close()
        assert offsets == sorted(set(offsets)), f"{place}: the offsets fall"
        self.records += len(offsets)
        return low, offsets


def _compare(place: Place, message: Message, sent: list[int]) -> None:
    offset = message.offset()
    assert dict(message.headers() or ())[NUMBER] == b"%d" % offset, f"{place}: {message.headers()} at {offset}"
    key = sent[offset]
    wanted = b"key-%d" % abs(key), None if key < 0 else value_of(offset)
    assert (message.key(), message.value()) == wanted, f"{place}: another record at {offset}"

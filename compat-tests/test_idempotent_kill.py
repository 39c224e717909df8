"""kill -9 under an idempotent producer, again and again: nothing acknowledged lost, nothing twice, order kept.

One producer lives through all the restarts. It numbers what it sends to each partition; at the end each partition must
hold its numbers from 0 on without gap, repetition or disorder, at least up to the last that was acknowledged.
"""

from __future__ import annotations

import threading
import uuid
from collections import Counter

import pytest
from confluent_kafka import Consumer, KafkaError, Message, Producer, TopicPartition
from harness.admin import create_topic, end_offsets
from harness.brokers import ChildBroker

PARTITIONS = 3
ACKNOWLEDGED_PER_CYCLE = 2000
CYCLE_LIMIT_S = 120.0


class NumberingProducer:
    """Sends numbers to each partition in turn, in a thread of its own, until it is told to stop."""

    def __init__(self, address: str, topic: str) -> None:
        self._topic = topic
        self._producer = Producer(
            {
                "bootstrap.servers": address,
                "enable.idempotence": True,
                "acks": "all",
                "linger.ms": 2,
                "batch.num.messages": 100,
                "message.timeout.ms": 300_000,
                "reconnect.backoff.max.ms": 200,
                "queue.buffering.max.messages": 20_000,
            }
        )
        self._changed = threading.Condition()
        self._stopping = threading.Event()
        self.sent = Counter[int]()
        self.acknowledged = Counter[int]()
        self.failures: list[KafkaError] = []
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stopping.is_set():
            for partition in range(PARTITIONS):
                try:
                    number = str(self.sent[partition]).encode()
                    self._producer.produce(self._topic, number, partition=partition, on_delivery=self._delivered)
                except BufferError:  # its queue is full: the broker is down
                    self._producer.poll(0.05)
                else:
                    self.sent[partition] += 1
            self._producer.poll(0)

    def _delivered(self, error: KafkaError | None, message: Message) -> None:
        with self._changed:
            if error is not None:
                self.failures.append(error)
            else:
                self.acknowledged[message.partition()] += 1
            self._changed.notify_all()

    def wait_for_acknowledged(self, more: int) -> None:
        """Until so many more are acknowledged than are now. Raises: AssertionError."""
        with self._changed:
            wanted = self.acknowledged.total() + more
            enough = self._changed.wait_for(
                lambda: bool(self.failures) or self.acknowledged.total() >= wanted, CYCLE_LIMIT_S
            )
        assert not self.failures, f"the producer gave up: {self.failures[0]}"
        assert enough, f"{self.acknowledged.total()} acknowledged, {wanted} wanted within {CYCLE_LIMIT_S} s"

    def finish(self) -> None:
        """Stop sending, and wait until all that was sent is acknowledged. Raises: AssertionError."""
        self._stopping.set()
        self._thread.join()
        left = self._producer.flush(CYCLE_LIMIT_S)
        assert not self.failures, f"the producer gave up: {self.failures[0]}"
        assert left == 0
        assert self.acknowledged == self.sent


def test_kill_9_under_an_idempotent_producer(restartable: ChildBroker, request: pytest.FixtureRequest) -> None:
    topic = f"idempotent-{uuid.uuid4().hex[:8]}"
    create_topic(restartable.address, topic, PARTITIONS)
    producer = NumberingProducer(restartable.address, topic)

    for _cycle in range(request.config.getoption("--cycles")):
        producer.wait_for_acknowledged(ACKNOWLEDGED_PER_CYCLE)
        restartable.kill()
        restartable.start()
    producer.wait_for_acknowledged(ACKNOWLEDGED_PER_CYCLE)
    producer.finish()

    for partition in range(PARTITIONS):
        stored = _stored(restartable.address, topic, partition)
        assert stored == list(range(producer.sent[partition])), _first_flaw(partition, stored, producer.sent[partition])


def _stored(address: str, topic: str, partition: int) -> list[int]:
    """All numbers that a partition holds, in their order."""
    end = end_offsets(address, topic, PARTITIONS)[partition]
    consumer = Consumer({"bootstrap.servers": address, "group.id": "nobody", "enable.partition.eof": True})
    consumer.assign([TopicPartition(topic, partition, 0)])
    numbers: list[int] = []
    while True:
        message = consumer.poll(CYCLE_LIMIT_S)
        assert message is not None, f"only {len(numbers)} records of {end} came out of partition {partition}"
        error = message.error()
        if error is None:
            numbers.append(int(message.value()))
        elif error.code() == KafkaError._PARTITION_EOF and message.offset() >= end:
            consumer.close()
            return numbers
        else:
            assert error.retriable() or error.code() == KafkaError._PARTITION_EOF, error


def _first_flaw(partition: int, stored: list[int], sent: int) -> str:
    twice = [number for number, count in Counter(stored).items() if count > 1]
    missing = sorted(set(range(sent)) - set(stored))
    return (
        f"partition {partition}: {sent} acknowledged, {len(stored)} stored; "
        f"missing {missing[:5]} ({len(missing)}), twice {twice[:5]} ({len(twice)}), "
        f"in order: {stored == sorted(stored)}"
    )

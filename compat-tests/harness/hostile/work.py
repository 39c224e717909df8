"""A stock client at its work: numbers its records, produces them at a steady pace, or checks that every one arrives.

    python -m harness.hostile.work produce|consume confluent-kafka|kafka-python ADDRESS TOPIC
    python -m harness.hostile.work latency raw ADDRESS TOPIC

Says "ready" when it is at work, and ends when it is told to: a producer by a line on stdin, a consumer by a line with
how many records there are. The last line that it says is JSON: how many it saw, and every error that it saw.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

PARTITIONS = 2
PACE_S = 0.005
BATCH = 5
"""Records in a row, then a pause: about a thousand a second."""
LAST_S = 120.0
"""How long a consumer waits for what was produced before it was told to end."""


class Told:
    """What the parent says: a line, sooner or later."""

    def __init__(self) -> None:
        self.line: str | None = None
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        self.line = sys.stdin.readline()


def value_of(number: int) -> bytes:
    return b"%d:" % number + b"v" * (number % 700)


class Checked:
    """The records that a consumer has had: each number once, and in their partitions in order."""

    def __init__(self) -> None:
        self.count = 0
        self.errors: list[str] = []
        self._next = list(range(PARTITIONS))

    def record(self, partition: int, value: bytes) -> None:
        number = int(value.partition(b":")[0])
        if value != value_of(number):
            self.errors.append(f"record {number} has another value")
        if number != self._next[partition]:
            self.errors.append(f"partition {partition}: record {number} where {self._next[partition]} was next")
        self._next[partition] = number + PARTITIONS
        self.count += 1


def produce(send: Callable[[int, bytes], None], told: Told) -> int:
    """Send numbered records until told to end; how many."""
    number = 0
    while told.line is None:
        for _ in range(BATCH):
            send(number % PARTITIONS, value_of(number))
            number += 1
        time.sleep(PACE_S)
        if number == BATCH:
            print("ready", flush=True)
    return number


def consume(records: Iterator[tuple[int, bytes] | None], told: Told) -> Checked:
    """Check what arrives until all that there are have arrived. None: nothing did for a moment."""
    checked = Checked()
    deadline = float("inf")
    for record in records:
        if record is not None:
            checked.record(*record)
            if checked.count == 1:
                print("ready", flush=True)
        if told.line is not None:
            deadline = min(deadline, time.monotonic() + LAST_S)
            if checked.count >= int(told.line):
                break
            if time.monotonic() > deadline:
                checked.errors.append(f"{int(told.line) - checked.count} records did not arrive")
                break
    return checked


def confluent_produce(address: str, topic: str, told: Told) -> tuple[int, list[str]]:
    from confluent_kafka import Producer

    errors: list[str] = []

    def delivered(error: Any, _message: Any) -> None:
        if error is not None:
            errors.append(f"delivery: {error}")

    settings = {"bootstrap.servers": address, "enable.idempotence": True, "linger.ms": 5}
    producer = Producer({**settings, "error_cb": lambda error: errors.append(f"client: {error}")})

    def send(partition: int, value: bytes) -> None:
        producer.produce(topic, value, partition=partition, on_delivery=delivered)
        producer.poll(0)

    count = produce(send, told)
    if left := producer.flush(LAST_S):
        errors.append(f"{left} records were not delivered")
    return count, errors


def confluent_consume(address: str, topic: str, told: Told) -> tuple[int, list[str]]:
    from confluent_kafka import Consumer

    errors: list[str] = []
    settings = {"bootstrap.servers": address, "group.id": f"{topic}-group", "auto.offset.reset": "earliest"}
    consumer = Consumer({**settings, "error_cb": lambda error: errors.append(f"client: {error}")})
    consumer.subscribe([topic])

    def records() -> Iterator[tuple[int, bytes] | None]:
        while True:
            message = consumer.poll(0.2)
            if message is not None and message.error() is not None:
                errors.append(f"consume: {message.error()}")
            elif message is not None:
                yield message.partition(), message.value()
            else:
                yield None

    checked = consume(records(), told)
    consumer.close()
    return checked.count, checked.errors + errors


def kafka_python_produce(address: str, topic: str, told: Told) -> tuple[int, list[str]]:
    from kafka import KafkaProducer

    errors: list[str] = []
    producer = KafkaProducer(bootstrap_servers=address, acks="all", enable_idempotence=True, linger_ms=5)

    def send(partition: int, value: bytes) -> None:
        future = producer.send(topic, value, partition=partition)
        future.add_errback(lambda error: errors.append(f"delivery: {error!r}"))

    count = produce(send, told)
    producer.flush(LAST_S)
    producer.close()
    return count, errors


def kafka_python_consume(address: str, topic: str, told: Told) -> tuple[int, list[str]]:
    from kafka import KafkaConsumer

    consumer = KafkaConsumer(topic, bootstrap_servers=address, group_id=f"{topic}-group", auto_offset_reset="earliest")

    def records() -> Iterator[tuple[int, bytes] | None]:
        while True:
            for batch in consumer.poll(timeout_ms=200).values():
                for record in batch:
                    yield record.partition, record.value
            yield None

    checked = consume(records(), told)
    consumer.close()
    return checked.count, checked.errors


def latency(address: str, topic: str, told: Told) -> tuple[int, list[str]]:
    """One synchronous produce after the other; a line for each: when it was sent, and how long it took."""
    from harness.hostile.raw import SyncProduce

    client = SyncProduce(address, topic)
    times: list[tuple[float, float]] = []
    while told.line is None:
        times.append((time.time(), client.one()))
        if len(times) == 1:
            print("ready", flush=True)
        time.sleep(0.005)
    client.close()
    print(json.dumps({"times": times}))
    return len(times), []


WORK = {
    ("produce", "confluent-kafka"): confluent_produce,
    ("consume", "confluent-kafka"): confluent_consume,
    ("produce", "kafka-python"): kafka_python_produce,
    ("consume", "kafka-python"): kafka_python_consume,
    ("latency", "raw"): latency,
}


def main(arguments: list[str]) -> None:
    what, client, address, topic = arguments
    count, errors = WORK[what, client](address, topic, Told())
    print(json.dumps({"count": count, "errors": errors}))


if __name__ == "__main__":
    main(sys.argv[1:])

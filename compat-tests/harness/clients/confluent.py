"""confluent-kafka: librdkafka, as most languages but Java use it."""

from __future__ import annotations

import time
from collections.abc import Sequence

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer

from harness.clients import PARTITIONS
from harness.clients.base import TextClient, TextGroup, ThreadedGroup


def close(consumer: Consumer, limit_s: float = 60.0) -> None:
    """Leave the group, and only then end.

    An assignment that is still to be told when the consumer closes can make librdkafka wait for ever, and Python with
    it (confluentinc/librdkafka#4884): whatever was on its way is told before. Raises: AssertionError.
    """
    consumer.unsubscribe()
    deadline_s = time.monotonic() + limit_s
    consumer.consume(num_messages=500, timeout=0.05)
    while consumer.assignment():
        assert time.monotonic() < deadline_s, "it keeps its partitions"
        consumer.consume(num_messages=500, timeout=0.05)
    consumer.close()


class ConfluentMember:
    """One librdkafka consumer."""

    def __init__(self, address: str, topic: str, group_id: str) -> None:
        self._consumer = Consumer(
            {
                "bootstrap.servers": address,
                "group.id": group_id,
                "auto.offset.reset": "earliest",
                "heartbeat.interval.ms": 300,
                "topic.metadata.refresh.interval.ms": 1000,
            }
        )
        self._consumer.subscribe([topic])

    def poll(self) -> list[bytes]:
        values = []
        for message in self._consumer.consume(num_messages=2000, timeout=0.2):
            error = message.error()
            if error is not None and not error.retriable():
                raise KafkaException(error)
            if error is None:
                values.append(message.value())
        return values

    def partitions(self) -> frozenset[int]:
        return frozenset(each.partition for each in self._consumer.assignment())

    def commit(self) -> bool:
        try:
            self._consumer.commit(asynchronous=False)
        except KafkaException as error:
            code = error.args[0].code()
            if code not in (KafkaError._NO_OFFSET, KafkaError.REBALANCE_IN_PROGRESS, KafkaError.ILLEGAL_GENERATION):
                raise
            return bool(code == KafkaError._NO_OFFSET)  # nothing that is not committed
        return True

    def leave(self) -> None:
        close(self._consumer)


class Confluent(TextClient):
    name = "confluent-kafka"

    def write(self, address: str, topic: str, codec: str, lines: Sequence[bytes]) -> None:
        acknowledged = 0
        failures: list[KafkaError] = []

        def delivered(error: KafkaError | None, _message: Message) -> None:
            nonlocal acknowledged
            if error is None:
                acknowledged += 1
            else:
                failures.append(error)

        producer = Producer({"bootstrap.servers": address, "compression.type": codec, "acks": "all", "linger.ms": 20})
        for number, line in enumerate(lines):
            while True:
                try:
                    producer.produce(topic, line, partition=number % PARTITIONS, on_delivery=delivered)
                    break
                except BufferError:  # its queue is full
                    producer.poll(0.1)
            if number % 1000 == 0:
                producer.poll(0)
        assert producer.flush(300) == 0
        assert not failures, f"{len(failures)} lines were not acknowledged; the first: {failures[0]}"
        assert acknowledged == len(lines)

    def group(self, address: str, topic: str, group_id: str) -> TextGroup:
        return ThreadedGroup(lambda: ConfluentMember(address, topic, group_id))

"""confluent-kafka: librdkafka, as most languages but Java use it."""

from __future__ import annotations

from collections.abc import Sequence

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer

from harness.clients import PARTITIONS
from harness.clients.base import TextClient, TextGroup, ThreadedGroup


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
        self._consumer.close()


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

"""Small questions that many tests ask of a broker, by confluent-kafka."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

REQUEST_LIMIT_S: Final = 60.0
NOT_YET: Final = frozenset(
    {
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.NOT_COORDINATOR,
        KafkaError._TRANSPORT,
        KafkaError._ALL_BROKERS_DOWN,
        KafkaError._UNKNOWN_PARTITION,
    }
)
"""What a broker that has just started may answer, and some calls of librdkafka do not try again for."""

T = TypeVar("T")


def create_topic(address: str, topic: str, partitions: int) -> None:
    """Create a topic and wait until it is there. Raises: KafkaException."""
    admin = AdminClient({"bootstrap.servers": address})
    futures = admin.create_topics([NewTopic(topic, partitions, 1)], operation_timeout=REQUEST_LIMIT_S)
    futures[topic].result(REQUEST_LIMIT_S)


def wait_led(address: str, topic: str, partitions: int) -> None:
    """Until a broker tells of a topic with leaders: some time after it was made, or after the broker was started."""
    admin = AdminClient({"bootstrap.servers": address})

    def led() -> bool:
        found = admin.list_topics(timeout=REQUEST_LIMIT_S).topics.get(topic)
        leaders = [] if found is None else [each.leader for each in found.partitions.values()]
        return len(leaders) == partitions and min(leaders) >= 0

    deadline = time.monotonic() + REQUEST_LIMIT_S
    while not until_ready(led):
        assert time.monotonic() < deadline, f"{topic} has no leaders"
        time.sleep(0.02)  # between two questions: there is nothing else to wait on


def topic_id(address: str, topic: str) -> str:
    """A topic's id, as text. Raises: KafkaException."""
    admin = AdminClient({"bootstrap.servers": address})
    described = admin.describe_topics(TopicCollection([topic]))[topic]
    return str(described.result(REQUEST_LIMIT_S).topic_id)


def end_offsets(address: str, topic: str, partitions: int) -> dict[int, int]:
    """Partition -> the offset after its last record. Raises: KafkaException."""

    def end_of(number: int) -> int:
        return consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=REQUEST_LIMIT_S)[1]

    with _asking(address, "nobody") as consumer:
        return {number: until_ready(lambda number=number: end_of(number)) for number in range(partitions)}


def committed(address: str, group_id: str, topic: str, partitions: int) -> dict[int, int]:
    """Partition -> the group's committed offset; -1001 where there is none. Raises: KafkaException."""

    def ask() -> dict[int, int]:
        asked = [TopicPartition(topic, number) for number in range(partitions)]
        answers = consumer.committed(asked, timeout=REQUEST_LIMIT_S)
        for answer in answers:
            if answer.error is not None:
                raise KafkaException(answer.error)
        return {answer.partition: answer.offset for answer in answers}

    with _asking(address, group_id) as consumer:
        return until_ready(ask)


def until_ready(ask: Callable[[], T]) -> T:
    """Ask again while the answer is that the broker is not ready for it yet. Raises: KafkaException."""
    deadline = time.monotonic() + REQUEST_LIMIT_S
    while True:
        try:
            return ask()
        except KafkaException as error:
            if error.args[0].code() not in NOT_YET or time.monotonic() > deadline:
                raise
        time.sleep(0.05)  # between two questions: there is nothing else to wait on


@contextmanager
def _asking(address: str, group_id: str) -> Iterator[Consumer]:
    """A consumer that joins nothing."""
    consumer = Consumer({"bootstrap.servers": address, "group.id": group_id, "enable.auto.commit": False})
    try:
        yield consumer
    finally:
        consumer.close()

"""kafka-python 3: a client written in Python alone."""

from __future__ import annotations

from collections.abc import Sequence

from kafka import KafkaConsumer, KafkaProducer
from kafka.errors import RebalanceInProgressError

from harness.clients import PARTITIONS
from harness.clients.base import TextClient, TextGroup, ThreadedGroup


def keep_joining(consumer: KafkaConsumer) -> None:
    """Call after each poll: lets a member end the join that it was in when its poll ran out of time.

    kafka-python 3.0.12 takes a join as over when JoinGroup is answered. A poll that ends between that answer and
    SyncGroup's is not taken up again by the next one: the member stays without partitions, and without heartbeats.
    """
    coordinator = consumer._coordinator
    if coordinator.rejoining and not coordinator.rejoin_needed:
        coordinator.request_rejoin()  # the next poll waits for the same join; no second JoinGroup is sent


class KafkaPythonMember:
    """One KafkaConsumer."""

    def __init__(self, address: str, topic: str, group_id: str) -> None:
        self._consumer = KafkaConsumer(
            topic,
            bootstrap_servers=address,
            group_id=group_id,
            auto_offset_reset="earliest",
            heartbeat_interval_ms=300,
            max_poll_records=5000,
        )

    def poll(self) -> list[bytes]:
        polled = self._consumer.poll(timeout_ms=200)
        keep_joining(self._consumer)
        return [record.value for records in polled.values() for record in records]

    def partitions(self) -> frozenset[int]:
        return frozenset(each.partition for each in self._consumer.assignment())

    def commit(self) -> bool:
        try:
            self._consumer.commit()
        except RebalanceInProgressError:
            return False
        return True

    def leave(self) -> None:
        self._consumer.close(autocommit=False)


class KafkaPython(TextClient):
    name = "kafka-python"

    def write(self, address: str, topic: str, codec: str, lines: Sequence[bytes]) -> None:
        failures: list[BaseException] = []
        producer = KafkaProducer(
            bootstrap_servers=address,
            compression_type=None if codec == "none" else codec,
            acks="all",
            linger_ms=20,
            batch_size=65536,
        )
        try:
            last = None
            for number, line in enumerate(lines):
                last = producer.send(topic, line, partition=number % PARTITIONS)
                last.add_errback(failures.append)
            producer.flush(timeout=300)
        finally:
            producer.close()
        assert last is not None
        assert last.is_done
        assert not failures, f"{len(failures)} lines were not acknowledged; the first: {failures[0]!r}"

    def group(self, address: str, topic: str, group_id: str) -> TextGroup:
        return ThreadedGroup(lambda: KafkaPythonMember(address, topic, group_id))

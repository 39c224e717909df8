"""What coordinators have in their care while they hand over: groups' offsets, and a transaction that is open."""

from __future__ import annotations

from typing import Final

from confluent_kafka import Consumer, TopicPartition

from harness.cluster.load import CLIENT
from harness.java_clients import JavaClients

WAIT_S: Final = 60.0


class OpenTransaction:
    """A transactional producer: what it does in a round is begun under one coordinator, and ended under the next.

    The Java client's: librdkafka's waits for ever for a group's coordinator that has left the metadata meanwhile
    (librdkafka's issue 5511).
    """

    def __init__(self, clients: JavaClients, address: str, name: str, topic: str) -> None:
        """`name`: of the transactional id and of the group whose offsets it commits; `topic` is written to."""
        self.expected: list[bytes] = []
        """What readers of committed records are to see."""
        self.offset = 0
        """What the group is to have committed."""
        self._clients = clients
        self._topic = topic
        self._offset = 0
        self._open: list[bytes] = []
        self._group = clients.consumer_api.ConsumerGroupMetadata(name)
        self._producer = clients.open_producer(address, transactional_id=name)
        self._producer.initTransactions()

    def begin(self) -> None:
        """Write, and add an offset."""
        self._offset += 1
        self._producer.beginTransaction()
        self._write(b"before")
        offset = self._clients.consumer_api.OffsetAndMetadata(self._offset)
        partition = self._clients.partition(self._topic, 0)
        self._producer.sendOffsetsToTransaction({partition: offset}, self._group)

    def end(self, *, commit: bool) -> None:
        """Write more, and commit or abort."""
        self._write(b"after")
        if commit:
            self._producer.commitTransaction()
            self.expected += self._open
            self.offset = self._offset
        else:
            self._producer.abortTransaction()
        self._open = []

    def close(self) -> None:
        self._producer.close()

    def _write(self, when: bytes) -> None:
        values = [b"%d %s %d" % (self._offset, when, number) for number in range(10)]
        self._clients.send(self._producer, self._topic, 1, values)
        self._open += values


def committed(address: str, group_id: str, topic: str, partitions: int) -> dict[int, int]:
    """What a group has committed, by its coordinator now."""
    consumer = Consumer({"bootstrap.servers": address, "group.id": group_id, **CLIENT})
    try:
        asked = [TopicPartition(topic, index) for index in range(partitions)]
        found = consumer.committed(asked, timeout=WAIT_S)
        assert not (errors := [each.error for each in found if each.error is not None]), errors
        return {each.partition: each.offset for each in found if each.offset >= 0}
    finally:
        consumer.close()

"""What readers of committed and of all records see of a topic, by confluent-kafka."""

from __future__ import annotations

import time

from confluent_kafka import Consumer, IsolationLevel, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from harness.admin import until_ready

READ_LIMIT_S = 60.0


def ends(address: str, topic: str, partitions: int, *, committed: bool) -> list[int]:
    """Where the partitions end for such a reader."""
    level = IsolationLevel.READ_COMMITTED if committed else IsolationLevel.READ_UNCOMMITTED
    admin = AdminClient({"bootstrap.servers": address})
    asked = {TopicPartition(topic, index): OffsetSpec.latest() for index in range(partitions)}

    def found() -> list[int]:
        futures = admin.list_offsets(asked, isolation_level=level)
        return [futures[place].result(READ_LIMIT_S).offset for place in asked]

    return until_ready(found)


def wait_until_decided(address: str, topic: str, partitions: int) -> None:
    """Until no transaction is open in the topic: its end is answered before its markers are written."""
    deadline = time.monotonic() + READ_LIMIT_S
    while ends(address, topic, partitions, committed=True) != ends(address, topic, partitions, committed=False):
        assert time.monotonic() < deadline, "a transaction is not decided"
        time.sleep(0.01)  # between two questions: there is nothing else to wait on


def values(address: str, topic: str, partitions: int, *, committed: bool) -> list[str]:
    """All values that such a reader gets, up to the ends as they are now, sorted."""
    consumer = Consumer(
        {
            "bootstrap.servers": address,
            "group.id": "nobody",
            "isolation.level": "read_committed" if committed else "read_uncommitted",
            "enable.auto.commit": False,
            "fetch.wait.max.ms": 50,
        }
    )
    wanted = {index: end for index, end in enumerate(ends(address, topic, partitions, committed=committed)) if end}
    consumer.assign([TopicPartition(topic, index, 0) for index in wanted])
    found: list[str] = []

    def reached() -> bool:
        """Positions pass over markers and over what was aborted."""
        positions = consumer.position([TopicPartition(topic, index) for index in wanted])
        return all(each.offset >= wanted[each.partition] for each in positions)

    for _ in range(int(READ_LIMIT_S / 0.1)):
        if reached():
            break
        messages = consumer.consume(500, timeout=0.1)
        found += [message.value().decode() for message in messages if message.error() is None]
    assert reached(), f"of {wanted} only {consumer.position([TopicPartition(topic, each) for each in wanted])}"
    consumer.close()
    return sorted(found)

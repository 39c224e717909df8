"""What a node does by itself: old records go, deleted folders go, checkpoints are written."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from kpybroker.testing import Broker
from kpybroker.wire.codes import Code
from kpybroker.wire.messages.delete_topics import DeleteTopicsRequest, DeleteTopicsResponse, DeleteTopicState
from kpybroker.wire.messages.list_offsets import (
    ListOffsetsPartition,
    ListOffsetsRequest,
    ListOffsetsResponse,
    ListOffsetsTopic,
)
from kpybroker.wire.messages.produce import PartitionProduceData, ProduceRequest, ProduceResponse, TopicProduceData
from kpybroker.wire.primitives import ZERO_UUID
from kpybroker.wire.records.batch import build_batch, iter_headers, iter_records
from kpybroker.wire.records.record import Record

LIMIT_S = 20.0
LONG_AGO_MS = 1_600_000_000_000


def until(reached: Callable[[], bool]) -> None:
    """Look again and again: what is awaited happens in the node's own time."""
    deadline_s = time.monotonic() + LIMIT_S
    while not reached():
        assert time.monotonic() < deadline_s, "it has not happened"


def produce(client: Any, value: bytes | None, key: bytes | None = None) -> None:
    records = build_batch([Record(timestamp=LONG_AGO_MS, key=key, value=value)])
    data = TopicProduceData(name="t", partition_data=[PartitionProduceData(index=0, records=records)])
    request = ProduceRequest(acks=1, timeout_ms=1000, topic_data=[data])
    answer = client.ask(request, ProduceResponse, 12).responses[0].partition_responses[0]
    assert answer.error_code == Code.NONE


def earliest(client: Any) -> int:
    partition = ListOffsetsPartition(partition_index=0, timestamp=-2)
    request = ListOffsetsRequest(replica_id=-1, topics=[ListOffsetsTopic(name="t", partitions=[partition])])
    offset: int = client.ask(request, ListOffsetsResponse, 1).topics[0].partitions[0].offset
    return offset


def test_old_segments_go(connect_to: Callable[[int], Any]) -> None:
    with Broker({"log.retention.check.interval.ms": 50}) as broker:
        broker.create_topic("t", configs={"segment.bytes": 1024 * 1024, "retention.ms": 1000})
        client = connect_to(broker.port)
        for _ in range(12):
            produce(client, bytes(200_000))
        until(lambda: earliest(client) > 0)


def contents(broker: Broker) -> list[tuple[int, bytes | memoryview | None]]:
    """Offset and key of every record in the partition's files."""
    found = []
    for path in sorted((broker.data_dir / "t-0").glob("*.log")):
        data = path.read_bytes()
        for position, _ in iter_headers(data):
            found += [(record.offset, record.key) for record in iter_records(data, position)]
    return found


def test_a_compacted_topic_is_compacted_and_goes_on_where_it_was(connect_to: Callable[[int], Any]) -> None:
    with Broker({"log.cleaner.backoff.ms": 20}) as broker:
        configs = {"cleanup.policy": "compact", "min.cleanable.dirty.ratio": 0.01, "segment.bytes": 1024 * 1024}
        broker.create_topic("t", configs=configs)
        client = connect_to(broker.port)
        for number in range(20):
            produce(client, bytes(200_000), key=b"first" if number == 0 else b"key")
        checkpoint = broker.data_dir / "cleaner-offset-checkpoint"
        until(lambda: checkpoint.exists() and "t 0 15" in checkpoint.read_text())
        kept = [(0, b"first"), (14, b"key"), *((offset, b"key") for offset in range(15, 20))]
        assert contents(broker) == kept
        broker.restart()
        produce(connect_to(broker.port), b"x", key=b"first")
        assert contents(broker) == [*kept, (20, b"first")]


def delete(client: Any) -> None:
    topics = [DeleteTopicState(name="t", topic_id=ZERO_UUID)]
    client.ask(DeleteTopicsRequest(topics=topics, timeout_ms=1000), DeleteTopicsResponse, 6)


def folders(broker: Broker) -> list[str]:
    return [path.name for path in broker.data_dir.iterdir() if path.name.startswith("t-0")]


def test_a_deleted_topic_leaves_the_disk_when_its_delay_is_over(connect_to: Callable[[int], Any]) -> None:
    with Broker({"log.segment.delete.delay.ms": 0}) as broker:
        broker.create_topic("t")
        client = connect_to(broker.port)
        produce(client, b"x")
        delete(client)
        until(lambda: folders(broker) == [])


def test_a_restart_finishes_deletions(connect_to: Callable[[int], Any]) -> None:
    with Broker() as broker:
        broker.create_topic("t")
        delete(connect_to(broker.port))
        assert [name.endswith("-delete") for name in folders(broker)] == [True], "for a minute"
        broker.restart()
        until(lambda: folders(broker) == [])


def test_checkpoints_are_written(connect_to: Callable[[int], Any]) -> None:
    often = {
        "replica.high.watermark.checkpoint.interval.ms": 20,
        "log.flush.offset.checkpoint.interval.ms": 20,
        "producer.id.expiration.check.interval.ms": 20,
        "log.flush.scheduler.interval.ms": 20,
    }
    with Broker(often) as broker:
        broker.create_topic("t", configs={"flush.ms": 1})
        client = connect_to(broker.port)
        for _ in range(3):
            produce(client, b"x")
        for name in ("replication-offset-checkpoint", "recovery-point-offset-checkpoint"):
            file = broker.data_dir / name
            until(lambda file=file: file.exists() and "t 0 3" in file.read_text())


def test_a_stray_folder_is_set_aside() -> None:
    with Broker() as broker:
        broker.create_topic("t")
        (broker.data_dir / "nobodys-0").mkdir()
        (broker.data_dir / "t-0" / "partition.metadata").unlink()
        broker.restart()
        names = {path.name.partition(".")[0]: path.name for path in broker.data_dir.iterdir() if path.is_dir()}
        assert names["nobodys-0"].endswith("-stray")
        broker.create_topic("other")

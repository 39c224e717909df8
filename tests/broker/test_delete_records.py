"""DeleteRecords, as clients see it and as the disk does."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from kpybroker.testing import Broker
from kpybroker.wire.codes import Code
from kpybroker.wire.messages.delete_records import (
    DeleteRecordsPartition,
    DeleteRecordsRequest,
    DeleteRecordsResponse,
    DeleteRecordsTopic,
)
from kpybroker.wire.messages.describe_log_dirs import (
    DescribableLogDirTopic,
    DescribeLogDirsRequest,
    DescribeLogDirsResponse,
)
from kpybroker.wire.messages.fetch import FetchPartition, FetchRequest, FetchResponse, FetchTopic
from kpybroker.wire.messages.list_offsets import (
    ListOffsetsPartition,
    ListOffsetsRequest,
    ListOffsetsResponse,
    ListOffsetsTopic,
)
from kpybroker.wire.messages.produce import PartitionProduceData, ProduceRequest, ProduceResponse, TopicProduceData
from kpybroker.wire.records.batch import build_batch
from kpybroker.wire.records.record import Record

LIMIT_S = 20.0
EARLIEST, LATEST = -2, -1
HIGH_WATERMARK = -1
T0 = 1_700_000_000_000


def until(reached: Callable[[], bool]) -> None:
    """Look again and again: what is awaited happens in the node's own time."""
    deadline_s = time.monotonic() + LIMIT_S
    while not reached():
        assert time.monotonic() < deadline_s, "it has not happened"


def produce(client: Any, count: int = 1, size: int = 10) -> None:
    records = build_batch([Record(timestamp=T0, value=bytes(size)) for _ in range(count)])
    data = TopicProduceData(name="t", partition_data=[PartitionProduceData(index=0, records=records)])
    answer = client.ask(ProduceRequest(acks=-1, timeout_ms=5000, topic_data=[data]), ProduceResponse, 12)
    assert answer.responses[0].partition_responses[0].error_code == Code.NONE


def delete(client: Any, *offsets: int, topic: str = "t") -> list[tuple[int, int]]:
    """Delete from partition 0 of a topic and those after it; error codes and low watermarks."""
    partitions = [DeleteRecordsPartition(partition_index=index, offset=offset) for index, offset in enumerate(offsets)]
    request = DeleteRecordsRequest(topics=[DeleteRecordsTopic(name=topic, partitions=partitions)], timeout_ms=1000)
    results = client.ask(request, DeleteRecordsResponse, 2).topics[0].partitions
    return [(result.error_code, result.low_watermark) for result in results]


def offset(client: Any, timestamp: int) -> int:
    partition = ListOffsetsPartition(partition_index=0, timestamp=timestamp)
    request = ListOffsetsRequest(replica_id=-1, topics=[ListOffsetsTopic(name="t", partitions=[partition])])
    found: int = client.ask(request, ListOffsetsResponse, 1).topics[0].partitions[0].offset
    return found


def fetch(client: Any, at: int) -> tuple[int, int]:
    """Error code and log start offset."""
    partition = FetchPartition(partition=0, fetch_offset=at, partition_max_bytes=1_000_000)
    request = FetchRequest(max_wait_ms=0, min_bytes=0, topics=[FetchTopic(topic="t", partitions=[partition])])
    data = client.ask(request, FetchResponse, 12).responses[0].partitions[0]
    return data.error_code, data.log_start_offset


@pytest.fixture
def client(broker: Broker, client: Any) -> Any:
    broker.create_topic("t")
    return client


def test_deleted_records_are_out_of_sight_at_once(client: Any) -> None:
    produce(client, 5)
    assert delete(client, 3) == [(Code.NONE, 3)]
    assert (offset(client, EARLIEST), offset(client, LATEST)) == (3, 5)
    assert fetch(client, 2)[0] == Code.OFFSET_OUT_OF_RANGE
    assert fetch(client, 3) == (Code.NONE, 3)
    assert delete(client, 1) == [(Code.NONE, 3)], "what is gone is gone"
    assert delete(client, 6) == [(Code.OFFSET_OUT_OF_RANGE, -1)]
    assert delete(client, HIGH_WATERMARK) == [(Code.NONE, 5)]
    assert (offset(client, EARLIEST), offset(client, LATEST)) == (5, 5)
    produce(client)
    assert fetch(client, 5) == (Code.NONE, 5)


def test_what_was_deleted_stays_so_over_a_restart(broker: Broker, client: Any, connect: Callable[[], Any]) -> None:
    produce(client, 5)
    delete(client, 3)
    assert (broker.data_dir / "log-start-offset-checkpoint").read_text() == "0\n1\nt 0 3\n"
    for _ in range(2):
        broker.restart()
        again = connect()
        assert (offset(again, EARLIEST), offset(again, LATEST)) == (3, 5)
        assert fetch(again, 2)[0] == Code.OFFSET_OUT_OF_RANGE


def test_segments_that_are_wholly_deleted_leave_the_disk(connect_to: Callable[[int], Any]) -> None:
    settings = {"log.retention.check.interval.ms": 20, "log.flush.start.offset.checkpoint.interval.ms": 20}
    with Broker(settings) as broker:
        broker.create_topic("t", configs={"segment.bytes": 1024 * 1024, "retention.ms": -1})
        client = connect_to(broker.port)
        for _ in range(12):
            produce(client, size=200_000)
        folder = broker.data_dir / "t-0"
        bases = sorted(int(path.stem) for path in folder.glob("*.log"))
        assert len(bases) > 2
        assert delete(client, bases[2]) == [(Code.NONE, bases[2])]
        until(lambda: sorted(int(path.stem) for path in folder.glob("*.log")) == bases[2:])
        checkpoint = broker.data_dir / "log-start-offset-checkpoint"
        until(lambda: checkpoint.read_text() == "0\n0\n")  # the first segment's name says it now
        assert delete(client, HIGH_WATERMARK) == [(Code.NONE, 12)]
        until(
            lambda: [int(path.stem) for path in folder.glob("*.log")] == bases[-1:]
        )  # the active one stays, as Kafka's
        assert size(client) == next(folder.glob("*.log")).stat().st_size


def size(client: Any) -> int:
    request = DescribeLogDirsRequest(topics=[DescribableLogDirTopic(topic="t", partitions=[0])])
    found: int = client.ask(request, DescribeLogDirsResponse, 4).results[0].topics[0].partitions[0].partition_size
    return found


def test_a_log_that_nobody_has_opened_has_a_size(broker: Broker, client: Any, connect: Callable[[], Any]) -> None:
    produce(client, 5)
    before = size(client)
    assert before == (broker.data_dir / "t-0" / "00000000000000000000.log").stat().st_size > 0
    broker.restart()
    assert size(connect()) == before


def test_a_waiting_fetch_hears_of_it(client: Any, connect: Callable[[], Any]) -> None:
    """A consumer at the end goes on waiting; it is told of the new log start when it is answered."""
    produce(client, 5)
    other = connect()
    partition = FetchPartition(partition=0, fetch_offset=5, partition_max_bytes=1_000_000)
    request = FetchRequest(max_wait_ms=20_000, min_bytes=1, topics=[FetchTopic(topic="t", partitions=[partition])])
    other.send(request, 12)
    delete(client, HIGH_WATERMARK)
    produce(client)
    data = other.receive(FetchResponse, 12).responses[0].partitions[0]
    assert (data.error_code, data.log_start_offset, data.high_watermark) == (Code.NONE, 5, 6)


def test_many_at_once_share_the_disk(broker: Broker, client: Any, connect: Callable[[], Any]) -> None:
    produce(client, 50)
    clients = [connect() for _ in range(20)]
    for number, each in enumerate(clients):
        partition = DeleteRecordsPartition(partition_index=0, offset=number)
        topic = DeleteRecordsTopic(name="t", partitions=[partition])
        each.send(DeleteRecordsRequest(topics=[topic], timeout_ms=1000), 2)
    answers = [each.receive(DeleteRecordsResponse, 2).topics[0].partitions[0] for each in clients]
    assert all(answer.error_code == Code.NONE for answer in answers)
    assert (broker.data_dir / "log-start-offset-checkpoint").read_text() == "0\n1\nt 0 19\n"

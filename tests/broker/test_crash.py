"""A node that is killed: everything acknowledged is there when it comes back, and nothing is there twice."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kpybroker.wire.codes import Code
from kpybroker.wire.messages.delete_records import (
    DeleteRecordsPartition,
    DeleteRecordsRequest,
    DeleteRecordsResponse,
    DeleteRecordsTopic,
)
from kpybroker.wire.messages.fetch import FetchPartition, FetchRequest, FetchResponse, FetchTopic
from kpybroker.wire.messages.init_producer_id import InitProducerIdRequest, InitProducerIdResponse
from kpybroker.wire.messages.list_offsets import (
    ListOffsetsPartition,
    ListOffsetsRequest,
    ListOffsetsResponse,
    ListOffsetsTopic,
)
from kpybroker.wire.messages.metadata import MetadataRequest, MetadataRequestTopic, MetadataResponse
from kpybroker.wire.messages.produce import PartitionProduceData, ProduceRequest, ProduceResponse, TopicProduceData
from kpybroker.wire.primitives import ZERO_UUID
from kpybroker.wire.records.batch import build_batch, read_records, split
from kpybroker.wire.records.record import Record

from .ports import free_ports

CYCLES = 4


class Process:
    """A node in a process of its own, on one folder and port over all its lives."""

    def __init__(self, folder: Path, *settings: str) -> None:
        self.folder = folder
        self.settings = settings
        (self.port,) = free_ports(1)
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "kpybroker", "serve", "--listen", f"localhost:{self.port}"]
        command += ["--data-dir", str(self.folder)]
        for setting in self.settings:
            command += ["--set", setting]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        assert self.process.stdout.readline().startswith("kpybroker"), "it did not start"

    def end(self, number: int) -> int:
        assert self.process is not None
        assert self.process.stdout is not None
        self.process.send_signal(number)
        code = self.process.wait(30)
        self.process.stdout.close()
        return code


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Process]:
    process = Process(tmp_path / "data")
    process.start()
    yield process
    if process.process is not None and process.process.poll() is None:
        process.end(signal.SIGKILL)


def read_everything(client: Any, topic: str) -> list[bytes | None]:
    values: list[bytes | None] = []
    offset = 0
    while True:
        partition = FetchPartition(partition=0, fetch_offset=offset, partition_max_bytes=1_000_000)
        request = FetchRequest(max_wait_ms=0, min_bytes=0, topics=[FetchTopic(topic=topic, partitions=[partition])])
        data = client.ask(request, FetchResponse, 12).responses[0].partitions[0]
        assert data.error_code == Code.NONE
        records = bytes(data.records or b"")
        for position, _ in split(records):
            for record in read_records(records, position):
                assert record.offset == offset
                values.append(record.value)
                offset = record.offset + 1
        if offset == data.high_watermark:
            return values


class Producer:
    """An idempotent acks=all producer that sends a batch again until it is acknowledged."""

    def __init__(self, client: Any) -> None:
        self.client = client
        request = InitProducerIdRequest(transactional_id=None, transaction_timeout_ms=0)
        self.producer_id = client.ask(request, InitProducerIdResponse, 4).producer_id
        self.sequence = 0
        self.acknowledged: list[bytes] = []

    def request(self) -> tuple[ProduceRequest, list[bytes]]:
        values = [b"%d" % number for number in range(self.sequence, self.sequence + 3)]
        records = build_batch(
            [Record(timestamp=1_700_000_000_000, value=value) for value in values],
            producer_id=self.producer_id,
            producer_epoch=0,
            base_sequence=self.sequence,
        )
        data = TopicProduceData(name="t", partition_data=[PartitionProduceData(index=0, records=records)])
        return ProduceRequest(acks=-1, timeout_ms=5000, topic_data=[data]), values

    def send(self) -> None:
        request, _ = self.request()
        self.client.send(request, 12)

    def hear(self) -> None:
        _, values = self.request()
        answer = self.client.receive(ProduceResponse, 12).responses[0].partition_responses[0]
        assert (answer.error_code, answer.base_offset) == (Code.NONE, self.sequence)
        self.acknowledged += values
        self.sequence += len(values)


def test_kill_9_under_an_idempotent_producer(node: Process, connect_to: Callable[[int], Any]) -> None:
    client = connect_to(node.port)
    client.ask(MetadataRequest(topics=[MetadataRequestTopic(name="t", topic_id=ZERO_UUID)]), MetadataResponse, 12)
    producer = Producer(client)
    chance = random.Random(1)
    for _ in range(CYCLES):
        for _ in range(chance.randrange(20, 60)):
            producer.send()
            producer.hear()
        producer.send()  # nobody hears what becomes of it
        node.end(signal.SIGKILL)
        node.start()
        producer.client = connect_to(node.port)
        producer.send()
        producer.hear()
        assert read_everything(connect_to(node.port), "t") == producer.acknowledged


def delete_records(client: Any, offset: int) -> None:
    topic = DeleteRecordsTopic(name="t", partitions=[DeleteRecordsPartition(partition_index=0, offset=offset)])
    request = DeleteRecordsRequest(topics=[topic], timeout_ms=5000)
    answer = client.ask(request, DeleteRecordsResponse, 2).topics[0].partitions[0]
    assert (answer.error_code, answer.low_watermark) == (Code.NONE, offset)


def earliest(client: Any) -> int:
    partition = ListOffsetsPartition(partition_index=0, timestamp=-2)
    request = ListOffsetsRequest(replica_id=-1, topics=[ListOffsetsTopic(name="t", partitions=[partition])])
    offset: int = client.ask(request, ListOffsetsResponse, 1).topics[0].partitions[0].offset
    return offset


def test_kill_9_after_records_were_deleted(node: Process, connect_to: Callable[[int], Any]) -> None:
    """They do not come back: Kafka keeps what it wrote down in its last minute, we what was answered."""
    client = connect_to(node.port)
    client.ask(MetadataRequest(topics=[MetadataRequestTopic(name="t", topic_id=ZERO_UUID)]), MetadataResponse, 12)
    producer = Producer(client)
    deleted = 0
    for _ in range(CYCLES):
        for _ in range(3):
            producer.send()
            producer.hear()
        deleted += 4  # within a batch
        delete_records(producer.client, deleted)
        node.end(signal.SIGKILL)
        node.start()
        producer.client = connect_to(node.port)
        assert earliest(producer.client) == deleted
    delete_records(producer.client, producer.sequence)
    node.end(signal.SIGKILL)
    node.start()
    producer.client = connect_to(node.port)
    assert earliest(producer.client) == producer.sequence
    producer.send()  # its numbers go on where they were, although none of its records is left
    producer.hear()


def test_a_torn_tail_is_cut(node: Process, connect_to: Callable[[int], Any]) -> None:
    client = connect_to(node.port)
    client.ask(MetadataRequest(topics=[MetadataRequestTopic(name="t", topic_id=ZERO_UUID)]), MetadataResponse, 12)
    producer = Producer(client)
    for _ in range(5):
        producer.send()
        producer.hear()
    node.end(signal.SIGKILL)
    log = node.folder / "t-0" / "00000000000000000000.log"
    whole = log.stat().st_size
    for garbage in (b"\0" * 100, b"torn", log.read_bytes()[:40]):
        with log.open("ab") as file:
            file.write(garbage)
        node.start()
        assert read_everything(connect_to(node.port), "t") == producer.acknowledged
        node.end(signal.SIGKILL)
        assert log.stat().st_size == whole


def test_a_clean_stop_is_marked_and_nothing_else(node: Process) -> None:
    marker = node.folder / ".kafka_cleanshutdown"
    assert not marker.exists()
    assert node.end(signal.SIGTERM) == 0
    assert marker.exists()
    node.start()
    assert not marker.exists()
    node.end(signal.SIGKILL)
    assert not marker.exists()


def test_a_second_process_is_refused(node: Process) -> None:
    command = [sys.executable, "-m", "kpybroker", "serve", "--listen", "localhost:0", "--data-dir", str(node.folder)]
    second = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert second.returncode == 1
    assert len(second.stderr.splitlines()) == 1
    assert str(node.folder) in second.stderr


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    command = [sys.executable, "-m", "kpybroker", "serve", "--listen", "localhost:0"]
    command += ["--data-dir", str(tmp_path / "file" / "data")]
    failed = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert (failed.returncode, len(failed.stderr.splitlines())) == (1, 1)


def test_a_port_in_use_is_one_line(node: Process, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "kpybroker", "serve", "--listen", f"localhost:{node.port}"]
    command += ["--data-dir", str(tmp_path / "other")]
    failed = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert (failed.returncode, len(failed.stderr.splitlines())) == (1, 1)
    assert f"localhost:{node.port}" in failed.stderr

"""A node that may have few files open: it shares what it has, says so where that is not enough, and goes on."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kpybroker.wire.codes import Code
from kpybroker.wire.messages.create_topics import CreatableTopic, CreateTopicsRequest, CreateTopicsResponse
from kpybroker.wire.messages.produce import PartitionProduceData, ProduceRequest, ProduceResponse, TopicProduceData
from kpybroker.wire.records.batch import build_batch
from kpybroker.wire.records.record import Record

from .ports import free_ports

FEW = 72
PARTITIONS = 100


class Process:
    """A node in a process of its own, whose output is in a file."""

    def __init__(self, folder: Path) -> None:
        self.output = folder / "output"
        (self.port,) = free_ports(1)
        command = [sys.executable, "-m", "kpybroker", "serve", "--listen", f"localhost:{self.port}"]
        command += ["--data-dir", str(folder / "data")]
        self._command = command

    def start(self, descriptors: int | None = None) -> None:
        limited = [] if descriptors is None else ["sh", "-c", f'ulimit -n {descriptors}; exec "$@"', "sh"]
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [*limited, *self._command], stdout=subprocess.PIPE, stderr=output, text=True
            )
        assert self.process.stdout is not None
        assert self.process.stdout.readline().startswith("kpybroker"), self.output.read_text()

    def limit(self, descriptors: int) -> None:
        _, most = resource.prlimit(self.process.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(self.process.pid, resource.RLIMIT_NOFILE, (descriptors, most))

    @property
    def highest(self) -> int:
        """The greatest descriptor in use."""
        return max(map(int, os.listdir(f"/proc/{self.process.pid}/fd")))

    def end(self) -> None:
        assert self.process.stdout is not None
        self.process.terminate()
        self.process.wait(30)
        self.process.stdout.close()


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Process]:
    node = Process(tmp_path)
    yield node
    node.end()
    assert node.process.returncode == 0
    assert "Traceback" not in node.output.read_text()


def create(client: Any, topic: str, partitions: int) -> int:
    wanted = CreatableTopic(name=topic, num_partitions=partitions, replication_factor=1, assignments=[], configs=[])
    request = CreateTopicsRequest(topics=[wanted], timeout_ms=5000)
    code: int = client.ask(request, CreateTopicsResponse, 7).topics[0].error_code
    return code


def produce(client: Any, topic: str, *indexes: int) -> list[int]:
    """The error code of each partition."""
    records = build_batch([Record(timestamp=1, value=b"x")])
    data = [PartitionProduceData(index=index, records=records) for index in indexes]
    request = ProduceRequest(acks=-1, timeout_ms=5000, topic_data=[TopicProduceData(name=topic, partition_data=data)])
    answers = client.ask(request, ProduceResponse, 11).responses[0].partition_responses
    return [answer.error_code for answer in answers]


def test_many_partitions_and_connections_share_few(node: Process, connect_to: Callable[[int], Any]) -> None:
    node.start(FEW)
    client = connect_to(node.port)
    assert create(client, "t", PARTITIONS) == Code.NONE
    others = [socket.create_connection(("localhost", node.port)) for _ in range(FEW)]
    for _ in range(2):
        assert produce(client, "t", *range(PARTITIONS)) == [Code.NONE] * PARTITIONS
    for other in others:
        other.close()
    assert create(connect_to(node.port), "another", 1) == Code.NONE


def test_without_a_descriptor_left(node: Process, connect_to: Callable[[int], Any]) -> None:
    """Clients are told, and who is connected is served on; when there are descriptors again, so is everybody."""
    node.start()
    client = connect_to(node.port)
    assert create(client, "t", 3) == Code.NONE
    assert produce(client, "t", 0) == [Code.NONE]
    node.limit(node.highest + 1)
    waiting = [socket.create_connection(("localhost", node.port)) for _ in range(5)]
    assert produce(client, "t", 0) == [Code.NONE]
    shed = produce(client, "t", 1, 2, 0)
    assert set(shed) <= {Code.NONE, Code.KAFKA_STORAGE_ERROR}
    created = create(client, "u", 2)
    assert created in (Code.NONE, Code.KAFKA_STORAGE_ERROR)
    told = node.output.read_text()
    assert told.count("cannot accept") == 1, "once in a while"
    node.limit(1000)
    assert create(connect_to(node.port), "v", 1) == Code.NONE
    for topic in ("t", "v"):
        code = Code.KAFKA_STORAGE_ERROR
        while code == Code.KAFKA_STORAGE_ERROR:  # what could not be opened is tried again in a second
            (code,) = produce(client, topic, 0)
        assert code == Code.NONE
    with contextlib.ExitStack() as stack:
        for other in waiting:
            stack.callback(other.close)

"""A Kafka Connect standalone worker: a file's lines to a topic, the topic's to another file, with nothing lost."""

from __future__ import annotations

import subprocess
import uuid
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from harness import kafka_jars
from harness.admin import end_offsets
from harness.brokers import BrokerUnderTest, ChildBroker
from harness.java_clients import eventually
from harness.java_tools import ToolHost
from harness.ports import free_ports

STANDALONE = "org.apache.kafka.connect.cli.ConnectStandalone"
PARTITIONS = 2
COPY_LIMIT_S = 120


class Worker:
    """The properties of a worker, a source and a sink, and the two files."""

    def __init__(self, address: str, folder: Path) -> None:
        unique = uuid.uuid4().hex[:8]
        self.topic = f"connect-{unique}"
        self.source, self.sink = folder / "source.txt", folder / "sink.txt"
        self.offsets = folder / "offsets"
        (port,) = free_ports(1)
        worker = {
            "bootstrap.servers": address,
            "client.id": "java-connect",
            "listeners": f"http://127.0.0.1:{port}",
            "plugin.discovery": "service_load",
            "key.converter": "org.apache.kafka.connect.storage.StringConverter",
            "value.converter": "org.apache.kafka.connect.json.JsonConverter",
            "offset.storage.file.filename": self.offsets,
            "offset.flush.interval.ms": 500,
            "consumer.session.timeout.ms": 6000,  # how long a killed worker's sink keeps its partitions
            "consumer.heartbeat.interval.ms": 500,
            "consumer.allow.auto.create.topics": "false",  # or a sink that asks first has it made with one partition
        }
        source = {
            "name": f"source-{unique}",
            "connector.class": "FileStreamSource",
            "tasks.max": 1,
            "file": self.source,
            "topic": self.topic,
            "batch.size": 500,
            "topic.creation.default.partitions": PARTITIONS,
            "topic.creation.default.replication.factor": 1,
        }
        sink = {
            "name": f"sink-{unique}",
            "connector.class": "FileStreamSink",
            "tasks.max": 1,
            "file": self.sink,
            "topics": self.topic,
        }
        self.arguments = [
            str(written(folder / f"{name}.properties", properties))
            for name, properties in (("worker", worker), ("file-source", source), ("file-sink", sink))
        ]

    def append(self, lines: Sequence[bytes]) -> None:
        """More lines for the source."""
        with self.source.open("ab") as file:
            file.writelines(line + b"\n" for line in lines)

    def copied(self) -> list[bytes]:
        """What the sink has written, whole lines."""
        return self.sink.read_bytes().split(b"\n")[:-1] if self.sink.exists() else []

    def wait_for(self, count: int) -> None:
        eventually(lambda: len(self.copied()) >= count, True, COPY_LIMIT_S)


def written(path: Path, properties: dict[str, object]) -> Path:
    path.write_text("".join(f"{name}={value}\n" for name, value in properties.items()))
    return path


@pytest.fixture
def plain_lines(lines: list[bytes]) -> list[bytes]:
    """Lines that a source of lines gives as they are: in ASCII, with one kind of ending."""
    return [line for line in lines if line.isascii() and b"\r" not in line][:6000]


def test_a_worker_goes_on_where_it_was(
    tools: ToolHost, broker: BrokerUnderTest, plain_lines: list[bytes], tmp_path: Path
) -> None:
    """Stopped and started: each line arrives once."""
    worker = Worker(broker.address, tmp_path)
    worker.append(plain_lines[:3000])
    running = tools.start(STANDALONE, *worker.arguments)
    worker.wait_for(3000)
    running.stop()
    ended = running.result(60)
    assert ended.code == 0, ended.err
    assert worker.offsets.stat().st_size > 0

    worker.append(plain_lines[3000:])
    running = tools.start(STANDALONE, *worker.arguments)
    worker.wait_for(len(plain_lines))
    running.stop()
    assert running.result(60).code == 0
    assert Counter(worker.copied()) == Counter(plain_lines)
    assert sum(end_offsets(broker.address, worker.topic, PARTITIONS).values()) == len(plain_lines)


@pytest.mark.usefixtures("java")
def test_a_worker_that_is_killed(restartable: ChildBroker, plain_lines: list[bytes], tmp_path: Path) -> None:
    """kill -9 between two flushes of offsets, and a restart of the broker under the next worker: no line is lost."""
    worker = Worker(restartable.address, tmp_path)
    worker.append(plain_lines[:3000])
    with (tmp_path / "worker.log").open("wb") as log:
        first = subprocess.Popen(kafka_jars.java(STANDALONE, *worker.arguments), stdout=log, stderr=log)
        try:
            worker.wait_for(1)
        finally:
            first.kill()
            first.wait()
        second = subprocess.Popen(kafka_jars.java(STANDALONE, *worker.arguments), stdout=log, stderr=log)
        try:
            worker.wait_for(1500)
            restartable.stop()
            restartable.start()
            worker.append(plain_lines[3000:])
            missing = Counter(plain_lines)
            eventually(lambda: missing - Counter(worker.copied()), Counter(), COPY_LIMIT_S)
        finally:
            second.terminate()
            second.wait(60)

"""Apache Kafka starts on a directory that kpybroker left, serves what is in it, and kpybroker takes it back.

With --broker=kafka another Apache Kafka starts on the directory of the first: that proves the test.
Runs after test_text_in_and_out.py and reads the topics that it has written; run alone, it writes some of its own.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from harness.admin import committed, create_topic, end_offsets, topic_id
from harness.brokers import SOON_FENCED, ApacheKafka, ChildBroker
from harness.clients import CODECS, PARTITIONS
from harness.clients.confluent import Confluent
from harness.dump_log import flaws
from harness.java_tools import ToolHost
from harness.written import Written, WrittenTopic

GROUPS_AT_ONCE = 4
"""Most of a group's time is spent on its members' coming and going."""

pytestmark = pytest.mark.usefixtures("java")


@pytest.fixture
def ours(restartable: ChildBroker, written: Written, read_limit_s: float) -> ChildBroker:
    """The broker under test, running, with the text in it."""
    broker = restartable
    if not written.topics:
        for codec in CODECS:
            made = written.new_topic("confluent-kafka", codec)
            create_topic(broker.address, made.topic, PARTITIONS)
            Confluent().write(broker.address, made.topic, codec, written.lines)
            assert _read(broker.address, made, made.group_id, written, read_limit_s) == ""
            written.topics.append(made)
    return broker


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_kafka_dump_log_finds_no_flaw(ours: ChildBroker, tools: ToolHost, end: str, tmp_path: Path) -> None:
    """After a clean stop every file is whole; after kill -9 the logs are (indexes may be behind: they are rebuilt)."""
    _end(ours, end)
    directory = ours.data_dir
    if end == "kill":
        directory = tmp_path / "logs"
        shutil.copytree(ours.data_dir, directory, ignore=shutil.ignore_patterns("*index", "*.snapshot"))
    found = flaws(tools, directory)
    if end == "kill":
        shutil.rmtree(directory)
    assert found == []


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_kafka_serves_our_directory_and_we_serve_its(
    ours: ChildBroker, written: Written, folder: Path, read_limit_s: float, end: str
) -> None:
    """Records, topic ids, committed offsets and positions: there in Apache Kafka, and there again afterwards."""
    before = {made.topic: _state(ours.address, made) for made in written.topics}
    _end(ours, end)

    kafka = ApacheKafka(folder / f"kafka-on-ours-{end}", data_dir=ours.data_dir, settings=SOON_FENCED)
    kafka.start()
    try:
        assert {made.topic: _state(kafka.address, made) for made in written.topics} == before
        _read_all(kafka.address, f"read-by-kafka-{end}", written.topics, written, read_limit_s)
        new_topic = _go_on(kafka.address, f"written-by-kafka-{end}", written, read_limit_s)
        between = {made.topic: _state(kafka.address, made) for made in [*written.topics, new_topic]}
        _end(kafka, end)
    finally:
        kafka.kill()

    ours.start()
    assert {made.topic: _state(ours.address, made) for made in [*written.topics, new_topic]} == between
    _read_all(ours.address, f"read-again-{end}", [*written.topics, new_topic], written, read_limit_s)
    written.topics.append(new_topic)
    _go_on(ours.address, f"written-again-{end}", written, read_limit_s)


def _end(broker: ChildBroker, end: str) -> None:
    ends: dict[str, Callable[[], None]] = {"stop": broker.stop, "kill": broker.kill}
    ends[end]()


def _state(address: str, made: WrittenTopic) -> tuple[str, dict[int, int], dict[int, int]]:
    """A topic's id, its end offsets, and what its group has committed."""
    ends = end_offsets(address, made.topic, PARTITIONS)
    return topic_id(address, made.topic), ends, committed(address, made.group_id, made.topic, PARTITIONS)


def _read(address: str, made: WrittenTopic, group_id: str, written: Written, limit_s: float) -> str:
    """Read a topic by a group of three that commits; how that differs from what it must hold."""
    group = Confluent().group(address, made.topic, group_id)
    group.wait_for(written.count(made), limit_s)
    return written.difference(made, group.close())


def _read_all(address: str, label: str, topics: list[WrittenTopic], written: Written, limit_s: float) -> None:
    """Read all topics, several at a time, each by a group of three; they must hold what was written."""
    with ThreadPoolExecutor(GROUPS_AT_ONCE) as readers:
        found = readers.map(lambda made: _read(address, made, f"{label}-{made.topic}", written, limit_s), topics)
        assert dict(zip((made.topic for made in topics), found, strict=True)) == {made.topic: "" for made in topics}


def _go_on(address: str, label: str, written: Written, limit_s: float) -> WrittenTopic:
    """Use the broker as any other: groups go on where they were, topics are made and written."""
    for made in written.topics[:3]:
        new = [f"{label}, {number}".encode() for number in range(600)]
        group = Confluent().group(address, made.topic, made.group_id)
        group.wait_assigned()
        Confluent().write(address, made.topic, made.codec, new)
        group.wait_for(len(new), limit_s)
        assert sorted(group.close()) == sorted(new), "not where the group was"
        made.extra += new
    made = written.new_topic(label, "zstd")
    create_topic(address, made.topic, PARTITIONS)
    Confluent().write(address, made.topic, "zstd", written.lines)
    assert _read(address, made, made.group_id, written, limit_s) == ""
    return made

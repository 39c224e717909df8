"""Kafka Streams: a word count with a repartition topic and a state store that is rebuilt from its changelog."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from confluent_kafka import Consumer
from harness import kafka_jars
from harness.admin import create_topic, end_offsets
from harness.brokers import BrokerUnderTest, ChildBroker
from harness.clients.confluent import Confluent
from harness.java_clients import Admin, plain
from harness.java_tools import STREAMS_RESET, Running, ToolHost

INPUTS, OUTPUTS = 6, 3
COUNT_LIMIT_S = 120


def words_of(lines: Sequence[bytes]) -> Counter[str]:
    """The count that Streams has to come to."""
    return Counter(word for line in lines for word in re.findall("[a-z0-9_]+", line.decode("latin-1").lower()))


class Counted:
    """Reads the output topic; keeps the latest count of each word."""

    def __init__(self, address: str, topic: str, isolation_level: str = "read_uncommitted") -> None:
        self.counts: dict[str, int] = {}
        self.steps = 0
        """How often a count was told that is not above the one before it: with exactly once, never."""
        self._consumer = Consumer(
            {
                "bootstrap.servers": address,
                "group.id": f"reader-{topic}",
                "auto.offset.reset": "earliest",
                "isolation.level": isolation_level,
            }
        )
        self._consumer.subscribe([topic])

    def wait_for(self, expected: Counter[str]) -> None:
        """Read until the counts are these. Raises: AssertionError after COUNT_LIMIT_S."""
        self._read_until(lambda: self.counts == expected)

    def _read_until(self, reached: Callable[[], bool]) -> None:
        deadline = time.monotonic() + COUNT_LIMIT_S
        while not reached():
            assert time.monotonic() < deadline, f"{sum(self.counts.values())} words in {COUNT_LIMIT_S} s"
            for message in self._consumer.consume(num_messages=1000, timeout=0.2):
                if message.error() is None:  # librdkafka tells of a broker that is away, and goes on
                    word, count = message.key().decode(), int.from_bytes(message.value(), "big")
                    self.steps += count <= self.counts.get(word, 0)
                    self.counts[word] = count

    def wait_for_at_least(self, expected: Counter[str]) -> None:
        """Read until no word is counted less often. Raises: AssertionError after COUNT_LIMIT_S."""
        self._read_until(lambda: not expected - Counter(self.counts))

    def close(self) -> None:
        self._consumer.close()


class Application:
    """The word count, started and stopped."""

    def __init__(self, tools: ToolHost, address: str, state: Path, guarantee: str = "at_least_once") -> None:
        unique = uuid.uuid4().hex[:8]
        self.id = f"count-{unique}"
        self.source, self.target = f"text-{unique}", f"words-{unique}"
        self.state = state
        self._guarantee = guarantee
        self._tools = tools
        self._address = address
        create_topic(address, self.source, INPUTS)
        create_topic(address, self.target, OUTPUTS)
        end_offsets(address, self.target, OUTPUTS)

    def start(self, instance: str = "one") -> Running:
        """One instance, with a state directory of its own."""
        return self._tools.start("WordCount", *self._arguments(instance))

    def launch(self, instance: str) -> subprocess.Popen[bytes]:
        """One instance in a JVM of its own, which can be killed."""
        with (self.state.parent / f"{instance}.log").open("ab") as log:
            return subprocess.Popen(kafka_jars.java("WordCount", *self._arguments(instance)), stdout=log, stderr=log)

    def _arguments(self, instance: str) -> tuple[str, ...]:
        state = str(self.state / instance)
        return (self._address, self.id, state, self.source, self.target, self._guarantee)

    def reset_arguments(self) -> tuple[str, ...]:
        """Those of kafka-streams-application-reset."""
        where = ("--bootstrap-server", self._address, "--application-id", self.id)
        return (*where, "--input-topics", self.source, "--to-earliest", "--force")

    def write(self, lines: Sequence[bytes]) -> None:
        Confluent().write(self._address, self.source, "lz4", lines)


def test_word_count(tools: ToolHost, broker: BrokerUnderTest, admin: Admin, lines: list[bytes], tmp_path: Path) -> None:
    text = lines[:6000]
    application = Application(tools, broker.address, tmp_path / "state")
    counted = Counted(broker.address, application.target)
    application.write(text[:3000])
    running = application.start()
    counted.wait_for(words_of(text[:3000]))
    running.stop()
    ended = running.result(60)
    assert ended.code == 0, ended.err
    assert "RUNNING" in ended.out.splitlines()
    topics = plain(admin.listTopics().names().get())
    assert {f"{application.id}-words-repartition", f"{application.id}-counts-changelog"} <= topics

    shutil.rmtree(application.state)  # what it has counted comes back from the changelog
    application.write(text[3000:])
    running = application.start()
    counted.wait_for(words_of(text))
    running.stop()
    assert running.result(60).code == 0
    counted.close()
    (group,) = plain(admin.describeConsumerGroups([application.id]).all().get()).values()
    assert plain(group.groupState()) == "Empty"

    reset = tools.run(STREAMS_RESET, *application.reset_arguments())
    assert reset.code == 0, reset.out + reset.err
    assert not any(topic.startswith(application.id) for topic in plain(admin.listTopics().names().get()))
    found = admin.listConsumerGroupOffsets(application.id).partitionsToOffsetAndMetadata().get()
    source = [offset.offset() for partition, offset in found.items() if partition.topic() == application.source]
    assert source == [0] * INPUTS


def test_two_instances_over_a_restart(
    tools: ToolHost, restartable: ChildBroker, lines: list[bytes], tmp_path: Path
) -> None:
    """They share the work; the broker goes away and comes back; one of them leaves. At least once is promised."""
    text = lines[:3000]
    application = Application(tools, restartable.address, tmp_path / "state")
    counted = Counted(restartable.address, application.target)
    application.write(text[:1000])
    one, two = application.start("one"), application.start("two")
    counted.wait_for_at_least(words_of(text[:1000]))
    restartable.stop()
    restartable.start()
    application.write(text[1000:2000])
    counted.wait_for_at_least(words_of(text[:2000]))
    one.stop()
    assert one.result(60).code == 0
    application.write(text[2000:])
    counted.wait_for_at_least(words_of(text))
    assert counted.counts.keys() == words_of(text).keys()
    two.stop()
    assert two.result(60).code == 0
    counted.close()


def test_exactly_once_over_kills(tools: ToolHost, restartable: ChildBroker, lines: list[bytes], tmp_path: Path) -> None:
    """The application is killed -9, and the broker is; every word is counted once, and no count is ever taken back."""
    text = lines[:6000]
    application = Application(tools, restartable.address, tmp_path / "state", "exactly_once_v2")
    counted = Counted(restartable.address, application.target, "read_committed")
    application.write(text[:2000])
    running = application.launch("one")
    try:
        counted.wait_for(words_of(text[:2000]))
        application.write(text[2000:4000])
        counted.wait_for_at_least(words_of(text[:2200]))
        running.kill()
        running.wait()
        restartable.kill()
        restartable.start()
        running = application.launch("one")
        counted.wait_for(words_of(text[:4000]))
        application.write(text[4000:])
        restartable.kill()
        restartable.start()
        counted.wait_for(words_of(text))
        assert counted.steps == 0
        running.terminate()
        assert running.wait(90) == 143
    finally:
        running.kill()
        running.wait()
    counted.close()

"""One data directory that goes back and forth between kpybroker and Apache Kafka, with all in it that either may write.

The rounds, on one directory: kpybroker, Apache Kafka, kpybroker, Apache Kafka, kpybroker; stopped or killed in between.
Each takes a picture of what it finds (every record with its offset, timestamp, headers and leader epoch, every offset,
committed offset, topic id and setting), which must be the picture that the one before has taken last; and each goes on
writing. With --broker=kafka all rounds are Apache Kafka's: that proves the test.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from harness.brokers import SOON_FENCED, ApacheKafka, ChildBroker, Kpybroker
from harness.clients import CODECS
from harness.dump_log import flaws
from harness.foreign import TOLD, Foreign, broker_settings
from harness.java_clients import JavaClients
from harness.java_tools import ToolHost
from harness.picture import Picture, differences, take
from harness.ports import free_ports
from harness.versions.world import World

from kpybroker.wire.api_keys import ApiKey
from kpybroker.wire.records.batch import build_batch
from kpybroker.wire.records.record import Record

TOPIC, BROKER = 2, 4
NEVER, AT_ONCE = "1.0", "0.0"
"""min.cleanable.dirty.ratio of a topic that is not compacted, and of one that is wherever it can be."""
SMALL = {"internal.segment.bytes": "1000", "index.interval.bytes": "200"}
TOPICS: dict[str, dict[str, str]] = {
    **{f"codec-{codec}": {} for codec in CODECS},
    **{f"made-{codec}": {"compression.type": codec} for codec in ("gzip", "snappy", "lz4", "zstd", "uncompressed")},
    "append-time": {"message.timestamp.type": "LogAppendTime"},
    "segments": SMALL,
    "by-time": {"segment.ms": "60000", "index.interval.bytes": "1"},
    "compacted": SMALL | {"cleanup.policy": "compact", "min.cleanable.dirty.ratio": NEVER, "delete.retention.ms": "0"},
    "both": SMALL | {"cleanup.policy": "compact,delete", "min.cleanable.dirty.ratio": NEVER},
    "trimmed": SMALL | {"retention.bytes": "3000"},
    "deleted-from": SMALL,
    "idempotent": {},
    "overridden": {"max.message.bytes": "2000000", "retention.ms": "-1", "flush.messages": "3", "preallocate": "true"},
    "empty": {},
    "shared": {},
    "streamed": {},
    "txn-compacted": SMALL | {"cleanup.policy": "compact", "min.cleanable.dirty.ratio": NEVER},
    "txn-trimmed": SMALL,
    "txn-open": {},
}
COMPACTED = ("compacted", "both")
WRITTEN_ON = [
    name for name in TOPICS if name not in ("trimmed", "empty", "shared", "streamed") and not name.startswith("txn-")
]
LIMIT_S = 60.0


class Directory:
    """The directory, and what is known of the producer that writes in every round."""

    def __init__(self, kind: str, folder: Path, tools: ToolHost, clients: JavaClients) -> None:
        self.kind = kind
        self.folder = folder
        self.data_dir = folder / "data"
        self.tools = tools
        self.clients = clients
        self.rounds = 0
        self.producer_id = -1
        self.sequence = 0

    @contextmanager
    def ours(self, end: str, **settings: str) -> Iterator[World]:
        """A round of the broker under test; `end` is "stop" or "kill"."""
        cls = ApacheKafka if self.kind == "kafka" else Kpybroker
        given = {"offsets.topic.num.partitions": "1", "log.cleaner.backoff.ms": "100"}
        given |= {name.replace("_", "."): value for name, value in settings.items()}
        with self._running(cls(self._next(), data_dir=self.data_dir, settings=given), end) as world:
            yield world

    @contextmanager
    def kafka(self, end: str) -> Iterator[tuple[World, Foreign]]:
        """A round of Apache Kafka, and the tools for it."""
        broker = ApacheKafka(self._next(), data_dir=self.data_dir)
        sasl_address = f"127.0.0.1:{free_ports(1)[0]}"
        broker.settings = {
            "offsets.topic.num.partitions": "1",
            "log.cleaner.backoff.ms": "100",
            "log.initial.task.delay.ms": "600000",  # no retention
            **SOON_FENCED,
            **broker_settings(broker.address, sasl_address, broker.controller_port),
        }
        with self._running(broker, end) as world:
            yield world, Foreign(self.tools, self.clients, broker.address, sasl_address, broker.folder)

    def _next(self) -> Path:
        self.rounds += 1
        return self.folder / f"round-{self.rounds}"

    @contextmanager
    def _running(self, broker: ChildBroker, end: str) -> Iterator[World]:
        broker.start()
        world = World(broker.address)
        try:
            yield world
            world.close()
            {"stop": broker.stop, "kill": broker.kill}[end]()
        finally:
            world.close()
            broker.kill()

    def cleaned(self, topic: str) -> int:
        """Up to where partition 0 is compacted, as the checkpoint says."""
        checkpoint = self.data_dir / "cleaner-offset-checkpoint"
        lines = checkpoint.read_text().splitlines()[2:] if checkpoint.exists() else []
        return next((int(line.split()[2]) for line in lines if line.split()[:2] == [topic, "0"]), 0)

    def snapshots(self) -> set[str]:
        """The snapshots of the cluster's metadata."""
        return {path.name for path in (self.data_dir / "__cluster_metadata-0").glob("*.checkpoint")}

    def active_segment(self, topic: str) -> int:
        """The base offset of the last segment of partition 0."""
        return max(int(path.stem) for path in (self.data_dir / f"{topic}-0").glob("*.log"))


def test_there_and_back_again(
    request: pytest.FixtureRequest, tmp_path: Path, tools: ToolHost, java_clients: JavaClients
) -> None:
    kind = request.config.getoption("--broker")
    if kind not in ("kpybroker", "kafka"):
        pytest.skip("needs a broker of its own")
    directory = Directory(kind, tmp_path, tools, java_clients)
    with directory.ours("stop", log_retention_check_interval_ms="100") as world:
        write_everything(directory, world)
        transactions(directory.clients, world.address, "first")
        left = take(world.address)
    assert flaws(tools, directory.data_dir) == []

    with directory.kafka("stop") as (world, foreign):
        assert differences(left, take(world.address)) == []
        foreign.make("shared", "streamed")
        transactions(directory.clients, world.address, "second")
        open_transaction(directory.clients, world.address)
        write_on(directory, world)
        for topic in COMPACTED:
            rewrite(directory, world, topic)
        listed = foreign.listing()
        assert [name for name, word in TOLD.items() if not any(word in line for line in listed[name])] == []
        left = take(world.address)

    quick = {"log_retention_check_interval_ms": "100", "metadata_log_max_record_bytes_between_snapshots": "1000"}
    with directory.ours("kill", **quick) as world:
        snapshots = directory.snapshots()
        assert differences(left, take(world.address)) == []
        tidy_what_kafka_wrote(directory, world, left)
        write_on(directory, world)
        left = take(world.address)
        until(lambda: directory.snapshots() != snapshots)
    assert flaws_after_a_kill(directory) == []

    with directory.kafka("kill") as (world, foreign):
        assert differences(left, take(world.address)) == []
        assert changed(listed, foreign.listing()) == {}
        foreign.log_in()
        end_the_open_transaction(directory.clients, world.address)
        write_on(directory, world)
        left = take(world.address)

    with directory.ours("stop") as world:
        assert differences(left, take(world.address)) == []
        write_on(directory, world)
    assert flaws(tools, directory.data_dir) == []
    assert verified(directory.data_dir) == ""


# ---- what is written ----


def now_ms() -> int:
    return int(time.time() * 1000)


def write_everything(directory: Directory, world: World) -> None:
    """All kinds of topics, compacted, trimmed and deleted from; groups, settings and quotas."""
    for topic, settings in TOPICS.items():
        create(world, topic, settings)
    for codec in CODECS:
        by_librdkafka(world.address, f"codec-{codec}", codec)
    for topic in ("segments", "by-time", "trimmed", "deleted-from", "append-time", "overridden", "shared"):
        for number in range(20):
            append(world, topic, number, number * 30_000)
    for topic in TOPICS:
        if topic.startswith("made-"):
            for number in range(4):
                append(world, topic, number, 0)
    init_producer(directory, world)
    write_on(directory, world)
    for topic in COMPACTED:
        for _ in range(2):  # the second pass takes away what the first has only marked
            rewrite(directory, world, topic)
    delete_records(world, "deleted-from", 7)
    until(lambda: (directory.data_dir / "trimmed-0" / f"{0:020}.log").exists() is False)
    commit(world)
    alter(world, BROKER, "", "log.retention.ms", "9000000000")
    alter(world, BROKER, "1", "message.max.bytes", "1048600")
    quota = {"entity_type": "client-id", "entity_name": "set by us"}
    entry = {"entity": [quota], "ops": [{"key": "producer_byte_rate", "value": 12345.0, "remove": False}]}
    answer = world.raw(ApiKey.ALTER_CLIENT_QUOTAS, 1, entries=[entry], validate_only=False)
    assert answer.entries[0].error_code == 0


def create(world: World, topic: str, settings: dict[str, str]) -> None:
    configs = [{"name": name, "value": value} for name, value in settings.items()]
    asked = {"name": topic, "num_partitions": 1, "replication_factor": 1, "configs": configs}
    (made,) = world.raw(ApiKey.CREATE_TOPICS, 7, topics=[asked], timeout_ms=60_000).topics
    assert made.error_code == 0, made
    world.wait_until_led(topic, 1)


def by_librdkafka(address: str, topic: str, codec: str) -> None:
    """Fifty records with keys, headers, times, and now and then nothing in them."""
    producer = Producer({"bootstrap.servers": address, "compression.type": codec, "linger.ms": 20})
    for number in range(50):
        headers = [("number", str(number).encode()), ("empty", None)] if number % 3 == 0 else None
        value = None if number % 7 == 0 else f"{topic} {number} ".encode() * 5
        producer.produce(topic, value, key=str(number), headers=headers, timestamp=now_ms() - 1000 + number)
    assert producer.flush(LIMIT_S) == 0


def append(world: World, topic: str, number: int, later_ms: int, *, value: bytes | None = b"v" * 100) -> None:
    """A batch of three records, an hour old and `later_ms` younger, of which two have keys of their own."""
    base = now_ms() - 3_600_000 + later_ms
    keys = (b"always", b"n%d" % (number % 10), b"%s %d" % (topic.encode(), number))
    headers = [("h", b"%d" % number)]
    records = [
        Record(offset=at, timestamp=base + at, key=key, value=value, headers=headers) for at, key in enumerate(keys)
    ]
    produce(world, topic, build_batch(records, codec="zstd" if number % 2 else "none"))


def produce(world: World, topic: str, batch: bytes) -> int:
    """One batch for partition 0; the offset that it got."""
    data = {"name": topic, "partition_data": [{"index": 0, "records": batch}]}
    response = world.raw(ApiKey.PRODUCE, 9, acks=-1, timeout_ms=30_000, topic_data=[data])
    (answer,) = response.responses[0].partition_responses
    assert answer.error_code == 0, (topic, answer)
    offset: int = answer.base_offset
    return offset


def init_producer(directory: Directory, world: World) -> None:
    def given() -> bool:
        answer = world.raw(ApiKey.INIT_PRODUCER_ID, 4, transactional_id=None, transaction_timeout_ms=60_000)
        directory.producer_id = answer.producer_id
        return bool(answer.error_code == 0)

    until(given)


def write_on(directory: Directory, world: World) -> None:
    """Go on in every topic; the idempotent producer goes on too, also where it sends a batch again."""
    for topic in WRITTEN_ON:
        append(world, topic, 100 + directory.rounds, 0)
    records = [Record(timestamp=now_ms(), key=b"k", value=b"%d" % directory.rounds)]
    batch = build_batch(records, producer_id=directory.producer_id, producer_epoch=0, base_sequence=directory.sequence)
    offset = produce(world, "idempotent", batch)
    assert produce(world, "idempotent", batch) == offset
    directory.sequence += 1
    new = f"new-in-round-{directory.rounds}"
    create(world, new, {})
    append(world, new, 0, 0)
    gone = f"gone-in-round-{directory.rounds}"
    create(world, gone, {})
    append(world, gone, 0, 0)
    answer = world.raw(ApiKey.DELETE_TOPICS, 5, topic_names=[gone], timeout_ms=30_000)
    assert answer.responses[0].error_code == 0
    commit(world)


def commit(world: World) -> None:
    """By a group that has members, one that reads on where it was, and by nobody's group, with metadata."""
    consumer = Consumer({"bootstrap.servers": world.address, "group.id": "readers", "auto.offset.reset": "earliest"})
    consumer.subscribe(["codec-gzip"])
    message = consumer.poll(LIMIT_S)
    assert message is not None
    assert message.error() is None, message.error()
    consumer.commit(asynchronous=False)
    consumer.close()
    simple = Consumer({"bootstrap.servers": world.address, "group.id": "simple"})
    offsets = [TopicPartition("segments", 0, 3, "größe"), TopicPartition("empty", 0, 0)]
    simple.commit(offsets=offsets, asynchronous=False)
    simple.close()


def alter(world: World, kind: int, name: str, setting: str, value: str) -> None:
    config = {"name": setting, "config_operation": 0, "value": value}
    resource = {"resource_type": kind, "resource_name": name, "configs": [config]}
    answer = world.raw(ApiKey.INCREMENTAL_ALTER_CONFIGS, 1, resources=[resource], validate_only=False)
    assert answer.responses[0].error_code == 0, answer


def delete_records(world: World, topic: str, before: int) -> None:
    asked = {"name": topic, "partitions": [{"partition_index": 0, "offset": before}]}
    answer = world.raw(ApiKey.DELETE_RECORDS, 2, topics=[asked], timeout_ms=30_000)
    assert answer.topics[0].partitions[0].error_code == 0, answer


def until(reached: Callable[[], bool], limit_s: float = LIMIT_S) -> None:
    """Look again until it is so: the broker does it in its own time."""
    deadline = time.monotonic() + limit_s
    while not reached():
        assert time.monotonic() < deadline, "it has not come to it"
        time.sleep(0.02)  # between two looks


def rewrite(directory: Directory, world: World, topic: str) -> None:
    """Write the same keys again, one of them deleted, and have what came before compacted."""
    former = directory.cleaned(topic)
    for number in range(30):
        append(world, topic, number, 0, value=None if number == 3 else b"v" * 100)
    compact(directory, world, topic)
    assert directory.cleaned(topic) > former


def compact(directory: Directory, world: World, topic: str) -> None:
    """Have all but the active segment compacted, and then no more: pictures are not to be taken of a moving thing."""
    alter(world, TOPIC, topic, "min.cleanable.dirty.ratio", AT_ONCE)
    until(lambda: directory.cleaned(topic) >= directory.active_segment(topic))
    alter(world, TOPIC, topic, "min.cleanable.dirty.ratio", NEVER)


# ---- transactions, by the Java producer ----


def transactions(clients: JavaClients, address: str, transactional_id: str) -> None:
    """Committed and aborted ones in turn, in two topics and for a group's offsets."""
    with clients.producer(address, transactional_id=transactional_id, transaction_timeout_ms=900_000) as producer:
        producer.initTransactions()
        for number in range(30):
            producer.beginTransaction()
            for topic in ("txn-compacted", "txn-trimmed"):
                for key in range(4):
                    record = clients.producer_api.ProducerRecord(
                        topic, f"k{key}".encode(), f"{number} {key} ".encode() * 10
                    )
                    producer.send(record)
            offsets = {clients.partition("segments", 0): clients.consumer_api.OffsetAndMetadata(number)}
            group = clients.consumer_api.ConsumerGroupMetadata(f"group of {transactional_id}")
            producer.sendOffsetsToTransaction(offsets, group)
            if number % 3 == 1:
                producer.abortTransaction()
            else:
                producer.commitTransaction()


def open_transaction(clients: JavaClients, address: str) -> None:
    """One that nobody ends."""
    producer = clients.open_producer(address, transactional_id="left open", transaction_timeout_ms=900_000)
    producer.initTransactions()
    producer.beginTransaction()
    for topic in ("txn-open", "txn-compacted"):
        producer.send(clients.producer_api.ProducerRecord(topic, b"k", b"undecided")).get()
    producer.close(clients.seconds(0))  # and nothing is said of the transaction


def end_the_open_transaction(clients: JavaClients, address: str) -> None:
    """Whoever takes the transactional id over ends what was left open."""
    with clients.producer(address, transactional_id="left open", transaction_timeout_ms=900_000) as producer:
        producer.initTransactions()
        producer.beginTransaction()
        producer.send(clients.producer_api.ProducerRecord("txn-open", b"k", b"decided")).get()
        producer.commitTransaction()
    picture = take(address)
    for topic in ("txn-open", "txn-compacted"):
        assert picture.topics[topic].stable_ends == picture.topics[topic].ends
    assert [record[3] for record in picture.topics["txn-open"].committed_records[0]] == [b"decided"]


def tidy_what_kafka_wrote(directory: Directory, world: World, before: Picture) -> None:
    """Compaction and retention of transactional data and of groups, by the broker under test."""
    compact(directory, world, "txn-compacted")
    alter(world, TOPIC, "__consumer_offsets", "segment.ms", "1")
    commit(world)
    commit(world)
    compact(directory, world, "__consumer_offsets")
    alter(world, TOPIC, "txn-trimmed", "retention.bytes", "1000")
    until(lambda: not (directory.data_dir / "txn-trimmed-0" / f"{0:020}.log").exists())
    after = take(world.address)
    for topic in ("txn-compacted", "txn-trimmed"):
        was, now = before.topics[topic], after.topics[topic]
        assert (was.ends, was.stable_ends) == (now.ends, now.stable_ends)
        assert len(now.records[0]) < len(was.records[0])
    assert latest(after, "txn-compacted") == latest(before, "txn-compacted")
    start = after.topics["txn-trimmed"].starts[0]
    kept = [record for record in before.topics["txn-trimmed"].committed_records[0] if record[0] >= start]
    assert after.topics["txn-trimmed"].committed_records[0] == kept
    assert after.groups.keys() == before.groups.keys()
    assert after.groups["group of second"] == before.groups["group of second"] == {("segments", 0): (29, "")}


def latest(picture: Picture, topic: str) -> dict[bytes, Any]:
    """Of each key the latest record that a reader of committed records sees."""
    return {record[2]: record for record in picture.topics[topic].committed_records[0]}


# ---- looking through the files ----


def changed(was: dict[str, list[str]], now: dict[str, list[str]]) -> dict[str, tuple[list[str], list[str]]]:
    """What the tools told before, and no more, and what they tell only now."""
    return {
        name: (
            [line for line in was[name] if line not in now[name]],
            [line for line in now[name] if line not in was[name]],
        )
        for name in was
        if was[name] != now[name]
    }


def flaws_after_a_kill(directory: Directory) -> list[str]:
    """Indexes may be behind after a kill, and checkpoints; whatever else is wrong."""
    return [line for line in verified(directory.data_dir).splitlines() if "ndex" not in line]


def verified(data_dir: Path) -> str:
    """What `kpybroker log verify` has to say against a directory."""
    command = [sys.executable, "-m", "kpybroker", "log", "verify", str(data_dir)]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout

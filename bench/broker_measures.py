"""The measures of one broker. Each returns plain numbers; broker_bench.py runs them in turn and compares."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field

from broker_client import EndToEndLatency, Percentiles, ProduceLatency, new_name
from broker_process import cpu_s, resident_mb
from confluent_kafka import Producer
from harness.admin import create_topic, end_offsets
from harness.brokers import ChildBroker
from harness.java_tools import CONSUMER_PERFORMANCE, PRODUCER_PERFORMANCE, ToolHost
from harness.ports import answers

RECORD_BYTES = 1000
ANSWER_LIMIT_S = 120.0


@dataclass
class Measured:
    """What was measured of one broker: for each quantity one value a round."""

    values: dict[str, list[float]] = field(default_factory=dict)

    def add(self, name: str, value: float) -> None:
        self.values.setdefault(name, []).append(value)


def start_to_first_answer(broker: ChildBroker) -> float:
    """Seconds from the process's start on an existing directory to its first answer to ApiVersions."""
    started = time.perf_counter()
    broker.launch()
    while not answers("127.0.0.1", broker.port):
        if time.perf_counter() - started > ANSWER_LIMIT_S or not broker.running:
            raise RuntimeError(f"{broker.kind} does not answer: {broker.last_words()}")
        time.sleep(0.001)
    return time.perf_counter() - started


def new_topic(broker: ChildBroker, what: str, partitions: int) -> str:
    """Make a topic, and wait until the broker leads its partitions."""
    name = new_name(what)
    create_topic(broker.address, name, partitions)
    end_offsets(broker.address, name, partitions)
    return name


def produce(broker: ChildBroker, tools: ToolHost, topic: str, records: int, acks: str) -> tuple[float, float]:
    """Producer-performance at full speed: MB/s, and the broker's CPU seconds a GB (10**9 bytes of values)."""
    before = cpu_s(broker.pid)
    arguments = ["--topic", topic, "--num-records", str(records), "--record-size", str(RECORD_BYTES)]
    settings = [f"acks={acks}", f"bootstrap.servers={broker.address}"]
    result = tools.run(PRODUCER_PERFORMANCE, *arguments, "--throughput", "-1", "--command-property", *settings)
    used = cpu_s(broker.pid) - before
    summary = re.search(rf"^{records} records sent, ([0-9.]+) records/sec", result.out, re.MULTILINE)
    if result.code != 0 or summary is None:
        raise RuntimeError(f"ProducerPerformance: {result.out[-1000:]}{result.err[-1000:]}")
    return float(summary[1]) * RECORD_BYTES / 1e6, used / (records * RECORD_BYTES / 1e9)


def consume(broker: ChildBroker, tools: ToolHost, topic: str, records: int) -> tuple[float, float]:
    """Consumer-performance over what is stored: MB/s without the time to join, and the broker's CPU seconds a GB."""
    before = cpu_s(broker.pid)
    arguments = ["--bootstrap-server", broker.address, "--topic", topic, "--num-records", str(records)]
    result = tools.run(CONSUMER_PERFORMANCE, *arguments, "--timeout", "60000", "--hide-header")
    used = cpu_s(broker.pid) - before
    columns = result.out.split("\n")[-2].split(", ") if result.code == 0 else []
    if len(columns) != 10 or int(columns[4]) < records:
        raise RuntimeError(f"ConsumerPerformance: {result.out[-1000:]}{result.err[-1000:]}")
    gigabytes = records * RECORD_BYTES / 1e9
    fetching_s = int(columns[7]) / 1000
    return gigabytes * 1000 / fetching_s, used / gigabytes


class SyncProduce:
    """One synchronous produce at a time by the raw client, on a topic of its own."""

    def __init__(self, broker: ChildBroker, acks: int) -> None:
        topic = new_topic(broker, "sync", 1)
        self._latency = ProduceLatency(broker.address, topic, acks=acks)
        self.times: list[float] = []

    def block(self, count: int) -> None:
        self.times += [self._latency.one() for _ in range(count)]

    def close(self) -> Percentiles:
        self._latency.close()
        return Percentiles.of(self.times)


class ConfluentProduce:
    """One synchronous produce at a time by confluent-kafka: produce, and wait for its delivery."""

    def __init__(self, broker: ChildBroker) -> None:
        self._topic = new_topic(broker, "confluent", 1)
        settings = {"bootstrap.servers": broker.address, "linger.ms": 0, "acks": 1, "socket.nagle.disable": True}
        self._producer = Producer(settings)
        self.times: list[float] = []
        self.one()
        self.times.clear()

    def one(self) -> None:
        started = time.perf_counter()
        self._producer.produce(self._topic, b"v" * RECORD_BYTES, partition=0)
        assert self._producer.flush(60) == 0
        self.times.append(time.perf_counter() - started)

    def block(self, count: int) -> None:
        for _ in range(count):
            self.one()

    def close(self) -> Percentiles:
        return Percentiles.of(self.times)


class EndToEnd:
    """One record at a time to a waiting Fetch."""

    def __init__(self, broker: ChildBroker) -> None:
        topic = new_topic(broker, "end-to-end", 1)
        self._latency = EndToEndLatency(broker.address, topic)
        self.times: list[float] = []
        self._latency.one(0.5)

    def block(self, count: int) -> None:
        self.times += [self._latency.one(0.002) for _ in range(count)]

    def close(self) -> Percentiles:
        self._latency.close()
        return Percentiles.of(self.times)


def memory(broker: ChildBroker) -> float:
    """Resident MB."""
    return resident_mb(broker.pid)

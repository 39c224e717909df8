"""Apache Kafka's command-line tools that move records: console, verifiable, performance, latency, replicas."""

from __future__ import annotations

import json
import re
import subprocess
import threading
from pathlib import Path

import pytest
from harness import kafka_jars
from harness.brokers import BrokerUnderTest
from harness.clients import PARTITIONS
from harness.clients.confluent import Confluent
from harness.java_tools import (
    CONSOLE_CONSUMER,
    CONSOLE_PRODUCER,
    CONSUMER_GROUPS,
    CONSUMER_PERFORMANCE,
    END_TO_END_LATENCY,
    GET_OFFSETS,
    PRODUCER_PERFORMANCE,
    REPLICA_VERIFICATION,
    VERIFIABLE_CONSUMER,
    VERIFIABLE_PRODUCER,
    Tools,
)

NUMBER = r"[\d.]+"


def own_jvm(main: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A tool that ends its JVM by itself, in a JVM of its own."""
    command = kafka_jars.java(main, *arguments)
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def consumed(kafka: Tools, topic: str, count: int, *arguments: str) -> list[str]:
    """What the console consumer writes of so many records."""
    wanted = ("--topic", topic, "--max-messages", str(count), "--timeout-ms", "60000")
    return kafka.out(CONSOLE_CONSUMER, *wanted, *arguments).splitlines()


def test_console_keys_and_headers(kafka: Tools, topic: str, tmp_path: Path) -> None:
    typed = tmp_path / "typed"
    typed.write_text("a:1,b:2\tkey one\tvalue one\nc:3\tkey two\tNULL\n")
    reader = ("parse.key=true", "parse.headers=true", "null.marker=NULL")
    properties = [part for each in reader for part in ("--reader-property", each)]
    written = kafka(CONSOLE_PRODUCER, "--topic", topic, *properties, stdin=typed)
    assert written.code == 0, written.err
    shown = (
        "print.key=true",
        "print.headers=true",
        "print.timestamp=true",
        "print.offset=true",
        "null.literal=nothing",
    )
    properties = [part for each in shown for part in ("--formatter-property", each)]
    one, two = sorted(consumed(kafka, topic, 2, "--from-beginning", *properties), key=lambda line: "key two" in line)
    assert re.fullmatch(r"CreateTime:\d{13}\tOffset:\d\ta:1,b:2\tkey one\tvalue one", one)
    assert re.fullmatch(r"CreateTime:\d{13}\tOffset:\d\tc:3\tkey two\tnothing", two)


def test_console_consumer_from_one_place(kafka: Tools, broker: BrokerUnderTest, topic: str) -> None:
    """One partition from an offset on; a group that commits, and goes on; both isolation levels."""
    values = [f"value {number}".encode() for number in range(60)]
    Confluent().write(broker.address, topic, "gzip", values)
    some = consumed(kafka, topic, 2, "--partition", "1", "--offset", "7")
    assert some == [values[number].decode() for number in (43, 49)]
    group = ("--group", f"group-{topic}")
    first = consumed(kafka, topic, 20, "--from-beginning", *group)
    second = consumed(kafka, topic, 40, "--isolation-level", "read_committed", *group)
    assert sorted(first + second) == sorted(value.decode() for value in values)
    offsets = kafka.out(CONSUMER_GROUPS, "--describe", *group)
    assert len(re.findall(rf"^group-{topic} +{topic} +\d +10 +10 +0 ", offsets, re.MULTILINE)) == PARTITIONS


@pytest.mark.parametrize("acks", ["0", "1", "-1"])
def test_console_producer_acks(kafka: Tools, topic: str, tmp_path: Path, acks: str) -> None:
    typed = tmp_path / "typed"
    typed.write_text("".join(f"value {number}\n" for number in range(100)))
    written = kafka(CONSOLE_PRODUCER, "--topic", topic, "--request-required-acks", acks, stdin=typed)
    assert written.code == 0, written.err
    assert sorted(consumed(kafka, topic, 100, "--from-beginning")) == sorted(typed.read_text().splitlines())


def test_performance(kafka: Tools, topic: str) -> None:
    load = ("--topic", topic, "--num-records", "5000", "--record-size", "200", "--throughput", "-1")
    last = kafka.out(PRODUCER_PERFORMANCE, *load).splitlines()[-1]
    latencies = ", ".join(rf"\d+ ms {each}" for each in ("50th", "95th", "99th", "99.9th"))
    rates = rf"{NUMBER} records/sec \({NUMBER} MB/sec\), {NUMBER} ms avg latency, {NUMBER} ms max latency"
    assert re.fullmatch(rf"5000 records sent, {rates}, {latencies}\.", last)
    assert sum(int(line.rpartition(":")[2]) for line in kafka.out(GET_OFFSETS, "--topic", topic).splitlines()) == 5000
    header, row = kafka.out(CONSUMER_PERFORMANCE, "--topic", topic, "--num-records", "5000").splitlines()
    measured = dict(zip(header.split(", "), row.split(", "), strict=True))
    assert measured["data.consumed.in.nMsg"] == "5000"
    assert float(measured["data.consumed.in.MB"]) == pytest.approx(5000 * 200 / 1024 / 1024, abs=0.001)


@pytest.mark.parametrize("acks", ["1", "all"])
def test_end_to_end_latency(kafka: Tools, name: str, acks: str) -> None:
    """It makes its topic itself."""
    out = kafka.out(
        END_TO_END_LATENCY, "--topic", name, "--num-records", "100", "--producer-acks", acks, "--record-size", "50"
    )
    assert re.search(rf"^Avg latency: {NUMBER} ms$", out, re.MULTILINE)
    assert re.search(r"^Percentiles: 50th = \d+, 99th = \d+, 99.9th = \d+$", out, re.MULTILINE)
    assert len(kafka.out(GET_OFFSETS, "--topic", name).splitlines()) == 1


@pytest.mark.usefixtures("java")
def test_verifiable_producer_and_consumer(broker: BrokerUnderTest, topic: str) -> None:
    where = ("--bootstrap-server", broker.address, "--topic", topic)
    produced = own_jvm(VERIFIABLE_PRODUCER, *where, "--max-messages", "200", "--acks", "-1", "--value-prefix", "7")
    events = [json.loads(line) for line in produced.stdout.splitlines()]
    sent = [event for event in events if event["name"] == "producer_send_success"]
    assert sorted(event["value"] for event in sent) == sorted(f"7.{number}" for number in range(200))
    assert events[-1] == {**events[-1], "name": "tool_data", "sent": 200, "acked": 200}

    group = ("--group-id", f"group-{topic}", "--max-messages", "200", "--reset-policy", "earliest", "--verbose")
    read = own_jvm(VERIFIABLE_CONSUMER, *where, *group)
    events = [json.loads(line) for line in read.stdout.splitlines()]
    names = [event["name"] for event in events]
    assert names[0] == "startup_complete"
    assert "shutdown_complete" in names
    (assigned,) = (event["partitions"] for event in events if event["name"] == "partitions_assigned")
    assert sorted(each["partition"] for each in assigned) == list(range(PARTITIONS))
    values = [event["value"] for event in events if event["name"] == "record_data"]
    assert sorted(values) == sorted(event["value"] for event in sent)
    committed = [event for event in events if event["name"] == "offsets_committed"]
    assert all(event["success"] for event in committed)
    assert sum(each["offset"] for each in committed[-1]["offsets"]) == 200


@pytest.mark.usefixtures("java")
def test_replica_verification(broker: BrokerUnderTest, topic: str) -> None:
    """It fetches as a replica would, again and again, and reports how far replicas are apart."""
    Confluent().write(broker.address, topic, "lz4", [b"value"] * 600)
    where = ("--broker-list", broker.address, "--topics-include", topic)
    command = kafka_jars.java(REPLICA_VERIFICATION, *where, "--report-interval-ms", "200")
    tool = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    too_long = threading.Timer(60, tool.kill)
    too_long.start()
    assert tool.stdout is not None
    with tool.stdout:
        report = next((line for line in tool.stdout if "max lag is" in line), None)
        tool.terminate()
        tool.stdout.read()
    tool.wait(60)
    too_long.cancel()
    assert report is not None
    assert re.search(
        rf"max lag is 0 for partition {topic}-\d at offset 100 among {PARTITIONS} partitions$", report.strip()
    )

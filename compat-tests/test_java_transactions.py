"""Apache Kafka's Java producer and its tools in transactions: ends, fencing, time-outs, copying, what hangs."""

from __future__ import annotations

import json
import re
import subprocess
import uuid
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
from harness import kafka_jars
from harness.admin import create_topic, end_offsets
from harness.brokers import BrokerUnderTest, ChildBroker
from harness.committed import ends, values, wait_until_decided
from harness.java_clients import Admin, JavaClients, refusal
from harness.java_tools import MESSAGE_COPIER, TRANSACTIONS, Tools
from harness.versions.txn_actor import TxnActor
from harness.versions.world import World

from kpybroker.wire.api_keys import ApiKey

PARTITIONS = 3
TOOL_ANSWERS = Path(__file__).parent / "answers" / "transaction-tool.json"

pytestmark = pytest.mark.usefixtures("java")


@pytest.fixture
def topic(broker: BrokerUnderTest) -> str:
    name = f"java-transactions-{uuid.uuid4().hex[:8]}"
    create_topic(broker.address, name, PARTITIONS)
    end_offsets(broker.address, name, PARTITIONS)
    return name


def texts(what: str, count: int = 30) -> list[bytes]:
    return [b"%s %03d" % (what.encode(), number) for number in range(count)]


def shown(address: str, topic: str, *, committed: bool = True) -> list[bytes]:
    return [each.encode() for each in values(address, topic, PARTITIONS, committed=committed)]


def test_commit_and_abort(java_clients: JavaClients, broker: BrokerUnderTest, topic: str) -> None:
    address = broker.address
    with java_clients.producer(address, transactional_id=topic) as producer:
        producer.initTransactions()
        for what, committed in (("one", True), ("two", False), ("three", True), ("four", False)):
            producer.beginTransaction()
            java_clients.send(producer, topic, PARTITIONS, texts(what))
            assert b"%s 000" % what.encode() not in shown(address, topic)
            producer.commitTransaction() if committed else producer.abortTransaction()
    wait_until_decided(address, topic, PARTITIONS)
    assert shown(address, topic) == sorted(texts("one") + texts("three"))
    assert len(shown(address, topic, committed=False)) == 4 * 30
    with java_clients.consumer(address, isolation_level="read_committed") as consumer:
        consumer.assign([java_clients.partition(topic, number) for number in range(PARTITIONS)])
        assert sorted(java_clients.read(consumer, 60)) == sorted(texts("one") + texts("three"))


def test_a_second_instance_fences_the_first(java_clients: JavaClients, broker: BrokerUnderTest, topic: str) -> None:
    with (
        java_clients.producer(broker.address, transactional_id=topic) as first,
        java_clients.producer(broker.address, transactional_id=topic) as second,
    ):
        first.initTransactions()
        first.beginTransaction()
        java_clients.send(first, topic, PARTITIONS, texts("first"))
        second.initTransactions()
        assert refusal(first.commitTransaction)[0] in ("ProducerFencedException", "InvalidProducerEpochException")
        second.beginTransaction()
        java_clients.send(second, topic, PARTITIONS, texts("second"))
        second.commitTransaction()
    wait_until_decided(broker.address, topic, PARTITIONS)
    assert shown(broker.address, topic) == texts("second")


def test_a_transaction_that_runs_out_of_time(java_clients: JavaClients, broker: BrokerUnderTest, topic: str) -> None:
    """It is aborted behind its producer's back; the producer hears of it when it wants to commit."""
    with java_clients.producer(broker.address, transactional_id=topic, transaction_timeout_ms=1000) as producer:
        producer.initTransactions()
        producer.beginTransaction()
        java_clients.send(producer, topic, PARTITIONS, texts("late"))
        wait_until_decided(broker.address, topic, PARTITIONS)
        assert refusal(producer.commitTransaction)[0] == "InvalidTxnStateException"
    assert shown(broker.address, topic) == []


def test_offsets_of_a_group_member(
    java_clients: JavaClients, broker: BrokerUnderTest, topic: str, admin: Admin
) -> None:
    """sendOffsetsToTransaction with the member's metadata; an older generation of the group is refused."""
    group = f"group-{topic}"
    with java_clients.producer(broker.address) as plain_producer:
        java_clients.send(plain_producer, topic, PARTITIONS, texts("input"))
    offset = java_clients.consumer_api.OffsetAndMetadata
    with (
        java_clients.consumer(broker.address, group_id=group) as consumer,
        java_clients.producer(broker.address, transactional_id=topic) as producer,
    ):
        consumer.subscribe([topic])
        java_clients.read(consumer, 30)
        producer.initTransactions()
        for committed, position in ((False, 5), (True, 7)):
            producer.beginTransaction()
            java_clients.send(producer, topic, PARTITIONS, texts("output"))
            offsets = {java_clients.partition(topic, 0): offset(position)}
            producer.sendOffsetsToTransaction(offsets, consumer.groupMetadata())
            producer.commitTransaction() if committed else producer.abortTransaction()
        old = java_clients.consumer_api.ConsumerGroupMetadata(group, 77, "nobody", java_clients.optional(None))
        producer.beginTransaction()
        java_clients.send(producer, topic, PARTITIONS, texts("stale"))
        assert refusal(lambda: producer.sendOffsetsToTransaction(offsets, old))[0] == "CommitFailedException"
        producer.abortTransaction()
    wait_until_decided(broker.address, topic, PARTITIONS)
    found = admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get()
    assert {partition.partition(): each.offset() for partition, each in found.items()} == {0: 7}
    assert b"stale 000" not in shown(broker.address, topic)


def test_the_message_copier_over_kills(
    restartable: ChildBroker, topic: str, lines: list[bytes], tmp_path: Path
) -> None:
    """Kafka's own system test of exactly once: it is killed -9, so is the broker, and it is started again."""
    count, source = 6000, f"{topic}-in"
    text = [b"%05d %s" % (number, line) for number, line in enumerate(lines[:count])]
    create_topic(restartable.address, source, 1)
    producer = Producer({"bootstrap.servers": restartable.address, "enable.idempotence": True})
    for line in text:
        producer.produce(source, line, partition=0)
    assert producer.flush(60) == 0

    def launch() -> subprocess.Popen[str]:
        arguments = ("--broker-list", restartable.address, "--input-topic", source, "--input-partition", "0")
        arguments += ("--output-topic", topic, "--transactional-id", topic, "--consumer-group", f"group-{topic}")
        arguments += ("--transaction-size", "150", "--transaction-timeout", "10000", "--enable-random-aborts")
        command = kafka_jars.java(MESSAGE_COPIER, *arguments, "--use-group-metadata")
        with (tmp_path / "copier.log").open("ab") as log:
            return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)

    def copy_until(left: int) -> subprocess.Popen[str]:
        """Start it, and return when so many are left to be copied."""
        copier = launch()
        assert copier.stdout is not None
        for line in copier.stdout:
            if line.startswith("{") and json.loads(line).get("remaining", count) <= left:
                break
        return copier

    for left in (4000, 2000):
        copier = copy_until(left)
        copier.kill()
        copier.communicate()
        restartable.kill()
        restartable.start()
    copier = copy_until(1000)
    restartable.kill()
    restartable.start()
    copier.communicate(timeout=120)
    assert copier.returncode == 0
    wait_until_decided(restartable.address, topic, PARTITIONS)
    assert shown(restartable.address, topic) == text


def tool(kafka: Tools, *arguments: str) -> list[list[str]]:
    """The rows that kafka-transactions prints, without their heading."""
    rows = [line.rstrip("\t").split("\t") for line in kafka.out(TRANSACTIONS, *arguments).splitlines()]
    return [[cell.strip() for cell in row] for row in rows[1:]]


def test_what_hangs_is_found_and_aborted(kafka: Tools, broker: BrokerUnderTest) -> None:
    """A record that was written past its coordinator, as before verification: kafka-transactions tells of it."""
    world = World(broker.address)
    try:
        actor = TxnActor(world, "hanging", 11)
        set_verification(world, "false")
        answer = actor.send((1, actor.batch(2)))
        assert answer["responses"][0]["partitionResponses"][0]["errorCode"] == 0
        set_verification(world, "true")
        assert ends(broker.address, actor.topic, 2, committed=True) == [0, 0]
        described = tool(kafka, "describe-producers", "--topic", actor.topic, "--partition", "1")
        assert [row[0] for row in described] == [str(actor.producer_id)]
        assert described[0][-1] == "0"
        found = tool(kafka, "find-hanging", "--topic", actor.topic)
        assert [row[:3] for row in found] == [[actor.topic, "1", str(actor.producer_id)]]
        assert tool(kafka, "abort", "--topic", actor.topic, "--partition", "1", "--start-offset", "0") == []
        assert ends(broker.address, actor.topic, 2, committed=True) == [0, 3]
        assert tool(kafka, "find-hanging", "--topic", actor.topic) == []
        assert values(broker.address, actor.topic, 2, committed=True) == []
    finally:
        set_verification(world, "true")
        world.close()


def set_verification(world: World, enabled: str) -> None:
    """transaction.partition.verification.enable of all brokers, which follow the controller in a moment."""
    change: dict[str, Any] = {"name": "transaction.partition.verification.enable", "value": enabled}
    resource = {"resource_type": 4, "resource_name": "", "configs": [change]}
    (changed,) = world.raw(ApiKey.INCREMENTAL_ALTER_CONFIGS, 1, resources=[resource]).responses
    assert changed.error_code == 0, changed

    def followed() -> bool:
        asked = {"resource_type": 4, "resource_name": "1", "configuration_keys": [change["name"]]}
        (described,) = world.raw(ApiKey.DESCRIBE_CONFIGS, 4, resources=[asked]).results
        return [each.value for each in described.configs] == [enabled]

    world.until(followed)


def test_transactions_are_listed_and_described(kafka: Tools, broker: BrokerUnderTest) -> None:
    world = World(broker.address)
    actor = TxnActor(world, "listed", 11)
    actor.write(1)
    listed = {row[0]: row for row in tool(kafka, "list")}
    assert listed[actor.transactional_id][2:] == [str(actor.producer_id), "Ongoing"]
    described = tool(kafka, "describe", "--transactional-id", actor.transactional_id)
    (row,) = described
    assert row[2:6] == [str(actor.producer_id), str(actor.epoch), "Ongoing", "60000"]
    assert row[-1] == f"{actor.topic}-0"
    actor.end(committed=True)
    assert {row[0]: row[3] for row in tool(kafka, "list")}[actor.transactional_id] == "CompleteCommit"
    world.close()


def test_the_tool_prints_what_it_prints_of_kafka(
    kafka: Tools, broker: BrokerUnderTest, request: pytest.FixtureRequest
) -> None:
    """Of the same situations, kafka-transactions says the same of both brokers."""
    world = World(broker.address)
    actor, done, idle = (TxnActor(world, name, 11) for name in ("tool-open", "tool-done", "tool-idle"))
    actor.write(1)
    actor.write(2, index=1)
    done.write(3)
    done.end(committed=True)
    place = ("--topic", actor.topic, "--partition", "1")
    runs = {
        "list": ("list",),
        "list by pattern": ("list", "--transactional-id-pattern", f"{world.prefix}tool-d.*"),
        "list by a bad pattern": ("list", "--transactional-id-pattern", "("),
        "list long ones": ("list", "--duration-filter", "3600000"),
        "describe an open one": ("describe", "--transactional-id", actor.transactional_id),
        "describe a committed one": ("describe", "--transactional-id", done.transactional_id),
        "describe one that was never used": ("describe", "--transactional-id", idle.transactional_id),
        "describe nobody": ("describe", "--transactional-id", f"{world.prefix}nobody"),
        "producers": ("describe-producers", *place),
        "producers by broker": ("describe-producers", *place, "--broker-id", "1"),
        "producers of a committed one": ("describe-producers", "--topic", done.topic, "--partition", "0"),
        "producers of nothing": ("describe-producers", "--topic", idle.topic, "--partition", "0"),
        "hanging": ("find-hanging", "--topic", actor.topic),
        "hanging of a partition": ("find-hanging", *place, "--max-transaction-timeout", "15"),
        "hanging nowhere": ("find-hanging",),
        "abort where none begins": ("abort", *place, "--start-offset", "1"),
        "abort half told": ("abort", *place, "--producer-id", "1"),
        "abort nothing": ("abort", "--topic", idle.topic, "--partition", "0", "--start-offset", "0"),
        "force": ("forceTerminateTransaction", "--transactionalId", actor.transactional_id),
    }
    names = {actor.producer_id: "OPEN", done.producer_id: "DONE", idle.producer_id: "IDLE"}
    found = {name: tool_text(kafka, world, names, *arguments) for name, arguments in runs.items()}
    world.close()
    if request.config.getoption("--rewrite-answers"):
        assert broker.kind == "kafka", "the answers are Apache Kafka's"
        TOOL_ANSWERS.write_text(json.dumps(found, indent=1) + "\n")
    assert found == json.loads(TOOL_ANSWERS.read_text())


def tool_text(kafka: Tools, world: World, producers: dict[int, str], *arguments: str) -> list[str]:
    """What kafka-transactions says of this run's, with its exit code, without what differs from run to run."""
    result = kafka(TRANSACTIONS, *arguments)
    lines = (result.out + result.err).replace(world.prefix, "\0").splitlines()
    # Stack traces, and what the tool logs with a date, are not what it prints.
    rows = [line.split() for line in lines if line.strip() and not re.match(r"\s*at |\[", line)]
    if not rows:
        return [f"exit {result.code}"]
    heading, *rows = rows
    if arguments[0] == "list":
        rows = [row for row in rows if "\0" in row[0]]
    shown = [" ".join(map(partial(_cell, producers), heading, row)) for row in rows]
    return [f"exit {result.code}", *(text.replace("\0", "") for text in (" ".join(heading), *sorted(shown)))]


def _cell(producers: dict[int, str], heading: str, cell: str) -> str:
    if heading == "ProducerId":
        return producers.get(int(cell), "another's")
    if heading.endswith(("TimeMs", "Timestamp")) and cell != "None":
        return "TIME"
    if heading == "LatestCoordinatorEpoch" and cell != "-1":  # it grows with each start of the broker
        return "EPOCH"
    if heading == "TransactionDurationMs" and cell != "None":
        return "DURATION"
    return ",".join(sorted(cell.split(",")))

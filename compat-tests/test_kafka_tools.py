"""Apache Kafka's command-line tools against the broker; which of them kpybroker serves: harness/capabilities.py."""

from __future__ import annotations

import re
import uuid

import pytest
from harness.admin import create_topic
from harness.brokers import BrokerUnderTest
from harness.clients import PARTITIONS
from harness.clients.confluent import Confluent
from harness.java_tools import API_VERSIONS, CONSUMER_GROUPS, GET_OFFSETS, TOPICS, Result, ToolHost


class Tools:
    """The tools, each called with the broker's address."""

    def __init__(self, host: ToolHost, address: str) -> None:
        self._host = host
        self._address = address

    def __call__(self, main: str, *arguments: str) -> Result:
        return self._host.run(main, "--bootstrap-server", self._address, *arguments, limit_s=120)

    def out(self, main: str, *arguments: str) -> str:
        """What a tool writes when it succeeds."""
        result = self(main, *arguments)
        assert result.code == 0, f"{result.out}\n{result.err}"
        return result.out


@pytest.fixture
def kafka(tools: ToolHost, broker: BrokerUnderTest) -> Tools:
    return Tools(tools, broker.address)


@pytest.fixture
def name() -> str:
    return f"tools-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def topic(broker: BrokerUnderTest, name: str) -> str:
    create_topic(broker.address, name, PARTITIONS)
    return name


@pytest.mark.needs("kafka-topics --create")
def test_topics_create(kafka: Tools, name: str) -> None:
    out = kafka.out(TOPICS, "--create", "--topic", name, "--partitions", "3", "--config", "retention.ms=1000000")
    assert out.strip() == f"Created topic {name}."
    again = kafka(TOPICS, "--create", "--topic", name)
    assert again.code == 1
    assert f"Topic '{name}' already exists." in again.out + again.err


@pytest.mark.needs("kafka-topics --list")
def test_topics_list(kafka: Tools, topic: str) -> None:
    assert topic in kafka.out(TOPICS, "--list").splitlines()


@pytest.mark.needs("kafka-topics --describe")
def test_topics_describe(kafka: Tools, topic: str) -> None:
    first, *others = kafka.out(TOPICS, "--describe", "--topic", topic).splitlines()
    assert re.match(rf"Topic: {topic}\tTopicId: \S{{22}}\tPartitionCount: 6\tReplicationFactor: 1\tConfigs: ", first)
    partitions = [
        re.match(rf"\tTopic: {topic}\tPartition: (\d)\tLeader: (\d+)\tReplicas: \2\tIsr: \2\tElr: \t", line)
        for line in others
    ]
    assert [found and found[1] for found in partitions] == list("012345")


@pytest.mark.needs("kafka-topics --delete")
def test_topics_delete(kafka: Tools, topic: str) -> None:
    kafka.out(TOPICS, "--delete", "--topic", topic)
    assert topic not in kafka.out(TOPICS, "--list").splitlines()
    missing = kafka(TOPICS, "--delete", "--topic", topic)
    assert missing.code == 1
    assert f"Topic '{topic}' does not exist as expected" in missing.out + missing.err


@pytest.mark.needs("kafka-broker-api-versions")
def test_broker_api_versions(kafka: Tools, broker: BrokerUnderTest) -> None:
    """The tool knows each API that it is told of: none is unknown, none has a version that it cannot use."""
    out = kafka.out(API_VERSIONS)
    assert broker.address in out or broker.kind == "outside"
    served = dict(re.findall(r"^\t(\w+)\(\d+\): (.*?),?$", out, re.MULTILINE))
    assert served["Produce"].startswith("0 to 13 [usable: 13]")
    assert served["Fetch"].startswith("4 to 18 [usable: 18]")
    assert "UNKNOWN" not in out


@pytest.mark.needs("kafka-get-offsets")
def test_get_offsets(kafka: Tools, broker: BrokerUnderTest, topic: str) -> None:
    Confluent().write(broker.address, topic, "none", [b"value"] * 60)
    expected = [f"{topic}:{number}:10" for number in range(PARTITIONS)]
    assert kafka.out(GET_OFFSETS, "--topic", topic).splitlines() == expected
    earliest = [f"{topic}:{number}:0" for number in range(PARTITIONS)]
    assert kafka.out(GET_OFFSETS, "--topic", topic, "--time", "earliest").splitlines() == earliest


@pytest.mark.needs("kafka-consumer-groups --describe")
def test_consumer_groups_describe(kafka: Tools, broker: BrokerUnderTest, topic: str) -> None:
    group_id = f"group-{topic}"
    group = Confluent().group(broker.address, topic, group_id)
    group.wait_assigned()
    Confluent().write(broker.address, topic, "none", [b"value"] * 60)
    assert group.wait_for(60, 120)
    members = kafka.out(CONSUMER_GROUPS, "--describe", "--group", group_id, "--members")
    assert len(re.findall(rf"^{group_id}\s.*rdkafka", members, re.MULTILINE)) == 3
    group.close()

    offsets = kafka.out(CONSUMER_GROUPS, "--describe", "--group", group_id)
    rows = re.findall(rf"^{group_id}\s+{topic}\s+(\d)\s+10\s+10\s+0\s", offsets, re.MULTILINE)
    assert sorted(rows) == list("012345")

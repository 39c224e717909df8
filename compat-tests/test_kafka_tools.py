"""Apache Kafka's command-line tools: topics, offsets, groups; which of them are served: harness/capabilities.py."""

from __future__ import annotations

import re

import pytest
from harness.brokers import BrokerUnderTest
from harness.clients import PARTITIONS
from harness.clients.confluent import Confluent
from harness.java_tools import API_VERSIONS, CONSUMER_GROUPS, GET_OFFSETS, GROUPS, TOPICS, Tools


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


@pytest.mark.needs("kafka-topics --list")
def test_topics_alter(kafka: Tools, topic: str) -> None:
    kafka.out(TOPICS, "--alter", "--topic", topic, "--partitions", "8")
    assert len(kafka.out(GET_OFFSETS, "--topic", topic).splitlines()) == 8
    fewer = kafka(TOPICS, "--alter", "--topic", topic, "--partitions", "2")
    assert fewer.code == 1
    assert "currently has 8 partition(s); 2 would not be an increase." in fewer.out + fewer.err


@pytest.mark.needs("kafka-topics --describe")
@pytest.mark.parametrize(
    "option", ["--under-replicated-partitions", "--unavailable-partitions", "--at-min-isr-partitions"]
)
def test_topics_describe_what_is_wrong(kafka: Tools, topic: str, option: str) -> None:
    """One replica is all there is: never too few; at the least that is allowed."""
    out = kafka.out(TOPICS, "--describe", "--topic", topic, option)
    assert len(out.splitlines()) == (PARTITIONS if option == "--at-min-isr-partitions" else 0)


@pytest.mark.needs("kafka-get-offsets")
def test_get_offsets_of_each_kind(kafka: Tools, broker: BrokerUnderTest, topic: str) -> None:
    Confluent().write(broker.address, topic, "none", [b"value"] * 6)
    asked = ("--topic-partitions", f"{topic}:0", "--time")
    for time, offset in (("latest", 1), ("earliest", 0), ("max-timestamp", 0), ("0", 0), ("earliest-local", 0)):
        assert kafka.out(GET_OFFSETS, *asked, time).splitlines() == [f"{topic}:0:{offset}"]
    assert kafka.out(GET_OFFSETS, *asked, "4000000000000").splitlines() == []


def test_groups_list(kafka: Tools, topic: str) -> None:
    group_id = f"group-{topic}"
    kafka.out(CONSUMER_GROUPS, "--reset-offsets", "--group", group_id, "--topic", topic, "--to-earliest", "--execute")
    out = kafka.out(GROUPS, "--list")
    assert re.search(r"^GROUP +TYPE +PROTOCOL *$", out, re.MULTILINE)
    assert re.search(rf"^{group_id} +Classic *$", out, re.MULTILINE)
    assert group_id not in kafka.out(GROUPS, "--list", "--group-type", "share")
    assert group_id in kafka.out(GROUPS, "--list", "--group-type", "classic")


def test_consumer_groups_offsets(kafka: Tools, broker: BrokerUnderTest, topic: str) -> None:
    """A group that has no members: offsets set in several ways, shown, deleted; the group deleted."""
    Confluent().write(broker.address, topic, "none", [b"value"] * 60)
    group = ("--group", f"group-{topic}")
    reset = ("--reset-offsets", *group, "--topic", topic)

    def offsets(*arguments: str) -> list[int]:
        out = kafka.out(CONSUMER_GROUPS, *reset, *arguments)
        return [int(found) for found in re.findall(rf"^group-{topic} +{topic} +\d +(\d+)", out, re.MULTILINE)]

    assert offsets("--to-latest", "--dry-run") == [10] * PARTITIONS
    assert "GROUP" in kafka.out(CONSUMER_GROUPS, *reset, "--to-offset", "4", "--execute")
    assert offsets("--shift-by", "3", "--execute") == [7] * PARTITIONS
    assert offsets("--to-datetime", "2000-01-01T00:00:00.000", "--dry-run") == [0] * PARTITIONS
    assert offsets("--to-current", "--dry-run") == [7] * PARTITIONS
    described = kafka.out(CONSUMER_GROUPS, "--describe", *group)
    assert len(re.findall(rf"^group-{topic} +{topic} +\d +7 +10 +3 +- +- +- *$", described, re.MULTILINE)) == PARTITIONS
    state = kafka.out(CONSUMER_GROUPS, "--describe", *group, "--state")
    assert re.search(rf"^group-{topic} +\S+ +\(\d+\) +- +Empty +0 *$", state, re.MULTILINE)
    assert re.search(rf"^group-{topic} +Empty *$", kafka.out(CONSUMER_GROUPS, "--list", "--state"), re.MULTILINE)
    deleted = kafka.out(CONSUMER_GROUPS, "--delete-offsets", *group, "--topic", f"{topic}:0,1")
    assert len(re.findall(rf"^{topic} +\d +Successful *$", deleted, re.MULTILINE)) == 2
    gone = f"Deletion of requested consumer groups ('group-{topic}') was successful."
    assert gone in kafka.out(CONSUMER_GROUPS, "--delete", *group)
    missing = kafka(CONSUMER_GROUPS, "--describe", *group)
    assert missing.code == 0
    assert f"Group group-{topic} not found." in missing.out

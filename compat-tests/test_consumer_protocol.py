"""Groups of the consumer protocol (KIP-848) with stock clients: members that join, leave, come from the classic
protocol, or subscribe by a pattern; and what Kafka's tools say of such groups. Many of them, and their deaths, are in
test_consumer_protocol_crowd.py.

Heartbeats come as often as the broker says, so these tests have a broker of their own that is in more of a hurry.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from harness.brokers import BrokerUnderTest, ChildBroker
from harness.driver import Driver
from harness.java_clients import JavaClients
from harness.java_tools import CONSUMER_GROUPS, GROUPS, ToolHost, Tools
from harness.members import Members, wait_shares
from harness.modern import PARTITIONS, JavaMember, Modern
from harness.versions.consumer_party import ConsumerParty
from harness.versions.world import World
from harness.watch import Group
from harness.watch import wait_shares as wait_watched

from kpybroker.wire.api_keys import ApiKey

ANSWERS = Path(__file__).parent / "answers" / "consumer-group-tools.json"


@pytest.mark.parametrize("assignor", ["uniform", "range"])
def test_rdkafka_members_come_and_go(quick: ChildBroker, assignor: str) -> None:
    group = Modern(quick.address)
    member = group.rdkafka(**{"group.remote.assignor": assignor})
    with Members() as members:
        first = members.join(member)
        wait_shares([first], [6])
        second = members.join(member)
        wait_shares([first, second], [3, 3])
        third = members.join(member)
        wait_shares([first, second, third], [2, 2, 2])
        assert group.type() == "consumer"
        first.leave()
        wait_shares([second, third], [3, 3])
        second.leave()
        wait_shares([third], [6])


def test_static_member_comes_back(quick: ChildBroker) -> None:
    group = Modern(quick.address)
    with Members() as members:
        other = members.join(group.rdkafka())
        static = members.join(group.rdkafka(**{"group.instance.id": "i"}))
        wait_shares([other, static], [3, 3])
        kept = static.share
        static.leave()
        again = members.join(group.rdkafka(**{"group.instance.id": "i"}))
        wait_shares([other, again], [3, 3])
        assert again.share == kept


def test_rdkafka_subscribes_by_pattern(quick: ChildBroker) -> None:
    group = Modern(quick.address)
    with Members() as members:
        group.topic = f"^{group.topic}.*"
        first, second = members.join(group.rdkafka()), members.join(group.rdkafka())
        wait_shares([first, second], [3, 3])


def test_java_members_come_and_go(quick: ChildBroker, java_clients: JavaClients) -> None:
    group = Modern(quick.address)
    member = group.java(java_clients, group_protocol="consumer")
    with Members() as members:
        first = members.join(member)
        wait_shares([first], [6])
        second = members.join(member)
        wait_shares([first, second], [3, 3])
        assert group.type() == "consumer"
        with java_clients.producer(quick.address) as producer:
            java_clients.send(producer, group.topic, PARTITIONS, [f"value {number}".encode() for number in range(60)])
        first.wait_values(30)
        second.wait_values(30)
        second.commit()
        first.leave()
        wait_shares([second], [6])


def test_java_subscribes_by_pattern(quick: ChildBroker, java_clients: JavaClients) -> None:
    group = Modern(quick.address)

    class Pattern(JavaMember):
        def __init__(self) -> None:
            self._clients = java_clients
            given = {"group_id": group.group_id, "group_protocol": "consumer"}
            self._consumer = java_clients.open_consumer(group.address, **given)
            pattern = java_clients.jvm.org.apache.kafka.clients.consumer.SubscriptionPattern(f"{group.topic}.*")
            self._consumer.subscribe(pattern)

    with Members() as members:
        first, second = members.join(Pattern), members.join(Pattern)
        wait_shares([first, second], [3, 3])


def test_from_classic_to_consumer_and_back(quick: ChildBroker, java_clients: JavaClients) -> None:
    """Members are replaced one by one, without the group ever standing still."""
    group = Modern(quick.address)
    classic = group.java(java_clients, heartbeat_interval_ms=300)
    modern = group.java(java_clients, group_protocol="consumer")
    with Members() as members:
        old = [members.join(classic), members.join(classic)]
        wait_shares(old, [3, 3])
        assert group.type() == "classic"
        new = members.join(modern)
        wait_shares([*old, new], [2, 2, 2])
        assert group.type() == "consumer"
        old[0].leave()
        wait_shares([old[1], new], [3, 3])
        new.leave()
        wait_shares([old[1]], [6])
        assert group.type() == "classic"


def test_the_group_outlives_its_broker(quick: ChildBroker) -> None:
    """Killed and started again, the broker finds the group in its log, and its members go on."""
    group = Modern(quick.address)
    with Members() as members:
        pair = [members.join(group.rdkafka()), members.join(group.rdkafka())]
        wait_shares(pair, [3, 3])
        shares = [member.share for member in pair]
        quick.kill()
        quick.start()
        third = members.join(group.rdkafka())
        wait_shares([*pair, third], [2, 2, 2])
        assert all(member.share < before for member, before in zip(pair, shares, strict=True))


@pytest.mark.parametrize("driver", ["franz-go"], indirect=True)
def test_other_clients_stay_classic(driver: Driver, broker: BrokerUnderTest) -> None:
    """A broker that offers the consumer protocol changes nothing for clients that do not ask for it."""
    modern = Modern(broker.address)
    with Group(modern.topic, modern.group_id) as group:
        wait_watched([group.join(driver)], [PARTITIONS])
        assert modern.type() == "classic"


def test_tools(quick: ChildBroker, tools: ToolHost, request: pytest.FixtureRequest) -> None:
    """What kafka-consumer-groups and kafka-groups print is what they print of Apache Kafka."""
    kafka = Tools(tools, quick.address)
    world = World(quick.address)
    world.until(lambda: world.raw(ApiKey.FIND_COORDINATOR, 3, key="any", key_type=0).error_code == 0)
    party = ConsumerParty(world, 1, "tools", consumer_session_timeout_ms="60000")
    topic = world.topic("tools", partitions=4)
    one, two = party.consumer("one", topic), party.consumer("two", topic, instance_id="i", rack_id="r")
    one.join()
    one.commit(topic, 0, 1)
    two.join()
    group = ("--group", party.group_id)
    runs = {
        "offsets": (CONSUMER_GROUPS, "--describe", *group),
        "offsets verbose": (CONSUMER_GROUPS, "--describe", *group, "--verbose"),
        "members": (CONSUMER_GROUPS, "--describe", *group, "--members"),
        "members verbose": (CONSUMER_GROUPS, "--describe", *group, "--members", "--verbose"),
        "state": (CONSUMER_GROUPS, "--describe", *group, "--state"),
        "state verbose": (CONSUMER_GROUPS, "--describe", *group, "--state", "--verbose"),
        "list": (CONSUMER_GROUPS, "--list"),
        "list by state": (CONSUMER_GROUPS, "--list", "--state"),
        "list by type": (CONSUMER_GROUPS, "--list", "--type", "consumer"),
        "list classic": (CONSUMER_GROUPS, "--list", "--type", "classic"),
        "groups": (GROUPS, "--list"),
        "consumer groups": (GROUPS, "--list", "--consumer"),
        "delete": (CONSUMER_GROUPS, "--delete", *group),
        "delete offsets": (CONSUMER_GROUPS, "--delete-offsets", *group, "--topic", topic),
        "reset": (CONSUMER_GROUPS, "--reset-offsets", *group, "--topic", topic, "--to-earliest", "--dry-run"),
    }
    found = {name: _shown(kafka, world, *arguments) for name, arguments in runs.items()}
    two.tell()
    one.tell()
    one.tell()
    two.tell()
    found |= {f"{name}, stable": _shown(kafka, world, *runs[name]) for name in ("offsets", "members verbose", "state")}
    one.leave()
    two.leave()
    found |= {f"{name}, empty": _shown(kafka, world, *runs[name]) for name in ("offsets", "members", "state", "delete")}
    world.close()
    if request.config.getoption("--rewrite-answers"):
        assert quick.kind == "kafka", "the answers are Apache Kafka's"
        ANSWERS.write_text(json.dumps(found, indent=1) + "\n")
    assert found == json.loads(ANSWERS.read_text())


def _shown(tools: Tools, world: World, *arguments: str) -> list[str]:
    """The lines of a tool's output about this run's groups, without what differs from run to run."""
    result = tools(*arguments)
    text = (result.out + result.err).replace(world.prefix, "")
    text = re.sub(r"127\.0\.0\.1:\d+", "HOST:PORT", text)
    lines = [re.sub(r" +", " ", line).strip() for line in text.splitlines()]
    return sorted(line for line in lines if line and "modern-group" not in line and "-try-" not in line)

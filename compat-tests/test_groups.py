"""Consumer groups of the classic protocol, what only some libraries have: cooperative and static members, deaths."""

from __future__ import annotations

import subprocess
import sys
import uuid
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest
from confluent_kafka import KafkaError, KafkaException, Producer
from harness.admin import committed, create_topic
from harness.brokers import BrokerUnderTest
from harness.members import ConfluentPolled, KafkaPythonPolled, Members, Polled, wait_shares
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor

PARTITIONS = 6
LIBRARIES = [pytest.param(KafkaPythonPolled, id="kafka-python"), pytest.param(ConfluentPolled, id="confluent-kafka")]

Join = Callable[..., Polled]


class Topic:
    """A topic of six partitions, and the name of a group that reads it."""

    def __init__(self, address: str) -> None:
        unique = uuid.uuid4().hex[:8]
        self.address = address
        self.name = f"groups-{unique}"
        self.group_id = f"group-{unique}"
        create_topic(address, self.name, PARTITIONS)

    def member(self, library: Join, **settings: object) -> Callable[[], Polled]:
        """What makes one more member of the group."""
        return partial(library, self.address, self.name, self.group_id, **settings)

    def write(self, values: list[bytes]) -> None:
        """Write over all partitions; returns when all is acknowledged."""
        producer = Producer({"bootstrap.servers": self.address, "acks": "all"})
        for number, value in enumerate(values):
            producer.produce(self.name, value, partition=number % PARTITIONS)
        assert producer.flush(60) == 0

    def committed(self) -> list[int]:
        """What the group has committed, by partition."""
        return [offset for _, offset in sorted(committed(self.address, self.group_id, self.name, PARTITIONS).items())]


@pytest.fixture
def topic(broker: BrokerUnderTest) -> Topic:
    return Topic(broker.address)


def numbered(start: int, end: int) -> list[bytes]:
    return [f"value {number}".encode() for number in range(start, end)]


@pytest.mark.parametrize("library", LIBRARIES)
def test_what_was_not_committed_comes_again(topic: Topic, library: Join) -> None:
    topic.write(numbered(0, 60))
    for _ in range(2):
        with Members() as members:
            reader = members.join(topic.member(library))
            reader.wait_values(60)
            assert sorted(reader.values) == sorted(numbered(0, 60))
    assert all(offset < 0 for offset in topic.committed())


def test_two_libraries_in_one_group(topic: Topic) -> None:
    """They agree on the protocol that both offer, and either may be the leader that assigns."""
    with Members() as members:
        python = members.join(topic.member(KafkaPythonPolled))
        wait_shares([python], [6])
        librdkafka = members.join(topic.member(ConfluentPolled))
        wait_shares([python, librdkafka], [3, 3])
        python.leave()
        wait_shares([librdkafka], [6])
        python = members.join(topic.member(KafkaPythonPolled))
        wait_shares([python, librdkafka], [3, 3])


def test_cooperative_rebalancing_takes_only_what_moves(topic: Topic) -> None:
    """KIP-429: with cooperative-sticky a member keeps what stays with it while another joins."""
    cooperative = topic.member(ConfluentPolled, **{"partition.assignment.strategy": "cooperative-sticky"})
    with Members() as members:
        first = members.join(cooperative)
        wait_shares([first], [6])
        second = members.join(cooperative)
        wait_shares([first, second], [3, 3])
        third = members.join(cooperative)
        wait_shares([first, second, third], [2, 2, 2])
        grown = first.shares.index(frozenset(range(PARTITIONS)))
        shrinking = first.shares[grown:]
        assert all(later < earlier for earlier, later in pairwise(shrinking)), shrinking

        topic.write(numbered(0, 60))
        for member in (first, second, third):
            member.wait_values(20)
        third.leave()
        wait_shares([first, second], [3, 3])


def test_cooperative_rebalancing_with_kafka_python(topic: Topic) -> None:
    cooperative = topic.member(KafkaPythonPolled, partition_assignment_strategy=(CooperativeStickyAssignor,))
    with Members() as members:
        first = members.join(cooperative)
        wait_shares([first], [6])
        second = members.join(cooperative)
        wait_shares([first, second], [3, 3])
        second.leave()
        wait_shares([first], [6])


@pytest.mark.parametrize(
    ("library", "setting"),
    [
        pytest.param(KafkaPythonPolled, "group_instance_id", id="kafka-python"),
        pytest.param(ConfluentPolled, "group.instance.id", id="confluent-kafka"),
    ],
)
def test_a_static_member_comes_back_to_its_share(topic: Topic, library: Join, setting: str) -> None:
    """KIP-345: a static member that goes away and returns within its session costs the others no rebalance."""
    with Members() as members:
        here = members.join(topic.member(library, **{setting: "here"}))
        away = members.join(topic.member(library, **{setting: "away"}))
        wait_shares([here, away], [3, 3])
        its_share, changes = away.share, len(here.shares)

        away.leave()  # a static member says nothing to the coordinator when it is closed
        back = members.join(topic.member(library, **{setting: "away"}))
        back.wait(lambda: back.share == its_share)
        assert len(here.shares) == changes, "the other member was disturbed"

        topic.write(numbered(0, 60))
        here.wait_values(30)
        back.wait_values(30)


def test_a_second_member_of_the_same_static_id_fences_the_first(topic: Topic) -> None:
    static = topic.member(ConfluentPolled, **{"group.instance.id": "the-same"})
    with Members() as members:
        first = members.join(static)
        wait_shares([first], [6])
        second = members.join(static)
        with pytest.raises(KafkaException) as fenced:
            first.wait(lambda: False)
        assert fenced.value.args[0].code() in (KafkaError._FATAL, KafkaError.FENCED_INSTANCE_ID)
        wait_shares([second], [6])


def test_a_member_that_dies_is_replaced(topic: Topic, broker: BrokerUnderTest) -> None:
    """Without a word from it for session.timeout.ms its partitions go to the others."""
    with Members() as members:
        survivor = members.join(topic.member(ConfluentPolled, **{"session.timeout.ms": 6000}))
        wait_shares([survivor], [6])
        code = (
            "import sys; sys.path.insert(0, sys.argv[1]); from harness.members import ConfluentPolled\n"
            "member = ConfluentPolled(*sys.argv[2:], **{'session.timeout.ms': 6000})\n"
            "while True: member.poll()"
        )
        here = str(Path(__file__).parent)
        command = [sys.executable, "-W", "ignore", "-c", code, here, broker.address, topic.name, topic.group_id]
        with subprocess.Popen(command) as doomed:
            try:
                survivor.wait(lambda: len(survivor.share) == 3)
            finally:
                doomed.kill()
        wait_shares([survivor], [6])

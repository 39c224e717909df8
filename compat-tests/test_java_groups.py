"""The Java consumer in groups of the classic protocol: assignors, static members, commits, restarts of the broker."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
from harness.admin import committed, create_topic
from harness.brokers import BrokerUnderTest, ChildBroker
from harness.java_clients import JavaClients, JavaPolled, plain, refusal
from harness.members import ConfluentPolled, Members, Polled, wait_shares

PARTITIONS = 6
ASSIGNORS = ("RangeAssignor", "RoundRobinAssignor", "StickyAssignor", "CooperativeStickyAssignor")


class Topic:
    """A topic of six partitions, and the name of a group of Java consumers that reads it."""

    def __init__(self, clients: JavaClients, address: str) -> None:
        unique = uuid.uuid4().hex[:8]
        self.clients = clients
        self.address = address
        self.name = f"java-{unique}"
        self.group_id = f"java-group-{unique}"
        create_topic(address, self.name, PARTITIONS)

    def member(self, assignor: str = "RangeAssignor", **settings: object) -> Callable[[], Polled]:
        """What makes one more member of the group."""
        strategy = f"org.apache.kafka.clients.consumer.{assignor}"
        given = {"partition.assignment.strategy": strategy, **settings}
        return partial(JavaPolled, self.clients, self.address, self.name, self.group_id, **given)

    def write(self, count: int) -> None:
        """Write values over all partitions; returns when all is acknowledged."""
        with self.clients.producer(self.address) as producer:
            self.clients.send(producer, self.name, PARTITIONS, numbered(count))

    def committed(self) -> list[int]:
        """What the group has committed, by partition."""
        return [offset for _, offset in sorted(committed(self.address, self.group_id, self.name, PARTITIONS).items())]


@pytest.fixture
def topic(java_clients: JavaClients, broker: BrokerUnderTest) -> Topic:
    return Topic(java_clients, broker.address)


def numbered(count: int) -> list[bytes]:
    return [f"value {number}".encode() for number in range(count)]


@pytest.mark.parametrize("assignor", ASSIGNORS)
def test_members_come_and_go(topic: Topic, assignor: str) -> None:
    with Members() as members:
        first = members.join(topic.member(assignor))
        wait_shares([first], [6])
        second = members.join(topic.member(assignor))
        wait_shares([first, second], [3, 3])
        third = members.join(topic.member(assignor))
        wait_shares([first, second, third], [2, 2, 2])

        topic.write(60)
        for member in (first, second, third):
            member.wait_values(20)
        assert sorted(first.values + second.values + third.values) == sorted(numbered(60))

        first.leave()
        wait_shares([second, third], [3, 3])
        second.leave()
        wait_shares([third], [6])


def test_cooperative_rebalancing_takes_only_what_moves(topic: Topic) -> None:
    """KIP-429: what stays with a member is never taken from it while others join."""
    with Members() as members:
        first = members.join(topic.member("CooperativeStickyAssignor"))
        wait_shares([first], [6])
        second = members.join(topic.member("CooperativeStickyAssignor"))
        wait_shares([first, second], [3, 3])
        third = members.join(topic.member("CooperativeStickyAssignor"))
        wait_shares([first, second, third], [2, 2, 2])
        shrinking = first.shares[first.shares.index(frozenset(range(PARTITIONS))) :]
        assert all(later < earlier for earlier, later in pairwise(shrinking)), shrinking


def test_a_static_member_comes_back_to_its_share(topic: Topic) -> None:
    """KIP-345: it goes without a word, returns with the same instance id, and nobody else notices."""
    with Members() as members:
        first = members.join(topic.member(group_instance_id="one"))
        second = members.join(topic.member(group_instance_id="two"))
        wait_shares([first, second], [3, 3])
        held, kept = first.share, list(second.shares)
        first.leave()
        back = members.join(topic.member(group_instance_id="one"))
        wait_shares([back, second], [3, 3])
        assert back.share == held
        assert second.shares == kept


def test_the_second_of_one_static_instance_fences_the_first(topic: Topic) -> None:
    with Members() as members:
        first = members.join(topic.member(group_instance_id="one"))
        wait_shares([first], [6])
        again = members.join(topic.member(group_instance_id="one"))
        wait_shares([again], [6])
        with pytest.raises(Exception, match="FencedInstanceIdException"):
            first.wait(lambda: False)


def test_with_librdkafka_in_one_group(topic: Topic) -> None:
    with Members() as members:
        java = members.join(topic.member())
        wait_shares([java], [6])
        other = members.join(partial(ConfluentPolled, topic.address, topic.name, topic.group_id))
        wait_shares([java, other], [3, 3])
        java.leave()
        wait_shares([other], [6])


def test_a_group_goes_on_after_a_restart(topic: Topic, restartable: ChildBroker) -> None:
    """What is committed survives the broker; members that were there find the group again, and so do new ones."""
    topic.write(60)
    with Members() as members:
        stays = members.join(topic.member())
        stays.wait_values(60)
        stays.commit()
        restartable.stop()
        restartable.start()
        topic.write(60)
        stays.wait_values(120)
        assert sorted(stays.values) == sorted(numbered(60) * 2)
    assert topic.committed() == [10] * PARTITIONS
    with Members() as members:
        fresh = members.join(topic.member())
        fresh.wait_values(60)
        assert sorted(fresh.values) == sorted(numbered(60))


def test_commits_with_metadata(topic: Topic) -> None:
    """Commits by a consumer that assigns itself; what it reads back, leader epoch and metadata included."""
    clients = topic.clients
    zero, one = clients.partition(topic.name, 0), clients.partition(topic.name, 1)
    offset_of = clients.consumer_api.OffsetAndMetadata
    with clients.consumer(topic.address, group_id=topic.group_id) as consumer:
        consumer.assign([zero])
        assert plain(consumer.committed({zero, one})) == {zero: None, one: None}
        epoch = clients.jvm.java.util.Optional.of(0)
        consumer.commitSync({zero: offset_of(5, epoch, "five"), one: offset_of(7)})
        found = consumer.committed({zero, one})
        assert found[zero].equals(offset_of(5, epoch, "five"))
        assert (found[one].offset(), found[one].metadata()) == (7, "")
        kind, _ = refusal(lambda: consumer.commitSync({zero: offset_of(6, "m" * 5000)}))
        assert kind == "OffsetMetadataTooLarge"
    assert topic.committed()[:2] == [5, 7]


def test_a_commit_of_a_member_that_has_been_replaced(topic: Topic) -> None:
    """A consumer that did not poll for too long has lost its partitions, and is told so when it commits."""
    clients = topic.clients
    slow: dict[str, Any] = {"max.poll.interval.ms": 6000, "session.timeout.ms": 6000, "heartbeat.interval.ms": 300}
    with clients.consumer(topic.address, group_id=topic.group_id, **slow) as stuck, Members() as members:
        stuck.subscribe([topic.name])
        topic.write(60)
        assert len(clients.read(stuck, 60)) == 60
        other = members.join(topic.member())
        wait_shares([other], [6])
        kind, message = refusal(lambda: stuck.commitSync())
        assert kind == "CommitFailedException", message


def test_closing_without_leaving(topic: Topic) -> None:
    """KIP-1092: a consumer may leave its dynamic membership behind, and the group then waits out its session."""
    clients = topic.clients
    consumer = clients.open_consumer(topic.address, group_id=topic.group_id)
    consumer.subscribe([topic.name])
    topic.write(6)
    clients.read(consumer, 6)
    consumer.close(clients.jvm.ForPython.remainInGroup())
    with clients.admin(topic.address) as admin:
        described = admin.describeConsumerGroups([topic.group_id]).all().get()[topic.group_id]
    assert len(described.members()) == 1
    assert plain(described.groupState()) == "Stable"


def test_subscribing_by_pattern(topic: Topic) -> None:
    clients = topic.clients
    with clients.consumer(topic.address, group_id=topic.group_id) as consumer:
        consumer.subscribe(clients.jvm.java.util.regex.Pattern.compile(f"{topic.name}|nothing-.*"))
        topic.write(60)
        assert len(clients.read(consumer, 60)) == 60
        assert plain(consumer.subscription()) == {topic.name}
        consumer.enforceRebalance("why not")
        clients.poll(consumer, 0.2)
        assert consumer.groupMetadata().generationId() >= 1
        consumer.unsubscribe()

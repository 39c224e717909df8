"""One to twenty members of a group of the consumer protocol (KIP-848), by each library that speaks it.

They join, leave and die; the group is of the type `consumer` all the while (franz-go would fall back to the classic
protocol without a word), every partition is somebody's, and what was committed is not read again.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Protocol, TypeAlias

import pytest
from confluent_kafka import Producer
from harness import members as in_process
from harness import watch
from harness.brokers import ChildBroker
from harness.driver import Driver
from harness.java_clients import JavaClients
from harness.members import Members, MemberThread, Polled
from harness.modern import JavaMember, Modern
from harness.stock_clients import CLIENTS, ClientMissing
from harness.watch import Group, GroupMember

PARTITIONS = 40
STAYING, DYING = 14, 6
PER_PARTITION = 5

Dying: TypeAlias = Callable[[int], Callable[[], None]]
"""Makes so many members; what it gives ends them."""

DYING_RDKAFKA = """
import sys
from confluent_kafka import Consumer
address, group, topic, count = sys.argv[1:]
settings = {"bootstrap.servers": address, "group.id": group, "group.protocol": "consumer",
            "auto.offset.reset": "earliest", "enable.auto.commit": False}
members = [Consumer(settings) for _ in range(int(count))]
for member in members:
    member.subscribe([topic])
while True:
    for member in members:
        member.poll(0.02)
"""


class Crowd(Protocol):
    """The members by one library; some of them are to die without a word."""

    def join(self) -> None:
        """One more, who is watched."""

    def join_dying(self, count: int) -> None:
        """So many more, who are not."""

    def kill(self) -> None:
        """The end of those."""

    def leave(self, count: int) -> None:
        """So many of the watched leave."""

    def commit(self) -> None:
        """Every watched one commits what it has read."""

    def values(self) -> list[str]:
        """What those who were ever watched have read."""

    def wait_shares(self, sizes: list[int]) -> None:
        """Until the watched have shares of these sizes, and no partition twice."""


class InProcess:
    """Members that are polled by threads of this process, but for those who die."""

    def __init__(self, members: Members, make: Callable[[], Polled], dying: Dying) -> None:
        self._make = make
        self._make_dying = dying
        self._members = members
        self._all: list[MemberThread] = []
        self._here: list[MemberThread] = []
        self.kill: Callable[[], None] = lambda: None

    def join(self) -> None:
        self._here.append(self._members.join(self._make))
        self._all.append(self._here[-1])

    def join_dying(self, count: int) -> None:
        self.kill = self._make_dying(count)

    def leave(self, count: int) -> None:
        leaving, self._here = self._here[:count], self._here[count:]
        for member in leaving:
            member.leave()

    def commit(self) -> None:
        for member in self._here:
            member.commit()

    def values(self) -> list[str]:
        return [value.decode() for member in self._all for value in member.values]

    def wait_shares(self, sizes: list[int]) -> None:
        in_process.wait_shares(self._here, sizes)


class InDrivers:
    """Members in a driver; those who die are in another one, which is killed."""

    def __init__(self, group: Group, driver: Driver, other: Driver) -> None:
        self._group = group
        self._driver = driver
        self._other = other
        self._here: list[GroupMember] = []
        self._read: list[str] = []
        self.kill = other.close

    def join(self) -> None:
        self._here.append(self._group.join(self._driver, protocol="consumer"))

    def join_dying(self, count: int) -> None:
        for number in range(count):
            names = {"topic": self._group.topic, "group": self._group.group_id}
            self._other.ask("join", member=f"dying-{number}", protocol="consumer", **names)

    def leave(self, count: int) -> None:
        leaving, self._here = self._here[:count], self._here[count:]
        for member in leaving:
            self._read += member.values
            self._group.leave(member)

    def commit(self) -> None:
        for member in self._here:
            member.commit()

    def values(self) -> list[str]:
        return self._read + [value for member in self._here for value in member.values]

    def wait_shares(self, sizes: list[int]) -> None:
        watch.wait_shares(self._here, sizes)


@contextmanager
def rdkafka_crowd(group: Modern) -> Iterator[Crowd]:
    with Members() as members, ExitStack() as ends:

        def dying(count: int) -> Callable[[], None]:
            arguments = (group.address, group.group_id, group.topic, str(count))
            process = subprocess.Popen([sys.executable, "-c", DYING_RDKAFKA, *arguments])
            ends.callback(process.wait)
            ends.callback(process.kill)
            return process.kill

        yield InProcess(members, group.rdkafka(), dying)


@contextmanager
def java_crowd(group: Modern, clients: JavaClients) -> Iterator[Crowd]:
    settings = {"group_protocol": "consumer"}

    class Silent(JavaMember):
        """Closed, it says nothing to the group (KIP-1092): to the broker it is dead."""

        def __init__(self) -> None:
            super().__init__(clients, group.address, group.topic, group.group_id, **settings)

        def close(self) -> None:
            self._consumer.close(clients.jvm.ForPython.remainInGroup())

    with Members() as members:

        def dying(count: int) -> Callable[[], None]:
            doomed = [members.join(Silent) for _ in range(count)]
            return lambda: [member.leave() for member in doomed] and None

        yield InProcess(members, group.java(clients, **settings), dying)


@contextmanager
def franz_crowd(group: Modern, folder: Path) -> Iterator[Crowd]:
    with ExitStack() as ends:
        drivers = []
        for name in ("staying", "dying"):
            (folder / name).mkdir()
            drivers.append(Driver(CLIENTS["franz-go"], group.address, folder / name))
            ends.callback(drivers[-1].close)
        yield InDrivers(ends.enter_context(Group(group.topic, group.group_id)), *drivers)


@pytest.fixture(params=["java", "librdkafka", "franz-go"])
def crowd(request: pytest.FixtureRequest, group: Modern, tmp_path: Path) -> Iterator[Crowd]:
    with ExitStack() as ends:
        try:
            if request.param == "java":
                made = java_crowd(group, request.getfixturevalue("java_clients"))
            else:
                made = rdkafka_crowd(group) if request.param == "librdkafka" else franz_crowd(group, tmp_path)
            crowd = ends.enter_context(made)
        except ClientMissing as missing:
            pytest.skip(f"{request.param}: {missing}")
        yield crowd


@pytest.fixture
def group(quick: ChildBroker) -> Modern:
    return Modern(quick.address, PARTITIONS)


def write(group: Modern, what: str) -> list[str]:
    """A few values into every partition; returns when all are acknowledged."""
    values = [f"{what} {number}" for number in range(PARTITIONS * PER_PARTITION)]
    producer = Producer({"bootstrap.servers": group.address, "acks": "all"})
    for number, value in enumerate(values):
        producer.produce(group.topic, value.encode(), partition=number % PARTITIONS)
    assert producer.flush(60) == 0
    return values


def shares(members: int) -> list[int]:
    """The sizes of shares when so many have all the partitions."""
    return [PARTITIONS * (number + 1) // members - PARTITIONS * number // members for number in range(members)]


def wait_values(crowd: Crowd, wanted: list[str]) -> None:
    """Until these have been read. Raises: AssertionError unless each was once."""
    watch.until(lambda: len(crowd.values()), lambda count: count >= len(wanted))
    assert sorted(crowd.values()) == sorted(wanted)


def test_one_to_twenty_members(group: Modern, crowd: Crowd) -> None:
    crowd.join()
    crowd.wait_shares([PARTITIONS])
    for _ in range(STAYING - 1):
        crowd.join()
    crowd.wait_shares(shares(STAYING))
    crowd.join_dying(DYING)
    crowd.wait_shares([2] * STAYING)
    assert group.type() == "consumer"
    first = write(group, "first")
    watch.until(lambda: len(crowd.values()), lambda count: count == 2 * STAYING * PER_PARTITION)
    crowd.commit()
    crowd.kill()
    crowd.wait_shares(shares(STAYING))
    wait_values(crowd, first)  # those of the dead were not committed
    crowd.commit()
    crowd.leave(STAYING // 2)
    crowd.wait_shares(shares(STAYING // 2))
    second = write(group, "second")
    wait_values(crowd, first + second)
    crowd.commit()
    crowd.leave(STAYING // 2 - 1)
    crowd.wait_shares([PARTITIONS])
    assert group.type() == "consumer"

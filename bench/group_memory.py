"""What groups cost a broker in memory, and whether it comes back: kpybroker, or Apache Kafka 4.3.1.

    python bench/group_memory.py                             # kpybroker: 10,000 groups of each type, groups of 1,000
    python bench/group_memory.py --broker kafka
    python bench/group_memory.py --groups 2000 --members 200 --rounds 10

Many groups: each has a member that joins and commits; when all are there they leave, and the groups are deleted. The
same again, with other groups, and a third time, when they are left until their offsets expire. What the second and
third time take beyond the first is a leak, or the allocator's.

A large group: round by round a fiftieth of the members leave and as many others join, until all are stable; then all
commit and send heartbeats. What it takes in the last round beyond an early one is a leak.

Resident memory of the broker's process, in MB. The client is group_client.py, and consumer_client.py.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import uuid
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Protocol

import trio

sys.path.insert(0, str(Path(__file__).parent.parent / "compat-tests"))

from broker_process import resident_mb
from consumer_client import Consumer, settle, together
from group_client import Connection, Group, Member, close, open_members, wait_until_ready
from harness.admin import create_topic
from harness.brokers import ApacheKafka, ChildBroker, Kpybroker

from kpybroker.wire.codes import Code
from kpybroker.wire.messages.delete_groups import DeleteGroupsRequest, DeleteGroupsResponse
from kpybroker.wire.messages.list_groups import ListGroupsRequest, ListGroupsResponse

TYPES = ("classic", "consumer")
CONNECTIONS = 40
DELETED_AT_ONCE = 500
ENDS = ("deleted", "deleted", "expired")
EXPIRY_LIMIT_S = 180.0
SHOWN_EVERY = 10
PAUSE_S = 0.05
SETTINGS = {
    "offsets.retention.minutes": "1",
    "offsets.retention.check.interval.ms": "5000",
    "group.initial.rebalance.delay.ms": "0",
    "group.consumer.assignment.interval.ms": "100",
    "group.consumer.max.size": "5000",
}


class Target:
    """The broker, and the topic that the groups read."""

    def __init__(self, broker: ChildBroker, topic: str, topic_id: bytes, partitions: int) -> None:
        self.broker = broker
        self.topic = topic
        self.topic_id = topic_id
        self.partitions = partitions

    @classmethod
    async def of(cls, broker: ChildBroker, partitions: int) -> Target:
        topic = f"memory-{uuid.uuid4().hex[:8]}"
        await trio.to_thread.run_sync(create_topic, broker.address, topic, partitions)
        return cls(broker, topic, await wait_until_ready(broker.port, topic, partitions), partitions)

    def group(self) -> Group:
        return Group(self.broker.port, self.topic, self.topic_id, self.partitions)

    def resident_mb(self) -> float:
        return resident_mb(self.broker.pid)


class Joined(Protocol):
    """A member of a group of its own."""

    async def commit(self) -> None: ...

    async def leave(self) -> None: ...


# -- many groups


async def many(target: Target, options: argparse.Namespace, group_type: str) -> None:
    """Groups of one type, made and ended several times."""
    async with trio.open_nursery() as nursery:
        for _ in range(CONNECTIONS):
            nursery.start_soon(target.group().coordinated)
    connections = [await Connection.open(target.broker.port) for _ in range(CONNECTIONS)]
    print(f"\n{options.groups:,} groups of the type {group_type}; before: {target.resident_mb():.0f} MB")
    for end in ENDS:
        members: list[Joined] = []
        group_ids = [f"memory-{uuid.uuid4().hex}" for _ in range(options.groups)]

        async def join(connection: Connection, group_id: str, members: list[Joined] = members) -> None:
            members.append(await _joined(target, connection, group_id, group_type))
            await members[-1].commit()

        await _shared_out(connections, group_ids, join)
        there = target.resident_mb()
        await _shared_out(connections, members, lambda _, member: member.leave())
        left = target.resident_mb()
        await (_delete if end == "deleted" else _expire)(connections[0], group_ids)
        gone = target.resident_mb()
        print(f"    there {there:6.1f}   left {left:6.1f}   {end} {gone:6.1f}", flush=True)
    for connection in connections:
        await connection.aclose()


async def _joined(target: Target, connection: Connection, group_id: str, group_type: str) -> Joined:
    """A member that has the partitions."""
    if group_type == "classic":
        group = target.group()
        group.group_id = group_id
        member = Member(group, connection)
        await member.join()
        return member
    consumer = Consumer(connection, group_id, target.topic, target.topic_id)
    await consumer.join()
    while len(consumer.partitions) < target.partitions:
        await consumer.tell()
    return consumer


async def _shared_out(
    connections: list[Connection], items: Sequence[object], act: Callable[..., Awaitable[None]]
) -> None:
    """Do something with each item, on so many connections at once."""

    async def do(connection: Connection, some: Sequence[object]) -> None:
        for item in some:
            await act(connection, item)

    async with trio.open_nursery() as nursery:
        for number, connection in enumerate(connections):
            nursery.start_soon(do, connection, items[number :: len(connections)])


async def _delete(connection: Connection, group_ids: list[str]) -> None:
    for begin in range(0, len(group_ids), DELETED_AT_ONCE):
        request = DeleteGroupsRequest(groups_names=group_ids[begin : begin + DELETED_AT_ONCE])
        response = await connection.ask(request, 2, DeleteGroupsResponse)
        codes = {result.error_code for result in response.results}
        assert codes == {Code.NONE}, codes


async def _expire(connection: Connection, group_ids: list[str]) -> None:
    """Wait until the broker has forgotten them all."""
    with trio.fail_after(EXPIRY_LIMIT_S):
        while True:
            request = ListGroupsRequest(states_filter=[], types_filter=[])
            response = await connection.ask(request, 5, ListGroupsResponse)
            if not {group.group_id for group in response.groups} & set(group_ids):
                return
            await trio.sleep(PAUSE_S * 20)


# -- one large group


async def large_classic(target: Target, options: argparse.Namespace) -> None:
    """Members of one classic group come and go."""
    group = target.group()
    await group.coordinated()
    group.members = await open_members(group, options.members)
    print(f"\na classic group of {options.members:,} members; before: {target.resident_mb():.0f} MB")
    async with trio.open_nursery() as nursery:
        for member in group.members:
            nursery.start_soon(member.run)
        await group.stable()
        for number in range(1, options.rounds + 1):
            count = len(group.members) // 50
            leaving, group.members = group.members[:count], group.members[count:]
            await together(member.leave for member in leaving)
            new = await open_members(group, count)
            group.members += new
            for member in new:
                nursery.start_soon(member.run)
            group.heartbeat_now()
            await group.stable()
            await together(member.commit for member in group.members)
            await close(leaving)
            _show(target, number)
        await together(member.leave for member in group.members)
    await close(group.members)


async def large_consumer(target: Target, options: argparse.Namespace) -> None:
    """Members of one group of the consumer protocol come and go."""
    group_id = f"memory-{uuid.uuid4().hex[:8]}"

    async def opened(count: int) -> list[Consumer]:
        port = target.broker.port
        return [Consumer(await Connection.open(port), group_id, target.topic, target.topic_id) for _ in range(count)]

    members = await opened(options.members)
    print(f"\na consumer group of {options.members:,} members; before: {target.resident_mb():.0f} MB")
    await together(member.join for member in members)
    await settle(members, target.partitions, PAUSE_S)
    for number in range(1, options.rounds + 1):
        count = len(members) // 50
        leaving, members = members[:count], members[count:]
        await together(member.leave for member in leaving)
        members += (new := await opened(count))
        await together(member.join for member in new)
        await settle(members, target.partitions, PAUSE_S)
        await together(member.commit for member in members)
        await together(member.beat for member in members)
        for member in leaving:
            await member.connection.aclose()
        _show(target, number)
    await together(member.leave for member in members)
    for member in members:
        await member.connection.aclose()


def _show(target: Target, number: int) -> None:
    if number == 1 or number % SHOWN_EVERY == 0:
        print(f"    round {number:4}: {target.resident_mb():6.1f}", flush=True)


async def measure(broker: ChildBroker, options: argparse.Namespace) -> None:
    small = await Target.of(broker, 1)
    print(f"{broker.kind}: {small.resident_mb():.0f} MB at the start")
    for group_type in TYPES:
        if group_type in options.only:
            await many(small, options, group_type)
    wide = await Target.of(broker, 2 * options.members)
    if "classic" in options.only:
        await large_classic(wide, options)
    if "consumer" in options.only:
        await large_consumer(wide, options)


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--broker", choices=("kpybroker", "kafka"), default="kpybroker")
    parser.add_argument("--groups", type=int, default=10_000)
    parser.add_argument("--members", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=50, help="of the large groups [50]")
    parser.add_argument("--only", choices=TYPES, nargs="+", default=TYPES, help="types of groups")
    options = parser.parse_args(arguments)
    kind = Kpybroker if options.broker == "kpybroker" else ApacheKafka
    with tempfile.TemporaryDirectory(prefix="kpybroker-bench-") as name:
        broker = kind(Path(name), settings=SETTINGS)
        broker.start()
        try:
            trio.run(measure, broker, options)
        finally:
            broker.kill()


if __name__ == "__main__":
    main(sys.argv[1:])

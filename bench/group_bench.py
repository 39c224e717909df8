"""A large group on kpybroker beside Apache Kafka 4.3.1: both run on this machine at once and are measured in turn.

    python bench/group_bench.py               # 500 members on 2,000 partitions, five rounds for each broker and delay
    python bench/group_bench.py --only kpybroker --rounds 1 --delays 0

Of one round: all members join at once (their connections are open), until every one has its assignment of the same
generation; all commit their partitions; fifty leave, until the others are stable; one is started anew, likewise; the
group is left by all. Then a group of static members, of which one is started anew. With
group.initial.rebalance.delay.ms 0, which both ship for a single node, and with 3000, the default of the setting.

The client is group_client.py, one process for all members. Needs what compat-tests/ needs: Java, Maven,
confluent-kafka.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import trio

sys.path.insert(0, str(Path(__file__).parent.parent / "compat-tests"))

from broker_bench import KAFKA_JVM
from broker_process import cpu_s, resident_mb
from broker_table import print_ratios
from group_client import Group, close, open_members, wait_until_ready
from harness.admin import create_topic
from harness.brokers import ApacheKafka, ChildBroker, Kpybroker

ROUND_LIMIT_S = 300.0
WARM_UPS = 1
STATIC_RESTARTS = 10
KINDS = ("kafka", "kpybroker")
ROWS: Final = {
    "join": ("all join, to stable", "ms"),
    "join cpu": ("broker CPU of that", "ms"),
    "generations": ("generations of that", ""),
    "commit": ("all commit their partitions", "ms"),
    "leave": ("a tenth leave, to stable", "ms"),
    "restart": ("one starts anew, to stable", "ms"),
    "static join": ("static members join, to stable", "ms"),
    "static restart": ("a static one starts anew", "ms"),
    "memory": ("resident memory at the end", "MB"),
}

Values = dict[str, list[float]]


class Round:
    """The measures of one round."""

    def __init__(self, broker: ChildBroker, topic: str, options: argparse.Namespace, values: Values) -> None:
        self.broker = broker
        self.topic = topic
        self.options = options
        self.values = values

    async def run(self) -> None:
        topic_id = await wait_until_ready(self.broker.port, self.topic, self.options.partitions)
        with trio.fail_after(ROUND_LIMIT_S):
            async with self._group(topic_id, "join", static=False) as (group, nursery):
                await self._commit(group)
                await self._leave(group)
                await self._restart(group, nursery)
            async with self._group(topic_id, "static join", static=True) as (group, nursery):
                await self._restart_static(group, nursery)
        self._note("memory", resident_mb(self.broker.pid))

    def _note(self, what: str, value: float) -> None:
        self.values.setdefault(what, []).append(value)

    def _note_since(self, what: str, started: float) -> None:
        self._note(what, (time.perf_counter() - started) * 1000)

    @asynccontextmanager
    async def _group(self, topic_id: bytes, what: str, *, static: bool) -> AsyncIterator[tuple[Group, trio.Nursery]]:
        """A group whose members have joined and stay; afterwards they leave."""
        group = Group(self.broker.port, self.topic, topic_id, self.options.partitions)
        await group.coordinated()
        group.members = await open_members(group, self.options.members, static=static)
        cpu = cpu_s(self.broker.pid)
        started = time.perf_counter()
        async with trio.open_nursery() as nursery:
            for member in group.members:
                nursery.start_soon(member.run)
            await group.stable()
            self._note_since(what, started)
            if not static:
                self._note("join cpu", (cpu_s(self.broker.pid) - cpu) * 1000)
                self._note("generations", group.generations)
            yield group, nursery
            for member in group.members:
                nursery.start_soon(member.leave)
        await close(group.opened)

    async def _commit(self, group: Group) -> None:
        started = time.perf_counter()
        async with trio.open_nursery() as nursery:
            for member in group.members:
                nursery.start_soon(member.commit)
        self._note_since("commit", started)

    async def _leave(self, group: Group) -> None:
        """The others hear of it by a heartbeat that they send when all those have left."""
        before = await group.stable()
        count = len(group.members) // 10
        leaving, group.members = group.members[:count], group.members[count:]
        started = time.perf_counter()
        async with trio.open_nursery() as nursery:
            for member in leaving:
                nursery.start_soon(member.leave)
        group.heartbeat_now()
        await group.stable(after=before)
        self._note_since("leave", started)

    async def _restart(self, group: Group, nursery: trio.Nursery) -> None:
        """A dynamic member leaves and another process joins: everybody rebalances."""
        old = group.members.pop()
        (new,) = await open_members(group, 1)
        started = time.perf_counter()
        await old.leave()
        group.members.append(new)
        nursery.start_soon(new.run)
        group.heartbeat_now()
        await group.stable()
        self._note_since("restart", started)

    async def _restart_static(self, group: Group, nursery: trio.Nursery) -> None:
        """A static member's process goes without a word and comes back: nobody rebalances (KIP-345)."""
        for _ in range(STATIC_RESTARTS):
            old = group.members.pop()
            old.over = True
            (new,) = await open_members(group, 1)
            new.instance_id = old.instance_id
            started = time.perf_counter()
            group.members.insert(0, new)
            nursery.start_soon(new.run)
            await group.stable()
            self._note_since("static restart", started)


def compare(options: argparse.Namespace, delay_ms: int) -> dict[str, Values]:
    """Both brokers at one initial delay: kind -> what was measured."""
    measured: dict[str, Values] = {}
    settings = {"group.initial.rebalance.delay.ms": str(delay_ms)}
    with tempfile.TemporaryDirectory(prefix="kpybroker-bench-") as name:
        folder = Path(name)
        brokers: list[ChildBroker] = [
            ApacheKafka(folder / "kafka", jvm=KAFKA_JVM, settings=settings),
            Kpybroker(folder / "kpybroker", settings=settings),
        ]
        chosen = [broker for broker in brokers if options.only in (None, broker.kind)]
        topic = f"bench-{uuid.uuid4().hex[:8]}"
        try:
            for broker in chosen:
                broker.start()
                create_topic(broker.address, topic, options.partitions)
                measured[broker.kind] = {}
            for number in range(options.rounds + WARM_UPS):
                for broker in chosen:
                    values: Values = measured[broker.kind] if number >= WARM_UPS else {}
                    trio.run(Round(broker, topic, options, values).run)
                    print(f"  round {number} {broker.kind:<10} {_shown(values)}", file=sys.stderr, flush=True)
        finally:
            for broker in chosen:
                broker.kill()
    return measured


def _shown(values: Values) -> str:
    if not values:
        return "(warm-up)"
    return ", ".join(f"{what} {last[-1]:.0f}" for what, last in values.items())


def print_table(measured: dict[str, Values], options: argparse.Namespace, delay_ms: int) -> None:
    print(f"\n{options.members} members, {options.partitions} partitions, {options.rounds} round(s), medians;")
    print(f"group.initial.rebalance.delay.ms={delay_ms} on both\n")
    print_ratios(ROWS, KINDS, measured)


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--members", type=int, default=500)
    parser.add_argument("--partitions", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5, help="of each broker, after one that does not count [5]")
    parser.add_argument(
        "--delays", type=int, nargs="+", default=[0, 3000], help="initial rebalance delays, ms [0 3000]"
    )
    parser.add_argument("--only", choices=KINDS, help="measure one broker alone")
    options = parser.parse_args(arguments)
    for delay_ms in options.delays:
        print_table(compare(options, delay_ms), options, delay_ms)


if __name__ == "__main__":
    main(sys.argv[1:])

"""A large consumer group (KIP-848) on kpybroker beside Apache Kafka 4.3.1: both run at once and are measured in turn.

    python bench/consumer_bench.py               # 500 members on 2,000 partitions, three rounds for each broker
    python bench/consumer_bench.py --only kpybroker --rounds 1

Of one round: all members join at once (their connections are open) and heartbeat until each has its share of one
epoch; then every one sends heartbeats, and commits its partitions, all at once; fifty leave, until the others are
stable. Members heartbeat every 100 ms while something changes, so that it is not the interval that is measured; the
group's assignment interval is the broker's, one second.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final

import trio

sys.path.insert(0, str(Path(__file__).parent.parent / "compat-tests"))

from broker_bench import KAFKA_JVM
from broker_process import cpu_s, resident_mb
from broker_table import print_ratios
from consumer_client import Consumer, settle, together
from group_client import Connection, wait_until_ready
from harness.admin import create_topic
from harness.brokers import ApacheKafka, ChildBroker, Kpybroker

HEARTBEAT_S = 0.1
ROUND_LIMIT_S = 300.0
HEARTBEATS = 10
KINDS = ("kafka", "kpybroker")
ROWS: Final = {
    "join": ("all join, to stable", "ms"),
    "join cpu": ("broker CPU of that", "ms"),
    "heartbeat": ("all heartbeat, ten times", "ms"),
    "heartbeat cpu": ("broker CPU of that", "ms"),
    "commit": ("all commit their partitions", "ms"),
    "leave": ("a tenth leave, to stable", "ms"),
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
        group_id = f"consumers-{uuid.uuid4().hex[:8]}"
        members = [
            Consumer(await Connection.open(self.broker.port), group_id, self.topic, topic_id)
            for _ in range(self.options.members)
        ]
        with trio.fail_after(ROUND_LIMIT_S):
            await self._measure("join", self._join, members)
            await self._measure("heartbeat", self._heartbeats, members)
            await self._measure("commit", lambda some: together(each.commit for each in some), members)
            leaving, staying = members[: len(members) // 10], members[len(members) // 10 :]
            await self._measure("leave", lambda _: self._leave(leaving, staying), members)
            await together(each.leave for each in staying)
        for member in members:
            await member.connection.aclose()
        self.values.setdefault("memory", []).append(resident_mb(self.broker.pid))

    async def _measure(
        self, what: str, act: Callable[[list[Consumer]], Awaitable[None]], members: list[Consumer]
    ) -> None:
        cpu, started = cpu_s(self.broker.pid), time.perf_counter()
        await act(members)
        self.values.setdefault(what, []).append((time.perf_counter() - started) * 1000)
        self.values.setdefault(f"{what} cpu", []).append((cpu_s(self.broker.pid) - cpu) * 1000)

    async def _join(self, members: list[Consumer]) -> None:
        await together(each.join for each in members)
        await self._settle(members)

    async def _settle(self, members: list[Consumer]) -> None:
        await settle(members, self.options.partitions, HEARTBEAT_S)

    async def _heartbeats(self, members: list[Consumer]) -> None:
        for _ in range(HEARTBEATS):
            await together(each.beat for each in members)

    async def _leave(self, leaving: list[Consumer], staying: list[Consumer]) -> None:
        await together(each.leave for each in leaving)
        await self._settle(staying)


def compare(options: argparse.Namespace) -> dict[str, Values]:
    """Both brokers: kind -> what was measured."""
    measured: dict[str, Values] = {}
    with tempfile.TemporaryDirectory(prefix="kpybroker-bench-") as name:
        folder = Path(name)
        brokers: list[ChildBroker] = [
            ApacheKafka(folder / "kafka", jvm=KAFKA_JVM),
            Kpybroker(folder / "kpybroker"),
        ]
        chosen = [broker for broker in brokers if options.only in (None, broker.kind)]
        topic = f"bench-{uuid.uuid4().hex[:8]}"
        try:
            for broker in chosen:
                broker.start()
                create_topic(broker.address, topic, options.partitions)
                measured[broker.kind] = {}
            for number in range(options.rounds + 1):
                for broker in chosen:
                    values: Values = measured[broker.kind] if number else {}  # the first round only warms up
                    trio.run(Round(broker, topic, options, values).run)
                    shown = ", ".join(f"{what} {last[-1]:.0f}" for what, last in values.items())
                    print(f"  round {number} {broker.kind:<10} {shown}", file=sys.stderr, flush=True)
        finally:
            for broker in chosen:
                broker.kill()
    return measured


def print_table(measured: dict[str, Values], options: argparse.Namespace) -> None:
    print(f"\n{options.members} members, {options.partitions} partitions, {options.rounds} round(s), medians\n")
    print_ratios(ROWS, KINDS, measured)


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--members", type=int, default=500)
    parser.add_argument("--partitions", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3, help="of each broker, after one that does not count [3]")
    parser.add_argument("--only", choices=KINDS)
    options = parser.parse_args(arguments)
    print_table(compare(options), options)


if __name__ == "__main__":
    main(sys.argv[1:])

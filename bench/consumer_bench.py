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
from group_client import Connection, wait_until_ready
from harness.admin import create_topic
from harness.brokers import ApacheKafka, ChildBroker, Kpybroker

from kpybroker.wire.codes import Code
from kpybroker.wire.messages.consumer_group_heartbeat import (
    ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatResponse,
    TopicPartitions,
)
from kpybroker.wire.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
    OffsetCommitResponse,
)

HEARTBEAT_S = 0.1
REBALANCE_MS = 300_000
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
NOT_YET = (Code.COORDINATOR_LOAD_IN_PROGRESS, Code.NOT_COORDINATOR, Code.COORDINATOR_NOT_AVAILABLE)

Values = dict[str, list[float]]


class Consumer:
    """One member, on a connection of its own."""

    def __init__(self, connection: Connection, group_id: str, topic: str, topic_id: bytes) -> None:
        self.connection = connection
        self.group_id = group_id
        self.topic = topic
        self.topic_id = topic_id
        self.member_id = str(uuid.uuid4())
        self.epoch = 0
        self.partitions: list[int] = []

    async def join(self) -> None:
        await self._ask(rebalance_timeout_ms=REBALANCE_MS, subscribed_topic_names=[self.topic], topic_partitions=[])

    async def beat(self) -> None:
        """A heartbeat with nothing to say."""
        await self._ask()

    async def tell(self) -> None:
        """A heartbeat that says what it owns."""
        owned = [TopicPartitions(topic_id=self.topic_id, partitions=self.partitions)] if self.partitions else []
        await self._ask(topic_partitions=owned)

    async def leave(self) -> None:
        self.epoch = -1
        await self._ask()

    async def _ask(
        self,
        rebalance_timeout_ms: int = -1,
        subscribed_topic_names: list[str] | None = None,
        topic_partitions: list[TopicPartitions] | None = None,
    ) -> None:
        request = ConsumerGroupHeartbeatRequest(
            group_id=self.group_id,
            member_id=self.member_id,
            member_epoch=self.epoch,
            rebalance_timeout_ms=rebalance_timeout_ms,
            subscribed_topic_names=subscribed_topic_names,
            topic_partitions=topic_partitions,
        )
        response = await self.connection.ask(request, 1, ConsumerGroupHeartbeatResponse)
        while response.error_code in NOT_YET:
            await trio.sleep(0.05)
            response = await self.connection.ask(request, 1, ConsumerGroupHeartbeatResponse)
        assert response.error_code == Code.NONE, response
        self.epoch = response.member_epoch
        if response.assignment is not None:
            self.partitions = [index for topic in response.assignment.topic_partitions for index in topic.partitions]

    async def commit(self) -> None:
        """Commit an offset of every partition it has."""
        partitions = [
            OffsetCommitRequestPartition(partition_index=index, committed_offset=1, committed_metadata="")
            for index in self.partitions
        ]
        request = OffsetCommitRequest(
            group_id=self.group_id,
            generation_id_or_member_epoch=self.epoch,
            member_id=self.member_id,
            topics=[OffsetCommitRequestTopic(name=self.topic, topic_id=self.topic_id, partitions=partitions)],
        )
        response = await self.connection.ask(request, 10, OffsetCommitResponse)
        assert {each.error_code for topic in response.topics for each in topic.partitions} <= {Code.NONE}, response


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
            await self._measure("commit", lambda some: _all(each.commit for each in some), members)
            leaving, staying = members[: len(members) // 10], members[len(members) // 10 :]
            await self._measure("leave", lambda _: self._leave(leaving, staying), members)
            await _all(each.leave for each in staying)
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
        await _all(each.join for each in members)
        await self._settle(members)

    async def _settle(self, members: list[Consumer]) -> None:
        """Heartbeat until all are in one epoch and have all partitions between them."""
        while True:
            held = sum(len(member.partitions) for member in members)
            if held == self.options.partitions and len({member.epoch for member in members}) == 1:
                return
            await trio.sleep(HEARTBEAT_S)
            await _all(each.tell for each in members)

    async def _heartbeats(self, members: list[Consumer]) -> None:
        for _ in range(HEARTBEATS):
            await _all(each.beat for each in members)

    async def _leave(self, leaving: list[Consumer], staying: list[Consumer]) -> None:
        await _all(each.leave for each in leaving)
        await self._settle(staying)


async def _all(acts: object) -> None:
    async with trio.open_nursery() as nursery:
        for act in acts:  # type: ignore[attr-defined]
            nursery.start_soon(act)


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

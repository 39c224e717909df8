"""Three kpybroker nodes beside three of Apache Kafka 4.3.1: both run on this machine at once and are measured in turn.

    python bench/cluster_bench.py             # 300 MB in with acks=all, 3,000 synchronous requests, five kills each
    python bench/cluster_bench.py --quick     # a tenth of it, two kills

The nodes are broker and controller each, with the same settings: replication factor 3, min.insync.replicas 2, and
Kafka's defaults for all that decides how soon a dead node is noticed, unless --session-ms says otherwise.

Of a kill -9: a producer with acks=all goes on at 200 records a second; what counts is the longest time in which nothing
was acknowledged. Of the controllers: the time until another one says on its own listener that it leads. Needs what
compat-tests/ needs: Java, Maven, confluent-kafka.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).parent.parent / "compat-tests"))

from broker_bench import KAFKA_JVM, TOOLS_JVM
from broker_client import Percentiles, ProduceLatency, new_name
from broker_process import cpu_s, resident_mb
from broker_table import print_ratios
from harness.cluster.cluster import Cluster, combined
from harness.cluster.load import Load
from harness.cluster.nodes import Node
from harness.java_tools import PRODUCER_PERFORMANCE, ToolHost

KINDS: Final = ("kafka", "kpybroker")
RECORD_BYTES = 1000
SETTLED = 200
"""Records of each partition that are acknowledged before a fault, and after it."""
ROWS: Final = {
    "start": ("three nodes start, to all in sync", "s"),
    "memory idle": ("resident memory of the three, idle", "MB"),
    "produce": ("producer-performance, acks=all", "MB/s"),
    "cpu": ("CPU of the three, in", "s/GB"),
    "sync p50": ("synchronous produce, acks=all, p50", "ms"),
    "sync p99": ("synchronous produce, acks=all, p99", "ms"),
    "memory after": ("resident memory of the three, after", "MB"),
    "leader killed": ("kill -9 of a leader, to an ack", "s"),
    "back": ("killed node starts, to all in sync", "s"),
    "controller killed": ("kill -9 of controller and leader, to an ack", "s"),
    "elected": ("kill -9 of the controller, to another", "s"),
    "leader stopped": ("SIGTERM of a leader, longest gap", "s"),
}
Values = dict[str, list[float]]


class Measured:
    """One cluster, and what was measured of it."""

    def __init__(self, cluster: Cluster, values: Values) -> None:
        self.cluster = cluster
        self._values = values

    def add(self, what: str, value: float) -> None:
        self._values.setdefault(what, []).append(value)

    def forget(self, *whats: str) -> None:
        for what in whats:
            self._values.pop(what, None)

    def resident_mb(self) -> float:
        return sum(resident_mb(node.pid) for node in self.cluster.nodes)

    def start(self) -> None:
        self.cluster.format()
        began_s = time.perf_counter()
        self.cluster.start()
        self.add("start", time.perf_counter() - began_s)
        self.cluster.create_topic(new_name("first"))
        self.add("memory idle", self.resident_mb())

    def throughput(self, tools: ToolHost, records: int) -> None:
        """Producer-performance at full speed, over three partitions."""
        topic = new_name("throughput")
        self.cluster.create_topic(topic)
        before = sum(cpu_s(node.pid) for node in self.cluster.nodes)
        arguments = ["--topic", topic, "--num-records", str(records), "--record-size", str(RECORD_BYTES)]
        settings = ["acks=all", f"bootstrap.servers={self.cluster.address}"]
        result = tools.run(PRODUCER_PERFORMANCE, *arguments, "--throughput", "-1", "--command-property", *settings)
        used = sum(cpu_s(node.pid) for node in self.cluster.nodes) - before
        summary = re.search(rf"^{records} records sent, ([0-9.]+) records/sec", result.out, re.MULTILINE)
        if result.code != 0 or summary is None:
            raise RuntimeError(f"ProducerPerformance: {result.out[-1000:]}{result.err[-1000:]}")
        self.add("produce", float(summary[1]) * RECORD_BYTES / 1e6)
        self.add("cpu", used / (records * RECORD_BYTES / 1e9))

    def latency(self, requests: int) -> None:
        """One record at a time, acknowledged by all three."""
        topic = new_name("sync")
        self.cluster.create_topic(topic, 1)
        client = ProduceLatency(self.cluster.node(self.cluster.leader(topic)).place.address, topic, acks=-1)
        found = Percentiles.of([client.one() for _ in range(requests)])
        client.close()
        self.add("sync p50", found.p50)
        self.add("sync p99", found.p99)

    def faults(self, rounds: int) -> None:
        """Kills under a producer of acks=all."""
        self.add("memory after", self.resident_mb())
        topic = new_name("killed")
        self.cluster.create_topic(topic)
        load = Load(self.cluster.address, topic, per_s=200)
        try:
            for _ in range(rounds):
                controller = self.cluster.quorum().leader
                leaders = [each.leader for each in self.cluster.partitions(topic) if each.leader != controller]
                self._killed(load, self.cluster.node(leaders[0]), "leader killed")
                self._controller_killed(load, topic)
                self._stopped(load, topic)
            load.stop()
        finally:
            load.give_up()

    def _settle(self, load: Load) -> float:
        """Wait until the load goes smoothly; when that was."""
        since_s = time.monotonic()
        limit_s = since_s + 120
        while any(load.served(index, since_s) < SETTLED for index in range(len(load.writers))):
            load.check()
            assert time.monotonic() < limit_s, f"not served again: {load}"
            time.sleep(0.01)  # a look now and then, which does not disturb what is measured
        return time.monotonic()

    def _killed(self, load: Load, node: Node, what: str) -> None:
        began_s = self._settle(load)
        node.kill()
        self.add(what, load.longest_gap_s(began_s, self._settle(load)))
        self._back(load)

    def _controller_killed(self, load: Load, topic: str) -> None:
        """The active controller, which leads a partition: of the topics made here each node leads one."""
        self._lead_everywhere(topic)
        began_s = self._settle(load)
        before = self.cluster.quorum()
        killed_s = time.monotonic()
        self.cluster.node(before.leader).kill()
        self.cluster.wait_until(lambda: self.cluster.quorum().epoch > before.epoch, "another controller")
        self.add("elected", time.monotonic() - killed_s)
        self.add("controller killed", load.longest_gap_s(began_s, self._settle(load)))
        self._back(load)

    def _stopped(self, load: Load, topic: str) -> None:
        self._lead_everywhere(topic)
        began_s = self._settle(load)
        self.cluster.node(self.cluster.leader(topic)).stop()
        self.add("leader stopped", load.longest_gap_s(began_s, self._settle(load)))
        self._back(load)

    def _back(self, load: Load) -> None:
        began_s = time.monotonic()
        self.cluster.start()
        self.add("back", time.monotonic() - began_s)
        self._settle(load)

    def _lead_everywhere(self, topic: str) -> None:
        """Each partition's preferred replica leads it."""
        self.cluster.elect_preferred()
        self.cluster.wait_until(
            lambda: all(each.leader == each.replicas[0] for each in self.cluster.partitions(topic)), "preferred leaders"
        )


def options_of(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Three nodes of kpybroker beside three of Apache Kafka.")
    parser.add_argument("--quick", action="store_true", help="a tenth of everything")
    parser.add_argument("--megabytes", type=int, help="in, each round [300; quick: 30]")
    parser.add_argument("--requests", type=int, help="synchronous produce requests [3000; quick: 500]")
    parser.add_argument("--rounds", type=int, help="of throughput and of kills [5; quick: 2]")
    parser.add_argument("--session-ms", type=int, help="broker.session.timeout.ms [Kafka's default: 9000]")
    parser.add_argument("--only", choices=KINDS, help="measure one cluster alone")
    parser.add_argument("--json", type=Path, help="write every value to this file")
    options = parser.parse_args(arguments)
    for name, (full, quick) in {"megabytes": (300, 30), "requests": (3000, 500), "rounds": (5, 2)}.items():
        if getattr(options, name) is None:
            setattr(options, name, quick if options.quick else full)
    return options


def main(arguments: Sequence[str]) -> None:
    options = options_of(arguments)
    chosen = [kind for kind in KINDS if options.only in (None, kind)]
    settings = {}
    if options.session_ms:
        heartbeat_ms = options.session_ms // 6
        settings = {
            "broker.session.timeout.ms": str(options.session_ms),
            "broker.heartbeat.interval.ms": str(heartbeat_ms),
        }
    values: dict[str, Values] = {kind: {} for kind in chosen}
    with tempfile.TemporaryDirectory(prefix="kpybroker-bench-") as name:
        folder = Path(name)
        clusters = [Cluster(folder / kind, combined(kind), settings=settings, jvm=KAFKA_JVM) for kind in chosen]
        try:
            with ToolHost(folder / "tools", jvm=TOOLS_JVM) as tools:
                measured = [Measured(each, values[kind]) for kind, each in zip(chosen, clusters, strict=True)]
                run(measured, tools, options)
        finally:
            for cluster in clusters:
                cluster.close()
            if options.json:
                options.json.write_text(json.dumps({"options": vars(options), "values": values}, default=str, indent=1))
    print_ratios(ROWS, KINDS, values)
    print(f"The JVM of each node of Apache Kafka: {' '.join(KAFKA_JVM)}")


def run(measured: Sequence[Measured], tools: ToolHost, options: argparse.Namespace) -> None:
    records = options.megabytes * 1_000_000 // RECORD_BYTES
    for each in measured:
        each.start()
    for number in range(options.rounds + 1):
        for each in measured:
            if number == 0:  # a JVM's first round is its compiler's
                each.throughput(tools, records)
                each.forget("produce", "cpu")
            else:
                each.throughput(tools, records)
                each.latency(options.requests)
    for each in measured:
        each.faults(options.rounds)


if __name__ == "__main__":
    main(sys.argv[1:])

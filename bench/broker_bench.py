"""kpybroker beside Apache Kafka 4.3.1: both run on this machine at once and are measured in turn, block by block.

    python bench/broker_bench.py              # 1 GB in (acks=1), 1 GB in (acks=all), 1 GB out, for each broker
    python bench/broker_bench.py --quick      # about a minute: a tenth of it
    python bench/broker_bench.py --json FILE  # all values of all rounds besides

Needs what compat-tests/ needs: Java, Maven, confluent-kafka.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

sys.path.insert(0, str(Path(__file__).parent.parent / "compat-tests"))

import broker_measures as measures
from broker_client import Percentiles
from broker_table import print_table
from harness.brokers import ApacheKafka, ChildBroker, Kpybroker
from harness.java_tools import ToolHost

KAFKA_JVM = (
    "-Xmx1G",
    "-Xms1G",
    "-server",
    "-XX:+UseG1GC",
    "-XX:MaxGCPauseMillis=20",
    "-XX:InitiatingHeapOccupancyPercent=35",
    "-XX:+ExplicitGCInvokesConcurrent",
    "-XX:MaxInlineLevel=15",
    "-Djava.awt.headless=true",
)
"""What kafka-server-start.sh gives its broker."""
TOOLS_JVM = ("-Xmx512m", "-XX:+UseParallelGC")
IDLE_S = 5.0
"""How long a broker is left alone before its memory is read."""


class Blocks(Protocol):
    """A latency measure that is taken in blocks, so that those of two brokers can take turns."""

    def block(self, count: int) -> None: ...

    def close(self) -> Percentiles: ...


class Bench:
    """The brokers, and what was measured of each."""

    def __init__(self, brokers: Sequence[ChildBroker], tools: ToolHost, options: argparse.Namespace) -> None:
        self.brokers = brokers
        self.tools = tools
        self.options = options
        self.measured = {broker.kind: measures.Measured() for broker in brokers}

    def each(self, what: str, measure: Callable[[ChildBroker], float]) -> None:
        for broker in self.brokers:
            value = measure(broker)
            self.measured[broker.kind].add(what, value)
            print(f"  {what:<28} {broker.kind:<10} {value:10.3f}", file=sys.stderr, flush=True)

    def run(self) -> None:
        self.starts()
        time.sleep(IDLE_S)
        self.each("memory idle", measures.memory)
        self.warm_up()
        for _ in range(self.options.rounds):
            self.throughput("1")
            self.throughput("all")
        time.sleep(IDLE_S)
        self.each("memory after", measures.memory)
        self.latency("sync produce", lambda broker: measures.SyncProduce(broker, 1), self.options.requests)
        self.latency("sync produce acks=all", lambda broker: measures.SyncProduce(broker, -1), self.options.requests)
        self.latency("sync confluent", measures.ConfluentProduce, self.options.requests // 2)
        self.latency("end to end", measures.EndToEnd, self.options.requests // 5)

    def starts(self) -> None:
        """The first start makes the directory; those that count find one."""
        for broker in self.brokers:
            broker.start()
            broker.stop()
        for number in range(self.options.starts):
            if number:
                for broker in self.brokers:
                    broker.stop()
            self.each("start", measures.start_to_first_answer)

    def warm_up(self) -> None:
        """Compiles the tools' hot code, and the JVM broker's: neither is what is compared."""
        records = self.options.megabytes * 100
        for _ in range(2):
            for broker in self.brokers:
                topic = measures.new_topic(broker, "warm-up", self.options.partitions)
                measures.produce(broker, self.tools, topic, records, "all")
                measures.consume(broker, self.tools, topic, records)

    def throughput(self, acks: str) -> None:
        """The amount in, then out again, broker by broker."""
        records = self.options.megabytes * 1000
        for broker in self.brokers:
            topic = measures.new_topic(broker, f"acks-{acks}", self.options.partitions)
            speed, cpu = measures.produce(broker, self.tools, topic, records, acks)
            self._note(broker, f"produce acks={acks}", speed)
            self._note(broker, f"cpu in acks={acks}", cpu)
            speed, cpu = measures.consume(broker, self.tools, topic, records)
            self._note(broker, "consume", speed)
            self._note(broker, "cpu out", cpu)

    def _note(self, broker: ChildBroker, what: str, value: float) -> None:
        self.measured[broker.kind].add(what, value)
        print(f"  {what:<28} {broker.kind:<10} {value:10.3f}", file=sys.stderr, flush=True)

    def latency(self, what: str, make: Callable[[ChildBroker], Blocks], count: int) -> None:
        """Blocks of both in turn, so that what disturbs the machine disturbs both."""
        blocks = 20
        running = [(broker, make(broker)) for broker in self.brokers]
        for _, each in running:  # once for nothing
            each.block(max(10, count // blocks))
        for _, each in running:
            each.times.clear()  # type: ignore[attr-defined]
        for _ in range(blocks):
            for _, each in running:
                each.block(max(10, count // blocks))
        for broker, each in running:
            percentiles = each.close()
            self._note(broker, f"{what} p50", percentiles.p50)
            self._note(broker, f"{what} p99", percentiles.p99)


def options_of(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of everything: about a minute")
    parser.add_argument("--megabytes", type=int, help="in and out, for each acks, round and broker [1000; quick: 100]")
    parser.add_argument("--rounds", type=int, help="of throughput [3; quick: 1]")
    parser.add_argument("--starts", type=int, help="of each broker [5; quick: 2]")
    parser.add_argument("--requests", type=int, help="synchronous produce requests [10000; quick: 2000]")
    parser.add_argument("--partitions", type=int, default=1, help="of the topics of throughput [1]")
    parser.add_argument("--only", choices=["kpybroker", "kafka"], help="measure one broker alone")
    parser.add_argument("--json", type=Path, help="write every value of every round to this file")
    options = parser.parse_args(arguments)
    defaults = {"megabytes": (1000, 100), "rounds": (3, 1), "starts": (5, 2), "requests": (10_000, 2000)}
    for name, (full, quick) in defaults.items():
        if getattr(options, name) is None:
            setattr(options, name, quick if options.quick else full)
    return options


def main(arguments: Sequence[str]) -> None:
    options = options_of(arguments)
    with tempfile.TemporaryDirectory(prefix="kpybroker-bench-") as name:
        folder = Path(name)
        brokers: list[ChildBroker] = [ApacheKafka(folder / "kafka", jvm=KAFKA_JVM), Kpybroker(folder / "kpybroker")]
        chosen = [broker for broker in brokers if options.only in (None, broker.kind)]
        try:
            with ToolHost(folder / "tools", jvm=TOOLS_JVM) as tools:
                bench = Bench(chosen, tools, options)
                bench.run()
        finally:
            for broker in chosen:
                broker.kill()
    medians = {
        kind: {what: statistics.median(values) for what, values in measured.values.items()}
        for kind, measured in bench.measured.items()
    }
    print_table(medians, options)
    print(f"Apache Kafka's JVM: {' '.join(KAFKA_JVM)}")
    print(
        f"Machine: {os.cpu_count()} CPUs, {platform.system()} {platform.release()}, Python {platform.python_version()}"
    )
    if options.json:
        values = {kind: measured.values for kind, measured in bench.measured.items()}
        options.json.write_text(json.dumps({"options": vars(options), "values": values}, default=str, indent=1))


if __name__ == "__main__":
    main(sys.argv[1:])

"""Three nodes with thousands of replicated partitions, kpybroker's and then Apache Kafka's: what quiet partitions cost.

    python bench/cluster_partitions_bench.py                      # 10,000 partitions, each on all three nodes
    python bench/cluster_partitions_bench.py --partitions 3000 --only kpybroker

The JVMs have what Kafka's start script gives them. Needs what compat-tests/ need.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).parent.parent / "compat-tests"))

from broker_bench import KAFKA_JVM
from broker_client import Percentiles, ProduceLatency, new_name
from broker_process import cpu_s, resident_mb
from broker_table import print_ratios
from harness.cluster.cluster import Cluster, combined

KINDS: Final = ("kafka", "kpybroker")
TOPIC_PARTITIONS = 1000
SETTLE_S, QUIET_S = 5.0, 20.0
LIMIT_S = 300.0
ROWS: Final = {
    "created": ("topics created, to all in sync", "s"),
    "memory": ("resident memory of the three", "MB"),
    "quiet": ("CPU of the three while nothing happens", "%"),
    "sync p50": ("synchronous produce, acks=all, p50", "ms"),
    "sync p99": ("synchronous produce, acks=all, p99", "ms"),
    "led": ("kill -9 of a node, to all its partitions led", "s"),
    "back": ("killed node starts, to all in sync", "s"),
}


def measure(cluster: Cluster, partitions: int) -> dict[str, list[float]]:
    """One value of each row."""
    values: dict[str, list[float]] = {}
    cluster.start()
    began_s = time.monotonic()
    topics = []
    for first in range(0, partitions, TOPIC_PARTITIONS):
        topics.append(new_name("many"))
        cluster.create_topic(topics[-1], min(TOPIC_PARTITIONS, partitions - first))
    values["created"] = [time.monotonic() - began_s]
    time.sleep(SETTLE_S)
    before_s = sum(cpu_s(node.pid) for node in cluster.nodes)
    time.sleep(QUIET_S)
    values["quiet"] = [(sum(cpu_s(node.pid) for node in cluster.nodes) - before_s) / QUIET_S * 100]
    values["memory"] = [sum(resident_mb(node.pid) for node in cluster.nodes)]
    victim = cluster.node(cluster.leader(topics[0]))
    client = ProduceLatency(victim.place.address, topics[0], acks=-1)
    found = Percentiles.of([client.one() for _ in range(500)])
    client.close()
    values["sync p50"], values["sync p99"] = [found.p50], [found.p99]
    began_s = time.monotonic()
    victim.kill()
    dead = (-1, victim.node_id)
    cluster.wait_until(lambda: all(each.leader not in dead for each in cluster.partitions()), "leaders", LIMIT_S)
    values["led"] = [time.monotonic() - began_s]
    began_s = time.monotonic()
    victim.launch()
    cluster.wait_whole(LIMIT_S)
    values["back"] = [time.monotonic() - began_s]
    return values


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description="Thousands of partitions on three nodes.")
    parser.add_argument("--partitions", type=int, default=10_000)
    parser.add_argument("--only", choices=KINDS, help="measure one cluster alone")
    options = parser.parse_args(arguments)
    values: dict[str, dict[str, list[float]]] = {kind: {} for kind in KINDS if options.only in (None, kind)}
    for kind in values:
        with (
            tempfile.TemporaryDirectory(prefix="kpybroker-bench-") as name,
            Cluster(Path(name), combined(kind), jvm=KAFKA_JVM) as cluster,
        ):
            values[kind] = measure(cluster, options.partitions)
    print_ratios(ROWS, KINDS, values)


if __name__ == "__main__":
    main(sys.argv[1:])

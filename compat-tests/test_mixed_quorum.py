"""Voters of both kinds in one metadata quorum: whoever leads it dies, and the others elect one of them and go on.

With --broker=kafka all nodes are Apache Kafka's, which proves the test.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from harness.cluster.cluster import Cluster, NotNow
from harness.cluster.network import Loopback

QUICK: Final = {
    "controller.quorum.fetch.timeout.ms": "1000",
    "controller.quorum.election.timeout.ms": "600",
    "broker.session.timeout.ms": "3000",
    "default.replication.factor": "1",
    "min.insync.replicas": "1",
}

pytestmark = pytest.mark.usefixtures("java")


@pytest.fixture
def cluster(cluster_kind: str, folder: Path) -> Iterator[Cluster]:
    """A controller of Apache Kafka, two of the kind under test, and a broker of that."""
    plan = [
        ("kafka", "controller"),
        (cluster_kind, "controller"),
        (cluster_kind, "controller"),
        (cluster_kind, "broker"),
    ]
    with Cluster(folder, plan, network=Loopback(), settings=QUICK) as cluster:
        cluster.start()
        yield cluster


def test_the_leader_dies_again_and_again(cluster: Cluster) -> None:
    """What was committed is there under each leader, of whichever kind; who died catches up."""
    topics: list[str] = []
    for number in range(4):
        topics.append(f"t{number}")
        cluster.create_topic(topics[-1], partitions=1, replication=1)
        dead = cluster.quorum().leader
        cluster.node(dead).kill()
        cluster.wait_until(lambda dead=dead: _leader(cluster) not in (None, dead), "another leader")
        assert {each.topic for each in cluster.partitions()} >= set(topics)
        cluster.node(dead).launch()
        cluster.wait_until(lambda: _caught_up(cluster), "all voters fetch")


def _leader(cluster: Cluster) -> int | None:
    try:
        quorum = cluster.quorum()
    except (NotNow, OSError):
        return None
    return quorum.leader if quorum.high_watermark >= 0 else None


def _caught_up(cluster: Cluster) -> bool:
    try:
        return len(cluster.quorum().voters) == 3 and all(node.running for node in cluster.controllers)
    except (NotNow, OSError):
        return False

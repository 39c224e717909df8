"""Feature levels by kafka-features while nodes of both kinds run, in a quorum that begins with kraft.version 0.

A node of Apache Kafka halts on a metadata record that it can't take: it has to live through all of them. With
--broker=kafka all nodes are Apache Kafka's, which proves the test.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from harness.cluster.cluster import Cluster, NotNow, gone
from harness.cluster.metadata_files import compared
from harness.cluster.network import Loopback
from harness.cluster.voters import add, remove
from harness.java_clients import eventually
from harness.java_tools import FEATURES, ToolHost

SETTINGS: Final = {
    "controller.quorum.fetch.timeout.ms": "1000",
    "controller.quorum.election.timeout.ms": "600",
    "default.replication.factor": "2",
    "min.insync.replicas": "1",
}
OLD: Final = "3.9"
"""The release whose features the cluster has at first."""
STEPS: Final = (
    ("upgrade", "--metadata", "4.0-IV3"),
    ("downgrade", "--metadata", "4.0-IV2"),
    ("upgrade", "--feature", "transaction.version=2"),
    ("upgrade", "--feature", "eligible.leader.replicas.version=1"),
    ("downgrade", "--feature", "eligible.leader.replicas.version=0"),
    ("upgrade", "--metadata", "4.3-IV0"),
    ("upgrade", "--feature", "kraft.version=1"),
    ("upgrade", "--release-version", "4.3"),
)
JVM, CONTROLLER = 1, 2
"""Node ids."""

REFUSED: Final = {
    ("downgrade", "--metadata", "3.9-IV0"): (
        "Unsupported metadata.version downgrade from 30 to 21. "
        "Refusing to perform the requested downgrade because it might delete metadata information."
    ),
    ("upgrade", "--metadata", "4.2-IV0"): (
        "Invalid update version 28 for feature metadata.version. "
        "Can't downgrade the version of this feature "
        "without setting the upgrade type to either safe or unsafe downgrade."
    ),
    ("upgrade", "--feature", "metadata.version=31"): (
        "Invalid update version 31 for feature metadata.version. Local controller {leader} only supports versions 7-30"
    ),
    ("downgrade", "--feature", "kraft.version=0"): (
        "Invalid update version 0 for feature kraft.version. Can't downgrade the version of this feature."
    ),
    ("upgrade", "--feature", "transaction.version=9"): (
        "Invalid update version 9 for feature transaction.version. Local controller {leader} only supports versions 0-2"
    ),
    ("upgrade", "--feature", "unheard.of=1"): (
        "Invalid update version 1 for feature unheard.of. Local controller {leader} does not support this feature."
    ),
    ("disable", "--feature", "metadata.version", "--unsafe"): (
        "Invalid update version 0 for feature metadata.version. Local controller {leader} only supports versions 7-30"
    ),
}
"""What kafka-features is refused once all of the steps are done, and why."""
NOT_YET: Final = ("have not told the leader", "not all of the voters support it")
"""Why kraft.version can't be raised before each voter has told the leader where it listens and what it supports."""

pytestmark = pytest.mark.usefixtures("java")


@pytest.fixture
def cluster(cluster_kind: str, folder: Path, request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """Voters of both kinds by controller.quorum.voters, and a broker of the kind under test."""
    plan = [("kafka", "broker,controller"), (cluster_kind, "controller"), (cluster_kind, "broker,controller")]
    path = folder / request.node.name
    with Cluster(path, plan, network=Loopback(), settings=SETTINGS, static=True, release=OLD) as cluster:
        cluster.start()
        yield cluster


def change(tools: ToolHost, cluster: Cluster, way: str, *what: str) -> None:
    """By kafka-features; again while a voter that has just come back has not told the leader of itself."""

    def done() -> bool:
        result = tools.run(FEATURES, "--bootstrap-server", cluster.address, way, *what)
        told = f"{result.out}\n{result.err}"
        assert result.code == 0 or any(each in told for each in NOT_YET), f"{way} {what}: {told}"
        return result.code == 0

    eventually(done, True)


@pytest.mark.parametrize("jvm_leads", [False, True], ids=["under the kind under test", "under Apache Kafka"])
def test_levels_go_up_and_down(cluster: Cluster, tools: ToolHost, jvm_leads: bool) -> None:
    """After another leader has died; at each level a topic is made, by its records. At last a voter goes and comes."""
    assert (finalized(tools, cluster)["kraft.version"], finalized(tools, cluster)["metadata.version"]) == (
        "0",
        "3.9-IV0",
    )
    cluster.create_topic("at-first", partitions=2, replication=2)
    deaths = [kill_leader(cluster)]
    while (cluster.quorum().leader == JVM) != jvm_leads:
        deaths.append(kill_leader(cluster))
    for number, (way, *what) in enumerate(STEPS):
        change(tools, cluster, way, *what)
        cluster.create_topic(f"after-{number}", partitions=2, replication=2)
        assert not (ended := gone(cluster.nodes)), ended
    levels = finalized(tools, cluster)
    assert (levels["kraft.version"], levels["metadata.version"]) == ("1", "4.3-IV0")
    assert (cluster.quorum().leader == JVM) == jvm_leads
    for asked, why in REFUSED.items():
        result = tools.run(FEATURES, "--bootstrap-server", cluster.address, *asked)
        told = f"feature had an error: {why.format(leader=cluster.quorum().leader)}\n"
        assert (result.code, result.out.endswith(told)) == (1, True), f"{asked}: {result.out}"
    voter_goes_and_comes(tools, cluster, JVM if not jvm_leads else CONTROLLER)
    cluster.node(cluster.quorum().leader).stop()
    cluster.start()
    eventually(lambda: finalized(tools, cluster), levels)
    assert not (ended := gone(cluster.nodes)), ended
    for node in cluster.nodes:  # a stop needs a majority, which goes when all are told at once
        node.kill()
    print(f"\nled and died: {deaths}; finalized {levels}; {compared(cluster.nodes)} batches are equal in all logs")


def voter_goes_and_comes(tools: ToolHost, cluster: Cluster, node_id: int) -> None:
    """Which it can't before kraft.version is 1."""
    remove(tools, cluster, node_id)
    cluster.wait_until(lambda: node_id in cluster.quorum().observers, f"{node_id} has no vote")
    add(tools, cluster, node_id)
    cluster.wait_until(lambda: node_id in cluster.quorum().voters, f"{node_id} votes")


def kill_leader(cluster: Cluster) -> int:
    """kill -9, and start it again once another leads; who it was."""
    dead = cluster.node(cluster.quorum().leader)
    dead.kill()
    cluster.wait_until(lambda: leads(cluster, dead.node_id), "another leader")
    dead.launch()
    cluster.wait_whole()
    return dead.node_id


def finalized(tools: ToolHost, cluster: Cluster) -> dict[str, str]:
    result = tools.run(FEATURES, "--bootstrap-server", cluster.address, "describe")
    assert result.code == 0, result.err
    return dict(re.findall(r"^Feature: (\S+)\s.*FinalizedVersionLevel: (\S+)\s", result.out, re.MULTILINE))


def leads(cluster: Cluster, dead: int) -> bool:
    """Whether another leads, and something of its epoch is committed."""
    try:
        quorum = cluster.quorum()
    except (NotNow, OSError):
        return False
    return quorum.leader != dead and quorum.high_watermark >= 0

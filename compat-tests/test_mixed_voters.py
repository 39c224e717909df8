"""Who votes in a metadata quorum of both kinds: added and removed by kafka-metadata-quorum, joining by itself, moving.

With --broker=kafka both are Apache Kafka's, which proves the tests.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from harness.cluster.cluster import Cluster
from harness.cluster.metadata_files import compared
from harness.cluster.network import Loopback, Place
from harness.cluster.nodes import Node
from harness.cluster.voters import add, remove
from harness.java_tools import ToolHost

AUTO_JOIN: Final = "controller.quorum.auto.join.enable"
JVM, OURS, THIRD = 1, 2, 3

pytestmark = pytest.mark.usefixtures("java")


@pytest.fixture
def cluster(cluster_kind: str, folder: Path) -> Iterator[Cluster]:
    """Three controllers; the first is the quorum, the others are to join it."""
    plan = [("kafka", "controller"), (cluster_kind, "controller"), (cluster_kind, "controller")]
    with Cluster(folder / "voters", plan, network=Loopback(), voters=[JVM]) as cluster:
        yield cluster


def test_voters_come_and_go(cluster: Cluster, tools: ToolHost) -> None:
    """One under a leader of Apache Kafka; then that is removed itself, another leads, and it comes and goes under that.

    The third joins in the beginning and stays: so there is a majority while another is restarted.
    """
    later = {node.node_id: cluster.network.place(node.node_id) for node in cluster.nodes}
    servers = [cluster.controller_address, *(place.controller_address for place in later.values())]
    for node in cluster.nodes:  # one that has no vote looks for the leader nowhere else
        node.settings["controller.quorum.bootstrap.servers"] = ",".join(servers)
    cluster.node(THIRD).settings[AUTO_JOIN] = "true"
    cluster.start()
    for node_id in (OURS, JVM):
        wait_voters(cluster, cluster.others(node_id))
        leader = cluster.quorum().leader
        assert leader in {OURS: [JVM], JVM: [OURS, THIRD]}[node_id]
        add(tools, cluster, node_id)
        wait_voters(cluster, cluster.nodes)
        at_another_port(cluster, node_id, later[node_id])
        remove(tools, cluster, node_id)
        wait_voters(cluster, cluster.others(node_id))
        joins_by_itself(cluster, node_id)
        wait_voters(cluster, cluster.nodes)
        assert cluster.quorum().leader == leader
        if leader == JVM:
            remove(tools, cluster, leader)
    for node in cluster.nodes:
        node.kill()
    print(f"\n{compared(cluster.nodes)} batches of the metadata are equal")


def at_another_port(cluster: Cluster, node_id: int, place: Place) -> None:
    """Restarted there it has the leader write it down (UpdateRaftVoter)."""
    node = cluster.node(node_id)
    assert cluster.quorum().addresses[node_id] == node.place.controller_address
    node.stop()
    node.place = place
    cluster.write_properties(node)
    node.launch()
    known = place.controller_address
    cluster.wait_until(lambda: cluster.quorum().addresses[node_id] == known, f"{node} is known to listen at {known}")


def joins_by_itself(cluster: Cluster, node_id: int) -> None:
    """Restarted with controller.quorum.auto.join.enable, until it votes; then without it."""
    node = cluster.node(node_id)
    node.stop()
    node.settings[AUTO_JOIN] = "true"
    cluster.write_properties(node)
    node.launch()
    cluster.wait_until(lambda: node_id in cluster.quorum().voters, f"{node} has joined")
    del node.settings[AUTO_JOIN]


def wait_voters(cluster: Cluster, voters: list[Node]) -> None:
    """Until these vote, and the leader has heard from all nodes."""
    ids = tuple(node.node_id for node in voters)

    def so() -> bool:
        quorum = cluster.quorum()
        return quorum.voters == ids and min(quorum.ends.get(node.node_id, -1) for node in cluster.nodes) >= 0

    cluster.wait_until(so, f"nodes {ids} vote")

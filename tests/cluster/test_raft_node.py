"""Nodes of one metadata quorum, whole but for their sockets: elections, replication, crashes, snapshots."""

import pytest
import trio

from kpybroker.cluster.image import CLUSTER_DEFAULTS, ResourceType

from .quorum import quorum
from .running import configure

pytestmark = pytest.mark.simulated_time

KEY = "log.retention.ms"


async def write(node, value):
    """Have something written to the metadata log, and committed."""
    assert await configure(node.cluster, ResourceType.BROKER, "", KEY, str(value)) == 0


def written(node):
    """What of it a node has applied."""
    return node.raft.image.configs.get(CLUSTER_DEFAULTS, {}).get(KEY)


async def test_three_nodes_elect_a_leader_and_agree():
    async with quorum() as nodes:
        await nodes.start()
        leader = await nodes.leader(within_s=5)
        await write(leader, 1)
        await nodes.until(lambda: all(written(node) == "1" for node in nodes.nodes.values()))
        images = [node.raft.image for node in nodes.nodes.values()]
        assert images[0] == images[1] == images[2]
        assert {node.raft.leader_id for node in nodes.nodes.values()} == {leader.id}


async def test_the_others_go_on_without_a_leader_that_died():
    async with quorum() as nodes:
        await nodes.start()
        leader = await nodes.leader()
        await write(leader, 1)
        started = trio.current_time()
        nodes.kill(leader.id)
        second = await nodes.leader(other_than=leader.id)
        assert trio.current_time() - started < 1, "a refused connection is noticed at once"
        assert written(second) == "1"
        await write(second, 2)
        await nodes.start(leader.id)
        await nodes.until(lambda: written(nodes.nodes[leader.id]) == "2")

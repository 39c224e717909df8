"""Nodes of one metadata quorum, whole but for their sockets: elections, replication, crashes, snapshots."""

import pytest
import trio

from kpybroker.cluster.image import CLUSTER_DEFAULTS, ResourceType
from kpybroker.cluster.metadata_log import FOLDER
from kpybroker.cluster.quorum_state import FILE_NAME, read_quorum_state
from kpybroker.wire.codes import Code, Refused
from kpybroker.wire.messages.add_raft_voter import AddRaftVoterRequest
from kpybroker.wire.messages.add_raft_voter import Listener as AddListener
from kpybroker.wire.messages.remove_raft_voter import RemoveRaftVoterRequest
from kpybroker.wire.messages.update_raft_voter import KRaftVersionFeature, UpdateRaftVoterRequest
from kpybroker.wire.messages.update_raft_voter import Listener as UpdateListener

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


def state_on_disk(node):
    """The epoch and the vote that a node would know of if its power failed now."""
    state = read_quorum_state(node.disk.killed().read_whole(f"/data/{FOLDER}/{FILE_NAME}"))
    return state.election.epoch, state.election.voted_id


async def test_a_vote_is_on_the_disk_before_it_is_told_however_long_that_takes():
    """And the event loop does not wait for it: the voter knows of the new epoch meanwhile."""
    async with quorum() as nodes:
        await nodes.start()
        leader = await nodes.leader()
        await write(leader, 1)
        await nodes.until(lambda: all(written(node) == "1" for node in nodes.nodes.values()))
        one, two = (node for node in nodes.nodes.values() if node is not leader)
        epoch = leader.raft.leader_epoch
        before = {node.id: state_on_disk(node) for node in (one, two)}
        one.hold, two.hold = trio.Event(), trio.Event()
        nodes.kill(leader.id)
        await nodes.until(lambda: epoch < max(one.raft.leader_epoch, two.raft.leader_epoch))
        await trio.sleep(10)
        assert {node.id: state_on_disk(node) for node in (one, two)} == before
        assert not one.raft.is_leader
        assert not two.raft.is_leader, "nobody can have heard of a vote"
        one.hold.set()
        await trio.sleep(10)
        assert not one.raft.is_leader, "the other one's vote is not on its disk"
        assert state_on_disk(two) == before[two.id]
        assert state_on_disk(one)[0] == one.raft.leader_epoch
        two.hold.set()
        second = await nodes.leader(other_than=leader.id)
        await write(second, 2)
        assert all(state_on_disk(node)[0] == second.raft.leader_epoch for node in (one, two))


async def test_a_leader_that_is_cut_off_resigns_and_drops_what_it_wrote():
    async with quorum() as nodes:
        await nodes.start()
        leader = await nodes.leader()
        await write(leader, 1)
        others = [node for node in nodes.nodes.values() if node is not leader]
        await nodes.until(lambda: all(written(node) == "1" for node in nodes.nodes.values()))
        nodes.network.cut |= {(leader.id, other.id) for other in others}
        lost = []

        async def write_in_vain():
            with pytest.raises(Refused) as refused:
                await configure(leader.cluster, ResourceType.BROKER, "", KEY, "666")
            lost.append(refused.value.code)

        nodes.nursery.start_soon(write_in_vain)
        second = await nodes.leader(other_than=leader.id)
        await write(second, 2)
        await nodes.until(lambda: not leader.raft.is_leader)
        await nodes.until(lambda: lost)
        assert lost == [Code.NOT_CONTROLLER]
        assert written(leader) == "1"
        assert leader.raft.log.image == leader.raft.image, "back to what is committed"
        nodes.network.cut.clear()
        await nodes.until(lambda: written(leader) == "2")
        await nodes.until(lambda: len({node.raft.log.log_end_offset for node in nodes.nodes.values()}) == 1)
        batches = [node.raft.log.read(0, 1 << 20) for node in nodes.nodes.values()]
        assert batches[0] == batches[1] == batches[2], "byte for byte"


async def test_a_leader_that_stops_hands_over_at_once():
    async with quorum() as nodes:
        await nodes.start()
        leader = await nodes.leader()
        await write(leader, 1)
        await nodes.until(lambda: all(written(node) == "1" for node in nodes.nodes.values()))
        started = trio.current_time()
        await leader.raft.resign()
        await nodes.leader(other_than=leader.id)
        assert trio.current_time() - started < 0.5


async def test_a_follower_that_was_away_for_long_reads_a_snapshot():
    few = {
        "metadata.log.max.record.bytes.between.snapshots": "2000",
        "metadata.max.retention.bytes": "1",
    }
    async with quorum(**few) as nodes:
        await nodes.start()
        leader = await nodes.leader()
        away = next(id_ for id_ in nodes.ids if id_ != leader.id)
        nodes.kill(away)
        for value in range(1, 80):
            await write(leader, value)
        await nodes.until(lambda: leader.raft.log.log_start_offset > 20)
        await nodes.start(away)
        back = nodes.nodes[away]
        await nodes.until(lambda: written(back) == "79")
        assert back.raft.log.log_start_offset > 20
        assert back.raft.image == leader.raft.image
        nodes.kill(away)
        await nodes.start(away)
        await nodes.until(lambda: written(nodes.nodes[away]) == "79")


async def test_all_nodes_die_and_nothing_is_forgotten():
    async with quorum() as nodes:
        await nodes.start()
        for value in range(1, 6):
            leader = await nodes.leader()
            await write(leader, value)
            for id_ in nodes.ids:
                nodes.kill(id_)
            await nodes.start()
            leader = await nodes.leader()
            assert written(leader) == str(value)


async def join(nodes, leader):
    """Start node 2, and make it the second voter."""
    await nodes.start(2)
    joined = nodes.nodes[2]
    await nodes.until(lambda: written(joined) == "1")
    assert not joined.raft.log.raft.is_voter
    add = AddRaftVoterRequest(
        cluster_id=None,
        timeout_ms=1000,
        voter_id=2,
        voter_directory_id=joined.raft.who.me.directory_id,
        listeners=[AddListener(name="CONTROLLER", host="node2", port=9093)],
    )
    await leader.raft.changes.add(leader.cluster.controller.quorum, add)
    await nodes.until(lambda: joined.raft.log.raft.is_voter)
    return joined


async def test_a_node_joins_the_quorum_and_leaves_it():
    async with quorum(1, voters=[1], kraft_version=1) as nodes:
        await nodes.start(1)
        leader = await nodes.leader()
        await write(leader, 1)
        await join(nodes, leader)
        await write(leader, 2)
        view = leader.cluster.controller.quorum
        told = view()
        assert [voter.id for voter in told.voters] == [1, 2]
        assert [each.key.id for each in told.replicas] == [2]
        gone = RemoveRaftVoterRequest(cluster_id=None, voter_id=1, voter_directory_id=leader.raft.who.me.directory_id)
        await leader.raft.changes.remove(view, gone)
        second = await nodes.leader(other_than=1)
        await write(second, 3)
        assert second.raft.is_lone_voter
        await nodes.until(lambda: written(leader) == "3")


async def test_a_voter_that_moves_is_answered_before_that_is_committed():
    """Apache Kafka's asks on the connection by which it fetches, and its next fetch is what the commit waits for."""
    async with quorum(1, voters=[1], kraft_version=1) as nodes:
        await nodes.start(1)
        leader = await nodes.leader()
        await write(leader, 1)
        other = await join(nodes, leader)
        view = leader.cluster.controller.quorum
        await nodes.until(lambda: not view().changing)
        update = UpdateRaftVoterRequest(
            cluster_id=None,
            current_leader_epoch=leader.raft.leader_epoch,
            voter_id=other.id,
            voter_directory_id=other.raft.who.me.directory_id,
            listeners=[UpdateListener(name="CONTROLLER", host="elsewhere", port=9093)],
            kraft_version_feature=KRaftVersionFeature(min_supported_version=0, max_supported_version=1),
        )
        nodes.kill(other.id)
        await leader.raft.changes.update(view, update)
        assert view().changing
        assert [host for voter in view().voters for _, host, _ in voter.endpoints] == ["node1", "elsewhere"]

"""Clusters of whole nodes: they form, replicate, forward, and go on when one of them stops or dies."""

from __future__ import annotations

from pathlib import Path

import trio

from kpybroker.cluster.image import UNASSIGNED_DIRECTORY
from kpybroker.node import Node
from kpybroker.testing import Cluster
from kpybroker.wire.messages.describe_cluster import DescribeClusterRequest, DescribeClusterResponse

from .three import AGAIN_S, LIMIT_S, Member, Trio, cluster, folders


async def test_three_combined_nodes(tmp_path: Path) -> None:
    async with cluster(tmp_path) as three:
        for member in three.members.values():  # two of them forward it
            await three.create(member, f"through-{member.id}")
        for member in three.members.values():
            for other in three.members:
                known = await three.until(f"through-{other}", "isr == {1, 2, 3}", of=member)
                assert {partition.leader_id for partition in known.values()} == {1, 2, 3}
            request = DescribeClusterRequest(include_cluster_authorized_operations=False)
            described = await member.channel.ask(request, DescribeClusterResponse, timeout_s=LIMIT_S)
            assert {each.broker_id for each in described.brokers} == {1, 2, 3}
        for index in range(3):
            assert await three.produce("through-1", index, b"kept") == 0
            assert await three.values("through-1", index) == [b"kept"]


async def test_one_stops_and_comes_back(tmp_path: Path) -> None:
    async with cluster(tmp_path) as three:
        await three.create(three.members[1], "t")
        await three.until("t", "isr == {1, 2, 3}")
        for index in range(3):
            await three.produce("t", index, b"before")
        for member in list(three.members.values()):
            with trio.fail_after(LIMIT_S):
                await member.stop()
                await three.until("t", f"leader not in (-1, {member.id}) and isr == {set(three.members) - {member.id}}")
                for index in range(3):
                    await three.produce("t", index, b"without %d" % member.id)
                await member.start(three.nursery)
                await three.until("t", "isr == {1, 2, 3}")
        for index in range(3):
            assert await three.values("t", index) == [b"before", b"without 1", b"without 2", b"without 3"]


async def test_nodes_with_one_role_each(tmp_path: Path) -> None:
    roles = {1: "controller", 2: "controller", 3: "controller", 4: "broker", 5: "broker"}
    async with cluster(tmp_path, roles=roles) as nodes:
        broker, other = nodes.members[4], nodes.members[5]
        await nodes.create(broker, "t", replicas=2)
        for member in (broker, other):
            await nodes.until("t", "isr == {4, 5}", of=member)
        (active,) = (each for each in (1, 2, 3) if nodes.members[each].leads)
        await nodes.members[active].stop()  # whoever comes next has brokers that it never met
        with trio.fail_after(LIMIT_S):
            await nodes.create(other, "u", replicas=2)
            await nodes.until("u", "isr == {4, 5}", of=broker)
            assert await nodes.produce("u", 0, b"x", through=broker) == 0
            await broker.stop()
            await nodes.until("t", "leader == 5 and isr == {5}", of=other)


async def test_a_folder_that_fails_hands_over_what_is_led_there(tmp_path: Path) -> None:
    """Of two, without the metadata log: the node goes on with what is in the other (KIP-858)."""
    async with cluster(tmp_path, folders_each=2) as three:
        victim = three.members[1]
        await three.create(victim, "t", partitions=6)
        await three.until("t", "isr == {1, 2, 3}")
        for index in range(6):
            await three.produce("t", index, b"before")
        failing = folders(tmp_path, 1, 2)[1]
        lost = {int(each.name[2:]) for each in failing.glob("t-?")}
        assert len(lost) == 3, "placed in turn"
        assert victim.node is not None
        with trio.fail_after(LIMIT_S):
            await _placed(victim.node, "t")
            failing.rename(tmp_path / "gone")
            failing.write_bytes(b"")  # not made again
            assert victim.node._broker is not None
            await victim.node._broker.logs.checkpoint()  # writes to every folder
            out_of_service = " and ".join(f"partition.partition_index != {index}" for index in lost)
            known = await three.until("t", f"isr == {{2, 3}} and leader in (2, 3) or {out_of_service}")
            assert all(set(known[index].isr_nodes) == {1, 2, 3} for index in set(range(6)) - lost)
            for index in range(6):
                await three.produce("t", index, b"after")
                assert await three.values("t", index) == [b"before", b"after"]


async def _placed(node: Node, topic: str) -> None:
    """Wait until the metadata says in which folders the node's replicas are."""
    assert node._cluster is not None
    while True:
        image = node._cluster.raft.image.topics.by_name[topic]
        own = [each.directories[each.replicas.index(1)] for each in image.partitions.values()]
        if UNASSIGNED_DIRECTORY not in own:
            return
        await trio.sleep(AGAIN_S)


def test_nodes_that_are_killed() -> None:
    """Each in turn, whatever it leads: what was acknowledged stays, and the others go on at once."""
    with Cluster({"num.partitions": 3, "min.insync.replicas": 2}) as processes:

        async def round_of_kills() -> None:
            members = [Member(processes.data_dir(node).parent / "server.properties") for node in processes.nodes]
            async with trio.open_nursery() as nursery:
                three = Trio(members, nursery, elsewhere=lambda: processes.running)
                await three.create(members[0], "t")
                await three.until("t", "isr == {1, 2, 3}")
                for member in members:
                    with trio.fail_after(LIMIT_S):
                        before = [await three.produce("t", index, b"%d" % member.id) for index in range(3)]
                        processes.kill(member.id)
                        after = [await three.produce("t", index, b"-%d" % member.id) for index in range(3)]
                        assert after == [offset + 1 for offset in before]
                        await trio.to_thread.run_sync(processes.start, member.id)
                        await three.until("t", "isr == {1, 2, 3}")
                for index in range(3):
                    assert await three.values("t", index) == [b"1", b"-1", b"2", b"-2", b"3", b"-3"]
                for member in members:
                    member.channel.close()

        trio.run(round_of_kills)

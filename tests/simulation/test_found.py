"""What simulation has found, each as a story of its own."""

from __future__ import annotations

import trio

from kpybroker.wire.codes import Code
from kpybroker.wire.messages.find_coordinator import FindCoordinatorRequest, FindCoordinatorResponse
from kpybroker.wire.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
    OffsetCommitResponse,
)
from kpybroker.wire.messages.offset_fetch import (
    OffsetFetchRequest,
    OffsetFetchRequestGroup,
    OffsetFetchRequestTopics,
    OffsetFetchResponse,
)

from .administrator import Administrator
from .clients import Client
from .coordinated import GROUP, Coordinated
from .world import SimulatedNode, World

SEED = 1
MARKER = "/data/.kafka_cleanshutdown"


def test_one_that_stops_before_it_is_registered_has_stopped_cleanly() -> None:
    """The epoch of its last registration stays in the marker, or the next start would count as one after a crash."""

    async def story(world: World) -> None:
        for node in world.nodes.values():
            node.start()
        await world.until_healthy()
        last = world.nodes[3]
        await last.stop()
        left = last.disk.content(MARKER)
        world.network.cut_off({(last.machine.name, f"node{other}") for other in (1, 2)})
        last.start()
        await trio.sleep(5)
        assert not last.in_service
        assert not last.disk.exists(MARKER)
        await last.stop()
        assert last.disk.content(MARKER) == left

    World(SEED).play(story)


def test_one_that_stops_before_its_logs_are_recovered_has_not_stopped_cleanly() -> None:
    """Its logs may end in what is no batch, and their indexes may tell of what is lost: the next start reads them."""

    async def story(world: World) -> None:
        for node in world.nodes.values():
            node.start()
        await world.until_healthy()
        last = world.nodes[3]
        await last.crash(power=False)
        world.network.cut_off({(last.machine.name, f"node{other}") for other in (1, 2)})
        last.start()
        await trio.sleep(5)
        assert not last.in_service
        await last.stop()
        assert not last.disk.exists(MARKER)

    World(SEED).play(story)


def test_what_is_decided_while_logs_are_recovered_is_heard_of() -> None:
    """A leader that was killed, and is fenced while its next life is busy with its logs, leads no more afterwards."""

    async def story(world: World) -> None:
        for node in world.nodes.values():
            node.start()
        await world.until_healthy()
        await Client(world, "admin").create_topic("t", 3)
        await world.until_healthy()
        world.promises.look(world)
        await world.nodes[3].crash(power=False)
        world.nodes[3].disk_delay_s = (1.0, 1.0)
        world.nodes[3].start()
        await world.until_healthy()  # and the promises are looked at all the while

    World(SEED).play(story)


def test_nobody_coordinates_before_the_controller_has_heard_of_its_new_life() -> None:
    """A leader that lost its log would write into it, in its former life's epoch: nobody could tell the two apart."""

    async def story(world: World) -> None:
        for node in world.nodes.values():
            node.start()
        await world.until_healthy()
        client = Client(world, "client")
        request = FindCoordinatorRequest(key_type=1, coordinator_keys=["transactional"])
        while (await client.ask_any(request, FindCoordinatorResponse, 4)).coordinators[0].error_code:
            await client.rest()
        await world.until_healthy()
        one = world.nodes[1]
        assert _shards(one), "it coordinates"
        await one.crash(power=True)
        one.start()
        refused = 0
        while not one.in_service:
            assert not _shards(one)
            refused += 1
            await trio.sleep(0.05)
        assert refused > 20, "its former life was not forgotten at once"
        await world.until_healthy()

    World(SEED).play(story)


def test_what_is_committed_while_a_node_comes_to_its_end_is_no_other_reason() -> None:
    """The metadata log's last sync is over when the fetchers are at their end already, and are told to fetch more."""

    async def story(world: World) -> None:
        for node in world.nodes.values():
            node.start()
        await world.until_healthy()
        await Client(world, "admin").create_topic("in", 2)
        leader = next(node for node in world.nodes.values() if node.node._cluster.raft.is_leader)
        other = next(node for node in world.nodes.values() if node is not leader)
        await other.stop()  # so that nothing is committed without the leader's disk
        leader.disk_delay_s = (0.2, 0.3)
        async with trio.open_nursery() as nursery:
            for number in range(5):
                nursery.start_soon(_change_leaders, Administrator(world, f"administrator-{number}"))
            await trio.sleep(3.0)
            await leader.crash(power=False)
            nursery.cancel_scope.cancel()

    World(2).play(story)


def test_offsets_are_not_told_by_who_may_not_coordinate_any_more() -> None:
    """Nor is a client sent there. Who is told an old offset does again what is done, in a transaction perhaps."""

    async def story(world: World) -> None:
        for node in world.nodes.values():
            node.start()
        await world.until_healthy()
        await Client(world, "admin").create_topic("in", 1)
        old, new = Coordinated(world, "old", "group"), Coordinated(world, "new", "group")
        await _commit(old, 1)
        await world.until_healthy()
        (cut_off,) = old._coordinators.values()
        name = world.nodes[cut_off].machine.name
        others = [each.machine.name for each in world.nodes.values() if each.machine.name != name]
        world.network.cut_off({(name, each) for each in others} | {(each, name) for each in [*others, "new"]})
        assert await _told_by(old, cut_off) == (Code.NONE, 1, Code.NONE)
        await _commit(new, 2)
        assert new._coordinators[GROUP] != cut_off
        assert await _told_by(old, cut_off) == (Code.NOT_COORDINATOR, None, Code.COORDINATOR_NOT_AVAILABLE)
        world.network.cut_off(set())
        await world.until_healthy()
        (told,) = [each for each in world.nodes if await _told_by(old, each) == (Code.NONE, 2, Code.NONE)]
        assert told != cut_off

    World(SEED).play(story)


async def _commit(client: Coordinated, offset: int) -> None:
    partition = OffsetCommitRequestPartition(partition_index=0, committed_offset=offset, committed_metadata=None)
    topics = [OffsetCommitRequestTopic(name="in", partitions=[partition])]
    request = OffsetCommitRequest(group_id=client.key, member_id="", topics=topics)
    code, _ = await client.coordinated(
        GROUP, request, OffsetCommitResponse, 8, lambda each: each.topics[0].partitions[0].error_code
    )
    assert code is Code.NONE


async def _told_by(client: Coordinated, node_id: int) -> tuple[Code, int | None, Code]:
    """What a node says of an offset: the error, or the offset; and the error when it is asked who would know."""
    topic = OffsetFetchRequestTopics(name="in", partition_indexes=[0])
    groups = [OffsetFetchRequestGroup(group_id=client.key, topics=[topic])]
    fetched = await client.ask(node_id, OffsetFetchRequest(groups=groups), OffsetFetchResponse, 8)
    request = FindCoordinatorRequest(key_type=GROUP, coordinator_keys=[client.key])
    found = await client.ask(node_id, request, FindCoordinatorResponse, 4)
    (group,), (coordinator,) = fetched.groups, found.coordinators
    offset = group.topics[0].partitions[0].committed_offset if group.topics else None
    return Code(group.error_code), offset, Code(coordinator.error_code)


async def _change_leaders(administrator: Administrator) -> None:
    while True:
        await administrator.reorder("in")
        await administrator.elect()


def _shards(node: SimulatedNode) -> list[object]:
    broker = node.node._broker if node.node is not None else None
    return [] if broker is None else broker.coordinators.transactions.shards

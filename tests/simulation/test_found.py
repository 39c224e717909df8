"""What simulation has found, each as a story of its own."""

from __future__ import annotations

import trio

from kpybroker.wire.messages.find_coordinator import FindCoordinatorRequest, FindCoordinatorResponse

from .administrator import Administrator
from .clients import Client
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


async def _change_leaders(administrator: Administrator) -> None:
    while True:
        await administrator.reorder("in")
        await administrator.elect()


def _shards(node: SimulatedNode) -> list[object]:
    broker = node.node._broker if node.node is not None else None
    return [] if broker is None else broker.coordinators.transactions.shards

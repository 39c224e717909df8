"""What simulation has found, each as a story of its own."""

from __future__ import annotations

import trio

from .world import World

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

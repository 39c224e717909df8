"""What a simulated cluster goes through: load, faults, and at the end a look at everything."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from .clients import COMMITTED, UNCOMMITTED, Client, Consumer, Producer
from .faults import Faults
from .promises import Place

if TYPE_CHECKING:
    from .world import World

LIMIT_S = 120.0
"""How long what was begun under faults may take without them."""


async def under_load(world: World, duration_s: float) -> None:
    """Producers and consumers on two partitions while things go wrong."""
    for node in world.nodes.values():
        node.start()
    await world.until_healthy()
    await Client(world, "admin").create_topic("in", 2)
    await world.until_healthy()
    places = [Place("in", 0), Place("in", 1)]
    stop = trio.Event()
    faults = world.faults = Faults(world)
    async with trio.open_nursery() as consuming:
        for place in places:
            for isolation in (UNCOMMITTED, COMMITTED):
                consuming.start_soon(Consumer(world, f"consumer-{place}-{isolation}", place, isolation).run)
        async with trio.open_nursery() as producing:
            for number, place in enumerate([*places, places[0]]):
                producing.start_soon(Producer(world, f"p{number}", place).run, stop)
            await faults.run(duration_s)
            await world.until_healthy()
            stop.set()
            producing.cancel_scope.deadline = trio.current_time() + LIMIT_S
        assert not producing.cancel_scope.cancelled_caught, f"producers are not answered in {LIMIT_S:g} s"
        consuming.cancel_scope.cancel()
    for place in places:
        with trio.fail_after(LIMIT_S):
            values = await Consumer(world, f"last-{place}", place, UNCOMMITTED).everything()
        world.promises.final(place, values)

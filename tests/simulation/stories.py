"""What a simulated cluster goes through: load, faults, and at the end a look at everything."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import trio

from .administrator import Administrator
from .clients import COMMITTED, UNCOMMITTED, Client, Consumer
from .copier import ATTEMPT, Copier
from .faults import Faults
from .member import Member
from .producer import Producer
from .promises import Place
from .trimmer import Trimmer

if TYPE_CHECKING:
    from .world import World

LOSS = 0.3
"""How often a machine is lost for good."""
LIMIT_S = 120.0
"""How long what was begun under faults may take without them."""
SETTLED_S = 3.0
SOURCES = [Place("in", 0), Place("in", 1)]
COPIES = [Place("out", 0), Place("out", 1)]
TRIMMED = Place("trimmed", 0)
GROUP, MEMBERS = "readers", 3


async def under_load(world: World, duration_s: float) -> None:
    """Producers, copiers and consumers at their work while things go wrong."""
    for node in world.nodes.values():
        node.start()
    await world.until_healthy()
    for name in ("in", "out"):
        await Client(world, "admin").create_topic(name, 2)
    await Client(world, "admin").create_topic(TRIMMED.topic, 1)
    faults = world.faults = Faults(world)
    async with trio.open_nursery() as consuming:
        for place in (*SOURCES, *COPIES):
            for isolation in (UNCOMMITTED, COMMITTED):
                consuming.start_soon(Consumer(world, f"consumer-{place}-{isolation}", place, isolation).run)
        for number in range(MEMBERS):
            consuming.start_soon(Member(world, f"member-{number}", GROUP, SOURCES).run)
        stop, written = trio.Event(), trio.Event()
        async with trio.open_nursery() as copying:
            for source, target in zip(SOURCES, COPIES, strict=True):
                copying.start_soon(Copier(world, f"copier-{source.index}", source, target).run, written)
            async with trio.open_nursery() as producing:
                administrator = Administrator(world, "administrator")
                producing.start_soon(administrator.run, stop)
                trimmer = Trimmer(world, "trimmer", TRIMMED)
                producing.start_soon(trimmer.run, stop)
                for number, place in enumerate([*SOURCES, SOURCES[0], TRIMMED]):
                    producing.start_soon(Producer(world, f"p{number}", place).run, stop)
                await faults.run(duration_s)
                await world.until_healthy()
                if world.chance("loss").random() < LOSS:
                    await faults.lose()
                    await world.until_healthy()
                stop.set()
                await _in_time(producing, "producers")
            written.set()
            await _in_time(copying, "copiers")
        await _all_handed(world)
        administrator.check()
        consuming.cancel_scope.cancel()
    await _look_at_everything(world)
    for place, (offset, _) in (await Member(world, "last-member", GROUP, SOURCES).committed_offsets(SOURCES)).items():
        world.promises.group.final(place, offset)
    await trimmer.check()


async def blackouts(world: World, count: int) -> None:
    """All machines lose power at once, again and again: what was answered of the metadata is there afterwards."""
    rng = world.chance("blackouts")
    for node in world.nodes.values():
        node.start()
    await world.until_healthy()
    administrator = Administrator(world, "administrator")
    stop = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(administrator.run, stop)
        for _ in range(count):
            await trio.sleep(rng.uniform(1.0, 6.0))
            async with trio.open_nursery() as falling:
                for node in world.nodes.values():
                    falling.start_soon(partial(node.crash, power=True))
            for node in world.nodes.values():
                node.start()
            await world.until_in_service()
        stop.set()
        await _in_time(nursery, "the administrator")
    await trio.sleep(SETTLED_S)
    administrator.check()


async def _in_time(nursery: trio.Nursery, what: str) -> None:
    """Raises: AssertionError unless all that is done in the nursery comes to its end."""
    with trio.move_on_after(LIMIT_S):
        while nursery.child_tasks:
            await trio.sleep(0.1)
        return
    raise AssertionError(f"{what} are not at their end in {LIMIT_S:g} s")


async def _all_handed(world: World) -> None:
    """Raises: AssertionError unless the group is given all that was acknowledged."""
    promises = world.promises
    with trio.move_on_after(LIMIT_S):
        while not all(promises.group.has_had(place, promises.acknowledged[place]) for place in SOURCES):
            await trio.sleep(0.1)
        return
    raise AssertionError(f"the group was not given everything in {LIMIT_S:g} s")


async def _look_at_everything(world: World) -> None:
    for source, copy in zip(SOURCES, COPIES, strict=True):
        values = [await _everything(world, place, UNCOMMITTED) for place in (source, copy)]
        committed = await _everything(world, copy, COMMITTED)
        world.promises.final(source, values[0])
        world.promises.survived(copy, committed)
        copied = [value.partition(ATTEMPT)[0] for value in committed]
        assert copied == values[0], f"{copy}: not what was copied, once each: {_difference(copied, values[0])}"
        assert set(committed) <= set(values[1])


async def _everything(world: World, place: Place, isolation: int) -> list[bytes]:
    with trio.move_on_after(LIMIT_S):
        return await Consumer(world, f"last-{place}-{isolation}", place, isolation).everything()
    raise AssertionError(f"{place} can't be read in {LIMIT_S:g} s")


def _difference(found: list[bytes], wanted: list[bytes]) -> str:
    for number, (one, other) in enumerate(zip(found, wanted, strict=False)):
        if one != other:
            return f"{one!r} instead of {other!r} at {number}"
    return f"{len(found)} instead of {len(wanted)}"

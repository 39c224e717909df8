"""What befalls a cluster, chosen by chance: one thing after another, within what it has to bear.

A node that did not stop cleanly may have lost what it had not synced, so the controller no longer counts on its copy
(KIP-966). With min.insync.replicas 2 the cluster bears one such node at a time: the next one is killed only when all
replicas are in sync again. So it is with one whose disk is full or fails, which may come to its end by that. Clean
stops, and whatever befalls the network, come at any time.
"""

from __future__ import annotations

import errno
from collections.abc import Awaitable, Callable
from itertools import permutations
from typing import TYPE_CHECKING

import trio

from .disk import Trouble
from .world import FOLDERS, QUICK_DISK_S

if TYPE_CHECKING:
    from .world import SimulatedNode, World


class Faults:
    """A sequence of them."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._rng = world.chance("faults")
        self._at_risk = False
        """A node did not stop cleanly, and not all replicas were in sync since."""
        self._wounded: SimulatedNode | None = None
        """One of its folders has failed: it is not used before the next start."""
        self.count = 0

    async def run(self, duration_s: float) -> None:
        """For so long; whatever was begun is over at the end."""
        with trio.move_on_after(duration_s):
            while True:
                await trio.sleep(self._rng.expovariate(1 / 1.5))
                self._revive()
                if self._at_risk and self._sound():
                    self._at_risk = False
                await self._one()
        await self._mend()

    async def lose(self) -> None:
        """A machine is gone for good, as many as may be so that nothing acknowledged is lost."""
        await self._node().crash(power=True)

    def _all_run(self) -> bool:
        return all(each.node is not None for each in self._world.nodes.values())

    def _sound(self) -> bool:
        in_trouble = any(each.disk.trouble is not None for each in self._world.nodes.values())
        return self._all_run() and not in_trouble and self._world.healthy()

    def _revive(self) -> None:
        """Start what has ended by itself."""
        for node in self._world.nodes.values():
            if node.node is None:
                node.start()

    async def _one(self) -> None:
        kinds = [self._reset, self._partition, self._one_way, self._isolate, self._slow, self._heal, self._heal]
        kinds += [self._slow_disks, self._clocks]
        if self._wounded is not None:
            kinds += [self._recover] * 2
        elif any(each.disk.trouble is not None for each in self._world.nodes.values()):
            kinds += [self._room] * 2
        if self._all_run():
            kinds += [self._restart]
            if not self._at_risk:
                kinds += [self._kill] * 3 + [self._one_after_the_other] * 3 + [self._full_disk, self._broken_disk]
        self.count += 1
        await self._rng.choice(kinds)()

    def _node(self) -> SimulatedNode:
        return self._rng.choice(list(self._world.nodes.values()))

    async def _mend(self) -> None:
        await self._heal()
        await self._room()
        if self._wounded is not None:
            await self._wounded.settled()
            await self._wounded.crash(power=False)
        for node in self._world.nodes.values():
            node.disk_delay_s = QUICK_DISK_S
            await node.settled()
        self._revive()

    async def _heal(self) -> None:
        self._world.trace("heal")
        self._world.network.slow.clear()
        self._world.network.cut_off(set())

    async def _reset(self) -> None:
        count = self._world.network.reset_some(self._rng.random())
        self._world.trace("reset", count)

    def _cut(self, lines: set[tuple[str, str]]) -> None:
        self._world.trace("cut", *(f"{one}>{other}" for one, other in sorted(lines)))
        self._world.network.cut_off(lines)

    async def _partition(self) -> None:
        """One pair of nodes, and nobody else, can't reach each other."""
        one, other = self._rng.sample([each.machine.name for each in self._world.nodes.values()], 2)
        self._cut({(one, other), (other, one)})

    async def _one_way(self) -> None:
        lines = list(permutations([each.machine.name for each in self._world.nodes.values()], 2))
        self._cut(set(self._rng.sample(lines, self._rng.randrange(1, 3))))

    async def _isolate(self) -> None:
        """A node is cut off from the others; clients may still reach it."""
        name = self._node().machine.name
        others = [each.machine.name for each in self._world.nodes.values() if each.machine.name != name]
        if self._rng.random() < 0.5:
            others = [each for each in self._world.network.machines if each != name]
        self._cut({(name, each) for each in others} | {(each, name) for each in others})

    async def _slow(self) -> None:
        """Some lines are slow, so that what goes by one overtakes what goes by another."""
        network = self._world.network
        lines = list(permutations(network.machines, 2))
        for line in self._rng.sample(lines, self._rng.randrange(1, len(lines))):
            network.slow[line] = self._rng.choice([0.05, 0.5, 2.0])
        self._world.trace("slow", len(network.slow))

    async def _slow_disks(self) -> None:
        node = self._node()
        node.disk_delay_s = self._rng.choice([QUICK_DISK_S, (0.0, 0.05), (0.0, 0.5), (0.5, 1.0)])
        self._world.trace("disk", node.id, *node.disk_delay_s)

    async def _clocks(self) -> None:
        node = self._node()
        node.clock.skew_ms = self._rng.randrange(-60_000, 60_000)
        self._world.trace("clock", node.id, node.clock.skew_ms)

    async def _kill(self) -> None:
        await self._kill_one(self._node(), self._rng.choice([0.0, 1.0, 10.0, 20.0]))

    async def _kill_one(self, node: SimulatedNode, down_s_max: float) -> None:
        self._at_risk = True
        power = self._rng.random() < 0.6
        if self._rng.random() < 0.5:
            await node.crash(power=power)
        else:
            await node.crash_at_work(power=power, changes=self._rng.randrange(1, 60))
        await self._start_again(node, down_s_max)

    async def _restart(self) -> None:
        await self._restart_one(self._node(), self._rng.choice([0.0, 1.0, 10.0]))

    async def _restart_one(self, node: SimulatedNode, down_s_max: float) -> None:
        await node.stop()
        await self._start_again(node, down_s_max)

    async def _start_again(self, node: SimulatedNode, down_s_max: float) -> None:
        await trio.sleep(down_s_max * self._rng.random())
        if node.node is None:
            node.start()

    async def _one_after_the_other(self) -> None:
        """A node falls behind, another one dies while only the third has all of its records, and that one stops."""
        self._at_risk = True
        behind, dies, stops = self._rng.sample(list(self._world.nodes.values()), 3)
        others = [each.machine.name for each in (dies, stops)]
        self._cut({(behind.machine.name, each) for each in others} | {(each, behind.machine.name) for each in others})
        await trio.sleep(self._rng.uniform(5.0, 10.0))
        fates = [(self._kill_one, dies), (self._restart_one, stops), (self._heal_soon, behind)]
        self._rng.shuffle(fates)
        async with trio.open_nursery() as nursery:
            for number, (fate, node) in enumerate(fates):
                nursery.start_soon(self._later, number * self._rng.uniform(0.0, 3.0), fate, node)

    async def _later(
        self, after_s: float, fate: Callable[[SimulatedNode, float], Awaitable[None]], node: SimulatedNode
    ) -> None:
        await trio.sleep(after_s)
        if node.node is not None:
            await fate(node, self._rng.choice([0.5, 5.0]))

    async def _heal_soon(self, _: SimulatedNode, within_s: float) -> None:
        await trio.sleep(within_s * self._rng.random())
        await self._heal()

    async def _full_disk(self) -> None:
        """There is no room, on all of a machine's disk or in one folder; until `_room`."""
        self._at_risk = True
        self._node().be_ill(Trouble(self._rng.choice(["/", *FOLDERS]), errno.ENOSPC))

    async def _room(self) -> None:
        self._world.trace("room")
        for node in self._world.nodes.values():
            node.disk.trouble = None

    async def _broken_disk(self) -> None:
        """A folder fails at everything; until `_recover`."""
        self._at_risk = True
        self._wounded = self._node()
        self._wounded.be_ill(Trouble(self._rng.choice(FOLDERS), errno.EIO))

    async def _recover(self) -> None:
        """A folder that failed works again, for the node's next life."""
        node = self._wounded
        assert node is not None
        await self._room()
        if node.node is None or self._rng.random() < 0.5:
            await node.crash(power=self._rng.random() < 0.5)
        else:
            await node.stop()
        await trio.sleep(10.0 * self._rng.random())
        node.start()
        self._wounded = None

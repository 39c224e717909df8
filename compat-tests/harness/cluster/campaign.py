"""Rounds of faults under a load: what each cost, and whether all that was acknowledged is there."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from harness.cluster.cluster import Cluster, gone
from harness.cluster.load import PARTITIONS, PROTOCOLS, Copied, Group, Load, read_back, wait_until
from harness.cluster.network import CLIENTS
from harness.cluster.nodes import Node

QUICK: Final = {
    "broker.session.timeout.ms": "2500",
    "broker.heartbeat.interval.ms": "400",
    "replica.lag.time.max.ms": "5000",
}
"""Who is frozen or cut off is noticed by a timeout alone: so that a round does not take a minute."""
SOURCE, TARGET = "source", "target"
FAULT_S: Final = 15.0
"""How long a fault lasts if the load is not served again before: who hears and is not heard misleads clients."""
STALLED_S: Final = 15.0
"""When copies are killed and started again because nothing has come out of a partition that has more.

Each time it is twice as long, until something does come out: on a busy machine their start may take that long.
"""
ACKNOWLEDGED_AFTER: Final = 20
"""Records of each partition after which it counts as being served again."""


@dataclass
class Costs:
    """Of each kind of fault, the longest time in each round that a partition had nothing acknowledged."""

    unavailable_s: dict[str, list[float]] = field(default_factory=dict)

    def add(self, what: str, gap_s: float) -> None:
        self.unavailable_s.setdefault(what, []).append(gap_s)

    def __str__(self) -> str:
        rows = (
            f"{what}: {len(gaps)} rounds, median {statistics.median(gaps):.2f} s, worst {max(gaps):.2f} s"
            for what, gaps in sorted(self.unavailable_s.items())
        )
        return "; ".join(rows)


class _Patience:
    """Restarts copies that stand still: see STALLED_S."""

    def __init__(self, copied: Copied) -> None:
        self._copied = copied
        self._since_s = time.monotonic()
        self._limit_s = STALLED_S
        self._uncopied: list[int] = []

    def look(self, uncopied: list[int]) -> None:
        """`uncopied`: what has yet to come out, of each partition."""
        waiting = [max(at_s, self._since_s) for left, at_s in zip(uncopied, self._copied.moved_s, strict=True) if left]
        if self._uncopied != uncopied:
            self._uncopied, self._limit_s = uncopied, STALLED_S
        if waiting and time.monotonic() - min(waiting) > self._limit_s:
            self._copied.restart()
            self._since_s = time.monotonic()
            self._limit_s *= 2


class Campaign:
    """A cluster, its load, and faults: each undone before the next."""

    def __init__(
        self, cluster: Cluster, folder: Path, seed: int, faults: tuple[str, ...] | None = None, *, in_flight: int = 1
    ) -> None:
        """`faults`: those to choose from; by default all that the network allows. `in_flight`: see Load."""
        self.cluster = cluster
        self.costs = Costs()
        self._chance = random.Random(seed)
        for topic in (SOURCE, TARGET):
            cluster.create_topic(topic, PARTITIONS, min(3, len(cluster.brokers)))
        self.load = Load(cluster.address, SOURCE, per_s=50, in_flight=in_flight)
        self.groups = {name: Group(cluster.address, f"{name}-readers", SOURCE, name) for name in PROTOCOLS}
        self.copied = Copied(cluster.address, SOURCE, TARGET, self._chance, folder)
        every: dict[str, Callable[[Node], Callable[[], None]]] = {
            "kill leader": self._kill,
            "kill controller": self._kill,
            "terminate leader": self._terminate,
            "freeze leader": self._freeze,
            "freeze controller": self._freeze,
        }
        if cluster.network.can_cut:
            every |= {
                "cut leader off": self._cut,
                "cut leader off its peers": self._cut_from_peers,
                "lose what leader sends its peers": self._cut_one_way,
                "cut controller off": self._cut,
            }
        self._faults = {name: act for name, act in every.items() if faults is None or name in faults}

    def run(self, rounds: int) -> None:
        """Each kind of fault in turn, in an order of chance. Raises: AssertionError for what is wrong first."""
        names: list[str] = []

        def what() -> str:
            nonlocal names
            names = names or self._chance.sample(sorted(self._faults), len(self._faults))
            return names.pop()

        self.hurt((name := what(), self._victim(name)) for _ in range(rounds))

    def hurt(self, rounds: Iterable[tuple[str, Node]]) -> None:
        """These faults, to these nodes, one after the other. Raises: AssertionError."""
        try:
            self._until_served(time.monotonic())
            for what, victim in rounds:
                self._round(what, victim)
            self._finish()
        finally:
            self.load.give_up()
            self.copied.stop()
            for group in self.groups.values():
                group.stop()

    def _round(self, what: str, victim: Node) -> None:
        began_s = time.monotonic()
        undo = self._faults[what](victim)
        self._while_hurt(time.monotonic())
        undo()
        self.cluster.wait_whole()
        self._until_served(time.monotonic())
        self.costs.add(what, self.load.longest_gap_s(began_s, time.monotonic()))
        self._until_all_have_come_through()
        assert not (ended := gone(self.cluster.nodes)), ended

    def _victim(self, what: str) -> Node:
        if "controller" in what:
            return self.cluster.node(self.cluster.quorum().leader)
        return self.cluster.node(self.cluster.leader(SOURCE, self._chance.randrange(PARTITIONS)))

    def _while_hurt(self, since_s: float) -> None:
        self._wait(
            lambda: not any(self._unserved(since_s)) or time.monotonic() - since_s > FAULT_S,
            "records acknowledged in each partition",
        )

    def _until_served(self, since_s: float) -> None:
        self._wait(
            lambda: not any(self._unserved(since_s)),
            "records acknowledged in each partition",
            lambda: self._unserved(since_s),
        )

    def _unserved(self, since_s: float) -> list[int]:
        """How many records of each partition have yet to be acknowledged for it to count as being served."""
        return [max(ACKNOWLEDGED_AFTER - self.load.served(index, since_s), 0) for index in range(PARTITIONS)]

    def _until_all_have_come_through(self) -> None:
        """Until the groups and the copies have reached what is acknowledged now."""
        marks = [writer.acknowledged for writer in self.load.writers]
        patience = _Patience(self.copied)

        def missing() -> tuple[list[int], list[int]]:
            unread = [
                max(mark - group.read.get(index, 0), 0)
                for group in self.groups.values()
                for index, mark in enumerate(marks)
            ]
            return unread, [max(mark - seen, 0) for mark, seen in zip(marks, self.copied.seen, strict=True)]

        def reached() -> bool:
            unread, uncopied = missing()
            patience.look(uncopied)
            return not any(unread + uncopied)

        self._wait(reached, f"{marks} read by the groups and copied", missing)

    def _wait(self, reached: Callable[[], bool], what: str, progress: Callable[[], object] = lambda: None) -> None:
        def check() -> None:
            self.load.check()
            for group in self.groups.values():
                group.check()
            self.copied.keep_up()

        wait_until(reached, lambda: f"{what}: {self}; {self.cluster.picture()}", check, progress)

    def _finish(self) -> None:
        """No more is sent: everything has to be where it belongs."""
        self.load.stop()
        self._until_all_have_come_through()
        read_back(self.cluster.address, SOURCE, [writer.acknowledged for writer in self.load.writers])

    # The faults: each returns what undoes it

    def _kill(self, node: Node) -> Callable[[], None]:
        node.kill()
        return node.launch

    def _terminate(self, node: Node) -> Callable[[], None]:
        node.stop()
        return node.launch

    def _freeze(self, node: Node) -> Callable[[], None]:
        node.freeze()
        return node.thaw

    def _peers(self, node: Node) -> list[int]:
        return [each.node_id for each in self.cluster.others(node.node_id)]

    def _cut(self, node: Node) -> Callable[[], None]:
        return self._cut_from(node, [CLIENTS, *self._peers(node)])

    def _cut_from_peers(self, node: Node) -> Callable[[], None]:
        return self._cut_from(node, self._peers(node))

    def _cut_one_way(self, node: Node) -> Callable[[], None]:
        return self._cut_from(node, self._peers(node), back=False)

    def _cut_from(self, node: Node, peers: list[int], *, back: bool = True) -> Callable[[], None]:
        self.cluster.network.cut(node.node_id, peers, back=back)
        return lambda: self.cluster.network.heal(node.node_id)

    def __str__(self) -> str:
        groups = "; ".join(f"{name} group {group}" for name, group in self.groups.items())
        return f"{self.load}; {groups}; {self.copied}; {self.costs}"

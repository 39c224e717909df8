"""Where the replicas of new partitions go: striped over racks and brokers, as Kafka's controller places them.

Racks are visited in turn, and in each rack its brokers in turn, both from a random start, so that leaders and replicas
spread evenly; a partition's replicas are in different racks as far as there are racks. Fenced brokers get followers
only, and only when the live ones of the rack are used up: the first replica, which will lead, must be alive (KIP-631).
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import NamedTuple

from kpybroker.wire.codes import Code, Refused


class UsableBroker(NamedTuple):
    """A broker that may be given replicas."""

    id: int
    rack: str | None
    fenced: bool


class _Ring:
    """Brokers visited in turn. Each round starts one further than the last and gives each broker once."""

    def __init__(self, brokers: list[int], start: int) -> None:
        self.brokers = brokers
        self._offset = start
        self._given = 0
        self._round = 0

    def next(self, round_: int) -> int | None:
        """The next broker of this round, None if all were given."""
        if not self.brokers:
            return None
        if round_ != self._round:
            self._round, self._given = round_, 0
            self._offset = (self._offset + 1) % len(self.brokers)
        if self._given == len(self.brokers):
            return None
        broker = self.brokers[(self._offset + self._given) % len(self.brokers)]
        self._given += 1
        return broker


class _Rack:
    def __init__(self, live: _Ring, fenced: _Ring) -> None:
        self.live = live
        self.fenced = fenced

    def next(self, round_: int) -> int | None:
        broker = self.live.next(round_)
        return broker if broker is not None else self.fenced.next(round_)


def place(brokers: Iterable[UsableBroker], *, partitions: int, replicas: int, seed: int) -> list[list[int]]:
    """Broker ids for each new partition, the preferred leader first. The same seed gives the same placement.

    Raises: Refused(INVALID_REPLICATION_FACTOR) if there are fewer brokers than replicas, or none alive.
    """
    usable = list(brokers)
    live = sum(not broker.fenced for broker in usable)
    if replicas <= 0:
        _refuse(f"Invalid replication factor {replicas}: the replication factor must be positive.")
    if live == 0:
        _refuse("All brokers are currently fenced, or have all their log directories cordoned.")
    if replicas > len(usable):
        _refuse(
            f"The target replication factor of {replicas} cannot be reached because only {len(usable)} broker(s) are "
            "registered or some brokers have all their log directories cordoned."
        )
    if len(usable) == 1:
        return [[usable[0].id] for _ in range(partitions)]
    return _Stripes(usable, live, random.Random(seed)).place(partitions, replicas)


def _refuse(why: str) -> None:
    raise Refused(Code.INVALID_REPLICATION_FACTOR, why)


class _Stripes:
    """The state of one placement: the rings of all racks, the rack to start with, the round."""

    def __init__(self, brokers: list[UsableBroker], live: int, chance: random.Random) -> None:
        self._chance = chance
        self._live = live
        self._racks: list[_Rack] = []
        for name in sorted({broker.rack for broker in brokers}, key=lambda rack: (rack is not None, rack or "")):
            members = sorted(broker for broker in brokers if broker.rack == name)
            self._racks.append(
                _Rack(
                    self._ring([b.id for b in members if not b.fenced]), self._ring([b.id for b in members if b.fenced])
                )
            )
        self._first = chance.randrange(len(self._racks))
        self._round = 0

    def _ring(self, brokers: list[int]) -> _Ring:
        return _Ring(brokers, self._chance.randrange(len(brokers)) if brokers else 0)

    def place(self, partitions: int, replicas: int) -> list[list[int]]:
        return [self._place_one(replicas) for _ in range(partitions)]

    def _place_one(self, replicas: int) -> list[int]:
        if self._round == self._live and self._live > 1:
            self._shuffle()  # every live broker has led once: another order, or the same pairs would come again
        first = self._first % len(self._racks)
        leads_from = first
        while (leader := self._racks[leads_from].live.next(self._round)) is None:
            leads_from = (leads_from + 1) % len(self._racks)
        placed = [leader]
        skip: int | None = leads_from  # has its replica already: passed over once
        rack = first
        while len(placed) < replicas:
            if rack == skip:
                skip = None
            elif (broker := self._racks[rack].next(self._round)) is not None:
                placed.append(broker)
            rack = (rack + 1) % len(self._racks)
        self._round += 1
        self._first = first + 1
        return placed

    def _shuffle(self) -> None:
        self._chance.shuffle(self._racks)
        for rack in self._racks:
            self._chance.shuffle(rack.live.brokers)
            self._chance.shuffle(rack.fenced.brokers)
        self._round = 0

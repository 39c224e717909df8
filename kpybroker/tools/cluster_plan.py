"""Where replicas go when a broker comes to a cluster, or is to leave it. Nothing but arithmetic.

Each plan moves as little as it can. A replica's successor takes its place in the partition's list, so that preferred
leaders stay where they are, or go where the replica went.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple

Place = tuple[str, int]
"""A partition by topic and index."""

Replicas = tuple[int, ...]


class Departure(NamedTuple):
    """How to be without a broker."""

    moves: dict[Place, Replicas]
    shrunk: list[Place]
    """Partitions of `moves` that get fewer replicas than they had: all other brokers have one already."""
    only: list[Place]
    """Partitions that have all their replicas on this broker, and nowhere to go."""


def without(leaving: int, partitions: Mapping[Place, Replicas], brokers: Iterable[int]) -> Departure:
    """Take every replica off a broker, each to the broker that has the fewest and none of the partition's."""
    load = _load(partitions, set(brokers) - {leaving})
    departure = Departure({}, [], [])
    for place, replicas in sorted(partitions.items()):
        if leaving not in replicas:
            continue
        free = load.keys() - set(replicas)
        if free:
            successor = min(free, key=lambda broker: (load[broker], broker))
            load[successor] += 1
            departure.moves[place] = _with(replicas, leaving, successor)
        elif len(replicas) > 1:
            departure.moves[place] = tuple(each for each in replicas if each != leaving)
            departure.shrunk.append(place)
        else:
            departure.only.append(place)
    return departure


def share_with(joining: int, partitions: Mapping[Place, Replicas], brokers: Iterable[int]) -> dict[Place, Replicas]:
    """Give a broker as many replicas as the others have on the average, taken from those that have the most."""
    load = _load(partitions, {*brokers, joining})
    share = sum(load.values()) // len(load)
    held: dict[int, list[Place]] = {broker: [] for broker in load}
    for place, replicas in sorted(partitions.items(), reverse=True):
        for broker in replicas:
            if broker in held and joining not in replicas:
                held[broker].append(place)
    moves: dict[Place, Replicas] = {}
    while load[joining] < share:
        donors = [broker for broker, places in held.items() if places and load[broker] > share]
        if not donors:
            break
        donor = max(donors, key=lambda broker: (load[broker], -broker))
        place = held[donor].pop()
        if place in moves:  # its other replica has gone there
            continue
        moves[place] = _with(partitions[place], donor, joining)
        load[donor] -= 1
        load[joining] += 1
    return moves


def _load(partitions: Mapping[Place, Replicas], brokers: set[int]) -> Counter[int]:
    """How many replicas each of these brokers has."""
    load = Counter(dict.fromkeys(brokers, 0))
    load.update(broker for replicas in partitions.values() for broker in replicas if broker in brokers)
    return load


def _with(replicas: Replicas, one: int, other: int) -> Replicas:
    return tuple(other if each == one else each for each in replicas)

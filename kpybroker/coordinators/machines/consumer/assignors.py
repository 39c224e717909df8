"""The server-side assignors of consumer groups: which member is to have which partitions in the end (KIP-848).

Both come to Kafka's results: see java_order.py for why that takes more than Kafka's rules. Racks play no part.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from kpybroker.coordinators.machines.consumer.java_order import grown, in_order, text_hash

Partitions = Mapping[bytes, tuple[int, ...]]
"""Partitions by topic id."""

Assignment = dict[str, Partitions]
"""What each member is to have; one that is missing gets nothing."""

NOTHING: Final[Partitions] = {}


class MemberSpec(msgspec.Struct, frozen=True, gc=False):
    """What an assignor knows of a member."""

    instance_id: str | None
    topic_ids: tuple[bytes, ...]
    """The topics that it subscribes to and that exist."""
    subscribed: int
    """How many topics it subscribes to, those that do not exist included."""
    target: Partitions
    """What it was to have so far."""


class GroupSpec(msgspec.Struct, frozen=True, gc=False):
    """What an assignor is asked."""

    members: Mapping[str, MemberSpec]
    homogeneous: bool
    """Whether all members subscribe to the same topics."""
    owners: Mapping[bytes, Mapping[int, str]]
    """Who was to have a partition so far, by topic id and partition."""
    partitions_of: Callable[[bytes], int]
    """How many partitions a topic has."""

    def ordered_members(self) -> list[str]:
        """The members as Kafka's assignors walk them."""
        return in_order(self.members, text_hash, grown(len(self.members)))


class Assignor(enum.StrEnum):
    """The assignors by name."""

    UNIFORM = "uniform"
    RANGE = "range"


def assign(assignor: Assignor, spec: GroupSpec) -> Assignment:
    """A new assignment for the group."""
    if not spec.members:
        return {}
    if assignor is Assignor.RANGE:
        from kpybroker.coordinators.machines.consumer.range_assignor import assign_ranges

        return assign_ranges(spec)
    if spec.homogeneous:
        from kpybroker.coordinators.machines.consumer.uniform_homogeneous import assign_evenly

        return assign_evenly(spec)
    from kpybroker.coordinators.machines.consumer.uniform_heterogeneous import Balance

    return Balance(spec).assign()

"""Who is to have which partitions: what assignors are asked, and what they answer."""

from __future__ import annotations

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

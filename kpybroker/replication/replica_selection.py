"""Which replica a consumer is to read from: the leader, or one in its own rack (KIP-392)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kpybroker.replication.machines.leader import Leader

RACK_AWARE = "org.apache.kafka.common.replica.RackAwareReplicaSelector"
"""The value of replica.selector.class that makes the leader send consumers away; any other leaves them here."""


def nearest(leading: Leader, me: int, rack: str, offset: int, rack_of: Callable[[int], str | None]) -> int | None:
    """The in-sync follower in a consumer's rack that has most, if it has `offset`; None: the leader itself."""
    if rack_of(me) == rack:
        return None
    near = [
        (follower.log_end, follower.caught_up_s, -replica, replica)
        for replica, follower in leading.followers.items()
        if replica in leading.isr and 0 <= follower.log_start <= offset <= follower.log_end and rack_of(replica) == rack
    ]
    return max(near)[-1] if near else None

"""What a node that stops asks of the metadata quorum, and gives up once there is no quorum any more.

When a whole cluster stops, its last nodes have nobody left to hand over to. Time would tell; but where nobody listens
any more, there is nothing to wait for.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from kpybroker.cluster.raft_node import RaftNode

LOOK_S = 0.1
"""Until the first look, and between two; a handover takes less."""
CONNECTED_S = 1.0
"""How long a look may take: a machine that is gone does not even refuse."""


async def while_there_is_a_quorum(raft: RaftNode, leave: Callable[[], Awaitable[None]]) -> None:
    """Do it; given up when those voters that still listen are no majority."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_cancel_without_quorum, raft, nursery.cancel_scope)
        await leave()
        nursery.cancel_scope.cancel()


async def _cancel_without_quorum(raft: RaftNode, scope: trio.CancelScope) -> None:
    while True:
        await trio.sleep(LOOK_S)
        if await _quorum_is_gone(raft):
            scope.cancel()


async def _quorum_is_gone(raft: RaftNode) -> bool:
    voters = raft.log.raft.voters
    others = [raft.address_in(voter.endpoints) for voter in voters if voter.id != raft.who.me.id]
    refusing = [place for place in others if place is not None and await _refuses(raft, *place)]
    return len(voters) - len(refusing) < len(voters) // 2 + 1


async def _refuses(raft: RaftNode, host: str, port: int) -> bool:
    """Whether nobody listens there."""
    from kpybroker.peers.channel import connect, was_refused

    with trio.move_on_after(CONNECTED_S):
        try:
            stream = await (raft.connector or connect)(host, port)
        except OSError as failure:
            return was_refused(failure)
        await trio.aclose_forcefully(stream)
    return False

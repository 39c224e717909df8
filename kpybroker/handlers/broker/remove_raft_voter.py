"""RemoveRaftVoter (API 81), as a broker serves it: the controller carries it out (KIP-590)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kpybroker.handlers.context import Context
    from kpybroker.wire.messages.remove_raft_voter import RemoveRaftVoterRequest
    from kpybroker.wire.schema import Message


async def handle(ctx: Context, request: RemoveRaftVoterRequest) -> Message:
    """Forward."""
    return await ctx.controller.forward(ctx, request)

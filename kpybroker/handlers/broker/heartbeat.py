"""Heartbeat (API 12): keep a classic-group member alive, and tell it of a rebalance."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kpybroker.security.operations import Operation

if TYPE_CHECKING:
    from kpybroker.handlers.context import Context
    from kpybroker.wire.messages.heartbeat import HeartbeatRequest, HeartbeatResponse


async def handle(ctx: Context, request: HeartbeatRequest) -> HeartbeatResponse:
    """Ask the group's coordinator."""
    ctx.require(Operation.READ, group=request.group_id)
    return await ctx.groups.heartbeat(request)

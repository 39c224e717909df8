"""LeaveGroup (API 13): members leave a classic group, from v3 on several at once (KIP-345)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kpybroker.security.operations import Operation

if TYPE_CHECKING:
    from kpybroker.handlers.context import Context
    from kpybroker.wire.messages.leave_group import LeaveGroupRequest, LeaveGroupResponse


async def handle(ctx: Context, request: LeaveGroupRequest) -> LeaveGroupResponse:
    """Ask the group's coordinator."""
    ctx.require(Operation.READ, group=request.group_id)
    return await ctx.groups.leave_group(request, version=ctx.version)

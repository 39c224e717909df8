"""SyncGroup (API 14): the leader hands in the assignment of its classic group, everybody gets theirs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kpybroker.security.operations import Operation

if TYPE_CHECKING:
    from kpybroker.handlers.context import Context
    from kpybroker.wire.messages.sync_group import SyncGroupRequest, SyncGroupResponse


async def handle(ctx: Context, request: SyncGroupRequest) -> SyncGroupResponse:
    """Ask the group's coordinator."""
    ctx.require(Operation.READ, group=request.group_id)
    return await ctx.groups.sync_group(request, version=ctx.version, wait=ctx.wait_answer)

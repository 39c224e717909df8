"""ListGroups (API 16): the groups that this broker coordinates, by state (KIP-518) and type (KIP-848)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kpybroker.security.operations import Operation
from kpybroker.wire.schema import replace

if TYPE_CHECKING:
    from kpybroker.handlers.context import Context
    from kpybroker.wire.messages.list_groups import ListGroupsRequest, ListGroupsResponse


async def handle(ctx: Context, request: ListGroupsRequest) -> ListGroupsResponse:
    """All of them to who may describe the cluster, else those that the client may describe."""
    response = await ctx.groups.list_groups(request)
    if ctx.allows(Operation.DESCRIBE):
        return response
    visible = [group for group in response.groups if ctx.allows(Operation.DESCRIBE, group=group.group_id)]
    return replace(response, groups=visible)

"""DeleteGroups (API 42): delete empty groups and their offsets (KIP-229)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kpybroker.security.operations import Operation
from kpybroker.wire.codes import Code, Refused
from kpybroker.wire.messages.delete_groups import DeletableGroupResult, DeleteGroupsRequest, DeleteGroupsResponse

if TYPE_CHECKING:
    from kpybroker.handlers.context import Context


async def handle(ctx: Context, request: DeleteGroupsRequest) -> DeleteGroupsResponse:
    """Answer each group by itself; one that is named twice is deleted once."""
    allowed: list[str] = []
    refused: list[DeletableGroupResult] = []
    for group in dict.fromkeys(request.groups_names):
        if ctx.allows(Operation.DELETE, group=group):
            allowed.append(group)
        else:
            refused.append(_result(group, Code.GROUP_AUTHORIZATION_FAILED))
    results = await ctx.groups.delete_groups(allowed)
    return DeleteGroupsResponse(throttle_time_ms=0, results=results + refused)


def refuse(request: DeleteGroupsRequest, version: int, refused: Refused) -> DeleteGroupsResponse:  # noqa: ARG001
    """The same error for every group."""
    return DeleteGroupsResponse(
        throttle_time_ms=0, results=[_result(group, refused.code) for group in request.groups_names]
    )


def _result(group_id: str, code: Code) -> DeletableGroupResult:
    return DeletableGroupResult(group_id=group_id, error_code=code)

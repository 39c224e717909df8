"""DescribeGroups (API 15): state and members of classic groups. v3: authorized operations (KIP-430). v6: KIP-1043."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kpybroker.security.operations import Operation
from kpybroker.wire.codes import Code, Refused
from kpybroker.wire.messages.describe_groups import DescribedGroup, DescribeGroupsRequest, DescribeGroupsResponse
from kpybroker.wire.schema import replace

if TYPE_CHECKING:
    from kpybroker.handlers.context import Context


async def handle(ctx: Context, request: DescribeGroupsRequest) -> DescribeGroupsResponse:
    """Describe each group that the client may see."""
    allowed: list[str] = []
    refused: list[DescribedGroup] = []
    for group in request.groups:
        if ctx.allows(Operation.DESCRIBE, group=group):
            allowed.append(group)
        else:
            refused.append(_error(group, Code.GROUP_AUTHORIZATION_FAILED))
    described = await ctx.groups.describe_groups(allowed, version=ctx.version)
    if request.include_authorized_operations:
        described = [
            replace(group, authorized_operations=ctx.authorized_operations(True, group=group.group_id))
            if group.error_code == Code.NONE
            else group
            for group in described
        ]
    return DescribeGroupsResponse(groups=refused + described)


def refuse(request: DescribeGroupsRequest, version: int, refused: Refused) -> DescribeGroupsResponse:  # noqa: ARG001
    """The same error for every group."""
    return DescribeGroupsResponse(groups=[_error(group, refused.code) for group in request.groups])


def _error(group_id: str, code: Code) -> DescribedGroup:
    return DescribedGroup(
        error_code=code, group_id=group_id, group_state="", protocol_type="", protocol_data="", members=[]
    )

"""JoinGroup (API 11): become a member of a classic group; answered when the rebalance has got that far.

v4: the member id comes first (KIP-394). v5: static members (KIP-345). v8: reasons (KIP-800). v9: skipped assignment
(KIP-814).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kpybroker.security.operations import Operation
from kpybroker.wire.messages.join_group import JoinGroupRequest, JoinGroupResponse

if TYPE_CHECKING:
    from kpybroker.handlers.context import Context
    from kpybroker.wire.codes import Refused

UNKNOWN_GENERATION = -1
PROTOCOL_NULLABLE_SINCE = 7


async def handle(ctx: Context, request: JoinGroupRequest) -> JoinGroupResponse:
    """Ask the group's coordinator. A client that leaves meanwhile goes on joining, as far as its group can tell."""
    ctx.require(Operation.READ, group=request.group_id)
    return await ctx.groups.join_group(
        request,
        version=ctx.version,
        client_id=ctx.client_id or "",
        client_host=f"/{ctx.client.host}",  # as Java prints an address, which is what administrators see
        wait=ctx.wait_answer,
    )


def refuse(request: JoinGroupRequest, version: int, refused: Refused) -> JoinGroupResponse:  # noqa: ARG001
    """An error, and nothing joined."""
    return JoinGroupResponse(
        error_code=refused.code,
        generation_id=UNKNOWN_GENERATION,
        protocol_name="",
        leader="",
        member_id=request.member_id,
        members=[],
    )

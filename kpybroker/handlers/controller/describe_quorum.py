"""DescribeQuorum (API 55), as the leader of the metadata quorum answers it: who votes, and how far they are.

v1: when a replica last fetched, and was last caught up (KIP-836). v2: directory ids, listeners (KIP-853).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kpybroker.cluster.machines.quorum_requests import describe_quorum, not_leader
from kpybroker.security.operations import Operation
from kpybroker.wire.messages.describe_quorum import DescribeQuorumRequest, DescribeQuorumResponse

if TYPE_CHECKING:
    from kpybroker.handlers.context import Context


async def handle(ctx: Context, request: DescribeQuorumRequest) -> DescribeQuorumResponse:
    """Answered as of now."""
    ctx.require(Operation.DESCRIBE)
    if not ctx.services.cluster.raft.is_leader:
        return not_leader(request)
    quorum = ctx.services.active_controller.quorum()
    return describe_quorum(quorum, request, ctx.clock.wall_ms(), api_version=ctx.version)

"""ListPartitionReassignments (API 46), as the active controller answers it: the moves of partitions under way."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kpybroker.security.operations import Operation
from kpybroker.wire.messages.list_partition_reassignments import (
    ListPartitionReassignmentsRequest,
    ListPartitionReassignmentsResponse,
)

if TYPE_CHECKING:
    from kpybroker.handlers.context import Context


async def handle(ctx: Context, request: ListPartitionReassignmentsRequest) -> ListPartitionReassignmentsResponse:
    """Answered as of what is committed."""
    ctx.require(Operation.DESCRIBE)
    return await ctx.services.active_controller.list_partition_reassignments(request)

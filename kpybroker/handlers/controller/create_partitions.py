"""CreatePartitions (API 37), as the active controller carries it out: add partitions to topics."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kpybroker.cluster.machines.decision import error_of
from kpybroker.handlers.deadline import check_time
from kpybroker.wire.messages.create_partitions import (
    CreatePartitionsRequest,
    CreatePartitionsResponse,
    CreatePartitionsTopicResult,
)

if TYPE_CHECKING:
    from kpybroker.handlers.context import Context
    from kpybroker.wire.codes import Refused

QUOTA_STRICT_SINCE = 3
"""The version whose clients know THROTTLING_QUOTA_EXCEEDED (KIP-599)."""


async def handle(ctx: Context, request: CreatePartitionsRequest) -> CreatePartitionsResponse:
    """Have it decided and written to the metadata log; answered when that is committed."""
    check_time(request.timeout_ms)
    return await ctx.services.active_controller.create_partitions(
        request, ctx.caller(quota_strict_since=QUOTA_STRICT_SINCE)
    )


def refuse(request: CreatePartitionsRequest, version: int, refused: Refused) -> CreatePartitionsResponse:  # noqa: ARG001
    """The same error for every topic."""
    code, why = error_of(refused)
    return CreatePartitionsResponse(
        throttle_time_ms=0,
        results=[
            CreatePartitionsTopicResult(name=topic.name, error_code=code, error_message=why) for topic in request.topics
        ],
    )

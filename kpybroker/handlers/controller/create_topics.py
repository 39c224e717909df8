"""CreateTopics (API 19), as the active controller carries it out: make topics."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kpybroker.cluster.machines.decision import error_of
from kpybroker.handlers.deadline import check_time
from kpybroker.wire.messages.create_topics import CreatableTopicResult, CreateTopicsRequest, CreateTopicsResponse

if TYPE_CHECKING:
    from kpybroker.handlers.context import Context
    from kpybroker.wire.codes import Refused

QUOTA_STRICT_SINCE = 6
"""The version whose clients know THROTTLING_QUOTA_EXCEEDED (KIP-599)."""


async def handle(ctx: Context, request: CreateTopicsRequest) -> CreateTopicsResponse:
    """Have it decided and written to the metadata log; answered when that is committed."""
    check_time(request.timeout_ms)
    return await ctx.services.active_controller.create_topics(
        request, ctx.caller(quota_strict_since=QUOTA_STRICT_SINCE)
    )


def refuse(request: CreateTopicsRequest, version: int, refused: Refused) -> CreateTopicsResponse:  # noqa: ARG001
    """The same error for every topic."""
    code, why = error_of(refused)
    return CreateTopicsResponse(
        throttle_time_ms=0,
        topics=[CreatableTopicResult(name=topic.name, error_code=code, error_message=why) for topic in request.topics],
    )

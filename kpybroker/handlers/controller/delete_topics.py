"""DeleteTopics (API 20), as the active controller carries it out: delete topics by name or id."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kpybroker.handlers.deadline import check_time
from kpybroker.wire.messages.delete_topics import DeletableTopicResult, DeleteTopicsRequest, DeleteTopicsResponse

if TYPE_CHECKING:
    from kpybroker.handlers.context import Context
    from kpybroker.wire.codes import Refused

IDS_SINCE = 6

QUOTA_STRICT_SINCE = 5
"""The version whose clients know THROTTLING_QUOTA_EXCEEDED (KIP-599)."""


async def handle(ctx: Context, request: DeleteTopicsRequest) -> DeleteTopicsResponse:
    """Have it decided and written to the metadata log; answered when that is committed."""
    check_time(request.timeout_ms)
    return await ctx.services.active_controller.delete_topics(
        request, ctx.caller(quota_strict_since=QUOTA_STRICT_SINCE)
    )


def refuse(request: DeleteTopicsRequest, version: int, refused: Refused) -> DeleteTopicsResponse:
    """The same error for every topic."""
    if version < IDS_SINCE:
        results = [DeletableTopicResult(name=name, error_code=refused.code) for name in request.topic_names]
    else:
        results = [
            DeletableTopicResult(name=topic.name, topic_id=topic.topic_id, error_code=refused.code)
            for topic in request.topics
        ]
    return DeleteTopicsResponse(throttle_time_ms=0, responses=results)

"""DeleteTopics (API 20), as the active controller carries it out: delete topics by name or id."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kpybroker.handlers.context import Context
    from kpybroker.wire.messages.delete_topics import DeleteTopicsRequest, DeleteTopicsResponse


async def handle(ctx: Context, request: DeleteTopicsRequest) -> DeleteTopicsResponse:
    """Have it decided and written to the metadata log; answered when that is committed."""
    return await ctx.services.active_controller.delete_topics(request, ctx.caller())

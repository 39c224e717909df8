"""CreateTopics (API 19), as the active controller carries it out: make topics."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kpybroker.handlers.context import Context
    from kpybroker.wire.messages.create_topics import CreateTopicsRequest, CreateTopicsResponse


async def handle(ctx: Context, request: CreateTopicsRequest) -> CreateTopicsResponse:
    """Have it decided and written to the metadata log; answered when that is committed."""
    return await ctx.services.active_controller.create_topics(request, ctx.caller())

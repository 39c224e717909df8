"""CreateTopics (API 19), as a broker serves it: the controller carries it out (KIP-590)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kpybroker.handlers.context import Context
    from kpybroker.wire.messages.create_topics import CreateTopicsRequest
    from kpybroker.wire.schema import Message


async def handle(ctx: Context, request: CreateTopicsRequest) -> Message:
    """Forward."""
    return await ctx.controller.forward(ctx, request)

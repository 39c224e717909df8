"""CreatePartitions (API 37), as the active controller carries it out: add partitions to topics."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kpybroker.handlers.context import Context
    from kpybroker.wire.messages.create_partitions import CreatePartitionsRequest, CreatePartitionsResponse


async def handle(ctx: Context, request: CreatePartitionsRequest) -> CreatePartitionsResponse:
    """Have it decided and written to the metadata log; answered when that is committed."""
    return await ctx.services.active_controller.create_partitions(request, ctx.caller())

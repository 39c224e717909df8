"""AllocateProducerIds (API 67): a block of producer ids for a broker (KIP-730)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kpybroker.security.operations import Operation

if TYPE_CHECKING:
    from kpybroker.handlers.context import Context
    from kpybroker.wire.messages.allocate_producer_ids import AllocateProducerIdsRequest, AllocateProducerIdsResponse


async def handle(ctx: Context, request: AllocateProducerIdsRequest) -> AllocateProducerIdsResponse:
    """Have it decided and written to the metadata log; answered when that is committed."""
    ctx.require(Operation.CLUSTER_ACTION)
    return await ctx.services.active_controller.allocate_producer_ids(request)

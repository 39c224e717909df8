"""UnregisterBroker (API 64), as the active controller carries it out: forget a broker."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kpybroker.security.operations import Operation
from kpybroker.wire.messages.unregister_broker import UnregisterBrokerRequest, UnregisterBrokerResponse

if TYPE_CHECKING:
    from kpybroker.handlers.context import Context


async def handle(ctx: Context, request: UnregisterBrokerRequest) -> UnregisterBrokerResponse:
    """Have it decided and written to the metadata log; answered when that is committed."""
    ctx.require(Operation.ALTER)
    return await ctx.services.active_controller.unregister_broker(request)

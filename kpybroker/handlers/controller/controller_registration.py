"""ControllerRegistration (API 70): where a controller listens, and what it supports (KIP-919)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kpybroker.security.operations import Operation

if TYPE_CHECKING:
    from kpybroker.handlers.context import Context
    from kpybroker.wire.messages.controller_registration import (
        ControllerRegistrationRequest,
        ControllerRegistrationResponse,
    )


async def handle(ctx: Context, request: ControllerRegistrationRequest) -> ControllerRegistrationResponse:
    """Have it decided and written to the metadata log; answered when that is committed."""
    ctx.require(Operation.CLUSTER_ACTION)
    return await ctx.services.active_controller.register_controller(request)

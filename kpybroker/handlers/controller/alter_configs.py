"""AlterConfigs (API 33), as the active controller carries it out: replace the dynamic settings of resources."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kpybroker.handlers.altering import refusals
from kpybroker.wire.messages.alter_configs import (
    AlterConfigsRequest,
    AlterConfigsResourceResponse,
    AlterConfigsResponse,
)

if TYPE_CHECKING:
    from kpybroker.handlers.context import Context
    from kpybroker.wire.codes import Refused


async def handle(ctx: Context, request: AlterConfigsRequest) -> AlterConfigsResponse:
    """Have it decided and written to the metadata log; answered when that is committed."""
    return await ctx.services.active_controller.alter_configs(request, ctx.caller())


def refuse(request: AlterConfigsRequest, version: int, refused: Refused) -> AlterConfigsResponse:  # noqa: ARG001
    """The same error for every resource."""
    responses = refusals(AlterConfigsResourceResponse, request.resources, refused)
    return AlterConfigsResponse(throttle_time_ms=0, responses=responses)

"""IncrementalAlterConfigs (API 44), as the active controller carries it out: change single settings (KIP-339)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kpybroker.wire.messages.incremental_alter_configs import (
    AlterConfigsResourceResponse,
    IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse,
)

if TYPE_CHECKING:
    from kpybroker.handlers.context import Context
    from kpybroker.wire.codes import Refused


async def handle(ctx: Context, request: IncrementalAlterConfigsRequest) -> IncrementalAlterConfigsResponse:
    """Have it decided and written to the metadata log; answered when that is committed."""
    return await ctx.services.active_controller.incremental_alter_configs(request, ctx.caller())


def refuse(request: IncrementalAlterConfigsRequest, version: int, refused: Refused) -> IncrementalAlterConfigsResponse:  # noqa: ARG001
    """The same error for every resource."""
    return IncrementalAlterConfigsResponse(
        throttle_time_ms=0,
        responses=[
            AlterConfigsResourceResponse(
                error_code=refused.code,
                error_message=refused.why,
                resource_type=resource.resource_type,
                resource_name=resource.resource_name,
            )
            for resource in request.resources
        ],
    )

"""AlterConfigs (API 33), as a broker serves it: what a request does not name is reset. The controller does it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kpybroker.handlers.altering import alter, check_broker, check_own_id, left_to_the_controller, results
from kpybroker.wire.messages.alter_configs import (
    AlterConfigsRequest,
    AlterConfigsResource,
    AlterConfigsResourceResponse,
    AlterConfigsResponse,
)

if TYPE_CHECKING:
    from kpybroker.handlers.context import Context


async def handle(ctx: Context, request: AlterConfigsRequest) -> AlterConfigsResponse:
    """Check, and forward."""

    def here(resource: AlterConfigsResource) -> bool:
        if not left_to_the_controller(resource.resource_type):
            if resource.resource_name:
                check_own_id(ctx, resource.resource_name)
            settings = {config.name: config.value for config in resource.configs if config.value is not None}
            check_broker(ctx, resource.resource_name, settings)
        return False

    outcomes = await alter(ctx, request, AlterConfigsResponse, here=here, is_null=lambda config: config.value is None)
    responses = results(AlterConfigsResourceResponse, request.resources, outcomes)
    return AlterConfigsResponse(throttle_time_ms=0, responses=responses)

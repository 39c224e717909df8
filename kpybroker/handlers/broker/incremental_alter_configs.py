"""IncrementalAlterConfigs (API 44), as a broker serves it (KIP-339): loggers are its own, the rest is the controller's.

A logger's level is set here and not kept (KIP-412).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kpybroker.cluster.image import ResourceType
from kpybroker.handlers.altering import (
    DELETE,
    alter,
    changed,
    check_broker,
    check_own_id,
    left_to_the_controller,
    results,
)
from kpybroker.handlers.levels import alter_loggers
from kpybroker.security.operations import Operation
from kpybroker.wire.messages.incremental_alter_configs import (
    AlterableConfig,
    AlterConfigsResource,
    AlterConfigsResourceResponse,
    IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse,
)

if TYPE_CHECKING:
    from kpybroker.handlers.context import Context


async def handle(ctx: Context, request: IncrementalAlterConfigsRequest) -> IncrementalAlterConfigsResponse:
    """Check, set levels of loggers, forward the rest."""

    def here(resource: AlterConfigsResource) -> bool:
        name = resource.resource_name
        if resource.resource_type == ResourceType.BROKER_LOGGER:
            ctx.require(Operation.ALTER_CONFIGS)
            alter_loggers(ctx, name, resource.configs, validate_only=request.validate_only)
            return True
        if not left_to_the_controller(resource.resource_type):
            if name:
                check_own_id(ctx, name)
            check_broker(ctx, name, changed(ctx, name, resource.configs))
        return False

    def is_null(config: AlterableConfig) -> bool:
        return config.value is None and config.config_operation != DELETE

    outcomes = await alter(ctx, request, IncrementalAlterConfigsResponse, here=here, is_null=is_null)
    responses = results(AlterConfigsResourceResponse, request.resources, outcomes)
    return IncrementalAlterConfigsResponse(throttle_time_ms=0, responses=responses)

"""IncrementalAlterConfigs (API 44), as the active controller carries it out: change single settings (KIP-339).

The levels of its own node's loggers are set here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kpybroker.cluster.image import ResourceType
from kpybroker.cluster.machines.decision import error_of
from kpybroker.handlers.altering import refusals, results
from kpybroker.handlers.levels import alter_loggers
from kpybroker.security.operations import Operation
from kpybroker.wire.codes import Code, Refused
from kpybroker.wire.messages.incremental_alter_configs import (
    AlterConfigsResource,
    AlterConfigsResourceResponse,
    IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse,
)

if TYPE_CHECKING:
    from kpybroker.handlers.context import Context


async def handle(ctx: Context, request: IncrementalAlterConfigsRequest) -> IncrementalAlterConfigsResponse:
    """Have it decided and written to the metadata log; answered when that is committed."""
    levels = [each for each in request.resources if each.resource_type == ResourceType.BROKER_LOGGER]
    if not levels:
        return await ctx.services.active_controller.incremental_alter_configs(request, ctx.caller())
    outcomes = [_set_levels(ctx, each, validate_only=request.validate_only) for each in levels]
    responses = results(AlterConfigsResourceResponse, levels, outcomes)
    rest = [each for each in request.resources if each.resource_type != ResourceType.BROKER_LOGGER]
    if rest:
        left = IncrementalAlterConfigsRequest(resources=rest, validate_only=request.validate_only)
        response = await ctx.services.active_controller.incremental_alter_configs(left, ctx.caller())
        responses += response.responses
    return IncrementalAlterConfigsResponse(throttle_time_ms=0, responses=responses)


def _set_levels(ctx: Context, resource: AlterConfigsResource, *, validate_only: bool) -> tuple[int, str | None]:
    try:
        ctx.require(Operation.CLUSTER_ACTION)
        alter_loggers(ctx, resource.resource_name, resource.configs, validate_only=validate_only)
    except Refused as refused:
        return error_of(refused)
    return Code.NONE, None


def refuse(request: IncrementalAlterConfigsRequest, version: int, refused: Refused) -> IncrementalAlterConfigsResponse:  # noqa: ARG001
    """The same error for every resource."""
    responses = refusals(AlterConfigsResourceResponse, request.resources, refused)
    return IncrementalAlterConfigsResponse(throttle_time_ms=0, responses=responses)

"""IncrementalAlterConfigs (API 44), as a broker serves it (KIP-339): loggers are its own, the rest is the controller's.

A logger's level is set here and not kept (KIP-412).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kpybroker.cluster.image import ResourceType
from kpybroker.cluster.names import node_id_of
from kpybroker.config import loggers
from kpybroker.handlers.altering import (
    APPEND,
    DELETE,
    SET,
    SUBTRACT,
    alter,
    changed,
    check_broker,
    check_own_id,
    left_to_the_controller,
)
from kpybroker.security.operations import Operation
from kpybroker.wire.codes import Code, Refused
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
            _check_loggers(ctx, name, resource.configs)
            if not request.validate_only:
                _set_levels(resource.configs)
            return True
        if not left_to_the_controller(resource.resource_type):
            if name:
                check_own_id(ctx, name)
            check_broker(ctx, name, changed(ctx, name, resource.configs))
        return False

    def is_null(config: AlterableConfig) -> bool:
        return config.value is None and config.config_operation != DELETE

    outcomes = await alter(ctx, request, IncrementalAlterConfigsResponse, here=here, is_null=is_null)
    responses = [
        AlterConfigsResourceResponse(
            error_code=code,
            error_message=why,
            resource_type=resource.resource_type,
            resource_name=resource.resource_name,
        )
        for resource, (code, why) in zip(request.resources, outcomes, strict=True)
    ]
    return IncrementalAlterConfigsResponse(throttle_time_ms=0, responses=responses)


def _check_loggers(ctx: Context, name: str, configs: list[AlterableConfig]) -> None:
    """Raises: Refused."""
    own, id_ = ctx.services.cluster.node_id, node_id_of(name)
    if id_ is None:
        raise Refused(Code.INVALID_REQUEST, f"Node id must be an integer, but it is: {name}")
    if id_ != own:
        raise Refused(Code.INVALID_REQUEST, f"Unexpected node id. Expected {own}, but received {id_}")
    for config in configs:
        logger, operation = config.name, config.config_operation
        if operation not in (SET, DELETE, APPEND, SUBTRACT):
            raise Refused(Code.UNKNOWN_SERVER_ERROR)  # as Kafka, which looks up the name of the operation first
        if operation in (APPEND, SUBTRACT):
            verb = "APPEND" if operation == APPEND else "SUBTRACT"
            raise Refused(Code.INVALID_REQUEST, f"{verb} operation is not allowed for the BROKER_LOGGER resource")
        if not loggers.exists(logger):
            raise Refused(Code.INVALID_CONFIG, f"Logger {logger} does not exist!")
        if operation == SET and config.value not in loggers.LEVELS:
            raise Refused(
                Code.INVALID_CONFIG,
                f"Cannot set the log level of {logger} to {config.value} as it is not a supported log level. "
                f"Valid log levels are {', '.join(sorted(loggers.LEVELS))}",
            )
        if operation == DELETE and logger == loggers.ROOT:
            raise Refused(Code.INVALID_REQUEST, f"Removing the log level of the {loggers.ROOT} logger is not allowed")


def _set_levels(configs: list[AlterableConfig]) -> None:
    for config in configs:
        if config.config_operation == DELETE:
            loggers.unset_level(config.name)
        else:
            assert config.value is not None
            loggers.set_level(config.name, config.value)

"""Levels of a node's loggers: set by IncrementalAlterConfigs on either kind of listener, and not kept (KIP-412)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from kpybroker.cluster.names import node_id_of
from kpybroker.config import loggers
from kpybroker.wire.codes import Code, Refused

if TYPE_CHECKING:
    from kpybroker.handlers.context import Context
    from kpybroker.wire.messages.incremental_alter_configs import AlterableConfig

SET, DELETE, APPEND, SUBTRACT = range(4)
"""The codes of `config_operation`."""


def alter_loggers(ctx: Context, name: str, configs: Sequence[AlterableConfig], *, validate_only: bool) -> None:
    """Set or unset levels of this node, which must be the one of that name. Raises: Refused; then none is set."""
    _check(ctx, name, configs)
    if not validate_only:
        _set_levels(configs)


def _check(ctx: Context, name: str, configs: Sequence[AlterableConfig]) -> None:
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


def _set_levels(configs: Sequence[AlterableConfig]) -> None:
    for config in configs:
        if config.config_operation == DELETE:
            loggers.unset_level(config.name)
        else:
            assert config.value is not None
            loggers.set_level(config.name, config.value)

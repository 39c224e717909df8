"""AlterConfigs and IncrementalAlterConfigs: dynamic configs of topics, brokers, groups and client metrics.

Each resource of a request stands for itself. What a broker refuses before it forwards a request is not here: a
controller that is asked directly does not check it either.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

from kpybroker.cluster.image import ConfigResource, ResourceType
from kpybroker.cluster.machines.config_changes import (
    Append,
    Change,
    Delete,
    Set,
    Subtract,
    change_configs,
    replace_configs,
)
from kpybroker.cluster.machines.decision import Caller, Decision, State, check_batch, error_of
from kpybroker.cluster.replay import MetadataRecord
from kpybroker.security.operations import Operation
from kpybroker.wire.codes import Code, Refused
from kpybroker.wire.messages.alter_configs import (
    AlterConfigsRequest,
    AlterConfigsResponse,
)
from kpybroker.wire.messages.alter_configs import (
    AlterConfigsResourceResponse as ReplacedResource,
)
from kpybroker.wire.messages.incremental_alter_configs import (
    AlterConfigsResourceResponse as ChangedResource,
)
from kpybroker.wire.messages.incremental_alter_configs import (
    IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse,
)

_OPERATIONS = SET, DELETE, APPEND, SUBTRACT = range(4)
"""The codes of `config_operation`."""

_CONFIGURABLE = (ResourceType.TOPIC, ResourceType.BROKER, ResourceType.CLIENT_METRICS, ResourceType.GROUP)

T = TypeVar("T")


class _Outcome(NamedTuple):
    resource: ConfigResource
    code: int
    why: str | None


def incremental_alter_configs(
    state: State, request: IncrementalAlterConfigsRequest, caller: Caller
) -> Decision[IncrementalAlterConfigsResponse]:
    """Decide an IncrementalAlterConfigs request (v0 to 1, KIP-339).

    Raises: Refused(UNKNOWN_SERVER_ERROR) for an operation that there is not: as Kafka's controller, which fails on it.
    """
    if any(config.config_operation not in _OPERATIONS for each in request.resources for config in each.configs):
        raise Refused(Code.UNKNOWN_SERVER_ERROR)

    def change(resource: ConfigResource, configs: Sequence[Any]) -> list[MetadataRecord]:
        changes = {config.name: _change(config.config_operation, config.value) for config in configs}
        return change_configs(state, resource, changes, forwarded=caller.forwarded)

    records, outcomes = _alter(request.resources, caller, change)
    responses = [
        ChangedResource(error_code=code, error_message=why, resource_type=resource.type, resource_name=resource.name)
        for resource, code, why in outcomes
    ]
    response = IncrementalAlterConfigsResponse(throttle_time_ms=0, responses=responses)
    return Decision([] if request.validate_only else records, response)


def alter_configs(state: State, request: AlterConfigsRequest, caller: Caller) -> Decision[AlterConfigsResponse]:
    """Decide an AlterConfigs request (v0 to 2): what it does not name is reset."""

    def change(resource: ConfigResource, configs: Sequence[Any]) -> list[MetadataRecord]:
        wanted = {config.name: config.value for config in configs}
        return replace_configs(state, resource, wanted, forwarded=caller.forwarded)

    records, outcomes = _alter(request.resources, caller, change)
    responses = [
        ReplacedResource(error_code=code, error_message=why, resource_type=resource.type, resource_name=resource.name)
        for resource, code, why in outcomes
    ]
    return Decision(
        [] if request.validate_only else records, AlterConfigsResponse(throttle_time_ms=0, responses=responses)
    )


def _alter(
    resources: Sequence[Any],
    caller: Caller,
    change: Callable[[ConfigResource, Sequence[Any]], list[MetadataRecord]],
) -> tuple[list[MetadataRecord], list[_Outcome]]:
    """Carry out a request's resources one by one; what all of them write is one batch."""
    keys = [ConfigResource(resource.resource_type, resource.resource_name) for resource in resources]
    records: list[MetadataRecord] = []
    outcomes: list[_Outcome] = []
    for key, resource in zip(keys, resources, strict=True):
        try:
            if keys.count(key) > 1:
                raise Refused(Code.INVALID_REQUEST, "Duplicate resource.")
            if key.type not in (*_CONFIGURABLE, ResourceType.BROKER_LOGGER):
                raise Refused(Code.UNSUPPORTED_VERSION, f"Unknown resource type {key.type}.")
            _authorize(key, caller)
            records += change(key, resource.configs)
        except Refused as refused:
            outcomes.append(_Outcome(key, *error_of(refused)))
        else:
            outcomes.append(_Outcome(key, Code.NONE, None))
    check_batch(records)
    return records, outcomes


def _authorize(key: ConfigResource, caller: Caller) -> None:
    """Topics are their owners', everything else is the cluster's."""
    if key.type == ResourceType.TOPIC:
        if not caller.may(Operation.ALTER_CONFIGS, key.name):
            raise Refused(Code.TOPIC_AUTHORIZATION_FAILED)
    elif key.type == ResourceType.GROUP:
        if not caller.may_group(Operation.ALTER_CONFIGS, key.name):
            raise Refused(Code.GROUP_AUTHORIZATION_FAILED)
    elif not caller.may_cluster(Operation.ALTER_CONFIGS):
        raise Refused(Code.CLUSTER_AUTHORIZATION_FAILED)


def _change(operation: int, value: str | None) -> Change:
    """Raises: Refused(INVALID_REQUEST) for an operation that lacks its value."""
    if operation == DELETE:
        return Delete()
    if value is None:
        raise Refused(Code.INVALID_REQUEST, "Null value not supported for the operation")
    if operation == SET:
        return Set(value)
    return Append(value) if operation == APPEND else Subtract(value)

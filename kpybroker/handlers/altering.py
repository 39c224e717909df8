"""What a broker does with AlterConfigs and IncrementalAlterConfigs before the controller gets them.

It refuses what is wrong with the request, knows whether it could live with its own new settings, and sets the levels of
its loggers; the rest is forwarded. The order of the checks, the codes and the sentences are Kafka's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from kpybroker.cluster.image import ResourceType
from kpybroker.cluster.machines.decision import error_of
from kpybroker.cluster.names import node_id_of
from kpybroker.config.changes import check_change
from kpybroker.config.dynamic import obeyed
from kpybroker.config.tables import BROKER_SETTINGS
from kpybroker.config.values import Type
from kpybroker.wire.codes import Code, Refused

if TYPE_CHECKING:
    from kpybroker.handlers.context import Context
    from kpybroker.wire.messages.alter_configs import AlterConfigsRequest, AlterConfigsResponse
    from kpybroker.wire.messages.incremental_alter_configs import (
        AlterableConfig,
        IncrementalAlterConfigsRequest,
        IncrementalAlterConfigsResponse,
    )

R = TypeVar("R", bound="AlterConfigsResponse | IncrementalAlterConfigsResponse")
T = TypeVar("T")

SET, DELETE, APPEND, SUBTRACT = range(4)
"""The codes of `config_operation`."""


class Outcome(NamedTuple):
    """What became of one resource."""

    code: int
    why: str | None


def results(of: Callable[..., T], resources: Sequence[Any], outcomes: Iterable[tuple[int, str | None]]) -> list[T]:
    """What is answered about each resource; `of` is the response's struct for one."""
    return [
        of(
            error_code=code,
            error_message=why,
            resource_type=resource.resource_type,
            resource_name=resource.resource_name,
        )
        for resource, (code, why) in zip(resources, outcomes, strict=True)
    ]


def refusals(of: Callable[..., T], resources: Sequence[Any], refused: Refused) -> list[T]:
    """The same error for every resource."""
    return results(of, resources, [(refused.code, refused.why)] * len(resources))


async def alter(
    ctx: Context,
    request: AlterConfigsRequest | IncrementalAlterConfigsRequest,
    response_class: type[R],
    *,
    here: Callable[[Any], bool],
    is_null: Callable[[Any], bool],
) -> list[Outcome]:
    """Carry out a request; the outcomes stand in the order of its resources.

    `here(resource)` does what this broker does itself (then it says True) and refuses what it can't live with.
    """
    resources: Sequence[Any] = request.resources
    times = Counter((each.resource_type, each.resource_name) for each in resources)
    outcomes: list[Outcome | None] = []
    for resource in resources:
        try:
            if times[resource.resource_type, resource.resource_name] > 1:
                raise Refused(Code.INVALID_REQUEST, "Each resource must appear at most once.")
            _check_keys(resource.configs, is_null)
            outcomes.append(Outcome(Code.NONE, None) if here(resource) else None)
        except Refused as refused:
            outcomes.append(Outcome(*error_of(refused)))
    left = [resource for resource, outcome in zip(resources, outcomes, strict=True) if outcome is None]
    if left:
        forwarded = type(request)(resources=left, validate_only=request.validate_only)
        response = await ctx.ask_controller(forwarded, response_class)
        said = {
            (each.resource_type, each.resource_name): Outcome(each.error_code, each.error_message)
            for each in response.responses
        }
        return [
            outcome or said[resource.resource_type, resource.resource_name]
            for resource, outcome in zip(resources, outcomes, strict=True)
        ]
    return [outcome for outcome in outcomes if outcome is not None]


def _check_keys(configs: Sequence[Any], is_null: Callable[[Any], bool]) -> None:
    names = [config.name for config in configs]
    if len(set(names)) != len(names):
        raise Refused(Code.INVALID_REQUEST, "Error due to duplicate config keys")
    without_value = [config.name for config in configs if is_null(config)]
    if without_value:
        raise Refused(Code.INVALID_REQUEST, f"Null value not supported for : {', '.join(without_value)}")


def left_to_the_controller(resource_type: int) -> bool:
    """True for what the controller checks alone. Raises: Refused(INVALID_REQUEST) for what nobody can alter."""
    if resource_type == ResourceType.BROKER:
        return False
    if resource_type not in (ResourceType.TOPIC, ResourceType.CLIENT_METRICS, ResourceType.GROUP):
        raise Refused(Code.INVALID_REQUEST, f"Unknown resource type {resource_type}")
    return True


def check_broker(ctx: Context, name: str, settings: Mapping[str, str]) -> None:
    """Whether these may be all dynamic settings of this broker, or of all (no name). Raises: Refused."""
    check_change(ctx.config, settings, per_broker=bool(name))


def check_own_id(ctx: Context, name: str) -> None:
    """Raises: Refused unless it is this broker's: another's settings are checked by that one."""
    own = ctx.services.cluster.node_id
    id_ = node_id_of(name)
    if id_ is None:
        raise Refused(Code.INVALID_REQUEST, f"Node id must be an integer, but it is: {name}")
    if id_ != own:
        raise Refused(Code.INVALID_REQUEST, f"Unexpected broker id, expected {own}, but received {name}")


def changed(ctx: Context, name: str, configs: Sequence[AlterableConfig]) -> dict[str, str]:
    """The dynamic settings of a broker (of all, without a name) after these operations. Raises: Refused."""
    for config in configs:
        if config.config_operation not in (SET, DELETE, APPEND, SUBTRACT):
            raise Refused(Code.INVALID_REQUEST, f"Unknown operations type {config.config_operation}")
    settings, _ = obeyed(ctx.image.config(ResourceType.BROKER, name), per_broker=bool(name))
    for config in configs:
        value = config.value or ""
        match config.config_operation:
            case 0:
                settings[config.name] = value
            case 1:
                settings.pop(config.name, None)
            case operation:
                settings[config.name] = _listed(settings, config.name, operation, value)
    return settings


def _listed(settings: Mapping[str, str], name: str, operation: int, value: str) -> str:
    """A list after an append or a subtraction."""
    setting = BROKER_SETTINGS.get(name)
    if setting is None:
        raise Refused(Code.INVALID_CONFIG, f"Unknown config name: {name}")
    if setting.type is not Type.LIST:
        verb = "append" if operation == APPEND else "subtract"
        raise Refused(Code.INVALID_CONFIG, f"Config value {verb} is not allowed for config key: {name}")
    old = [item for item in settings.get(name, setting.default_text or "").split(",") if item]
    for item in value.split(","):
        if operation == SUBTRACT and item in old:
            old.remove(item)
        elif operation == APPEND and item not in old:
            old.append(item)
    return ",".join(old)

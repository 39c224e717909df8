"""ListConfigResources (API 74): what has settings, by type (KIP-1142); version 0 lists client metrics only (KIP-1000).

Topics, brokers and their loggers all have settings; groups and client metrics do once some are set.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kpybroker.cluster.image import ResourceType
from kpybroker.security.operations import Operation
from kpybroker.wire.codes import Code, Refused
from kpybroker.wire.messages.list_config_resources import (
    ConfigResource,
    ListConfigResourcesRequest,
    ListConfigResourcesResponse,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kpybroker.handlers.context import Context

_LISTED = (
    ResourceType.GROUP,
    ResourceType.CLIENT_METRICS,
    ResourceType.BROKER_LOGGER,
    ResourceType.BROKER,
    ResourceType.TOPIC,
)


async def handle(ctx: Context, request: ListConfigResourcesRequest) -> ListConfigResourcesResponse:
    """List the names of the types asked for, of all if none is."""
    ctx.require(Operation.DESCRIBE_CONFIGS)
    supported = _LISTED if ctx.version >= 1 else (ResourceType.CLIENT_METRICS,)
    wanted = request.resource_types or supported
    if not set(wanted) <= set(supported):
        raise Refused(Code.UNSUPPORTED_VERSION)
    resources = [
        ConfigResource(resource_name=name, resource_type=kind)
        for kind in supported
        if kind in wanted
        for name in _names(ctx, kind)
    ]
    return ListConfigResourcesResponse(throttle_time_ms=0, error_code=Code.NONE, config_resources=resources)


def _names(ctx: Context, kind: ResourceType) -> Iterable[str]:
    image = ctx.image
    match kind:
        case ResourceType.TOPIC:
            return image.topics.by_name
        case ResourceType.BROKER | ResourceType.BROKER_LOGGER:
            return [str(broker_id) for broker_id in image.brokers if ctx.endpoint(broker_id) is not None]
        case _:
            return [resource.name for resource, configs in image.configs.items() if resource.type == kind and configs]

"""DescribeCluster (API 60): the brokers of the cluster, as their clients reach them (KIP-700).

v1: asked of a broker, it is about brokers (KIP-919). v2: fenced brokers too (KIP-1073).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kpybroker.handlers.endpoint_types import EndpointType, check_endpoint_type
from kpybroker.security.operations import Operation
from kpybroker.wire.codes import Code
from kpybroker.wire.messages.describe_cluster import (
    DescribeClusterBroker,
    DescribeClusterRequest,
    DescribeClusterResponse,
)

if TYPE_CHECKING:
    from kpybroker.handlers.context import Context

NO_CONTROLLER = -1


async def handle(ctx: Context, request: DescribeClusterRequest) -> DescribeClusterResponse:
    """List brokers that have an endpoint on the client's listener."""
    check_endpoint_type(ctx, request.endpoint_type, EndpointType.BROKER)
    operations = ctx.authorized_operations(request.include_cluster_authorized_operations)
    if request.include_cluster_authorized_operations and not ctx.allows(Operation.DESCRIBE):
        operations = 0
    brokers = []
    for broker in ctx.image.brokers.values():
        endpoint = next((known for known in broker.endpoints if known.name == ctx.client.listener), None)
        if endpoint is not None and (not broker.fenced or request.include_fenced_brokers):
            brokers.append(
                DescribeClusterBroker(
                    broker_id=broker.id,
                    host=endpoint.host,
                    port=endpoint.port,
                    rack=broker.rack,
                    is_fenced=broker.fenced,
                )
            )
    alive = [broker.broker_id for broker in brokers if not broker.is_fenced]
    return DescribeClusterResponse(
        throttle_time_ms=0,
        error_code=Code.NONE,
        cluster_id=ctx.services.cluster.cluster_id,
        # Any broker will do for requests to the controller: it forwards them (KIP-590).
        controller_id=alive[ctx.ids.randrange(len(alive))] if alive else NO_CONTROLLER,
        brokers=brokers,
        cluster_authorized_operations=operations,
    )

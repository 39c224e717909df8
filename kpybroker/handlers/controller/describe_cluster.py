"""DescribeCluster (API 60), as a controller answers it: the controllers of the cluster (KIP-919).

v1: whom it is about. v2: fenced brokers too (KIP-1073), of which a controller tells nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kpybroker.cluster.features import CONTROLLER_REGISTRATION_SINCE
from kpybroker.handlers.endpoint_types import EndpointType, check_endpoint_type
from kpybroker.security.operations import Operation
from kpybroker.wire.codes import Code, Refused
from kpybroker.wire.messages.describe_cluster import (
    DescribeClusterBroker,
    DescribeClusterRequest,
    DescribeClusterResponse,
)

if TYPE_CHECKING:
    from kpybroker.handlers.context import Context

NO_CONTROLLER = -1


async def handle(ctx: Context, request: DescribeClusterRequest) -> DescribeClusterResponse:
    """List the controllers that have registered with an endpoint on the client's listener."""
    version = ctx.image.features.metadata_version
    if version is None:
        raise Refused(
            Code.UNSUPPORTED_VERSION,
            "There is no finalized MetadataVersion, so direct-to-controller communication is not supported.",
        )
    if version < CONTROLLER_REGISTRATION_SINCE:
        raise Refused(
            Code.UNSUPPORTED_VERSION,
            "Direct-to-controller communication is not supported with the current MetadataVersion.",
        )
    ctx.require(Operation.ALTER)
    check_endpoint_type(ctx, request.endpoint_type, EndpointType.CONTROLLER)
    nodes = [
        DescribeClusterBroker(broker_id=controller.id, host=endpoint.host, port=endpoint.port)
        for controller in ctx.image.controllers.values()
        for endpoint in controller.endpoints
        if endpoint.name == ctx.client.listener
    ]
    leader_id = ctx.services.cluster.raft.leader_id
    return DescribeClusterResponse(
        throttle_time_ms=0,
        error_code=Code.NONE,
        endpoint_type=EndpointType.CONTROLLER,
        cluster_id=ctx.services.cluster.cluster_id,
        controller_id=NO_CONTROLLER if leader_id is None else leader_id,
        brokers=nodes,
        cluster_authorized_operations=ctx.authorized_operations(request.include_cluster_authorized_operations),
    )

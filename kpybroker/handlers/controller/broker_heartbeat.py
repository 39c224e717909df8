"""BrokerHeartbeat (API 63): a broker is alive, and wants to be fenced, unfenced or stopped (KIP-631).

v1: directories that are offline (KIP-858). v2: directories that take nothing new (KIP-1066).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kpybroker.security.operations import Operation

if TYPE_CHECKING:
    from kpybroker.handlers.context import Context
    from kpybroker.wire.messages.broker_heartbeat import BrokerHeartbeatRequest, BrokerHeartbeatResponse


async def handle(ctx: Context, request: BrokerHeartbeatRequest) -> BrokerHeartbeatResponse:
    """Have it decided; answered when what follows is committed. The end of the connection says something as well."""
    ctx.require(Operation.CLUSTER_ACTION)
    controller = ctx.services.active_controller
    promise = controller.begin_heartbeat(request, by=ctx.connection)
    return await controller.keep(promise)

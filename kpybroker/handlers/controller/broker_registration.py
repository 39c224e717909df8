"""BrokerRegistration (API 62): a broker joins the cluster, fenced (KIP-631).

v1: migration from ZooKeeper. v2: directories (KIP-858). v3: the former epoch (KIP-966). v4: features from level 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kpybroker.security.operations import Operation

if TYPE_CHECKING:
    from kpybroker.handlers.context import Context
    from kpybroker.wire.messages.broker_registration import BrokerRegistrationRequest, BrokerRegistrationResponse


async def handle(ctx: Context, request: BrokerRegistrationRequest) -> BrokerRegistrationResponse:
    """Have it decided and written to the metadata log; answered when that is committed."""
    ctx.require(Operation.CLUSTER_ACTION)
    return await ctx.services.active_controller.register_broker(request, api_version=ctx.version)

"""AssignReplicasToDirs (API 73): in which of its folders a broker has its replicas (KIP-858)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kpybroker.security.operations import Operation

if TYPE_CHECKING:
    from kpybroker.handlers.context import Context
    from kpybroker.wire.messages.assign_replicas_to_dirs import (
        AssignReplicasToDirsRequest,
        AssignReplicasToDirsResponse,
    )


async def handle(ctx: Context, request: AssignReplicasToDirsRequest) -> AssignReplicasToDirsResponse:
    """Have it decided and written to the metadata log; answered when that is committed."""
    ctx.require(Operation.CLUSTER_ACTION)
    return await ctx.services.active_controller.assign_replicas_to_dirs(request)

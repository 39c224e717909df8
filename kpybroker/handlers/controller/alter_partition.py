"""AlterPartition (API 56): a leader has the in-sync replicas of its partitions changed (KIP-497).

v3: with the epochs of their brokers (KIP-903).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kpybroker.security.operations import Operation

if TYPE_CHECKING:
    from kpybroker.handlers.context import Context
    from kpybroker.wire.messages.alter_partition import AlterPartitionRequest, AlterPartitionResponse


async def handle(ctx: Context, request: AlterPartitionRequest) -> AlterPartitionResponse:
    """Have it decided and written to the metadata log; answered when that is committed."""
    ctx.require(Operation.CLUSTER_ACTION)
    return await ctx.services.active_controller.alter_partition(request, api_version=ctx.version)

"""AddOffsetsToTxn (API 25): take the offsets of a group into a transaction (KIP-98).

v2: PRODUCER_FENCED. Clients of transaction version 2 do without: their TxnOffsetCommit does this by itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kpybroker.cluster.names import CONSUMER_OFFSETS
from kpybroker.security.operations import Operation
from kpybroker.wire.codes import Code
from kpybroker.wire.messages.add_offsets_to_txn import AddOffsetsToTxnRequest, AddOffsetsToTxnResponse

if TYPE_CHECKING:
    from kpybroker.handlers.context import Context

FENCED_SINCE = 2


async def handle(ctx: Context, request: AddOffsetsToTxnRequest) -> AddOffsetsToTxnResponse:
    """Add the partition of the offsets topic that the group lives in."""
    ctx.require(Operation.WRITE, transactional_id=request.transactional_id)
    ctx.require(Operation.READ, group=request.group_id)
    partition = (CONSUMER_OFFSETS, ctx.groups.partition_for(request.group_id))
    code = await ctx.transactions.add(
        request.transactional_id, request.producer_id, request.producer_epoch, [partition], client_version=0
    )
    if code is Code.PRODUCER_FENCED and ctx.version < FENCED_SINCE:
        code = Code.INVALID_PRODUCER_EPOCH
    return AddOffsetsToTxnResponse(throttle_time_ms=0, error_code=code)

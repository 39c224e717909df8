"""EndTxn (API 26): commit or abort a transaction (KIP-98).

v2: PRODUCER_FENCED. v5: each end bumps the epoch, and the answer says to what (KIP-890, transaction version 2).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kpybroker.security.operations import Operation
from kpybroker.wire.codes import Code
from kpybroker.wire.messages.end_txn import EndTxnRequest, EndTxnResponse

if TYPE_CHECKING:
    from kpybroker.handlers.context import Context

FENCED_SINCE = 2


async def handle(ctx: Context, request: EndTxnRequest) -> EndTxnResponse:
    """Answered once the decision is in the log; the partitions get their markers after that."""
    ctx.require(Operation.WRITE, transactional_id=request.transactional_id)
    outcome = await ctx.transactions.end(request, version=ctx.version)
    code = outcome.code
    if code is Code.PRODUCER_FENCED and ctx.version < FENCED_SINCE:
        code = Code.INVALID_PRODUCER_EPOCH
    return EndTxnResponse(
        throttle_time_ms=0, error_code=code, producer_id=outcome.producer_id, producer_epoch=outcome.producer_epoch
    )

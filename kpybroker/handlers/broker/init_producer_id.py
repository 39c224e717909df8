"""InitProducerId (API 22): a producer id and epoch, for idempotent and for transactional producers (KIP-98).

v3: a producer says which id and epoch it has (KIP-360); without a transactional id that makes no difference: it gets a
new id. v4: PRODUCER_FENCED. v6: two-phase commit (KIP-939), which is off.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kpybroker.security.operations import Operation
from kpybroker.wire.codes import Code, Refused
from kpybroker.wire.messages.init_producer_id import InitProducerIdRequest, InitProducerIdResponse

if TYPE_CHECKING:
    from kpybroker.handlers.context import Context

NONE = -1
FENCED_SINCE = 4


async def handle(ctx: Context, request: InitProducerIdRequest) -> InitProducerIdResponse:
    """Hand out the next id of the block that the controller gave this node, or ask the transaction's coordinator."""
    transactional_id = request.transactional_id
    if transactional_id is None:
        ctx.require(Operation.IDEMPOTENT_WRITE)
    else:
        ctx.require(Operation.WRITE, transactional_id=transactional_id)
        if request.enable2_pc:
            ctx.require(Operation.TWO_PHASE_COMMIT, transactional_id=transactional_id)
    if (request.producer_id == NONE) != (request.producer_epoch == NONE):
        raise Refused(Code.INVALID_REQUEST)
    if transactional_id is None:
        return _response(Code.NONE, await ctx.services.of_broker.producer_ids.next(), 0)
    outcome = await ctx.transactions.init_producer_id(request)
    code = outcome.code
    if code is Code.PRODUCER_FENCED and ctx.version < FENCED_SINCE:
        code = Code.INVALID_PRODUCER_EPOCH
    return _response(code, outcome.producer_id, outcome.producer_epoch)


def refuse(request: InitProducerIdRequest, version: int, refused: Refused) -> InitProducerIdResponse:  # noqa: ARG001
    """An error and no id."""
    return _response(refused.code, NONE, NONE)


def _response(code: Code, producer_id: int, producer_epoch: int) -> InitProducerIdResponse:
    return InitProducerIdResponse(
        throttle_time_ms=0, error_code=code, producer_id=producer_id, producer_epoch=producer_epoch
    )

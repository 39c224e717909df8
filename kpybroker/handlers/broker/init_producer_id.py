"""InitProducerId (API 22): a producer id for an idempotent producer (KIP-98).

v3: a producer says which id and epoch it has (KIP-360); without a transactional id that makes no difference: it gets a
new id. v6: two-phase commit (KIP-939), which is off.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kpybroker.security.operations import Operation
from kpybroker.wire.codes import Code, Refused
from kpybroker.wire.messages.init_producer_id import InitProducerIdRequest, InitProducerIdResponse

if TYPE_CHECKING:
    from kpybroker.handlers.context import Context

NONE = -1


async def handle(ctx: Context, request: InitProducerIdRequest) -> InitProducerIdResponse:
    """Hand out the next id of the block that the controller gave this node."""
    if request.transactional_id is not None:
        ctx.require(Operation.WRITE, transactional_id=request.transactional_id)
    else:
        ctx.require(Operation.IDEMPOTENT_WRITE)
    if (request.producer_id == NONE) != (request.producer_epoch == NONE):
        raise Refused(Code.INVALID_REQUEST)
    if request.transactional_id == "":
        raise Refused(Code.INVALID_REQUEST)
    if request.transactional_id is not None:
        # No transaction API is served here yet, and FindCoordinator has said so.
        raise Refused(Code.UNSUPPORTED_VERSION)
    producer_id = await ctx.services.producer_ids.next()
    return InitProducerIdResponse(throttle_time_ms=0, error_code=Code.NONE, producer_id=producer_id, producer_epoch=0)


def refuse(request: InitProducerIdRequest, version: int, refused: Refused) -> InitProducerIdResponse:  # noqa: ARG001
    """An error and no id."""
    return InitProducerIdResponse(throttle_time_ms=0, error_code=refused.code, producer_id=NONE, producer_epoch=NONE)

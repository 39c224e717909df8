"""DescribeTransactions (API 65): state, producer and partitions of transactional ids (KIP-664)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kpybroker.coordinators.machines.transaction_views import described_error
from kpybroker.security.operations import Operation
from kpybroker.wire.codes import Code, Refused
from kpybroker.wire.messages.describe_transactions import DescribeTransactionsRequest, DescribeTransactionsResponse
from kpybroker.wire.schema import replace

if TYPE_CHECKING:
    from kpybroker.handlers.context import Context


async def handle(ctx: Context, request: DescribeTransactionsRequest) -> DescribeTransactionsResponse:
    """Describe each id that the client may see, with the topics that it may see."""
    states = []
    for transactional_id in request.transactional_ids:
        if not ctx.allows(Operation.DESCRIBE, transactional_id=transactional_id):
            states.append(described_error(transactional_id, Code.TRANSACTIONAL_ID_AUTHORIZATION_FAILED))
            continue
        state = await ctx.transactions.describe(transactional_id)
        visible = [topic for topic in state.topics if ctx.allows(Operation.DESCRIBE, topic=topic.topic)]
        states.append(replace(state, topics=visible))
    return DescribeTransactionsResponse(throttle_time_ms=0, transaction_states=states)


def refuse(request: DescribeTransactionsRequest, version: int, refused: Refused) -> DescribeTransactionsResponse:  # noqa: ARG001
    """The same error for every id."""
    states = [described_error(transactional_id, refused.code) for transactional_id in request.transactional_ids]
    return DescribeTransactionsResponse(throttle_time_ms=0, transaction_states=states)

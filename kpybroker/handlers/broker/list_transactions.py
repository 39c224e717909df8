"""ListTransactions (API 66): the transactional ids that this broker coordinates, by state and producer id (KIP-664).

v1: by age (KIP-994). v2: by a regular expression for the id (KIP-1152).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kpybroker.security.operations import Operation
from kpybroker.wire.schema import replace

if TYPE_CHECKING:
    from kpybroker.handlers.context import Context
    from kpybroker.wire.messages.list_transactions import ListTransactionsRequest, ListTransactionsResponse


async def handle(ctx: Context, request: ListTransactionsRequest) -> ListTransactionsResponse:
    """Those that the client may describe."""
    response = await ctx.transactions.list_transactions(request)
    visible = [
        each
        for each in response.transaction_states
        if ctx.allows(Operation.DESCRIBE, transactional_id=each.transactional_id)
    ]
    return replace(response, transaction_states=visible)

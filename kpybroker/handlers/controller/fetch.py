"""Fetch (API 1), as the leader of the metadata quorum answers it: followers and observers read the log (KIP-595).

v17: replicas' directory ids (KIP-853). v18: a new high watermark is an answer of its own (KIP-1166).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kpybroker.cluster.raft_answers import Listener, must_answer
from kpybroker.security.operations import Operation
from kpybroker.wire.messages.fetch import FetchRequest, FetchResponse

if TYPE_CHECKING:
    from kpybroker.handlers.context import Context


async def handle(ctx: Context, request: FetchRequest) -> FetchResponse:
    """Answered when there is something to tell, or the time is over."""
    ctx.require(Operation.CLUSTER_ACTION)
    raft = ctx.services.cluster.raft
    listener = Listener(raft, ctx.client.listener)
    deadline_s = ctx.clock.monotonic_s() + request.max_wait_ms / 1000
    response = await listener.fetch(request, ctx.version)
    while not must_answer(request, response):
        if not await ctx.wait(raft.news, deadline_s - ctx.clock.monotonic_s()):
            break
        response = await listener.fetch(request, ctx.version)
    return response

"""Vote (API 52), as a member of the metadata quorum answers it: a candidate asks for its vote (KIP-595).

v1: voters' directory ids (KIP-853). v2: pre-votes (KIP-996).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kpybroker.cluster.raft_answers import Listener
from kpybroker.security.operations import Operation
from kpybroker.wire.messages.vote import VoteRequest, VoteResponse

if TYPE_CHECKING:
    from kpybroker.handlers.context import Context


async def handle(ctx: Context, request: VoteRequest) -> VoteResponse:
    """The vote is durable before it is told."""
    ctx.require(Operation.CLUSTER_ACTION)
    return await Listener(ctx.services.cluster.raft, ctx.client.listener).vote(request)

"""EndQuorumEpoch (API 54), as a member of the metadata quorum answers it: its leader leaves (KIP-595)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kpybroker.cluster.raft_answers import Listener
from kpybroker.security.operations import Operation
from kpybroker.wire.messages.end_quorum_epoch import EndQuorumEpochRequest, EndQuorumEpochResponse

if TYPE_CHECKING:
    from kpybroker.handlers.context import Context


async def handle(ctx: Context, request: EndQuorumEpochRequest) -> EndQuorumEpochResponse:
    """Stand for election, when it is our turn."""
    ctx.require(Operation.CLUSTER_ACTION)
    return await Listener(ctx.services.cluster.raft, ctx.client.listener).end(request)

"""BeginQuorumEpoch (API 53), as a member of the metadata quorum answers it: a leader says that it is (KIP-595)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kpybroker.cluster.raft_answers import Listener
from kpybroker.security.operations import Operation
from kpybroker.wire.messages.begin_quorum_epoch import BeginQuorumEpochRequest, BeginQuorumEpochResponse

if TYPE_CHECKING:
    from kpybroker.handlers.context import Context


async def handle(ctx: Context, request: BeginQuorumEpochRequest) -> BeginQuorumEpochResponse:
    """Follow it, if it is."""
    ctx.require(Operation.CLUSTER_ACTION)
    return await Listener(ctx.services.cluster.raft, ctx.client.listener).begin(request)

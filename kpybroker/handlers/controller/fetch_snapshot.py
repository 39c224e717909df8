"""FetchSnapshot (API 59), as a member of the metadata quorum answers it: read on in a snapshot (KIP-630)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kpybroker.cluster.raft_answers import Listener
from kpybroker.security.operations import Operation
from kpybroker.wire.messages.fetch_snapshot import FetchSnapshotRequest, FetchSnapshotResponse

if TYPE_CHECKING:
    from kpybroker.handlers.context import Context


async def handle(ctx: Context, request: FetchSnapshotRequest) -> FetchSnapshotResponse:
    """Answered as of now."""
    ctx.require(Operation.CLUSTER_ACTION)
    return await Listener(ctx.services.cluster.raft, ctx.client.listener).fetch_snapshot(request)

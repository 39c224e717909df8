"""AddRaftVoter (API 80), as the leader of the metadata quorum answers it: one more voter (KIP-853)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kpybroker.cluster.machines.quorum_requests import add_voter
from kpybroker.security.operations import Operation
from kpybroker.wire.messages.add_raft_voter import AddRaftVoterRequest, AddRaftVoterResponse

if TYPE_CHECKING:
    from kpybroker.handlers.context import Context


async def handle(ctx: Context, request: AddRaftVoterRequest) -> AddRaftVoterResponse:
    """Answered as of now."""
    ctx.require(Operation.ALTER)
    return add_voter(ctx.services.active_controller.quorum(), request)

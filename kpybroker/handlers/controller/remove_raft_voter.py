"""RemoveRaftVoter (API 81), as the leader of the metadata quorum answers it: one voter less (KIP-853)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kpybroker.cluster.machines.quorum_requests import remove_voter
from kpybroker.security.operations import Operation
from kpybroker.wire.messages.remove_raft_voter import RemoveRaftVoterRequest, RemoveRaftVoterResponse

if TYPE_CHECKING:
    from kpybroker.handlers.context import Context


async def handle(ctx: Context, request: RemoveRaftVoterRequest) -> RemoveRaftVoterResponse:
    """Answered as of now."""
    ctx.require(Operation.ALTER)
    return remove_voter(ctx.services.active_controller.quorum(), request)

"""AddRaftVoter (API 80), as the leader of the metadata quorum answers it: one more voter (KIP-853)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kpybroker.security.operations import Operation
from kpybroker.wire.codes import Code, Refused
from kpybroker.wire.messages.add_raft_voter import AddRaftVoterRequest, AddRaftVoterResponse

if TYPE_CHECKING:
    from kpybroker.handlers.context import Context


async def handle(ctx: Context, request: AddRaftVoterRequest) -> AddRaftVoterResponse:
    """Carried out if this node leads the quorum; answered when it is committed."""
    ctx.require(Operation.ALTER)
    raft = ctx.services.cluster.raft
    if not raft.is_leader:
        raise Refused(Code.NOT_LEADER_OR_FOLLOWER)
    return await raft.changes.add(ctx.services.active_controller.quorum, request)

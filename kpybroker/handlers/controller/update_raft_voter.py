"""UpdateRaftVoter (API 82), as the leader of the metadata quorum answers it: a voter listens elsewhere (KIP-853)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kpybroker.cluster.machines.decision import error_of
from kpybroker.security.operations import Operation
from kpybroker.wire.codes import Code, Refused
from kpybroker.wire.messages.update_raft_voter import CurrentLeader, UpdateRaftVoterRequest, UpdateRaftVoterResponse

if TYPE_CHECKING:
    from kpybroker.handlers.context import Context


async def handle(ctx: Context, request: UpdateRaftVoterRequest) -> UpdateRaftVoterResponse:
    """Carried out if this node leads the quorum; everybody is told who does."""
    ctx.require(Operation.CLUSTER_ACTION)
    raft = ctx.services.cluster.raft
    code: int = Code.NONE
    try:
        if not raft.is_leader:
            raise Refused(Code.NOT_LEADER_OR_FOLLOWER)
        await raft.changes.update(ctx.services.active_controller.quorum, request)
    except Refused as refused:
        code, _ = error_of(refused)
    leader_id = -1 if raft.leader_id is None else raft.leader_id
    places = [(host, port) for name, host, port in raft.leader_endpoints if name == ctx.client.listener]
    host, port = places[0] if places and leader_id >= 0 else ("", 0)
    leader = CurrentLeader(leader_id=leader_id, leader_epoch=raft.leader_epoch, host=host, port=port)
    return UpdateRaftVoterResponse(throttle_time_ms=0, error_code=code, current_leader=leader)

"""ElectLeaders (API 43), as the active controller carries it out: make other replicas the leaders of partitions.

v1: unclean elections (KIP-460), an error for the whole.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kpybroker.cluster.machines.decision import error_of
from kpybroker.handlers.deadline import check_time
from kpybroker.security.operations import Operation
from kpybroker.wire.messages.elect_leaders import (
    ElectLeadersRequest,
    ElectLeadersResponse,
    PartitionResult,
    ReplicaElectionResult,
)

if TYPE_CHECKING:
    from kpybroker.handlers.context import Context
    from kpybroker.wire.codes import Refused


async def handle(ctx: Context, request: ElectLeadersRequest) -> ElectLeadersResponse:
    """Have it decided and written to the metadata log; answered when that is committed."""
    ctx.require(Operation.ALTER)
    if request.topic_partitions is None or request.topic_partitions:
        check_time(request.timeout_ms)
    return await ctx.services.active_controller.elect_leaders(request)


def refuse(request: ElectLeadersRequest, version: int, refused: Refused) -> ElectLeadersResponse:
    """The same error for every partition, and for the whole."""
    code, why = error_of(refused)
    return ElectLeadersResponse(
        throttle_time_ms=0,
        error_code=code if version >= 1 else 0,
        replica_election_results=[
            ReplicaElectionResult(
                topic=topic.topic,
                partition_result=[
                    PartitionResult(partition_id=index, error_code=code, error_message=why)
                    for index in topic.partitions
                ],
            )
            for topic in request.topic_partitions or ()
        ],
    )

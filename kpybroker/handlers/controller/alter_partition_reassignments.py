"""AlterPartitionReassignments (API 45), as the active controller carries it out: move partitions to other brokers.

v1: whether the number of replicas may change (KIP-860).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kpybroker.cluster.machines.decision import error_of
from kpybroker.handlers.deadline import check_time
from kpybroker.security.operations import Operation
from kpybroker.wire.messages.alter_partition_reassignments import (
    AlterPartitionReassignmentsRequest,
    AlterPartitionReassignmentsResponse,
    ReassignablePartitionResponse,
    ReassignableTopicResponse,
)

if TYPE_CHECKING:
    from kpybroker.handlers.context import Context
    from kpybroker.wire.codes import Refused


async def handle(ctx: Context, request: AlterPartitionReassignmentsRequest) -> AlterPartitionReassignmentsResponse:
    """Have it decided and written to the metadata log; answered when that is committed."""
    ctx.require(Operation.ALTER)
    if request.topics:
        check_time(request.timeout_ms)
    return await ctx.services.active_controller.alter_partition_reassignments(request)


def refuse(
    request: AlterPartitionReassignmentsRequest,
    version: int,  # noqa: ARG001
    refused: Refused,
) -> AlterPartitionReassignmentsResponse:
    """The same error for every partition, and for the whole."""
    code, why = error_of(refused)
    return AlterPartitionReassignmentsResponse(
        throttle_time_ms=0,
        error_code=code,
        error_message=why,
        responses=[
            ReassignableTopicResponse(
                name=topic.name,
                partitions=[
                    ReassignablePartitionResponse(
                        partition_index=partition.partition_index, error_code=code, error_message=why
                    )
                    for partition in topic.partitions
                ],
            )
            for topic in request.topics
        ],
    )

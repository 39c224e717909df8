"""AlterReplicaLogDirs (API 34): move replicas to another data folder of this broker (KIP-113).

An answer without an error says that the move has begun; DescribeLogDirs tells how far it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kpybroker.security.operations import Operation
from kpybroker.wire.codes import Code, Refused
from kpybroker.wire.messages.alter_replica_log_dirs import (
    AlterReplicaLogDirPartitionResult,
    AlterReplicaLogDirsRequest,
    AlterReplicaLogDirsResponse,
    AlterReplicaLogDirTopicResult,
)

if TYPE_CHECKING:
    from kpybroker.handlers.context import Context


async def handle(ctx: Context, request: AlterReplicaLogDirsRequest) -> AlterReplicaLogDirsResponse:
    """Answer each partition by itself; one that is named twice goes to the last folder."""
    ctx.require(Operation.ALTER)
    wanted = {
        (topic.name, index): folder.path
        for folder in request.dirs
        for topic in folder.topics
        for index in topic.partitions
    }
    results = {}
    for (topic, index), folder in wanted.items():
        try:
            ctx.services.of_broker.moves.ask(topic, index, folder)
            results[topic, index] = Code.NONE
        except Refused as refused:
            results[topic, index] = refused.code
    return _response(results)


def refuse(request: AlterReplicaLogDirsRequest, version: int, refused: Refused) -> AlterReplicaLogDirsResponse:  # noqa: ARG001
    """The same error for every partition."""
    return _response(
        {
            (topic.name, index): refused.code
            for folder in request.dirs
            for topic in folder.topics
            for index in topic.partitions
        }
    )


def _response(results: dict[tuple[str, int], Code]) -> AlterReplicaLogDirsResponse:
    topics: dict[str, list[AlterReplicaLogDirPartitionResult]] = {}
    for (topic, index), code in results.items():
        topics.setdefault(topic, []).append(AlterReplicaLogDirPartitionResult(partition_index=index, error_code=code))
    return AlterReplicaLogDirsResponse(
        throttle_time_ms=0,
        results=[
            AlterReplicaLogDirTopicResult(topic_name=name, partitions=partitions) for name, partitions in topics.items()
        ],
    )

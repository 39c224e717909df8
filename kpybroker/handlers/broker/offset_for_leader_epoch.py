"""OffsetForLeaderEpoch (API 23): where a leader epoch ends, to tell a truncation (KIP-101, KIP-320)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kpybroker.security.operations import Operation
from kpybroker.storage.errors import StorageFailed
from kpybroker.wire.codes import Code, Refused
from kpybroker.wire.messages.offset_for_leader_epoch import (
    EpochEndOffset,
    OffsetForLeaderEpochRequest,
    OffsetForLeaderEpochResponse,
    OffsetForLeaderPartition,
    OffsetForLeaderTopicResult,
)

if TYPE_CHECKING:
    from kpybroker.handlers.context import Context

UNDEFINED = -1


async def handle(ctx: Context, request: OffsetForLeaderEpochRequest) -> OffsetForLeaderEpochResponse:
    """Answer each partition by itself. Replicas have the right by their cluster, consumers by their topic."""
    replica = ctx.allows(Operation.CLUSTER_ACTION)
    return OffsetForLeaderEpochResponse(
        throttle_time_ms=0,
        topics=[
            OffsetForLeaderTopicResult(
                topic=topic.topic,
                partitions=[_end_of_epoch(ctx, topic.topic, partition, replica) for partition in topic.partitions],
            )
            for topic in request.topics
        ],
    )


def refuse(request: OffsetForLeaderEpochRequest, version: int, refused: Refused) -> OffsetForLeaderEpochResponse:  # noqa: ARG001
    """The same error for every partition."""
    return OffsetForLeaderEpochResponse(
        throttle_time_ms=0,
        topics=[
            OffsetForLeaderTopicResult(
                topic=topic.topic,
                partitions=[
                    EpochEndOffset(error_code=refused.code, partition=partition.partition)
                    for partition in topic.partitions
                ],
            )
            for topic in request.topics
        ],
    )


def _end_of_epoch(ctx: Context, topic: str, asked: OffsetForLeaderPartition, replica: bool) -> EpochEndOffset:
    try:
        if not replica:
            ctx.require(Operation.DESCRIBE, topic=topic)
        partition = ctx.replicas.get(topic, asked.partition)
        partition.check_leader(asked.current_leader_epoch)
        epoch, end_offset = partition.end_of_epoch(asked.leader_epoch) or (UNDEFINED, UNDEFINED)
    except Refused as refused:
        return EpochEndOffset(error_code=refused.code, partition=asked.partition)
    except StorageFailed as failure:
        ctx.replicas.logs.trouble.met(f"look up epochs of {topic}-{asked.partition}", failure)
        return EpochEndOffset(error_code=Code.KAFKA_STORAGE_ERROR, partition=asked.partition)
    return EpochEndOffset(error_code=Code.NONE, partition=asked.partition, leader_epoch=epoch, end_offset=end_offset)

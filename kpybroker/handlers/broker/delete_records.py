"""DeleteRecords (API 21): let go of the records at the start of partitions (KIP-107).

They are out of sight at once, and stay so: where a log starts is on disk before the answer. Segments that are wholly
below it leave the disk with the next round of retention.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kpybroker.cluster.names import INTERNAL_TOPICS
from kpybroker.security.operations import Operation
from kpybroker.wire.codes import Code, Refused
from kpybroker.wire.messages.delete_records import (
    DeleteRecordsPartitionResult,
    DeleteRecordsRequest,
    DeleteRecordsResponse,
    DeleteRecordsTopicResult,
)

if TYPE_CHECKING:
    from kpybroker.handlers.context import Context

NOTHING = -1


async def handle(ctx: Context, request: DeleteRecordsRequest) -> DeleteRecordsResponse:
    """Move the log starts; a partition that is named twice gets the last offset.

    `timeout_ms` is for the followers, which delete too, and which there are none of yet.
    """
    wanted = {
        (topic.name, partition.partition_index): partition.offset
        for topic in request.topics
        for partition in topic.partitions
    }
    results: dict[tuple[str, int], tuple[int, Code]] = {}
    for (topic, index), offset in wanted.items():
        try:
            results[topic, index] = _delete(ctx, topic, index, offset), Code.NONE
        except Refused as refused:
            results[topic, index] = NOTHING, refused.code
    for place in await ctx.replicas.persist_log_starts(
        [place for place, (_, code) in results.items() if code is Code.NONE]
    ):
        results[place] = NOTHING, Code.KAFKA_STORAGE_ERROR
    return _response(results)


def refuse(request: DeleteRecordsRequest, version: int, refused: Refused) -> DeleteRecordsResponse:  # noqa: ARG001
    """The same error for every partition."""
    return _response(
        {
            (topic.name, partition.partition_index): (NOTHING, refused.code)
            for topic in request.topics
            for partition in topic.partitions
        }
    )


def _delete(ctx: Context, topic: str, index: int, offset: int) -> int:
    """Move one log start; returns the low watermark. Raises: Refused."""
    ctx.require(Operation.DELETE, topic=topic)
    known = ctx.image.topics.by_name.get(topic)
    if known is None or index not in known.partitions:
        raise Refused(Code.UNKNOWN_TOPIC_OR_PARTITION)
    if topic in INTERNAL_TOPICS:
        raise Refused(Code.INVALID_TOPIC_EXCEPTION)
    return ctx.replicas.get(topic, index).delete_records(offset)


def _response(results: dict[tuple[str, int], tuple[int, Code]]) -> DeleteRecordsResponse:
    topics: dict[str, list[DeleteRecordsPartitionResult]] = {}
    for (topic, index), (low_watermark, code) in results.items():
        topics.setdefault(topic, []).append(
            DeleteRecordsPartitionResult(partition_index=index, low_watermark=low_watermark, error_code=code)
        )
    return DeleteRecordsResponse(
        throttle_time_ms=0,
        topics=[DeleteRecordsTopicResult(name=name, partitions=partitions) for name, partitions in topics.items()],
    )

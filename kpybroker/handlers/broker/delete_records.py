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
    from kpybroker.replication.partition import Partition

NOTHING = -1


async def handle(ctx: Context, request: DeleteRecordsRequest) -> DeleteRecordsResponse:
    """Move the log starts; a partition that is named twice gets the last offset.

    The followers delete too: `timeout_ms` is how long they may take, else the answer is REQUEST_TIMED_OUT.
    """
    wanted = {
        (topic.name, partition.partition_index): partition.offset
        for topic in request.topics
        for partition in topic.partitions
    }
    results: dict[tuple[str, int], tuple[int, Code]] = {}
    waits: list[tuple[Partition, int]] = []
    for (topic, index), offset in wanted.items():
        try:
            partition = _partition(ctx, topic, index)
            waits.append((partition, partition.delete_records(offset)))
            results[topic, index] = partition.low_watermark, Code.NONE
        except Refused as refused:
            results[topic, index] = NOTHING, refused.code
    for place in await ctx.replicas.persist_log_starts(
        [place for place, (_, code) in results.items() if code is Code.NONE]
    ):
        results[place] = NOTHING, Code.KAFKA_STORAGE_ERROR
    await _wait_for_followers(ctx, request.timeout_ms, waits, results)
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


async def _wait_for_followers(
    ctx: Context, timeout_ms: int, waits: list[tuple[Partition, int]], results: dict[tuple[str, int], tuple[int, Code]]
) -> None:
    deadline_s = ctx.clock.monotonic_s() + timeout_ms / 1000
    for partition, offset in waits:
        place = partition.topic, partition.index
        if results[place][1] is not Code.NONE:
            continue
        event = partition.deleted_everywhere(offset)
        if event is not None:
            await ctx.wait(event, deadline_s - ctx.clock.monotonic_s())
        if not partition.is_leader:
            results[place] = NOTHING, Code.NOT_LEADER_OR_FOLLOWER
        elif partition.low_watermark < offset:
            results[place] = NOTHING, Code.REQUEST_TIMED_OUT
        else:
            results[place] = partition.low_watermark, Code.NONE


def _partition(ctx: Context, topic: str, index: int) -> Partition:
    """Raises: Refused."""
    ctx.require(Operation.DELETE, topic=topic)
    known = ctx.image.topics.by_name.get(topic)
    if known is None or index not in known.partitions:
        raise Refused(Code.UNKNOWN_TOPIC_OR_PARTITION)
    if topic in INTERNAL_TOPICS:
        raise Refused(Code.INVALID_TOPIC_EXCEPTION)
    return ctx.replicas.get(topic, index)


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

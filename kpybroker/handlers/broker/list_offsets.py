"""ListOffsets (API 2): the offset of a point in time, or of an end of the log.

v2: isolation levels. v4: leader epochs. v7: the newest timestamp (KIP-734). v8, v9, v11: places of tiered storage
(KIP-405, KIP-1005, KIP-1023), answered as a topic without tiering answers.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from kpybroker.security.operations import Operation
from kpybroker.storage.errors import StorageFailed
from kpybroker.wire.codes import Code, Refused
from kpybroker.wire.errors import CorruptRecords
from kpybroker.wire.messages.list_offsets import (
    ListOffsetsPartition,
    ListOffsetsPartitionResponse,
    ListOffsetsRequest,
    ListOffsetsResponse,
    ListOffsetsTopic,
    ListOffsetsTopicResponse,
)

if TYPE_CHECKING:
    from kpybroker.handlers.context import Context
    from kpybroker.replication.partition import Partition

LATEST = -1
EARLIEST = -2
MAX_TIMESTAMP = -3
EARLIEST_LOCAL = -4
LATEST_TIERED = -5
EARLIEST_PENDING_UPLOAD = -6

SINCE = {MAX_TIMESTAMP: 7, EARLIEST_LOCAL: 8, LATEST_TIERED: 9, EARLIEST_PENDING_UPLOAD: 11}
"""The version from which on each of the special timestamps may be asked for."""

NEVER = 2**15
EPOCHS_SINCE = 4
NOT_AVAILABLE_SINCE = 5
CONSUMER = -1
DEBUGGING = -2
READ_COMMITTED = 1


class Found(NamedTuple):
    """An answer: a place in the log."""

    offset: int
    timestamp: int = -1
    leader_epoch: int = -1


NOTHING = Found(-1)


async def handle(ctx: Context, request: ListOffsetsRequest) -> ListOffsetsResponse:
    """Answer each partition by itself; one that is named twice is refused."""
    asked = Counter(
        (topic.name, partition.partition_index) for topic in request.topics for partition in topic.partitions
    )
    repeated = {place: False for place, times in asked.items() if times > 1}
    return ListOffsetsResponse(topics=[_topic(ctx, request, topic, repeated) for topic in request.topics])


def refuse(request: ListOffsetsRequest, version: int, refused: Refused) -> ListOffsetsResponse:  # noqa: ARG001
    """The same error for every partition."""
    return ListOffsetsResponse(
        topics=[
            ListOffsetsTopicResponse(
                name=topic.name,
                partitions=[_response(partition, NOTHING, refused.code) for partition in topic.partitions],
            )
            for topic in request.topics
        ]
    )


def _topic(
    ctx: Context, request: ListOffsetsRequest, topic: ListOffsetsTopic, repeated: dict[tuple[str, int], bool]
) -> ListOffsetsTopicResponse:
    """`repeated`: the partitions that are named more than once, and whether they have had their one answer."""
    answers = []
    for asked in topic.partitions:
        try:
            ctx.require(Operation.DESCRIBE, topic=topic.name)
            place = topic.name, asked.partition_index
            if place in repeated:
                if repeated[place]:
                    continue
                repeated[place] = True
                raise Refused(Code.INVALID_REQUEST)
            if asked.timestamp < EARLIEST and ctx.version < SINCE.get(asked.timestamp, NEVER):
                raise Refused(Code.UNSUPPORTED_VERSION)
            found = _find(ctx, request, topic.name, asked)
            answers.append(_response(asked, found if ctx.version >= EPOCHS_SINCE else found._replace(leader_epoch=-1)))
        except Refused as refused:
            answers.append(_response(asked, NOTHING, refused.code))
        except StorageFailed as failure:
            partition = ctx.replicas.get(topic.name, asked.partition_index)
            answers.append(_response(asked, NOTHING, partition.failed("look up offsets of", failure).code))
        except CorruptRecords:
            answers.append(_response(asked, NOTHING, Code.CORRUPT_MESSAGE))
    return ListOffsetsTopicResponse(name=topic.name, partitions=answers)


def _response(asked: ListOffsetsPartition, found: Found, code: Code = Code.NONE) -> ListOffsetsPartitionResponse:
    return ListOffsetsPartitionResponse(
        partition_index=asked.partition_index,
        error_code=code,
        timestamp=found.timestamp,
        offset=found.offset,
        leader_epoch=found.leader_epoch,
    )


def _find(ctx: Context, request: ListOffsetsRequest, topic: str, asked: ListOffsetsPartition) -> Found:
    partition = ctx.replicas.get(topic, asked.partition_index)
    if request.replica_id != DEBUGGING or asked.current_leader_epoch >= 0:
        partition.check_leader(asked.current_leader_epoch)
    end_offset = _end_offset(request, partition)
    log = partition.log
    lagging = request.replica_id == CONSUMER and partition.lags_behind_its_epoch
    if asked.timestamp == LATEST:
        if lagging:  # the former leader may have told of more
            raise _not_available(ctx)
        return Found(end_offset, leader_epoch=partition.leader_epoch)
    if asked.timestamp in (EARLIEST, EARLIEST_LOCAL):
        epoch = log.epochs.epoch_of(log.log_start_offset)
        return Found(log.log_start_offset, leader_epoch=-1 if epoch is None else epoch)
    if asked.timestamp in (LATEST_TIERED, EARLIEST_PENDING_UPLOAD):  # nothing is tiered
        return NOTHING
    at = log.max_timestamp() if asked.timestamp == MAX_TIMESTAMP else log.offset_for_timestamp(asked.timestamp)
    if at is None or at.offset >= end_offset:
        if lagging:
            raise _not_available(ctx)
        return NOTHING
    return Found(at.offset, at.timestamp, -1 if at.leader_epoch is None else at.leader_epoch)


def _not_available(ctx: Context) -> Refused:
    return Refused(
        Code.OFFSET_NOT_AVAILABLE if ctx.version >= NOT_AVAILABLE_SINCE else Code.LEADER_NOT_AVAILABLE,
        "the high watermark has not reached the start of the leader's epoch yet",
    )


def _end_offset(request: ListOffsetsRequest, partition: Partition) -> int:
    """Where the log ends for whoever asks: consumers see less than replicas."""
    if request.replica_id != CONSUMER:
        return partition.log.log_end_offset
    return partition.last_stable_offset if request.isolation_level == READ_COMMITTED else partition.high_watermark

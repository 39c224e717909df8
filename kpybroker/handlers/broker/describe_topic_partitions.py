"""DescribeTopicPartitions (API 75): topics with their eligible leader replicas, page by page (KIP-966)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kpybroker.cluster.image import NO_LEADER
from kpybroker.cluster.names import INTERNAL_TOPICS, is_valid_topic_name
from kpybroker.security.operations import Operation
from kpybroker.wire.codes import Code, Refused
from kpybroker.wire.messages.describe_topic_partitions import (
    Cursor,
    DescribeTopicPartitionsRequest,
    DescribeTopicPartitionsResponse,
    DescribeTopicPartitionsResponsePartition,
    DescribeTopicPartitionsResponseTopic,
)
from kpybroker.wire.primitives import ZERO_UUID

if TYPE_CHECKING:
    from kpybroker.cluster.image import PartitionImage
    from kpybroker.handlers.context import Context


async def handle(ctx: Context, request: DescribeTopicPartitionsRequest) -> DescribeTopicPartitionsResponse:
    """The asked topics in order of their names (all of them if none is asked for), from the cursor on."""
    everything = not request.topics
    names = _names(ctx, request, everything)
    left = max(1, min(ctx.config.max_request_partition_size_limit, request.response_partition_limit))
    topics: list[DescribeTopicPartitionsResponseTopic] = []
    refused: list[DescribeTopicPartitionsResponseTopic] = []
    next_cursor = None
    for name in names:
        if not ctx.allows(Operation.DESCRIBE, topic=name):
            if not everything:
                refused.append(_error(ctx, Code.TOPIC_AUTHORIZATION_FAILED, name))
            continue
        if next_cursor is not None:
            continue
        if left == 0:
            next_cursor = Cursor(topic_name=name, partition_index=0)
            continue
        known = ctx.image.topics.by_name.get(name)
        if known is None:
            valid = is_valid_topic_name(name)
            topics.append(_error(ctx, Code.UNKNOWN_TOPIC_OR_PARTITION if valid else Code.INVALID_TOPIC_EXCEPTION, name))
            continue
        first = request.cursor.partition_index if request.cursor and request.cursor.topic_name == name else 0
        page = [index for index in sorted(known.partitions) if index >= first]
        if len(page) > left:
            next_cursor = Cursor(topic_name=name, partition_index=page[left])
        topics.append(_topic(ctx, name, known.id, {index: known.partitions[index] for index in page[:left]}))
        left -= min(left, len(page))
    return DescribeTopicPartitionsResponse(throttle_time_ms=0, topics=topics + refused, next_cursor=next_cursor)


def refuse(request: DescribeTopicPartitionsRequest, version: int, refused: Refused) -> DescribeTopicPartitionsResponse:  # noqa: ARG001
    """The same error for every topic."""
    return DescribeTopicPartitionsResponse(
        throttle_time_ms=0,
        topics=[
            DescribeTopicPartitionsResponseTopic(
                error_code=refused.code, name=topic.name, topic_id=ZERO_UUID, partitions=[]
            )
            for topic in request.topics
        ],
    )


def _names(ctx: Context, request: DescribeTopicPartitionsRequest, everything: bool) -> list[str]:
    asked = ctx.image.topics.by_name if everything else {topic.name for topic in request.topics}
    cursor = request.cursor
    if cursor is None:
        return sorted(asked)
    if not everything and cursor.topic_name not in asked:
        raise Refused(
            Code.INVALID_REQUEST,
            f"DescribeTopicPartitionsRequest topic list should contain the cursor topic: {cursor.topic_name}",
        )
    if cursor.partition_index < 0:
        raise Refused(
            Code.INVALID_REQUEST,
            "DescribeTopicPartitionsRequest cursor partition must be valid: "
            f"Cursor(topicName='{cursor.topic_name}', partitionIndex={cursor.partition_index})",
        )
    return sorted(name for name in asked if name >= cursor.topic_name)


def _error(ctx: Context, code: Code, name: str) -> DescribeTopicPartitionsResponseTopic:
    return DescribeTopicPartitionsResponseTopic(
        error_code=code,
        name=name,
        topic_id=ZERO_UUID,
        is_internal=name in INTERNAL_TOPICS and code is not Code.TOPIC_AUTHORIZATION_FAILED,
        partitions=[],
        topic_authorized_operations=ctx.authorized_operations(code is not Code.TOPIC_AUTHORIZATION_FAILED, topic=name),
    )


def _topic(
    ctx: Context, name: str, topic_id: bytes, partitions: dict[int, PartitionImage]
) -> DescribeTopicPartitionsResponseTopic:
    return DescribeTopicPartitionsResponseTopic(
        error_code=Code.NONE,
        name=name,
        topic_id=topic_id,
        is_internal=name in INTERNAL_TOPICS,
        partitions=[_partition(ctx, index, partition) for index, partition in partitions.items()],
        topic_authorized_operations=ctx.authorized_operations(True, topic=name),
    )


def _partition(ctx: Context, index: int, partition: PartitionImage) -> DescribeTopicPartitionsResponsePartition:
    """Unlike Metadata this has no error for a partition without a leader: that shows in `leader_id`."""
    return DescribeTopicPartitionsResponsePartition(
        error_code=Code.NONE,
        partition_index=index,
        leader_id=NO_LEADER if ctx.endpoint(partition.leader) is None else partition.leader,
        leader_epoch=partition.leader_epoch,
        replica_nodes=list(partition.replicas),
        isr_nodes=list(partition.isr),
        eligible_leader_replicas=list(partition.elr),
        last_known_elr=list(partition.last_known_elr),
        offline_replicas=ctx.offline_replicas(partition),
    )

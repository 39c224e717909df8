"""DescribeProducers (API 61): the producers that partitions know, as their leader has them (KIP-664)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kpybroker.cluster.names import check_topic_name
from kpybroker.security.operations import Operation
from kpybroker.wire.codes import Code, Refused
from kpybroker.wire.messages.describe_producers import (
    DescribeProducersRequest,
    DescribeProducersResponse,
    PartitionResponse,
    ProducerState,
    TopicResponse,
)

if TYPE_CHECKING:
    from kpybroker.handlers.context import Context

NONE = -1


async def handle(ctx: Context, request: DescribeProducersRequest) -> DescribeProducersResponse:
    """Answer each partition by itself."""
    topics = []
    for asked in request.topics:
        try:
            check_topic_name(asked.name)
            ctx.require(Operation.READ, topic=asked.name)
            if asked.name not in ctx.image.topics.by_name:
                raise Refused(Code.UNKNOWN_TOPIC_OR_PARTITION)
        except Refused as refused:
            partitions = [_failed(index, refused.code, refused.message) for index in asked.partition_indexes]
        else:
            partitions = [_partition(ctx, asked.name, index) for index in asked.partition_indexes]
        topics.append(TopicResponse(name=asked.name, partitions=partitions))
    return DescribeProducersResponse(throttle_time_ms=0, topics=topics)


def refuse(request: DescribeProducersRequest, version: int, refused: Refused) -> DescribeProducersResponse:  # noqa: ARG001
    """The same error for every partition."""
    return DescribeProducersResponse(
        throttle_time_ms=0,
        topics=[
            TopicResponse(
                name=asked.name,
                partitions=[_failed(index, refused.code, None) for index in asked.partition_indexes],
            )
            for asked in request.topics
        ],
    )


def _partition(ctx: Context, topic: str, index: int) -> PartitionResponse:
    try:
        producers = ctx.replicas.get(topic, index).log.producers.active.values()
    except Refused as refused:
        return _failed(index, refused.code, None)
    return PartitionResponse(
        partition_index=index,
        error_code=Code.NONE,
        active_producers=[
            ProducerState(
                producer_id=producer.producer_id,
                producer_epoch=producer.epoch,
                last_sequence=producer.last_sequence,
                last_timestamp=producer.last_timestamp,
                coordinator_epoch=producer.coordinator_epoch,
                current_txn_start_offset=NONE if producer.transaction_start is None else producer.transaction_start,
            )
            for producer in producers
        ],
    )


def _failed(index: int, code: Code, why: str | None) -> PartitionResponse:
    return PartitionResponse(partition_index=index, error_code=code, error_message=why, active_producers=[])

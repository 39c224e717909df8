"""DescribeTopicPartitions (API 75): topics and partitions, page by page, with eligible leader replicas (KIP-966)."""

from typing import Annotated

from kpybroker.wire.schema import IGNORABLE, Int16, Int32, Message, Struct, Uuid, message


class TopicRequest(Struct):
    name: str


class Cursor(Struct):
    topic_name: str
    partition_index: Int32


@message(key=75, versions="0", flexible="0+")
class DescribeTopicPartitionsRequest(Message):
    topics: list[TopicRequest]
    response_partition_limit: Int32 = 2000
    cursor: Cursor | None = None


class DescribeTopicPartitionsResponsePartition(Struct):
    error_code: Int16
    partition_index: Int32
    leader_id: Int32
    leader_epoch: Annotated[Int32, IGNORABLE] = -1
    replica_nodes: list[Int32]
    isr_nodes: list[Int32]
    eligible_leader_replicas: list[Int32] | None = None
    last_known_elr: list[Int32] | None = None
    offline_replicas: Annotated[list[Int32], IGNORABLE]


class DescribeTopicPartitionsResponseTopic(Struct):
    error_code: Int16
    name: str | None
    topic_id: Annotated[Uuid, IGNORABLE]
    is_internal: Annotated[bool, IGNORABLE] = False
    partitions: list[DescribeTopicPartitionsResponsePartition]
    topic_authorized_operations: Int32 = -0x80000000


@message(key=75, versions="0", flexible="0+")
class DescribeTopicPartitionsResponse(Message):
    throttle_time_ms: Annotated[Int32, IGNORABLE]
    topics: list[DescribeTopicPartitionsResponseTopic]
    next_cursor: Cursor | None = None

"""AlterPartitionReassignments (API 45): start, change and cancel the move of partitions to other brokers (KIP-455)."""

from typing import Annotated

from kpybroker.wire.schema import IGNORABLE, Int16, Int32, Message, Since, Struct, message


class ReassignablePartition(Struct):
    partition_index: Int32
    replicas: list[Int32] | None = None


class ReassignableTopic(Struct):
    name: str
    partitions: list[ReassignablePartition]


@message(key=45, versions="0-1", flexible="0+")
class AlterPartitionReassignmentsRequest(Message):
    timeout_ms: Int32 = 60000
    allow_replication_factor_change: Annotated[bool, Since(1)] = True
    topics: list[ReassignableTopic]


class ReassignablePartitionResponse(Struct):
    partition_index: Int32
    error_code: Int16
    error_message: str | None


class ReassignableTopicResponse(Struct):
    name: str
    partitions: list[ReassignablePartitionResponse]


@message(key=45, versions="0-1", flexible="0+")
class AlterPartitionReassignmentsResponse(Message):
    throttle_time_ms: Int32
    allow_replication_factor_change: Annotated[bool, Since(1), IGNORABLE] = True
    error_code: Int16
    error_message: str | None
    responses: list[ReassignableTopicResponse]

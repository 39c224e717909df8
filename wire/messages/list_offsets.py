"""ListOffsets (API 2): find the offset of a timestamp, or the ends of a partition."""

from typing import Annotated

from kpybroker.wire.schema import IGNORABLE, Int8, Int16, Int32, Int64, Message, Since, Struct, message


class ListOffsetsPartition(Struct):
    partition_index: Int32
    current_leader_epoch: Annotated[Int32, Since(4), IGNORABLE] = -1  # KIP-320
    timestamp: Int64  # or -1 latest, -2 earliest, -3 greatest timestamp, -4 and below: tiered storage


class ListOffsetsTopic(Struct):
    name: str
    partitions: list[ListOffsetsPartition]


@message(key=2, versions="1-11", flexible="6+")
class ListOffsetsRequest(Message):
    replica_id: Int32
    isolation_level: Annotated[Int8, Since(2)] = 0
    topics: list[ListOffsetsTopic]
    timeout_ms: Annotated[Int32, Since(10), IGNORABLE] = 0


class ListOffsetsPartitionResponse(Struct):
    partition_index: Int32
    error_code: Int16
    timestamp: Int64 = -1  # or -1 latest, -2 earliest, -3 greatest timestamp, -4 and below: tiered storage
    offset: Int64 = -1
    leader_epoch: Annotated[Int32, Since(4)] = -1  # KIP-320


class ListOffsetsTopicResponse(Struct):
    name: str
    partitions: list[ListOffsetsPartitionResponse]


@message(key=2, versions="1-11", flexible="6+")
class ListOffsetsResponse(Message):
    throttle_time_ms: Annotated[Int32, Since(2), IGNORABLE] = 0
    topics: list[ListOffsetsTopicResponse]

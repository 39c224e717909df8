"""DescribeQuorum (API 55): the metadata quorum: leader, voters, observers, how far they are (KIP-595, KIP-836)."""

from typing import Annotated

from kpybroker.wire.primitives import ZERO_UUID
from kpybroker.wire.schema import IGNORABLE, Int16, Int32, Int64, Message, Since, Struct, Uint16, Uuid, message


class RequestPartitionData(Struct):
    partition_index: Int32


class RequestTopicData(Struct):
    topic_name: str
    partitions: list[RequestPartitionData]


@message(key=55, versions="0-2", flexible="0+")
class DescribeQuorumRequest(Message):
    topics: list[RequestTopicData]


class ReplicaState(Struct):
    replica_id: Int32
    replica_directory_id: Annotated[Uuid, Since(2)] = ZERO_UUID
    log_end_offset: Int64
    last_fetch_timestamp: Annotated[Int64, Since(1), IGNORABLE] = -1
    last_caught_up_timestamp: Annotated[Int64, Since(1), IGNORABLE] = -1


class ResponsePartitionData(Struct):
    partition_index: Int32
    error_code: Int16
    error_message: Annotated[str | None, Since(2), IGNORABLE] = ""
    leader_id: Int32
    leader_epoch: Int32
    high_watermark: Int64
    current_voters: list[ReplicaState]
    observers: list[ReplicaState]


class ResponseTopicData(Struct):
    topic_name: str
    partitions: list[ResponsePartitionData]


class Listener(Struct):
    name: str
    host: str
    port: Uint16


class Node(Struct):
    node_id: Int32
    listeners: list[Listener]


@message(key=55, versions="0-2", flexible="0+")
class DescribeQuorumResponse(Message):
    error_code: Int16
    error_message: Annotated[str | None, Since(2), IGNORABLE] = ""
    topics: list[ResponseTopicData]
    nodes: Annotated[list[Node], Since(2)] = []

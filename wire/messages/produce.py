"""Produce (API 0): append record batches to partitions."""

from typing import Annotated

from kpybroker.wire.primitives import ZERO_UUID
from kpybroker.wire.schema import (
    IGNORABLE,
    Int16,
    Int32,
    Int64,
    Message,
    Records,
    Since,
    Struct,
    Tag,
    Uuid,
    Versions,
    message,
)


class PartitionProduceData(Struct):
    index: Int32
    records: Records | None


class TopicProduceData(Struct):
    name: Annotated[str, Versions("3-12"), IGNORABLE] = ""
    topic_id: Annotated[Uuid, Since(13), IGNORABLE] = ZERO_UUID  # KIP-516
    partition_data: list[PartitionProduceData]


@message(key=0, versions="3-13", flexible="9+")
class ProduceRequest(Message):
    transactional_id: str | None = None  # KIP-98
    acks: Int16  # 0: no answer, 1: the leader has it, -1: all in-sync replicas have it
    timeout_ms: Int32
    topic_data: list[TopicProduceData]


class BatchIndexAndErrorMessage(Struct):
    batch_index: Int32
    batch_index_error_message: str | None = None


class LeaderIdAndEpoch(Struct):
    leader_id: Int32 = -1
    leader_epoch: Int32 = -1


class PartitionProduceResponse(Struct):
    index: Int32
    error_code: Int16
    base_offset: Int64
    log_append_time_ms: Annotated[Int64, IGNORABLE] = -1
    log_start_offset: Annotated[Int64, Since(5), IGNORABLE] = -1
    record_errors: Annotated[list[BatchIndexAndErrorMessage], Since(8), IGNORABLE] = []  # KIP-467
    error_message: Annotated[str | None, Since(8), IGNORABLE] = None  # KIP-467
    current_leader: Annotated[LeaderIdAndEpoch, Tag(0, since=10)] = LeaderIdAndEpoch()  # KIP-951


class TopicProduceResponse(Struct):
    name: Annotated[str, Versions("3-12"), IGNORABLE] = ""
    topic_id: Annotated[Uuid, Since(13), IGNORABLE] = ZERO_UUID  # KIP-516
    partition_responses: list[PartitionProduceResponse]


class NodeEndpoint(Struct):
    node_id: Int32
    host: str
    port: Int32
    rack: str | None = None


@message(key=0, versions="3-13", flexible="9+")
class ProduceResponse(Message):
    responses: list[TopicProduceResponse]
    throttle_time_ms: Annotated[Int32, IGNORABLE] = 0
    node_endpoints: Annotated[list[NodeEndpoint], Tag(0, since=10)] = []  # KIP-951

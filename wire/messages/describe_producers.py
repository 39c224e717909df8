"""DescribeProducers (API 61): the active producers of partitions, as their leader knows them (KIP-664)."""

from kpybroker.wire.schema import Int16, Int32, Int64, Message, Struct, message


class TopicRequest(Struct):
    name: str
    partition_indexes: list[Int32]


@message(key=61, versions="0", flexible="0+")
class DescribeProducersRequest(Message):
    topics: list[TopicRequest]


class ProducerState(Struct):
    producer_id: Int64
    producer_epoch: Int32
    last_sequence: Int32 = -1
    last_timestamp: Int64 = -1
    coordinator_epoch: Int32
    current_txn_start_offset: Int64 = -1


class PartitionResponse(Struct):
    partition_index: Int32
    error_code: Int16
    error_message: str | None = None
    active_producers: list[ProducerState]


class TopicResponse(Struct):
    name: str
    partitions: list[PartitionResponse]


@message(key=61, versions="0", flexible="0+")
class DescribeProducersResponse(Message):
    throttle_time_ms: Int32
    topics: list[TopicResponse]

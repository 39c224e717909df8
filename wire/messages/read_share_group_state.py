"""ReadShareGroupState (API 84): read the persisted state of a share group's partitions (KIP-932)."""

from kpybroker.wire.schema import Int8, Int16, Int32, Int64, Message, Struct, Uuid, message


class PartitionData(Struct):
    partition: Int32
    leader_epoch: Int32


class ReadStateData(Struct):
    topic_id: Uuid
    partitions: list[PartitionData]


@message(key=84, versions="0", flexible="0+")
class ReadShareGroupStateRequest(Message):
    group_id: str
    topics: list[ReadStateData]


class StateBatch(Struct):
    first_offset: Int64
    last_offset: Int64
    delivery_state: Int8
    delivery_count: Int16


class PartitionResult(Struct):
    partition: Int32
    error_code: Int16
    error_message: str | None = None
    state_epoch: Int32
    start_offset: Int64
    state_batches: list[StateBatch]


class ReadStateResult(Struct):
    topic_id: Uuid
    partitions: list[PartitionResult]


@message(key=84, versions="0", flexible="0+")
class ReadShareGroupStateResponse(Message):
    results: list[ReadStateResult]

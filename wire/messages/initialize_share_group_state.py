"""InitializeShareGroupState (API 83): set the first persisted state of a share group's partitions (KIP-932)."""

from kpybroker.wire.schema import Int16, Int32, Int64, Message, Struct, Uuid, message


class PartitionData(Struct):
    partition: Int32
    state_epoch: Int32
    start_offset: Int64


class InitializeStateData(Struct):
    topic_id: Uuid
    partitions: list[PartitionData]


@message(key=83, versions="0", flexible="0+")
class InitializeShareGroupStateRequest(Message):
    group_id: str
    topics: list[InitializeStateData]


class PartitionResult(Struct):
    partition: Int32
    error_code: Int16
    error_message: str | None = None


class InitializeStateResult(Struct):
    topic_id: Uuid
    partitions: list[PartitionResult]


@message(key=83, versions="0", flexible="0+")
class InitializeShareGroupStateResponse(Message):
    results: list[InitializeStateResult]

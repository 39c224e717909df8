"""DeleteShareGroupState (API 86): delete the persisted state of a share group's partitions (KIP-932)."""

from kpybroker.wire.schema import Int16, Int32, Message, Struct, Uuid, message


class PartitionData(Struct):
    partition: Int32


class DeleteStateData(Struct):
    topic_id: Uuid
    partitions: list[PartitionData]


@message(key=86, versions="0", flexible="0+")
class DeleteShareGroupStateRequest(Message):
    group_id: str
    topics: list[DeleteStateData]


class PartitionResult(Struct):
    partition: Int32
    error_code: Int16
    error_message: str | None = None


class DeleteStateResult(Struct):
    topic_id: Uuid
    partitions: list[PartitionResult]


@message(key=86, versions="0", flexible="0+")
class DeleteShareGroupStateResponse(Message):
    results: list[DeleteStateResult]

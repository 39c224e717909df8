"""AlterShareGroupOffsets (API 91): move the start offsets of an empty share group (KIP-932)."""

from kpybroker.wire.schema import Int16, Int32, Int64, Message, Struct, Uuid, message


class AlterShareGroupOffsetsRequestPartition(Struct):
    partition_index: Int32
    start_offset: Int64


class AlterShareGroupOffsetsRequestTopic(Struct):
    topic_name: str
    partitions: list[AlterShareGroupOffsetsRequestPartition]


@message(key=91, versions="0", flexible="0+")
class AlterShareGroupOffsetsRequest(Message):
    group_id: str
    topics: list[AlterShareGroupOffsetsRequestTopic]


class AlterShareGroupOffsetsResponsePartition(Struct):
    partition_index: Int32
    error_code: Int16
    error_message: str | None = None


class AlterShareGroupOffsetsResponseTopic(Struct):
    topic_name: str
    topic_id: Uuid
    partitions: list[AlterShareGroupOffsetsResponsePartition]


@message(key=91, versions="0", flexible="0+")
class AlterShareGroupOffsetsResponse(Message):
    throttle_time_ms: Int32
    error_code: Int16
    error_message: str | None = None
    responses: list[AlterShareGroupOffsetsResponseTopic]

"""DeleteShareGroupOffsets (API 92): forget topics of an empty share group (KIP-932)."""

from kpybroker.wire.schema import Int16, Int32, Message, Struct, Uuid, message


class DeleteShareGroupOffsetsRequestTopic(Struct):
    topic_name: str


@message(key=92, versions="0", flexible="0+")
class DeleteShareGroupOffsetsRequest(Message):
    group_id: str
    topics: list[DeleteShareGroupOffsetsRequestTopic]


class DeleteShareGroupOffsetsResponseTopic(Struct):
    topic_name: str
    topic_id: Uuid
    error_code: Int16
    error_message: str | None = None


@message(key=92, versions="0", flexible="0+")
class DeleteShareGroupOffsetsResponse(Message):
    throttle_time_ms: Int32
    error_code: Int16
    error_message: str | None = None
    responses: list[DeleteShareGroupOffsetsResponseTopic]

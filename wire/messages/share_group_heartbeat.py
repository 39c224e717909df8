"""ShareGroupHeartbeat (API 76): join, stay in and leave a share group (KIP-932)."""

from kpybroker.wire.schema import Int16, Int32, Message, Struct, Uuid, message


@message(key=76, versions="1", flexible="0+")
class ShareGroupHeartbeatRequest(Message):
    group_id: str
    member_id: str
    member_epoch: Int32
    rack_id: str | None = None
    subscribed_topic_names: list[str] | None = None


class TopicPartitions(Struct):
    topic_id: Uuid
    partitions: list[Int32]


class Assignment(Struct):
    topic_partitions: list[TopicPartitions]


@message(key=76, versions="1", flexible="0+")
class ShareGroupHeartbeatResponse(Message):
    throttle_time_ms: Int32
    error_code: Int16
    error_message: str | None = None
    member_id: str | None = None
    member_epoch: Int32
    heartbeat_interval_ms: Int32
    assignment: Assignment | None = None

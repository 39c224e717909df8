"""ShareGroupDescribe (API 77): members and assignments of share groups (KIP-932)."""

from kpybroker.wire.schema import Int16, Int32, Message, Struct, Uuid, message


@message(key=77, versions="1", flexible="0+")
class ShareGroupDescribeRequest(Message):
    group_ids: list[str]
    include_authorized_operations: bool


class TopicPartitions(Struct):
    topic_id: Uuid
    topic_name: str
    partitions: list[Int32]


class Assignment(Struct):
    topic_partitions: list[TopicPartitions]


class Member(Struct):
    member_id: str
    rack_id: str | None = None
    member_epoch: Int32
    client_id: str
    client_host: str
    subscribed_topic_names: list[str]
    assignment: Assignment


class DescribedGroup(Struct):
    error_code: Int16
    error_message: str | None = None
    group_id: str
    group_state: str
    group_epoch: Int32
    assignment_epoch: Int32
    assignor_name: str
    members: list[Member]
    authorized_operations: Int32 = -0x80000000


@message(key=77, versions="1", flexible="0+")
class ShareGroupDescribeResponse(Message):
    throttle_time_ms: Int32
    groups: list[DescribedGroup]

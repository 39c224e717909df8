"""Records of __consumer_offsets for share groups (KIP-932)."""

from typing import Annotated

from kpybroker.wire.schema import IGNORABLE, Int8, Int32, Int64, Message, Struct, Tag, Uuid, message


@message(key=10, versions="0")
class ShareGroupMemberMetadataKey(Message):
    """Which member it is."""

    group_id: str
    member_id: str


@message(key=10, versions="0", flexible="0+")
class ShareGroupMemberMetadataValue(Message):
    """What a member told of itself."""

    rack_id: str | None
    client_id: str
    client_host: str
    subscribed_topic_names: list[str]


@message(key=11, versions="0")
class ShareGroupMetadataKey(Message):
    """Which share group it is."""

    group_id: str


@message(key=11, versions="0", flexible="0+")
class ShareGroupMetadataValue(Message):
    """A share group: its epoch and what that was computed from."""

    epoch: Int32
    metadata_hash: Int64


@message(key=12, versions="0")
class ShareGroupTargetAssignmentMetadataKey(Message):
    """Whose target assignment it is."""

    group_id: str


@message(key=12, versions="0", flexible="0+")
class ShareGroupTargetAssignmentMetadataValue(Message):
    """The epoch of a group's target assignment."""

    assignment_epoch: Int32
    assignment_timestamp: Annotated[Int64, Tag(0), IGNORABLE] = 0


@message(key=13, versions="0")
class ShareGroupTargetAssignmentMemberKey(Message):
    """Whose part of the target assignment it is."""

    group_id: str
    member_id: str


class TopicPartition(Struct):
    topic_id: Uuid
    partitions: list[Int32]


@message(key=13, versions="0", flexible="0+")
class ShareGroupTargetAssignmentMemberValue(Message):
    """What a member is to have in the end."""

    topic_partitions: list[TopicPartition]


@message(key=14, versions="0")
class ShareGroupCurrentMemberAssignmentKey(Message):
    """Whose present assignment it is."""

    group_id: str
    member_id: str


class TopicPartitions(Struct):
    topic_id: Uuid
    partitions: list[Int32]


@message(key=14, versions="0", flexible="0+")
class ShareGroupCurrentMemberAssignmentValue(Message):
    """What a member has now."""

    member_epoch: Int32
    previous_member_epoch: Int32
    state: Int8
    assigned_partitions: list[TopicPartitions]


@message(key=15, versions="0")
class ShareGroupStatePartitionMetadataKey(Message):
    """Whose share partitions they are."""

    group_id: str


class TopicPartitionsInfo(Struct):
    topic_id: Uuid
    topic_name: str
    partitions: list[Int32]


class TopicInfo(Struct):
    topic_id: Uuid
    topic_name: str


@message(key=15, versions="0", flexible="0+")
class ShareGroupStatePartitionMetadataValue(Message):
    """The share partitions whose state is being set up, is there, or is being deleted."""

    initializing_topics: list[TopicPartitionsInfo]
    initialized_topics: list[TopicPartitionsInfo]
    deleting_topics: list[TopicInfo]

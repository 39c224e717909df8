"""Records of __consumer_offsets for consumer groups of KIP-848."""

from typing import Annotated

from kpybroker.wire.schema import IGNORABLE, Int8, Int32, Int64, Message, Struct, Tag, Uuid, message


@message(key=3, versions="0")
class ConsumerGroupMetadataKey(Message):
    """Which consumer group it is."""

    group_id: str


@message(key=3, versions="0", flexible="0+")
class ConsumerGroupMetadataValue(Message):
    """A consumer group: its epoch and what that was computed from."""

    epoch: Int32
    metadata_hash: Annotated[Int64, Tag(0)] = 0


@message(key=4, versions="0")
class ConsumerGroupPartitionMetadataKey(Message):
    """Whose topics they are; no longer written since 4.1."""

    group_id: str


class PartitionMetadata(Struct):
    partition: Int32
    racks: list[str]


class TopicMetadata(Struct):
    topic_id: Uuid
    topic_name: str
    num_partitions: Int32
    partition_metadata: list[PartitionMetadata]


@message(key=4, versions="0", flexible="0+")
class ConsumerGroupPartitionMetadataValue(Message):
    """The topics of a group with their partitions and racks; no longer written since 4.1."""

    topics: list[TopicMetadata]


@message(key=5, versions="0")
class ConsumerGroupMemberMetadataKey(Message):
    """Which member it is."""

    group_id: str
    member_id: str


class ClassicProtocol(Struct):
    name: str
    metadata: bytes


class ClassicMemberMetadata(Struct):
    session_timeout_ms: Int32
    supported_protocols: list[ClassicProtocol]


@message(key=5, versions="0", flexible="0+")
class ConsumerGroupMemberMetadataValue(Message):
    """What a member told of itself."""

    instance_id: str | None
    rack_id: str | None
    client_id: str
    client_host: str
    subscribed_topic_names: list[str]
    subscribed_topic_regex: str | None
    rebalance_timeout_ms: Int32 = -1
    server_assignor: str | None
    classic_member_metadata: Annotated[ClassicMemberMetadata | None, Tag(0)] = ClassicMemberMetadata(
        session_timeout_ms=0, supported_protocols=[]
    )


@message(key=6, versions="0")
class ConsumerGroupTargetAssignmentMetadataKey(Message):
    """Whose target assignment it is."""

    group_id: str


@message(key=6, versions="0", flexible="0+")
class ConsumerGroupTargetAssignmentMetadataValue(Message):
    """The epoch of a group's target assignment."""

    assignment_epoch: Int32
    assignment_timestamp: Annotated[Int64, Tag(0), IGNORABLE] = 0


@message(key=7, versions="0")
class ConsumerGroupTargetAssignmentMemberKey(Message):
    """Whose part of the target assignment it is."""

    group_id: str
    member_id: str


class TopicPartition(Struct):
    topic_id: Uuid
    partitions: list[Int32]


@message(key=7, versions="0", flexible="0+")
class ConsumerGroupTargetAssignmentMemberValue(Message):
    """What a member is to have in the end."""

    topic_partitions: list[TopicPartition]


@message(key=8, versions="0")
class ConsumerGroupCurrentMemberAssignmentKey(Message):
    """Whose present assignment it is."""

    group_id: str
    member_id: str


class TopicPartitions(Struct):
    topic_id: Uuid
    partitions: list[Int32]
    assignment_epochs: Annotated[list[Int32] | None, Tag(0)] = []


@message(key=8, versions="0", flexible="0+")
class ConsumerGroupCurrentMemberAssignmentValue(Message):
    """What a member has now, and what it is giving back."""

    member_epoch: Int32
    previous_member_epoch: Int32
    state: Int8
    assigned_partitions: list[TopicPartitions]
    partitions_pending_revocation: list[TopicPartitions]


@message(key=16, versions="0")
class ConsumerGroupRegularExpressionKey(Message):
    """Which regular expression of a group it is."""

    group_id: str
    regular_expression: str


@message(key=16, versions="0", flexible="0+")
class ConsumerGroupRegularExpressionValue(Message):
    """The topics that a regular expression matched, and at which version of the metadata."""

    topics: list[str]
    version: Int64
    timestamp: Int64

"""Records of __consumer_offsets for Streams groups (KIP-1071)."""

from typing import Annotated

from kpybroker.wire.schema import IGNORABLE, Int8, Int16, Int32, Int64, Message, Struct, Tag, Uint16, message


@message(key=17, versions="0")
class StreamsGroupMetadataKey(Message):
    """Which Streams group it is."""

    group_id: str


class LastAssignmentConfig(Struct):
    key: str
    value: str


@message(key=17, versions="0", flexible="0+")
class StreamsGroupMetadataValue(Message):
    """A Streams group: its epoch and what that was computed from."""

    epoch: Int32
    metadata_hash: Int64
    validated_topology_epoch: Annotated[Int32, Tag(0)] = -1
    last_assignment_configs: Annotated[list[LastAssignmentConfig] | None, Tag(1)] = []
    stored_description_topology_epoch: Annotated[Int32, Tag(2)] = -1
    failed_description_topology_epoch: Annotated[Int32, Tag(3)] = -1


@message(key=19, versions="0")
class StreamsGroupMemberMetadataKey(Message):
    """Which member it is."""

    group_id: str
    member_id: str


class Endpoint(Struct):
    host: str
    port: Uint16


class KeyValue(Struct):
    key: str
    value: str


@message(key=19, versions="0", flexible="0+")
class StreamsGroupMemberMetadataValue(Message):
    """What a member told of itself."""

    instance_id: str | None
    rack_id: str | None
    client_id: str
    client_host: str
    rebalance_timeout_ms: Int32 = -1
    topology_epoch: Int32
    process_id: str
    user_endpoint: Endpoint | None = None
    client_tags: list[KeyValue]


@message(key=20, versions="0")
class StreamsGroupTargetAssignmentMetadataKey(Message):
    """Whose target assignment it is."""

    group_id: str


@message(key=20, versions="0", flexible="0+")
class StreamsGroupTargetAssignmentMetadataValue(Message):
    """The epoch of a group's target assignment."""

    assignment_epoch: Int32
    assignment_timestamp: Annotated[Int64, Tag(0), IGNORABLE] = 0


@message(key=21, versions="0")
class StreamsGroupTargetAssignmentMemberKey(Message):
    """Whose part of the target assignment it is."""

    group_id: str
    member_id: str


class TaskIds(Struct):
    subtopology_id: str
    partitions: list[Int32]


@message(key=21, versions="0", flexible="0+")
class StreamsGroupTargetAssignmentMemberValue(Message):
    """What a member is to have in the end."""

    active_tasks: list[TaskIds]
    standby_tasks: list[TaskIds]
    warmup_tasks: list[TaskIds]


@message(key=22, versions="0")
class StreamsGroupCurrentMemberAssignmentKey(Message):
    """Whose present assignment it is."""

    group_id: str
    member_id: str


class CurrentTaskIds(Struct):
    subtopology_id: str
    partitions: list[Int32]
    assignment_epochs: Annotated[list[Int32] | None, Tag(0)] = []


@message(key=22, versions="0", flexible="0+")
class StreamsGroupCurrentMemberAssignmentValue(Message):
    """What a member has now, and what it is giving back."""

    member_epoch: Int32
    previous_member_epoch: Int32
    state: Int8
    active_tasks: list[CurrentTaskIds]
    standby_tasks: list[CurrentTaskIds]
    warmup_tasks: list[CurrentTaskIds]
    active_tasks_pending_revocation: list[CurrentTaskIds]
    standby_tasks_pending_revocation: list[CurrentTaskIds]
    warmup_tasks_pending_revocation: list[CurrentTaskIds]


@message(key=23, versions="0")
class StreamsGroupTopologyKey(Message):
    """Whose topology it is."""

    group_id: str


class TopicConfig(Struct):
    key: str
    value: str


class TopicInfo(Struct):
    name: str
    partitions: Int32
    replication_factor: Int16
    topic_configs: list[TopicConfig]


class CopartitionGroup(Struct):
    source_topics: list[Int16]
    source_topic_regex: list[Int16]
    repartition_source_topics: list[Int16]


class Subtopology(Struct):
    subtopology_id: str
    source_topics: list[str]
    source_topic_regex: list[str]
    state_changelog_topics: list[TopicInfo]
    repartition_sink_topics: list[str]
    repartition_source_topics: list[TopicInfo]
    copartition_groups: list[CopartitionGroup]


@message(key=23, versions="0", flexible="0+")
class StreamsGroupTopologyValue(Message):
    """The topology of a Streams group: subtopologies with their source and internal topics."""

    epoch: Int32
    subtopologies: list[Subtopology]

"""Records of __remote_log_metadata: segments in tiered storage (KIP-405)."""

from typing import Annotated

from kpybroker.wire.schema import Int8, Int32, Int64, Message, Struct, Tag, Uuid, message


class TopicIdPartitionEntry(Struct):
    name: str
    id: Uuid
    partition: Int32


class RemoteLogSegmentIdEntry(Struct):
    topic_id_partition: TopicIdPartitionEntry
    id: Uuid


class SegmentLeaderEpochEntry(Struct):
    leader_epoch: Int32
    offset: Int64


@message(key=0, versions="0", flexible="0+")
class RemoteLogSegmentMetadataRecord(Message):
    """A segment is being copied to remote storage."""

    remote_log_segment_id: RemoteLogSegmentIdEntry
    start_offset: Int64
    end_offset: Int64
    broker_id: Int32
    max_timestamp_ms: Int64
    event_timestamp_ms: Int64
    segment_leader_epochs: list[SegmentLeaderEpochEntry]
    segment_size_in_bytes: Int32
    custom_metadata: bytes | None = None
    remote_log_segment_state: Int8
    txn_index_empty: Annotated[bool, Tag(0)] = False


@message(key=1, versions="0", flexible="0+")
class RemoteLogSegmentMetadataUpdateRecord(Message):
    """A remote segment changes its state."""

    remote_log_segment_id: RemoteLogSegmentIdEntry
    broker_id: Int32
    event_timestamp_ms: Int64
    custom_metadata: bytes | None = None
    remote_log_segment_state: Int8


@message(key=3, versions="0", flexible="0+")
class RemoteLogSegmentMetadataSnapshotRecord(Message):
    """A remote segment as a snapshot of the metadata keeps it."""

    segment_id: Uuid
    start_offset: Int64
    end_offset: Int64
    broker_id: Int32
    max_timestamp_ms: Int64
    event_timestamp_ms: Int64
    segment_leader_epochs: list[SegmentLeaderEpochEntry]
    segment_size_in_bytes: Int32
    custom_metadata: bytes | None = None
    remote_log_segment_state: Int8
    txn_index_empty: Annotated[bool, Tag(0)] = False


@message(key=2, versions="0", flexible="0+")
class RemotePartitionDeleteMetadataRecord(Message):
    """A partition's remote segments are being deleted."""

    topic_id_partition: TopicIdPartitionEntry
    broker_id: Int32
    event_timestamp_ms: Int64
    remote_partition_delete_state: Int8

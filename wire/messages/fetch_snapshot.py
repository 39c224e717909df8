"""FetchSnapshot (API 59): read a snapshot of the metadata log in slices (KIP-630)."""

from typing import Annotated

from kpybroker.wire.primitives import ZERO_UUID
from kpybroker.wire.schema import IGNORABLE, Int16, Int32, Int64, Message, Records, Struct, Tag, Uint16, Uuid, message


class SnapshotId(Struct):
    end_offset: Int64
    epoch: Int32


class RequestPartitionSnapshot(Struct):
    partition: Int32
    current_leader_epoch: Int32  # KIP-320
    snapshot_id: SnapshotId
    position: Int64
    replica_directory_id: Annotated[Uuid, Tag(0, since=1), IGNORABLE] = ZERO_UUID  # KIP-853


class RequestTopicSnapshot(Struct):
    name: str
    partitions: list[RequestPartitionSnapshot]


@message(key=59, versions="0-1", flexible="0+")
class FetchSnapshotRequest(Message):
    cluster_id: Annotated[str | None, Tag(0)] = None  # KIP-595
    replica_id: Int32 = -1
    max_bytes: Int32 = 0x7FFFFFFF
    topics: list[RequestTopicSnapshot]


class LeaderIdAndEpoch(Struct):
    leader_id: Int32
    leader_epoch: Int32


class ResponsePartitionSnapshot(Struct):
    index: Int32
    error_code: Int16
    snapshot_id: SnapshotId
    current_leader: Annotated[LeaderIdAndEpoch, Tag(0)] = LeaderIdAndEpoch(
        leader_id=0, leader_epoch=0
    )  # KIP-595, KIP-951
    size: Int64
    position: Int64
    unaligned_records: Records


class ResponseTopicSnapshot(Struct):
    name: str
    partitions: list[ResponsePartitionSnapshot]


class NodeEndpoint(Struct):
    node_id: Int32
    host: str
    port: Uint16


@message(key=59, versions="0-1", flexible="0+")
class FetchSnapshotResponse(Message):
    throttle_time_ms: Annotated[Int32, IGNORABLE]
    error_code: Int16
    topics: list[ResponseTopicSnapshot]
    node_endpoints: Annotated[list[NodeEndpoint], Tag(0, since=1)] = []  # KIP-951

"""Fetch (API 1): read record batches: consumers, following replicas and the metadata quorum."""

from typing import Annotated

from kpybroker.wire.primitives import ZERO_UUID
from kpybroker.wire.schema import (
    IGNORABLE,
    Int8,
    Int16,
    Int32,
    Int64,
    Message,
    Records,
    Since,
    Struct,
    Tag,
    Uuid,
    Versions,
    message,
)


class ReplicaState(Struct):
    replica_id: Int32 = -1
    replica_epoch: Int64 = -1


class FetchPartition(Struct):
    partition: Int32
    current_leader_epoch: Annotated[Int32, Since(9), IGNORABLE] = -1  # KIP-320
    fetch_offset: Int64
    last_fetched_epoch: Annotated[Int32, Since(12)] = -1  # KIP-595
    log_start_offset: Annotated[Int64, Since(5), IGNORABLE] = -1  # of a follower (KIP-107)
    partition_max_bytes: Int32
    replica_directory_id: Annotated[Uuid, Tag(0, since=17), IGNORABLE] = ZERO_UUID  # KIP-853
    high_watermark: Annotated[Int64, Tag(1, since=18), IGNORABLE] = 0x7FFFFFFFFFFFFFFF  # of a follower, KIP-1166


class FetchTopic(Struct):
    topic: Annotated[str, Versions("4-12"), IGNORABLE] = ""
    topic_id: Annotated[Uuid, Since(13), IGNORABLE] = ZERO_UUID  # KIP-516
    partitions: list[FetchPartition]


class ForgottenTopic(Struct):
    topic: Annotated[str, Versions("7-12"), IGNORABLE] = ""
    topic_id: Annotated[Uuid, Since(13), IGNORABLE] = ZERO_UUID  # KIP-516
    partitions: list[Int32]


@message(key=1, versions="4-18", flexible="12+")
class FetchRequest(Message):
    cluster_id: Annotated[str | None, Tag(0, since=12), IGNORABLE] = None  # KIP-595
    replica_id: Annotated[Int32, Versions("4-14")] = -1
    replica_state: Annotated[ReplicaState, Tag(1, since=15)] = ReplicaState()  # KIP-903
    max_wait_ms: Int32
    min_bytes: Int32
    max_bytes: Annotated[Int32, IGNORABLE] = 0x7FFFFFFF
    isolation_level: Annotated[Int8, IGNORABLE] = 0  # 0: read uncommitted, 1: read committed (KIP-98)
    session_id: Annotated[Int32, Since(7), IGNORABLE] = 0  # fetch sessions, KIP-227
    session_epoch: Annotated[Int32, Since(7), IGNORABLE] = -1
    topics: list[FetchTopic]
    forgotten_topics_data: Annotated[list[ForgottenTopic], Since(7)] = []  # KIP-227
    rack_id: Annotated[str, Since(11), IGNORABLE] = ""  # KIP-392


class EpochEndOffset(Struct):
    epoch: Int32 = -1
    end_offset: Int64 = -1


class LeaderIdAndEpoch(Struct):
    leader_id: Int32 = -1
    leader_epoch: Int32 = -1


class SnapshotId(Struct):
    end_offset: Int64 = -1
    epoch: Int32 = -1


class AbortedTransaction(Struct):
    producer_id: Int64
    first_offset: Int64


class PartitionData(Struct):
    partition_index: Int32
    error_code: Int16
    high_watermark: Int64
    last_stable_offset: Annotated[Int64, IGNORABLE] = -1
    log_start_offset: Annotated[Int64, Since(5), IGNORABLE] = -1
    diverging_epoch: Annotated[EpochEndOffset, Tag(0, since=12)] = EpochEndOffset()  # KIP-595
    current_leader: Annotated[LeaderIdAndEpoch, Tag(1, since=12)] = LeaderIdAndEpoch()  # KIP-595, KIP-951
    snapshot_id: Annotated[SnapshotId, Tag(2, since=12)] = SnapshotId()  # KIP-630
    aborted_transactions: Annotated[list[AbortedTransaction] | None, IGNORABLE]
    preferred_read_replica: Annotated[Int32, Since(11)] = -1  # KIP-392
    records: Records | None


class FetchableTopicResponse(Struct):
    topic: Annotated[str, Versions("4-12"), IGNORABLE] = ""
    topic_id: Annotated[Uuid, Since(13), IGNORABLE] = ZERO_UUID  # KIP-516
    partitions: list[PartitionData]


class NodeEndpoint(Struct):
    node_id: Int32
    host: str
    port: Int32
    rack: str | None = None


@message(key=1, versions="4-18", flexible="12+")
class FetchResponse(Message):
    throttle_time_ms: Annotated[Int32, IGNORABLE]
    error_code: Annotated[Int16, Since(7), IGNORABLE] = 0
    session_id: Annotated[Int32, Since(7)] = 0  # fetch sessions, KIP-227
    responses: list[FetchableTopicResponse]
    node_endpoints: Annotated[list[NodeEndpoint], Tag(0, since=16)] = []  # KIP-951

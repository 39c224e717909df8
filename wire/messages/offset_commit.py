"""OffsetCommit (API 8): store the offsets of a group."""

from typing import Annotated

from kpybroker.wire.primitives import ZERO_UUID
from kpybroker.wire.schema import IGNORABLE, Int16, Int32, Int64, Message, Since, Struct, Uuid, Versions, message


class OffsetCommitRequestPartition(Struct):
    partition_index: Int32
    committed_offset: Int64
    committed_leader_epoch: Annotated[Int32, Since(6), IGNORABLE] = -1  # KIP-320
    committed_metadata: str | None


class OffsetCommitRequestTopic(Struct):
    name: Annotated[str, Versions("2-9"), IGNORABLE] = ""
    topic_id: Annotated[Uuid, Since(10), IGNORABLE] = ZERO_UUID
    partitions: list[OffsetCommitRequestPartition]


@message(key=8, versions="2-10", flexible="8+")
class OffsetCommitRequest(Message):
    group_id: str
    generation_id_or_member_epoch: Annotated[Int32, IGNORABLE] = -1
    member_id: Annotated[str, IGNORABLE]
    group_instance_id: Annotated[str | None, Since(7)] = None  # KIP-345
    retention_time_ms: Annotated[Int64, Versions("2-4"), IGNORABLE] = -1
    topics: list[OffsetCommitRequestTopic]


class OffsetCommitResponsePartition(Struct):
    partition_index: Int32
    error_code: Int16


class OffsetCommitResponseTopic(Struct):
    name: Annotated[str, Versions("2-9"), IGNORABLE] = ""
    topic_id: Annotated[Uuid, Since(10), IGNORABLE] = ZERO_UUID
    partitions: list[OffsetCommitResponsePartition]


@message(key=8, versions="2-10", flexible="8+")
class OffsetCommitResponse(Message):
    throttle_time_ms: Annotated[Int32, Since(3), IGNORABLE] = 0
    topics: list[OffsetCommitResponseTopic]

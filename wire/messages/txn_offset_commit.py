"""TxnOffsetCommit (API 28): store the offsets of a group as part of a transaction."""

from typing import Annotated

from kpybroker.wire.primitives import ZERO_UUID
from kpybroker.wire.schema import IGNORABLE, Int16, Int32, Int64, Message, Since, Struct, Uuid, Versions, message


class TxnOffsetCommitRequestPartition(Struct):
    partition_index: Int32
    committed_offset: Int64
    committed_leader_epoch: Annotated[Int32, Since(2), IGNORABLE] = -1  # KIP-320
    committed_metadata: str | None


class TxnOffsetCommitRequestTopic(Struct):
    name: Annotated[str, Versions("0-5"), IGNORABLE] = ""
    topic_id: Annotated[Uuid, Since(6), IGNORABLE] = ZERO_UUID
    partitions: list[TxnOffsetCommitRequestPartition]


@message(key=28, versions="0-6", flexible="3+")
class TxnOffsetCommitRequest(Message):
    transactional_id: str
    group_id: str
    producer_id: Int64
    producer_epoch: Int16
    generation_id_or_member_epoch: Annotated[Int32, Since(3)] = -1
    member_id: Annotated[str, Since(3)] = ""
    group_instance_id: Annotated[str | None, Since(3)] = None  # KIP-345
    topics: list[TxnOffsetCommitRequestTopic]


class TxnOffsetCommitResponsePartition(Struct):
    partition_index: Int32
    error_code: Int16


class TxnOffsetCommitResponseTopic(Struct):
    name: Annotated[str, Versions("0-5"), IGNORABLE] = ""
    topic_id: Annotated[Uuid, Since(6), IGNORABLE] = ZERO_UUID
    partitions: list[TxnOffsetCommitResponsePartition]


@message(key=28, versions="0-6", flexible="3+")
class TxnOffsetCommitResponse(Message):
    throttle_time_ms: Int32
    topics: list[TxnOffsetCommitResponseTopic]

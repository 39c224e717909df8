"""OffsetForLeaderEpoch (API 23): where a leader epoch ends, to find where logs diverge (KIP-101, KIP-320)."""

from typing import Annotated

from kpybroker.wire.schema import IGNORABLE, Int16, Int32, Int64, Message, Since, Struct, message


class OffsetForLeaderPartition(Struct):
    partition: Int32
    current_leader_epoch: Annotated[Int32, IGNORABLE] = -1
    leader_epoch: Int32


class OffsetForLeaderTopic(Struct):
    topic: str
    partitions: list[OffsetForLeaderPartition]


@message(key=23, versions="2-4", flexible="4+")
class OffsetForLeaderEpochRequest(Message):
    replica_id: Annotated[Int32, Since(3), IGNORABLE] = -2
    topics: list[OffsetForLeaderTopic]


class EpochEndOffset(Struct):
    error_code: Int16
    partition: Int32
    leader_epoch: Annotated[Int32, IGNORABLE] = -1
    end_offset: Int64 = -1


class OffsetForLeaderTopicResult(Struct):
    topic: str
    partitions: list[EpochEndOffset]


@message(key=23, versions="2-4", flexible="4+")
class OffsetForLeaderEpochResponse(Message):
    throttle_time_ms: Annotated[Int32, IGNORABLE]
    topics: list[OffsetForLeaderTopicResult]

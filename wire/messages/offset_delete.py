"""OffsetDelete (API 47): forget committed offsets of topics that a group no longer reads (KIP-496)."""

from typing import Annotated

from kpybroker.wire.schema import IGNORABLE, Int16, Int32, Message, Struct, message


class OffsetDeleteRequestPartition(Struct):
    partition_index: Int32


class OffsetDeleteRequestTopic(Struct):
    name: str
    partitions: list[OffsetDeleteRequestPartition]


@message(key=47, versions="0")
class OffsetDeleteRequest(Message):
    group_id: str
    topics: list[OffsetDeleteRequestTopic]


class OffsetDeleteResponsePartition(Struct):
    partition_index: Int32
    error_code: Int16


class OffsetDeleteResponseTopic(Struct):
    name: str
    partitions: list[OffsetDeleteResponsePartition]


@message(key=47, versions="0")
class OffsetDeleteResponse(Message):
    error_code: Int16
    throttle_time_ms: Annotated[Int32, IGNORABLE]
    topics: list[OffsetDeleteResponseTopic]

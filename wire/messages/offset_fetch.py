"""OffsetFetch (API 9): the committed offsets of groups."""

from typing import Annotated

from kpybroker.wire.primitives import ZERO_UUID
from kpybroker.wire.schema import (
    IGNORABLE,
    Int16,
    Int32,
    Int64,
    Message,
    Nullable,
    Since,
    Struct,
    Uuid,
    Versions,
    message,
)


class OffsetFetchRequestTopic(Struct):
    name: str
    partition_indexes: list[Int32]


class OffsetFetchRequestTopics(Struct):
    name: Annotated[str, Versions("8-9"), IGNORABLE] = ""
    topic_id: Annotated[Uuid, Since(10), IGNORABLE] = ZERO_UUID
    partition_indexes: list[Int32]


class OffsetFetchRequestGroup(Struct):
    group_id: str
    member_id: Annotated[str | None, Since(9), IGNORABLE] = None
    member_epoch: Annotated[Int32, Since(9), IGNORABLE] = -1
    topics: list[OffsetFetchRequestTopics] | None


@message(key=9, versions="1-10", flexible="6+")
class OffsetFetchRequest(Message):
    group_id: Annotated[str, Versions("1-7")] = ""
    topics: Annotated[list[OffsetFetchRequestTopic] | None, Versions("1-7"), Nullable("2+")] = []
    groups: Annotated[list[OffsetFetchRequestGroup], Since(8)] = []
    require_stable: Annotated[bool, Since(7)] = False  # wait for open transactions, KIP-447


class OffsetFetchResponsePartition(Struct):
    partition_index: Int32
    committed_offset: Int64
    committed_leader_epoch: Annotated[Int32, Since(5), IGNORABLE] = -1  # KIP-320
    metadata: str | None
    error_code: Int16


class OffsetFetchResponseTopic(Struct):
    name: str
    partitions: list[OffsetFetchResponsePartition]


class OffsetFetchResponsePartitions(Struct):
    partition_index: Int32
    committed_offset: Int64
    committed_leader_epoch: Annotated[Int32, IGNORABLE] = -1  # KIP-320
    metadata: str | None
    error_code: Int16


class OffsetFetchResponseTopics(Struct):
    name: Annotated[str, Versions("8-9"), IGNORABLE] = ""
    topic_id: Annotated[Uuid, Since(10), IGNORABLE] = ZERO_UUID
    partitions: list[OffsetFetchResponsePartitions]


class OffsetFetchResponseGroup(Struct):
    group_id: str
    topics: list[OffsetFetchResponseTopics]
    error_code: Int16 = 0


@message(key=9, versions="1-10", flexible="6+")
class OffsetFetchResponse(Message):
    throttle_time_ms: Annotated[Int32, Since(3), IGNORABLE] = 0
    topics: Annotated[list[OffsetFetchResponseTopic], Versions("1-7")] = []
    error_code: Annotated[Int16, Versions("2-7"), IGNORABLE] = 0
    groups: Annotated[list[OffsetFetchResponseGroup], Since(8)] = []

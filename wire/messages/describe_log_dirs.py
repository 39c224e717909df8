"""DescribeLogDirs (API 35): the log directories of a broker and the sizes of the replicas in them (KIP-113)."""

from typing import Annotated

from kpybroker.wire.schema import IGNORABLE, Int16, Int32, Int64, Message, Since, Struct, message


class DescribableLogDirTopic(Struct):
    topic: str
    partitions: list[Int32]


@message(key=35, versions="1-5", flexible="2+")
class DescribeLogDirsRequest(Message):
    topics: list[DescribableLogDirTopic] | None


class DescribeLogDirsPartition(Struct):
    partition_index: Int32
    partition_size: Int64
    offset_lag: Int64
    is_future_key: bool


class DescribeLogDirsTopic(Struct):
    name: str
    partitions: list[DescribeLogDirsPartition]


class DescribeLogDirsResult(Struct):
    error_code: Int16
    log_dir: str
    topics: list[DescribeLogDirsTopic]
    total_bytes: Annotated[Int64, Since(4), IGNORABLE] = -1
    usable_bytes: Annotated[Int64, Since(4), IGNORABLE] = -1
    is_cordoned: Annotated[bool, Since(5), IGNORABLE] = False


@message(key=35, versions="1-5", flexible="2+")
class DescribeLogDirsResponse(Message):
    throttle_time_ms: Int32
    error_code: Annotated[Int16, Since(3), IGNORABLE] = 0
    results: list[DescribeLogDirsResult]

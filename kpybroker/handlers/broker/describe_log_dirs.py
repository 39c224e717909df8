"""DescribeLogDirs (API 35): this broker's data folders, and how large the logs in them are (KIP-113).

v3: an error for the whole. v4: the size of the volume, and what of it is free (KIP-827). v5: whether a folder is
cordoned (KIP-1066).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kpybroker.cluster.features import CORDONED_DIRECTORIES_SINCE
from kpybroker.security.operations import Operation
from kpybroker.storage.errors import StorageFailed
from kpybroker.wire.codes import Code
from kpybroker.wire.messages.describe_log_dirs import (
    DescribeLogDirsPartition,
    DescribeLogDirsRequest,
    DescribeLogDirsResponse,
    DescribeLogDirsResult,
    DescribeLogDirsTopic,
)

if TYPE_CHECKING:
    from kpybroker.handlers.context import Context
    from kpybroker.replication.log_dir import LogDir


async def handle(ctx: Context, request: DescribeLogDirsRequest) -> DescribeLogDirsResponse:
    """Describe the partitions asked for, or all of them; those that aren't here are left out."""
    if not ctx.allows(Operation.DESCRIBE):
        return DescribeLogDirsResponse(throttle_time_ms=0, error_code=Code.CLUSTER_AUTHORIZATION_FAILED, results=[])
    here = set(ctx.replicas.assigned())
    if request.topics is not None:
        here &= {(topic.topic, index) for topic in request.topics for index in topic.partitions}
    results = []
    for path in ctx.replicas.logs.paths:
        home = ctx.replicas.logs.dir_at(path)
        results.append(_failed(path) if home is None else await _describe(ctx, home, here))
    return DescribeLogDirsResponse(throttle_time_ms=0, error_code=Code.NONE, results=results)


def _failed(path: str) -> DescribeLogDirsResult:
    return DescribeLogDirsResult(error_code=Code.KAFKA_STORAGE_ERROR, log_dir=path, topics=[])


async def _describe(ctx: Context, home: LogDir, here: set[tuple[str, int]]) -> DescribeLogDirsResult:
    logs = ctx.replicas.logs
    try:
        sizes, room = await logs.usage(home, here)
    except StorageFailed as failure:
        logs.trouble.met(f"look at {home.path}", failure)
        return _failed(home.path)
    topics: dict[str, list[DescribeLogDirsPartition]] = {}
    for (topic, index), size in sizes.items():  # a replica that leads lags behind nobody
        topics.setdefault(topic, []).append(
            DescribeLogDirsPartition(partition_index=index, partition_size=size, offset_lag=0, is_future_key=False)
        )
    for topic, index in here & home.futures.keys():
        copy = home.futures[topic, index]
        topics.setdefault(topic, []).append(
            DescribeLogDirsPartition(
                partition_index=index,
                partition_size=copy.size_bytes,
                offset_lag=ctx.replicas.get(topic, index).log.log_end_offset - copy.log_end_offset,
                is_future_key=True,
            )
        )
    return DescribeLogDirsResult(
        error_code=Code.NONE,
        log_dir=home.path,
        topics=[DescribeLogDirsTopic(name=name, partitions=partitions) for name, partitions in topics.items()],
        total_bytes=room.total,
        usable_bytes=room.usable,
        is_cordoned=logs.cordoned(home.path)
        and (ctx.image.features.metadata_version or 0) >= CORDONED_DIRECTORIES_SINCE,
    )

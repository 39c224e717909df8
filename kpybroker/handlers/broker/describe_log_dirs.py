"""DescribeLogDirs (API 35): this broker's data folder, and how large the logs in it are (KIP-113).

v3: an error for the whole. v4: the size of the volume, and what of it is free (KIP-827). v5: whether the folder is
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


async def handle(ctx: Context, request: DescribeLogDirsRequest) -> DescribeLogDirsResponse:
    """Describe the partitions asked for, or all of them; those that aren't here are left out."""
    if not ctx.allows(Operation.DESCRIBE):
        return DescribeLogDirsResponse(throttle_time_ms=0, error_code=Code.CLUSTER_AUTHORIZATION_FAILED, results=[])
    here = set(ctx.replicas.assigned())
    if request.topics is not None:
        here &= {(topic.topic, index) for topic in request.topics for index in topic.partitions}
    folder = ctx.replicas.log_dir
    try:
        sizes, room = await ctx.replicas.usage(here)
    except StorageFailed:
        result = DescribeLogDirsResult(error_code=Code.KAFKA_STORAGE_ERROR, log_dir=folder, topics=[])
    else:
        result = DescribeLogDirsResult(
            error_code=Code.NONE,
            log_dir=folder,
            topics=_topics(sizes),
            total_bytes=room.total,
            usable_bytes=room.usable,
            is_cordoned=_is_cordoned(ctx),
        )
    return DescribeLogDirsResponse(throttle_time_ms=0, error_code=Code.NONE, results=[result])


def _topics(sizes: dict[tuple[str, int], int]) -> list[DescribeLogDirsTopic]:
    """A replica that leads lags behind nobody, and none is on its way from another folder."""
    topics: dict[str, list[DescribeLogDirsPartition]] = {}
    for (topic, index), size in sizes.items():
        topics.setdefault(topic, []).append(
            DescribeLogDirsPartition(partition_index=index, partition_size=size, offset_lag=0, is_future_key=False)
        )
    return [DescribeLogDirsTopic(name=name, partitions=partitions) for name, partitions in topics.items()]


def _is_cordoned(ctx: Context) -> bool:
    return ctx.replicas.cordoned and (ctx.image.features.metadata_version or 0) >= CORDONED_DIRECTORIES_SINCE

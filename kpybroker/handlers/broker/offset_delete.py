"""OffsetDelete (API 47): forget committed offsets of topics that a group no longer reads (KIP-496)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kpybroker.security.operations import Operation
from kpybroker.wire.codes import Code
from kpybroker.wire.messages.offset_delete import (
    OffsetDeleteRequest,
    OffsetDeleteRequestPartition,
    OffsetDeleteRequestTopic,
    OffsetDeleteResponse,
    OffsetDeleteResponsePartition,
    OffsetDeleteResponseTopic,
)
from kpybroker.wire.schema import replace

if TYPE_CHECKING:
    from kpybroker.handlers.context import Context


async def handle(ctx: Context, request: OffsetDeleteRequest) -> OffsetDeleteResponse:
    """Sort out what does not exist; the rest is for the group's coordinator."""
    ctx.require(Operation.DELETE, group=request.group_id)
    refused: list[OffsetDeleteResponseTopic] = []
    accepted: list[OffsetDeleteRequestTopic] = []
    for topic in request.topics:
        known = ctx.image.topics.by_name.get(topic.name)
        if not ctx.allows(Operation.READ, topic=topic.name):
            refused.append(_answer(topic.name, topic.partitions, Code.TOPIC_AUTHORIZATION_FAILED))
            continue
        indexes = known.partitions if known is not None else {}
        missing = [partition for partition in topic.partitions if partition.partition_index not in indexes]
        present = [partition for partition in topic.partitions if partition.partition_index in indexes]
        if missing:
            refused.append(_answer(topic.name, missing, Code.UNKNOWN_TOPIC_OR_PARTITION))
        if present:
            accepted.append(OffsetDeleteRequestTopic(name=topic.name, partitions=present))
    response = await ctx.groups.delete_offsets(replace(request, topics=accepted))
    if response.error_code or not refused:
        return response
    return replace(response, topics=_merged(refused, response.topics))


def _answer(name: str, partitions: list[OffsetDeleteRequestPartition], code: Code) -> OffsetDeleteResponseTopic:
    return OffsetDeleteResponseTopic(
        name=name,
        partitions=[
            OffsetDeleteResponsePartition(partition_index=partition.partition_index, error_code=code)
            for partition in partitions
        ],
    )


def _merged(
    refused: list[OffsetDeleteResponseTopic], answered: list[OffsetDeleteResponseTopic]
) -> list[OffsetDeleteResponseTopic]:
    """One entry a topic: what was refused here, then what the coordinator said."""
    topics: dict[str, OffsetDeleteResponseTopic] = {}
    for topic in (*refused, *answered):
        known = topics.setdefault(topic.name, topic)
        if known is not topic:
            known.partitions.extend(topic.partitions)
    return list(topics.values())

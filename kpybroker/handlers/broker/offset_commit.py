"""OffsetCommit (API 8): store the offsets of a group. v10: topic ids (KIP-848)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kpybroker.security.operations import Operation
from kpybroker.wire.codes import Code, Refused
from kpybroker.wire.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
    OffsetCommitResponse,
    OffsetCommitResponsePartition,
    OffsetCommitResponseTopic,
)
from kpybroker.wire.schema import replace

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kpybroker.cluster.image import TopicImage
    from kpybroker.handlers.context import Context

TOPIC_IDS_SINCE = 10


async def handle(ctx: Context, request: OffsetCommitRequest) -> OffsetCommitResponse:
    """Sort out what does not exist; the rest is for the group's coordinator."""
    ctx.require(Operation.READ, group=request.group_id)
    refused: list[OffsetCommitResponseTopic] = []
    accepted: list[OffsetCommitRequestTopic] = []
    for topic in request.topics:
        known, code = _find(ctx, topic)
        if known is None:
            refused.append(_answer(topic, topic.partitions, code))
            continue
        missing = [partition for partition in topic.partitions if partition.partition_index not in known.partitions]
        present = topic.partitions
        if missing:
            refused.append(_answer(topic, missing, Code.UNKNOWN_TOPIC_OR_PARTITION))
            present = [partition for partition in present if partition.partition_index in known.partitions]
        if present:
            accepted.append(OffsetCommitRequestTopic(name=known.name, topic_id=known.id, partitions=present))
    if not accepted:
        return OffsetCommitResponse(topics=refused)
    by_id = ctx.version >= TOPIC_IDS_SINCE
    response = await ctx.groups.commit_offsets(replace(request, topics=accepted), version=ctx.version)
    return replace(response, topics=_merged(refused, response.topics, by_id=by_id)) if refused else response


def refuse(request: OffsetCommitRequest, version: int, refused: Refused) -> OffsetCommitResponse:  # noqa: ARG001
    """The same error for every partition."""
    return OffsetCommitResponse(topics=[_answer(topic, topic.partitions, refused.code) for topic in request.topics])


def _find(ctx: Context, topic: OffsetCommitRequestTopic) -> tuple[TopicImage | None, Code]:
    """The topic, or why nothing can be committed for it."""
    if ctx.version >= TOPIC_IDS_SINCE:
        known = ctx.image.topics.by_id.get(topic.topic_id)
        if known is None:
            return None, Code.UNKNOWN_TOPIC_ID
    else:
        known = ctx.image.topics.by_name.get(topic.name)
    name = topic.name if known is None else known.name
    if not ctx.allows(Operation.READ, topic=name):
        return None, Code.TOPIC_AUTHORIZATION_FAILED
    return known, Code.UNKNOWN_TOPIC_OR_PARTITION


def _answer(
    topic: OffsetCommitRequestTopic, partitions: Iterable[OffsetCommitRequestPartition], code: Code
) -> OffsetCommitResponseTopic:
    return OffsetCommitResponseTopic(
        name=topic.name,
        topic_id=topic.topic_id,
        partitions=[
            OffsetCommitResponsePartition(partition_index=partition.partition_index, error_code=code)
            for partition in partitions
        ],
    )


def _merged(
    refused: list[OffsetCommitResponseTopic], answered: list[OffsetCommitResponseTopic], *, by_id: bool
) -> list[OffsetCommitResponseTopic]:
    """One entry a topic: what was refused here, then what the coordinator said."""
    topics: dict[str | bytes, OffsetCommitResponseTopic] = {}
    for topic in (*refused, *answered):
        known = topics.setdefault(topic.topic_id if by_id else topic.name, topic)
        if known is not topic:
            known.partitions.extend(topic.partitions)
    return list(topics.values())

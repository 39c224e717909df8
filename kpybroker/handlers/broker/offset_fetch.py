"""OffsetFetch (API 9): the committed offsets of groups.

v2: all of a group's. v7: only stable ones (KIP-447). v8: many groups (KIP-709). v9: member epochs, v10: topic ids
(KIP-848).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kpybroker.security.operations import Operation
from kpybroker.wire.codes import Code, Refused, code_of
from kpybroker.wire.messages.offset_fetch import (
    OffsetFetchRequest,
    OffsetFetchRequestGroup,
    OffsetFetchRequestTopics,
    OffsetFetchResponse,
    OffsetFetchResponseGroup,
    OffsetFetchResponsePartition,
    OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic,
    OffsetFetchResponseTopics,
)
from kpybroker.wire.primitives import ZERO_UUID
from kpybroker.wire.schema import replace

if TYPE_CHECKING:
    from kpybroker.handlers.context import Context

GROUP_ERROR_SINCE = 2
MANY_GROUPS_SINCE = 8
TOPIC_IDS_SINCE = 10
NO_OFFSET = -1


async def handle(ctx: Context, request: OffsetFetchRequest) -> OffsetFetchResponse:
    """Answer each group by itself."""
    groups = [await _group(ctx, group, request.require_stable) for group in _groups(ctx.version, request)]
    return _response(ctx.version, groups)


def refuse(request: OffsetFetchRequest, version: int, refused: Refused) -> OffsetFetchResponse:
    """The same error for every group."""
    groups = [_group_error(group, refused.code, version) for group in _groups(version, request)]
    return _response(version, groups)


def _groups(version: int, request: OffsetFetchRequest) -> list[OffsetFetchRequestGroup]:
    """The groups asked for, in the form of version 8 and later."""
    if version >= MANY_GROUPS_SINCE:
        return request.groups
    topics = None
    if request.topics is not None:
        topics = [
            OffsetFetchRequestTopics(name=topic.name, partition_indexes=topic.partition_indexes)
            for topic in request.topics
        ]
    return [OffsetFetchRequestGroup(group_id=request.group_id, topics=topics)]


async def _group(ctx: Context, group: OffsetFetchRequestGroup, require_stable: bool) -> OffsetFetchResponseGroup:
    if not ctx.allows(Operation.DESCRIBE, group=group.group_id):
        return _group_error(group, Code.GROUP_AUTHORIZATION_FAILED, ctx.version)
    if group.topics is None:
        answer = await ctx.groups.fetch_offsets(group, require_stable=require_stable)
        return answer if answer.error_code else replace(answer, topics=_visible(ctx, answer.topics))
    accepted: list[OffsetFetchRequestTopics] = []
    refused: list[OffsetFetchResponseTopics] = []
    for topic in group.topics:
        name, code = _find(ctx, topic)
        if code is Code.NONE:
            accepted.append(replace(topic, name=name))
        else:
            refused.append(_topic_error(topic, code))
    answer = await ctx.groups.fetch_offsets(replace(group, topics=accepted), require_stable=require_stable)
    if answer.error_code:
        return _group_error(group, code_of(answer.error_code), ctx.version)
    return replace(answer, topics=answer.topics + refused) if refused else answer


def _find(ctx: Context, topic: OffsetFetchRequestTopics) -> tuple[str, Code]:
    """The name of a topic, and what keeps its offsets from being fetched."""
    name = topic.name
    if ctx.version >= TOPIC_IDS_SINCE:
        known = ctx.image.topics.by_id.get(topic.topic_id)
        if known is None:
            return "", Code.UNKNOWN_TOPIC_ID
        name = known.name
    return name, Code.NONE if ctx.allows(Operation.DESCRIBE, topic=name) else Code.TOPIC_AUTHORIZATION_FAILED


def _visible(ctx: Context, topics: list[OffsetFetchResponseTopics]) -> list[OffsetFetchResponseTopics]:
    """What the client may know of all that a group has committed; by id, only what has one."""
    visible = [topic for topic in topics if ctx.allows(Operation.DESCRIBE, topic=topic.name)]
    if ctx.version < TOPIC_IDS_SINCE:
        return visible
    by_name = ctx.image.topics.by_name
    named = ((topic, by_name.get(topic.name)) for topic in visible)
    return [
        topic if topic.topic_id != ZERO_UUID or known is None else replace(topic, topic_id=known.id)
        for topic, known in named
        if topic.topic_id != ZERO_UUID or known is not None
    ]


def _topic_error(topic: OffsetFetchRequestTopics, code: Code) -> OffsetFetchResponseTopics:
    return OffsetFetchResponseTopics(
        name=topic.name,
        topic_id=topic.topic_id,
        partitions=[
            OffsetFetchResponsePartitions(
                partition_index=index, committed_offset=NO_OFFSET, metadata="", error_code=code
            )
            for index in topic.partition_indexes
        ],
    )


def _group_error(group: OffsetFetchRequestGroup, code: Code, version: int) -> OffsetFetchResponseGroup:
    """An error of a group; before there was a place for it, it stands at each of its partitions."""
    topics = []
    if version < GROUP_ERROR_SINCE:
        topics = [_topic_error(topic, code) for topic in group.topics or ()]
    return OffsetFetchResponseGroup(group_id=group.group_id, topics=topics, error_code=code)


def _response(version: int, groups: list[OffsetFetchResponseGroup]) -> OffsetFetchResponse:
    if version >= MANY_GROUPS_SINCE:
        return OffsetFetchResponse(groups=groups)
    (group,) = groups
    return OffsetFetchResponse(
        error_code=group.error_code,
        topics=[
            OffsetFetchResponseTopic(
                name=topic.name,
                partitions=[
                    OffsetFetchResponsePartition(
                        partition_index=partition.partition_index,
                        committed_offset=partition.committed_offset,
                        committed_leader_epoch=partition.committed_leader_epoch,
                        metadata=partition.metadata,
                        error_code=partition.error_code,
                    )
                    for partition in topic.partitions
                ],
            )
            for topic in group.topics
        ],
    )

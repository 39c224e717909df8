"""ConsumerGroupDescribe (API 69): state, members and assignments of consumer groups (KIP-848). v1: types of members."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kpybroker.coordinators.enabled import require_consumer_protocol
from kpybroker.coordinators.machines.replies import consumer_group_error
from kpybroker.security.operations import Operation
from kpybroker.wire.codes import Code, Refused
from kpybroker.wire.messages.consumer_group_describe import (
    ConsumerGroupDescribeRequest,
    ConsumerGroupDescribeResponse,
    DescribedGroup,
)
from kpybroker.wire.schema import replace

if TYPE_CHECKING:
    from kpybroker.handlers.context import Context


async def handle(ctx: Context, request: ConsumerGroupDescribeRequest) -> ConsumerGroupDescribeResponse:
    """Describe each group that the client may see, unless it shows a topic that the client may not."""
    require_consumer_protocol(ctx.config, ctx.image)
    allowed: list[str] = []
    groups: list[DescribedGroup] = []
    for group_id in request.group_ids:
        if ctx.allows(Operation.DESCRIBE, group=group_id):
            allowed.append(group_id)
        else:
            groups.append(consumer_group_error(group_id, Code.GROUP_AUTHORIZATION_FAILED))
    described = await ctx.groups.describe_consumer_groups(allowed)
    groups += [_shown(ctx, group, request.include_authorized_operations) for group in described]
    return ConsumerGroupDescribeResponse(throttle_time_ms=0, groups=groups)


def refuse(
    request: ConsumerGroupDescribeRequest,
    version: int,  # noqa: ARG001
    refused: Refused,
) -> ConsumerGroupDescribeResponse:
    """The same error for every group."""
    groups = [consumer_group_error(group_id, refused.code) for group_id in request.group_ids]
    return ConsumerGroupDescribeResponse(throttle_time_ms=0, groups=groups)


def _shown(ctx: Context, group: DescribedGroup, with_operations: bool) -> DescribedGroup:
    if group.error_code != Code.NONE:
        return group
    assignments = (each for member in group.members for each in (member.assignment, member.target_assignment))
    topics = {topic.topic_name for assignment in assignments for topic in assignment.topic_partitions}
    if not all(ctx.allows(Operation.DESCRIBE, topic=topic) for topic in topics):
        return consumer_group_error(
            group.group_id,
            Code.TOPIC_AUTHORIZATION_FAILED,
            "The group has described topic(s) that the client is not authorized to describe.",
        )
    if not with_operations:
        return group
    return replace(group, authorized_operations=ctx.authorized_operations(True, group=group.group_id))

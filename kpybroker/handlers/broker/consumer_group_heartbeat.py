"""ConsumerGroupHeartbeat (API 68): join, stay in and leave a consumer group (KIP-848).

v1: regular expressions, and member ids made by the client (KIP-1082).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kpybroker.coordinators.enabled import require_consumer_protocol
from kpybroker.security.operations import Operation
from kpybroker.wire.codes import Code, Refused

if TYPE_CHECKING:
    from kpybroker.handlers.context import Context
    from kpybroker.wire.messages.consumer_group_heartbeat import (
        ConsumerGroupHeartbeatRequest,
        ConsumerGroupHeartbeatResponse,
    )


async def handle(ctx: Context, request: ConsumerGroupHeartbeatRequest) -> ConsumerGroupHeartbeatResponse:
    """Ask the group's coordinator. A topic that the client may not see is as good as none."""
    require_consumer_protocol(ctx.config, ctx.image)
    ctx.require(Operation.READ, group=request.group_id)
    for topic in request.subscribed_topic_names or ():
        if not ctx.allows(Operation.DESCRIBE, topic=topic):
            raise Refused(Code.TOPIC_AUTHORIZATION_FAILED)
    return await ctx.groups.consumer_heartbeat(
        request,
        version=ctx.version,
        client_id=ctx.client_id or "",
        client_host=f"/{ctx.client.host}",
        may_describe=lambda topic: ctx.allows(Operation.DESCRIBE, topic=topic),
    )

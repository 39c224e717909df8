"""Heartbeat (API 12): keep a classic-group member alive and tell it of a rebalance."""

from typing import Annotated

from kpybroker.wire.schema import IGNORABLE, Int16, Int32, Message, Since, message


@message(key=12, versions="0-4", flexible="4+")
class HeartbeatRequest(Message):
    group_id: str
    generation_id: Int32
    member_id: str
    group_instance_id: Annotated[str | None, Since(3)] = None  # static membership, KIP-345


@message(key=12, versions="0-4", flexible="4+")
class HeartbeatResponse(Message):
    throttle_time_ms: Annotated[Int32, Since(1), IGNORABLE] = 0
    error_code: Int16

"""BrokerHeartbeat (API 63): a broker stays registered, asks to be unfenced or to shut down (KIP-631)."""

from typing import Annotated

from kpybroker.wire.schema import Int16, Int32, Int64, Message, Tag, Uuid, message


@message(key=63, versions="0-2", flexible="0+")
class BrokerHeartbeatRequest(Message):
    broker_id: Int32
    broker_epoch: Int64 = -1
    current_metadata_offset: Int64
    want_fence: bool
    want_shut_down: bool
    offline_log_dirs: Annotated[list[Uuid], Tag(0, since=1)] = []  # KIP-858
    cordoned_log_dirs: Annotated[list[Uuid] | None, Tag(1, since=2)] = None


@message(key=63, versions="0-2", flexible="0+")
class BrokerHeartbeatResponse(Message):
    throttle_time_ms: Int32
    error_code: Int16
    is_caught_up: bool = False
    is_fenced: bool = True
    should_shut_down: bool

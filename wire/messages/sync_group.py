"""SyncGroup (API 14): the leader hands in the assignment of a classic group, and every member gets its own."""

from typing import Annotated

from kpybroker.wire.schema import IGNORABLE, Int16, Int32, Message, Since, Struct, message


class SyncGroupRequestAssignment(Struct):
    member_id: str
    assignment: bytes


@message(key=14, versions="0-5", flexible="4+")
class SyncGroupRequest(Message):
    group_id: str
    generation_id: Int32
    member_id: str
    group_instance_id: Annotated[str | None, Since(3)] = None  # KIP-345
    protocol_type: Annotated[str | None, Since(5), IGNORABLE] = None
    protocol_name: Annotated[str | None, Since(5), IGNORABLE] = None
    assignments: list[SyncGroupRequestAssignment]


@message(key=14, versions="0-5", flexible="4+")
class SyncGroupResponse(Message):
    throttle_time_ms: Annotated[Int32, Since(1), IGNORABLE] = 0
    error_code: Int16
    protocol_type: Annotated[str | None, Since(5), IGNORABLE] = None
    protocol_name: Annotated[str | None, Since(5), IGNORABLE] = None
    assignment: bytes

"""LeaveGroup (API 13): leave a classic group, several static members at once if need be."""

from typing import Annotated

from kpybroker.wire.schema import IGNORABLE, Int16, Int32, Message, Since, Struct, Versions, message


class MemberIdentity(Struct):
    member_id: str
    group_instance_id: str | None = None  # KIP-345
    reason: Annotated[str | None, Since(5), IGNORABLE] = None  # KIP-800


@message(key=13, versions="0-5", flexible="4+")
class LeaveGroupRequest(Message):
    group_id: str
    member_id: Annotated[str, Versions("0-2")] = ""
    members: Annotated[list[MemberIdentity], Since(3)] = []


class MemberResponse(Struct):
    member_id: str
    group_instance_id: str | None  # KIP-345
    error_code: Int16


@message(key=13, versions="0-5", flexible="4+")
class LeaveGroupResponse(Message):
    throttle_time_ms: Annotated[Int32, Since(1), IGNORABLE] = 0
    error_code: Int16
    members: Annotated[list[MemberResponse], Since(3)] = []

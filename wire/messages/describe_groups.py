"""DescribeGroups (API 15): state and members of classic groups."""

from typing import Annotated

from kpybroker.wire.schema import IGNORABLE, Int16, Int32, Message, Since, Struct, message


@message(key=15, versions="0-6", flexible="5+")
class DescribeGroupsRequest(Message):
    groups: list[str]
    include_authorized_operations: Annotated[bool, Since(3)] = False


class DescribedGroupMember(Struct):
    member_id: str
    group_instance_id: Annotated[str | None, Since(4), IGNORABLE] = None  # KIP-345
    client_id: str
    client_host: str
    member_metadata: bytes
    member_assignment: bytes


class DescribedGroup(Struct):
    error_code: Int16
    error_message: Annotated[str | None, Since(6)] = None
    group_id: str
    group_state: str
    protocol_type: str
    protocol_data: str
    members: list[DescribedGroupMember]
    authorized_operations: Annotated[Int32, Since(3)] = -0x80000000  # KIP-430


@message(key=15, versions="0-6", flexible="5+")
class DescribeGroupsResponse(Message):
    throttle_time_ms: Annotated[Int32, Since(1), IGNORABLE] = 0
    groups: list[DescribedGroup]

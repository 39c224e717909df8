"""JoinGroup (API 11): join a classic group; answered when the rebalance is complete."""

from typing import Annotated

from kpybroker.wire.schema import IGNORABLE, Int16, Int32, Message, Nullable, Since, Struct, message


class JoinGroupRequestProtocol(Struct):
    name: str
    metadata: bytes


@message(key=11, versions="0-9", flexible="6+")
class JoinGroupRequest(Message):
    group_id: str
    session_timeout_ms: Int32
    rebalance_timeout_ms: Annotated[Int32, Since(1), IGNORABLE] = -1
    member_id: str
    group_instance_id: Annotated[str | None, Since(5)] = None  # static membership, KIP-345
    protocol_type: str
    protocols: list[JoinGroupRequestProtocol]
    reason: Annotated[str | None, Since(8), IGNORABLE] = None  # KIP-800


class JoinGroupResponseMember(Struct):
    member_id: str
    group_instance_id: Annotated[str | None, Since(5), IGNORABLE] = None  # static membership, KIP-345
    metadata: bytes


@message(key=11, versions="0-9", flexible="6+")
class JoinGroupResponse(Message):
    throttle_time_ms: Annotated[Int32, Since(2), IGNORABLE] = 0
    error_code: Int16
    generation_id: Int32 = -1
    protocol_type: Annotated[str | None, Since(7), IGNORABLE] = None
    protocol_name: Annotated[str | None, Nullable("7+")]
    leader: str
    skip_assignment: Annotated[bool, Since(9)] = False  # KIP-814
    member_id: str
    members: list[JoinGroupResponseMember]

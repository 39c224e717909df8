"""ListGroups (API 16): the groups that a broker coordinates, by state and type."""

from typing import Annotated

from kpybroker.wire.schema import IGNORABLE, Int16, Int32, Message, Since, Struct, message


@message(key=16, versions="0-5", flexible="3+")
class ListGroupsRequest(Message):
    states_filter: Annotated[list[str], Since(4)] = []  # KIP-518
    types_filter: Annotated[list[str], Since(5)] = []  # KIP-848


class ListedGroup(Struct):
    group_id: str
    protocol_type: str
    group_state: Annotated[str, Since(4), IGNORABLE] = ""
    group_type: Annotated[str, Since(5), IGNORABLE] = ""


@message(key=16, versions="0-5", flexible="3+")
class ListGroupsResponse(Message):
    throttle_time_ms: Annotated[Int32, Since(1), IGNORABLE] = 0
    error_code: Int16
    groups: list[ListedGroup]

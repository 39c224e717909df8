"""DeleteGroups (API 42): delete empty groups and their offsets (KIP-229)."""

from typing import Annotated

from kpybroker.wire.schema import IGNORABLE, Int16, Int32, Message, Since, Struct, message


@message(key=42, versions="0-3", flexible="2+")
class DeleteGroupsRequest(Message):
    groups_names: list[str]


class DeletableGroupResult(Struct):
    group_id: str
    error_code: Int16
    error_message: Annotated[str | None, Since(3), IGNORABLE] = None


@message(key=42, versions="0-3", flexible="2+")
class DeleteGroupsResponse(Message):
    throttle_time_ms: Int32
    results: list[DeletableGroupResult]

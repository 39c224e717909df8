"""FindCoordinator (API 10): which broker coordinates a group, a transactional id or a share partition."""

from typing import Annotated

from kpybroker.wire.schema import IGNORABLE, Int8, Int16, Int32, Message, Since, Struct, Versions, message


@message(key=10, versions="0-6", flexible="3+")
class FindCoordinatorRequest(Message):
    key: Annotated[str, Versions("0-3")] = ""
    key_type: Annotated[Int8, Since(1)] = 0  # 0: group, 1: transaction, 2: share partition
    coordinator_keys: Annotated[list[str], Since(4)] = []  # KIP-699


class Coordinator(Struct):
    key: str
    node_id: Int32
    host: str
    port: Int32
    error_code: Int16
    error_message: Annotated[str | None, IGNORABLE]


@message(key=10, versions="0-6", flexible="3+")
class FindCoordinatorResponse(Message):
    throttle_time_ms: Annotated[Int32, Since(1), IGNORABLE] = 0
    error_code: Annotated[Int16, Versions("0-3")] = 0
    error_message: Annotated[str | None, Versions("1-3"), IGNORABLE] = ""
    node_id: Annotated[Int32, Versions("0-3")] = 0
    host: Annotated[str, Versions("0-3")] = ""
    port: Annotated[Int32, Versions("0-3")] = 0
    coordinators: Annotated[list[Coordinator], Since(4)] = []

"""DeleteTopics (API 20): delete topics, by name or by id."""

from typing import Annotated

from kpybroker.wire.primitives import ZERO_UUID
from kpybroker.wire.schema import IGNORABLE, Int16, Int32, Message, Nullable, Since, Struct, Uuid, Versions, message


class DeleteTopicState(Struct):
    name: str | None = None
    topic_id: Uuid


@message(key=20, versions="1-6", flexible="4+")
class DeleteTopicsRequest(Message):
    topics: Annotated[list[DeleteTopicState], Since(6)] = []
    topic_names: Annotated[list[str], Versions("1-5"), IGNORABLE] = []
    timeout_ms: Int32


class DeletableTopicResult(Struct):
    name: Annotated[str | None, Nullable("6+")]
    topic_id: Annotated[Uuid, Since(6), IGNORABLE] = ZERO_UUID
    error_code: Int16
    error_message: Annotated[str | None, Since(5), IGNORABLE] = None


@message(key=20, versions="1-6", flexible="4+")
class DeleteTopicsResponse(Message):
    throttle_time_ms: Annotated[Int32, IGNORABLE]
    responses: list[DeletableTopicResult]

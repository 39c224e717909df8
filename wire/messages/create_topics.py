"""CreateTopics (API 19): create topics, or only check whether they could be created."""

from typing import Annotated

from kpybroker.wire.primitives import ZERO_UUID
from kpybroker.wire.schema import IGNORABLE, Int8, Int16, Int32, Message, Since, Struct, Tag, Uuid, message


class CreatableReplicaAssignment(Struct):
    partition_index: Int32
    broker_ids: list[Int32]


class CreatableTopicConfig(Struct):
    name: str
    value: str | None


class CreatableTopic(Struct):
    name: str
    num_partitions: Int32
    replication_factor: Int16
    assignments: list[CreatableReplicaAssignment]
    configs: list[CreatableTopicConfig]


@message(key=19, versions="2-7", flexible="5+")
class CreateTopicsRequest(Message):
    topics: list[CreatableTopic]
    timeout_ms: Int32 = 60000
    validate_only: bool = False


class CreatableTopicConfigs(Struct):
    name: str
    value: str | None
    read_only: bool
    config_source: Annotated[Int8, IGNORABLE] = -1
    is_sensitive: bool


class CreatableTopicResult(Struct):
    name: str
    topic_id: Annotated[Uuid, Since(7), IGNORABLE] = ZERO_UUID
    error_code: Int16
    error_message: Annotated[str | None, IGNORABLE]
    topic_config_error_code: Annotated[Int16, Tag(0, since=5), IGNORABLE] = 0  # KIP-525
    num_partitions: Annotated[Int32, Since(5), IGNORABLE] = -1
    replication_factor: Annotated[Int16, Since(5), IGNORABLE] = -1
    configs: Annotated[list[CreatableTopicConfigs] | None, Since(5), IGNORABLE] = []


@message(key=19, versions="2-7", flexible="5+")
class CreateTopicsResponse(Message):
    throttle_time_ms: Annotated[Int32, IGNORABLE]
    topics: list[CreatableTopicResult]

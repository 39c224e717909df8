"""IncrementalAlterConfigs (API 44): set, remove, append to and subtract from single dynamic configs (KIP-339)."""

from kpybroker.wire.schema import Int8, Int16, Int32, Message, Struct, message


class AlterableConfig(Struct):
    name: str
    config_operation: Int8
    value: str | None


class AlterConfigsResource(Struct):
    resource_type: Int8
    resource_name: str
    configs: list[AlterableConfig]


@message(key=44, versions="0-1", flexible="1+")
class IncrementalAlterConfigsRequest(Message):
    resources: list[AlterConfigsResource]
    validate_only: bool


class AlterConfigsResourceResponse(Struct):
    error_code: Int16
    error_message: str | None
    resource_type: Int8
    resource_name: str


@message(key=44, versions="0-1", flexible="1+")
class IncrementalAlterConfigsResponse(Message):
    throttle_time_ms: Int32
    responses: list[AlterConfigsResourceResponse]

"""ListConfigResources (API 74): names of the resources that have a dynamic configuration (KIP-1142)."""

from typing import Annotated

from kpybroker.wire.schema import IGNORABLE, Int8, Int16, Int32, Message, Since, Struct, message


@message(key=74, versions="0-1", flexible="0+")
class ListConfigResourcesRequest(Message):
    resource_types: Annotated[list[Int8], Since(1)] = []


class ConfigResource(Struct):
    resource_name: str
    resource_type: Annotated[Int8, Since(1), IGNORABLE] = 16


@message(key=74, versions="0-1", flexible="0+")
class ListConfigResourcesResponse(Message):
    throttle_time_ms: Int32
    error_code: Int16
    config_resources: list[ConfigResource]

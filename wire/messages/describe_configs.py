"""DescribeConfigs (API 32): configs of topics, brokers and groups, with sources and documentation (KIP-133)."""

from typing import Annotated

from kpybroker.wire.schema import IGNORABLE, Int8, Int16, Int32, Message, Since, Struct, message


class DescribeConfigsResource(Struct):
    resource_type: Int8
    resource_name: str
    configuration_keys: list[str] | None


@message(key=32, versions="1-4", flexible="4+")
class DescribeConfigsRequest(Message):
    resources: list[DescribeConfigsResource]
    include_synonyms: bool = False
    include_documentation: Annotated[bool, Since(3)] = False


class DescribeConfigsSynonym(Struct):
    name: str
    value: str | None
    source: Int8


class DescribeConfigsResourceResult(Struct):
    name: str
    value: str | None
    read_only: bool
    config_source: Annotated[Int8, IGNORABLE] = -1
    is_sensitive: bool
    synonyms: Annotated[list[DescribeConfigsSynonym], IGNORABLE]
    config_type: Annotated[Int8, Since(3), IGNORABLE] = 0
    documentation: Annotated[str | None, Since(3), IGNORABLE] = ""


class DescribeConfigsResult(Struct):
    error_code: Int16
    error_message: str | None
    resource_type: Int8
    resource_name: str
    configs: list[DescribeConfigsResourceResult]


@message(key=32, versions="1-4", flexible="4+")
class DescribeConfigsResponse(Message):
    throttle_time_ms: Int32
    results: list[DescribeConfigsResult]

"""What DescribeConfigs answers about one resource, on a broker's listener and on a controller's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from kpybroker.cluster.image import ResourceType
from kpybroker.cluster.names import check_topic_name, node_id_of
from kpybroker.config.describe import (
    Described,
    describe_all_brokers,
    describe_broker,
    describe_client_metrics,
    describe_group,
    describe_loggers,
    describe_topic,
)
from kpybroker.security.operations import Operation
from kpybroker.wire.codes import Code, Refused
from kpybroker.wire.messages.describe_configs import (
    DescribeConfigsRequest,
    DescribeConfigsResource,
    DescribeConfigsResourceResult,
    DescribeConfigsResponse,
    DescribeConfigsResult,
    DescribeConfigsSynonym,
)

if TYPE_CHECKING:
    from kpybroker.handlers.context import Context

_DESCRIBED = frozenset(ResourceType) - {ResourceType.UNKNOWN}


def describe_configs(ctx: Context, request: DescribeConfigsRequest) -> DescribeConfigsResponse:
    """Answer a whole request. Raises: Refused(INVALID_REQUEST) if it names a resource type that there is not."""
    if any(resource.resource_type not in _DESCRIBED for resource in request.resources):
        raise Refused(Code.INVALID_REQUEST)
    return DescribeConfigsResponse(
        throttle_time_ms=0, results=[_result(ctx, resource, request) for resource in request.resources]
    )


def refusal(request: DescribeConfigsRequest, refused: Refused) -> DescribeConfigsResponse:
    """The same error for every resource."""
    results = [_failed(resource, refused.code, refused.message) for resource in request.resources]
    return DescribeConfigsResponse(throttle_time_ms=0, results=results)


def _failed(resource: DescribeConfigsResource, code: int, why: str | None) -> DescribeConfigsResult:
    return DescribeConfigsResult(
        error_code=code,
        error_message=why,
        resource_type=resource.resource_type,
        resource_name=resource.resource_name,
        configs=[],
    )


def _result(ctx: Context, resource: DescribeConfigsResource, request: DescribeConfigsRequest) -> DescribeConfigsResult:
    try:
        _require(ctx, resource)
        described = _described(ctx, resource)
    except Refused as refused:
        # Kafka has no text for a topic that is not there, only here.
        missing = refused.code is Code.UNKNOWN_TOPIC_OR_PARTITION
        return _failed(resource, refused.code, "" if missing else refused.message)
    return DescribeConfigsResult(
        error_code=Code.NONE,
        error_message="",
        resource_type=resource.resource_type,
        resource_name=resource.resource_name,
        configs=list(_configs(described, resource.configuration_keys, request)),
    )


def _require(ctx: Context, resource: DescribeConfigsResource) -> None:
    """Topics and groups are their owners', everything else is the cluster's."""
    match resource.resource_type:
        case ResourceType.TOPIC:
            ctx.require(Operation.DESCRIBE_CONFIGS, topic=resource.resource_name)
        case ResourceType.GROUP:
            ctx.require(Operation.DESCRIBE_CONFIGS, group=resource.resource_name)
        case _:
            ctx.require(Operation.DESCRIBE_CONFIGS)


def _described(ctx: Context, resource: DescribeConfigsResource) -> Iterable[Described]:
    """The settings of one resource. Raises: Refused."""
    kind, name, config, image = resource.resource_type, resource.resource_name, ctx.config, ctx.image
    match kind:
        case ResourceType.TOPIC:
            check_topic_name(name)
            if name not in image.topics.by_name:
                raise Refused(Code.UNKNOWN_TOPIC_OR_PARTITION)
            return describe_topic(config, image.config(kind, name))
        case ResourceType.BROKER if not name:
            return describe_all_brokers(config)
        case ResourceType.BROKER:
            _check_own_id(ctx, name, " or empty string,")
            return describe_broker(config)
        case ResourceType.BROKER_LOGGER:
            _check_named(name, "Broker id")
            _check_own_id(ctx, name, "")
            return describe_loggers()
        case ResourceType.CLIENT_METRICS:
            _check_named(name, "Client metrics subscription name")
            return describe_client_metrics(image.config(kind, name))
        case _:
            _check_named(name, "Group name")
            return describe_group(config, image.config(ResourceType.GROUP, name))


def _check_named(name: str, what: str) -> None:
    if not name:
        raise Refused(Code.INVALID_REQUEST, f"{what} must not be empty")


def _check_own_id(ctx: Context, name: str, or_else: str) -> None:
    """A broker knows its own settings only: a client asks each broker itself."""
    own, id_ = ctx.services.cluster.node_id, node_id_of(name)
    if id_ is None:
        raise Refused(Code.INVALID_REQUEST, f"Broker id must be an integer, but it is: {name}")
    if id_ != own:
        raise Refused(Code.INVALID_REQUEST, f"Unexpected broker id, expected {own}{or_else} but received {name}")


def _configs(
    described: Iterable[Described], keys: Sequence[str] | None, request: DescribeConfigsRequest
) -> Iterator[DescribeConfigsResourceResult]:
    """Those that were asked for (no keys: all), with as much as was asked for."""
    wanted = set(keys or ())
    for each in described:
        if wanted and each.name not in wanted:
            continue
        synonyms = each.synonyms if request.include_synonyms else ()
        yield DescribeConfigsResourceResult(
            name=each.name,
            value=each.value,
            read_only=each.read_only,
            config_source=each.source,
            is_sensitive=each.sensitive,
            synonyms=[
                DescribeConfigsSynonym(name=said.name, value=said.value, source=said.source) for said in synonyms
            ],
            config_type=each.type or 0,
            documentation=each.documentation if request.include_documentation or each.documentation == "" else None,
        )

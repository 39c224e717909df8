"""Metadata (API 3): brokers, topics, partitions and who leads them; missing topics are created where that is allowed.

v4: auto-creation may be declined. v8: authorized operations (KIP-430). v10: topic ids in answers, v12 in questions
(KIP-516). v13: an error for the whole (KIP-1102).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kpybroker.cluster.auto_topics import AUTO_CREATE_TIMEOUT_MS, CREATE_TOPICS_VERSION, auto_topic
from kpybroker.cluster.names import INTERNAL_TOPICS, is_valid_topic_name
from kpybroker.security.operations import Operation
from kpybroker.wire.codes import Code, Refused, code_of
from kpybroker.wire.messages.create_topics import CreateTopicsRequest, CreateTopicsResponse
from kpybroker.wire.messages.metadata import (
    MetadataRequest,
    MetadataRequestTopic,
    MetadataResponse,
    MetadataResponseBroker,
    MetadataResponsePartition,
    MetadataResponseTopic,
)
from kpybroker.wire.primitives import ZERO_UUID

if TYPE_CHECKING:
    from kpybroker.cluster.image import PartitionImage, TopicImage
    from kpybroker.handlers.context import Context

NO_CONTROLLER = -1
LISTENER_NOT_FOUND_SINCE = 6
IDS_SINCE = 12


async def handle(ctx: Context, request: MetadataRequest) -> MetadataResponse:
    """Answer from the image of the moment, after creating what is missing and may be created."""
    topics = await _topics(ctx, request)
    image = ctx.image
    alive = [(broker.id, broker.rack, ctx.endpoint(broker.id)) for broker in image.brokers.values()]
    cluster_operations = ctx.authorized_operations(request.include_cluster_authorized_operations)
    if request.include_cluster_authorized_operations and not ctx.allows(Operation.DESCRIBE):
        cluster_operations = 0
    brokers = [
        MetadataResponseBroker(node_id=broker_id, host=endpoint.host, port=endpoint.port, rack=rack)
        for broker_id, rack, endpoint in alive
        if endpoint is not None
    ]
    return MetadataResponse(
        brokers=brokers,
        cluster_id=ctx.services.cluster.cluster_id,
        # Any broker will do for requests to the controller: it forwards them (KIP-590).
        controller_id=brokers[ctx.ids.randrange(len(brokers))].node_id if brokers else NO_CONTROLLER,
        topics=topics,
        cluster_authorized_operations=cluster_operations,
        error_code=Code.NONE,
    )


def refuse(request: MetadataRequest, version: int, refused: Refused) -> MetadataResponse:  # noqa: ARG001
    """The same error for every topic; from v13 on for the whole as well."""
    topics = [
        MetadataResponseTopic(error_code=refused.code, name=topic.name or "", topic_id=topic.topic_id, partitions=[])
        for topic in request.topics or ()
    ]
    return MetadataResponse(brokers=[], topics=topics, error_code=refused.code)


async def _topics(ctx: Context, request: MetadataRequest) -> list[MetadataResponseTopic]:
    asked = request.topics
    if asked is None or (ctx.version == 0 and not asked):
        known = ctx.image.topics.by_name.values()
        return [_describe(ctx, request, topic) for topic in known if ctx.allows(Operation.DESCRIBE, topic=topic.name)]
    for topic in asked:
        _check_asked(ctx, topic)
    if any(topic.topic_id != ZERO_UUID for topic in asked):
        ids = dict.fromkeys(topic.topic_id for topic in asked if topic.topic_id != ZERO_UUID)
        return [_by_id(ctx, request, topic_id) for topic_id in ids]
    names = list(dict.fromkeys(topic.name for topic in asked if topic.name is not None))
    if request.allow_auto_topic_creation and ctx.config.auto_create_topics_enable:
        refused = await _create_missing(ctx, names)
    else:
        refused = {}
    return [refused.get(name) or _by_name(ctx, request, name) for name in names]


def _check_asked(ctx: Context, topic: MetadataRequestTopic) -> None:
    if ctx.version >= IDS_SINCE:
        if topic.name is None and topic.topic_id == ZERO_UUID:
            raise Refused(Code.INVALID_REQUEST, "A topic needs a name or an ID")
        return
    if topic.name is None:
        raise Refused(Code.INVALID_REQUEST, f"Topic name can not be null for version {ctx.version}")
    if topic.topic_id != ZERO_UUID:
        raise Refused(Code.INVALID_REQUEST, f"Topic IDs are not supported in requests for version {ctx.version}")


async def _create_missing(ctx: Context, names: list[str]) -> dict[str, MetadataResponseTopic]:
    """Create the topics that are not there; what of them could not be created, with why."""
    missing = [
        name for name in names if name not in ctx.image.topics.by_name and ctx.allows(Operation.DESCRIBE, topic=name)
    ]
    refused: dict[str, MetadataResponseTopic] = {}
    allowed = []
    for name in missing:
        if not ctx.allows(Operation.CREATE) and not ctx.allows(Operation.CREATE, topic=name):
            refused[name] = _missing(Code.TOPIC_AUTHORIZATION_FAILED, name)
        elif not is_valid_topic_name(name):
            refused[name] = _missing(Code.INVALID_TOPIC_EXCEPTION, name)
        else:
            allowed.append(name)
    if not allowed:
        return refused
    creations = CreateTopicsRequest(
        topics=[auto_topic(ctx.config, name) for name in allowed], timeout_ms=AUTO_CREATE_TIMEOUT_MS
    )
    response = await ctx.at_version(CREATE_TOPICS_VERSION).ask_controller(creations, CreateTopicsResponse)
    for result in response.topics:
        if result.error_code not in (Code.NONE, Code.TOPIC_ALREADY_EXISTS):
            code = code_of(result.error_code)
            refused[result.name] = _missing(
                Code.INVALID_TOPIC_EXCEPTION
                if code is Code.INVALID_TOPIC_EXCEPTION
                else Code.UNKNOWN_TOPIC_OR_PARTITION,
                result.name,
            )
    return refused


def _missing(code: Code, name: str | None, topic_id: bytes = ZERO_UUID) -> MetadataResponseTopic:
    return MetadataResponseTopic(
        error_code=code, name=name, topic_id=topic_id, is_internal=name in INTERNAL_TOPICS, partitions=[]
    )


def _by_id(ctx: Context, request: MetadataRequest, topic_id: bytes) -> MetadataResponseTopic:
    topic = ctx.image.topics.by_id.get(topic_id)
    if topic is None:
        return _missing(Code.UNKNOWN_TOPIC_ID, None, topic_id)
    if not ctx.allows(Operation.DESCRIBE, topic=topic.name):
        return _missing(Code.TOPIC_AUTHORIZATION_FAILED, None, topic_id)
    return _describe(ctx, request, topic)


def _by_name(ctx: Context, request: MetadataRequest, name: str) -> MetadataResponseTopic:
    if not ctx.allows(Operation.DESCRIBE, topic=name):
        return _missing(Code.TOPIC_AUTHORIZATION_FAILED, name)
    topic = ctx.image.topics.by_name.get(name)
    if topic is None:
        valid = is_valid_topic_name(name)
        return _missing(Code.UNKNOWN_TOPIC_OR_PARTITION if valid else Code.INVALID_TOPIC_EXCEPTION, name)
    return _describe(ctx, request, topic)


def _describe(ctx: Context, request: MetadataRequest, topic: TopicImage) -> MetadataResponseTopic:
    return MetadataResponseTopic(
        error_code=Code.NONE,
        name=topic.name,
        topic_id=topic.id,
        is_internal=topic.name in INTERNAL_TOPICS,
        partitions=[_partition(ctx, index, partition) for index, partition in topic.partitions.items()],
        topic_authorized_operations=ctx.authorized_operations(
            request.include_topic_authorized_operations, topic=topic.name
        ),
    )


def _partition(ctx: Context, index: int, partition: PartitionImage) -> MetadataResponsePartition:
    code = Code.NONE
    if ctx.endpoint(partition.leader) is None:
        gone = partition.leader not in ctx.image.brokers or ctx.image.brokers[partition.leader].fenced
        listener = Code.LISTENER_NOT_FOUND if ctx.version >= LISTENER_NOT_FOUND_SINCE else Code.LEADER_NOT_AVAILABLE
        code = Code.LEADER_NOT_AVAILABLE if gone else listener
    return MetadataResponsePartition(
        error_code=code,
        partition_index=index,
        leader_id=partition.leader,
        leader_epoch=partition.leader_epoch,
        replica_nodes=list(partition.replicas),
        isr_nodes=list(partition.isr),
        offline_replicas=ctx.offline_replicas(partition),
    )

"""FindCoordinator (API 10): which broker coordinates a group or a transactional id.

v1: transactions. v4: many keys at once (KIP-699). v6: share groups (KIP-932). The topic that coordinators keep their
state in is created when somebody first asks for one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from kpybroker.cluster.auto_topics import AUTO_CREATE_TIMEOUT_MS, CREATE_TOPICS_VERSION, auto_topic
from kpybroker.cluster.names import CONSUMER_OFFSETS, TRANSACTION_STATE
from kpybroker.security.operations import Operation
from kpybroker.wire.codes import Code, Refused
from kpybroker.wire.messages.create_topics import CreateTopicsRequest
from kpybroker.wire.messages.find_coordinator import Coordinator, FindCoordinatorRequest, FindCoordinatorResponse

if TYPE_CHECKING:
    from kpybroker.cluster.image import Endpoint
    from kpybroker.handlers.context import Context

GROUP = 0
TRANSACTION = 1
SHARE = 2
MANY_KEYS_SINCE = 4
NOBODY = -1


class Found(NamedTuple):
    """The coordinator of one key, or why there is none."""

    code: Code
    node_id: int = NOBODY
    endpoint: Endpoint | None = None


async def handle(ctx: Context, request: FindCoordinatorRequest) -> FindCoordinatorResponse:
    """Answer each key by itself."""
    if ctx.version < MANY_KEYS_SINCE:
        found = await _find(ctx, request.key_type, request.key, set())
        host, port = _address(found)
        return FindCoordinatorResponse(
            # Java's text for no error is its name.
            error_code=found.code,
            error_message=found.code.message or "NONE",
            node_id=found.node_id,
            host=host,
            port=port,
        )
    coordinators = []
    created: set[str] = set()
    for key in request.coordinator_keys:
        found = await _find(ctx, request.key_type, key, created)
        host, port = _address(found)
        coordinators.append(
            # Kafka leaves the message empty here, not null.
            Coordinator(key=key, node_id=found.node_id, host=host, port=port, error_code=found.code, error_message="")
        )
    return FindCoordinatorResponse(coordinators=coordinators)


def refuse(request: FindCoordinatorRequest, version: int, refused: Refused) -> FindCoordinatorResponse:
    """The same error for every key."""
    message = refused.message
    if version < MANY_KEYS_SINCE:
        return FindCoordinatorResponse(
            error_code=refused.code, error_message=message, node_id=NOBODY, host="", port=NOBODY
        )
    return FindCoordinatorResponse(
        coordinators=[
            Coordinator(key=key, node_id=NOBODY, host="", port=NOBODY, error_code=refused.code, error_message=message)
            for key in request.coordinator_keys
        ],
    )


def _address(found: Found) -> tuple[str, int]:
    return (found.endpoint.host, found.endpoint.port) if found.endpoint is not None else ("", NOBODY)


async def _find(ctx: Context, key_type: int, key: str, created: set[str]) -> Found:
    if key_type == GROUP:
        if not ctx.allows(Operation.DESCRIBE, group=key):
            return Found(Code.GROUP_AUTHORIZATION_FAILED)
        return await _owner(ctx, CONSUMER_OFFSETS, key, created)
    if key_type == TRANSACTION:
        if not ctx.allows(Operation.DESCRIBE, transactional_id=key):
            return Found(Code.TRANSACTIONAL_ID_AUTHORIZATION_FAILED)
        return await _owner(ctx, TRANSACTION_STATE, key, created)
    if key_type == SHARE and ctx.version >= 6:
        ctx.require(Operation.CLUSTER_ACTION)
        # No API of share groups is served here yet: a retriable error would have the client ask for ever.
        return Found(Code.UNSUPPORTED_VERSION)
    if key_type == SHARE:
        return Found(Code.INVALID_REQUEST)
    raise Refused(Code.INVALID_REQUEST)


async def _owner(ctx: Context, topic: str, key: str, created: set[str]) -> Found:
    """The leader of a key's partition of an internal topic, after creating the topic if it is not there.

    It is created in this broker's name, as Kafka does it: whoever may use a group need not have the right to create
    topics. With too few brokers for its replicas, or before this node has heard of it, there is no coordinator yet.
    `created`: what was created for this request; once is enough.
    """
    if topic not in ctx.image.topics.by_name and topic not in created:
        created.add(topic)
        creation = CreateTopicsRequest(topics=[auto_topic(ctx.config, topic)], timeout_ms=AUTO_CREATE_TIMEOUT_MS)
        await ctx.controller.ask(ctx.as_broker(CREATE_TOPICS_VERSION), creation)
    coordinator = ctx.groups if topic == CONSUMER_OFFSETS else ctx.transactions
    index = coordinator.partition_for(key)
    known = ctx.image.topics.by_name.get(topic)
    partition = known.partitions.get(index) if known is not None else None
    if partition is None:
        return Found(Code.COORDINATOR_NOT_AVAILABLE)
    endpoint = ctx.endpoint(partition.leader)
    if endpoint is None or coordinator.is_doubtful(index):
        return Found(Code.COORDINATOR_NOT_AVAILABLE)
    return Found(Code.NONE, partition.leader, endpoint)

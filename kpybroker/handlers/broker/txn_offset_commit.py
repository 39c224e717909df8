"""TxnOffsetCommit (API 28): store the offsets of a group as part of a transaction.

v3: the member that commits, so that it can be fenced (KIP-447). v4: TRANSACTION_ABORTABLE. v5: the group's partition of
`__consumer_offsets` is taken into the transaction by this very request (KIP-890).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kpybroker.cluster.names import CONSUMER_OFFSETS
from kpybroker.coordinators.machines.effects import coordinator_code
from kpybroker.coordinators.machines.replies import txn_commit_error
from kpybroker.coordinators.txn_verifier import Support, TxnProducer
from kpybroker.security.operations import Operation
from kpybroker.wire.codes import Code, Refused
from kpybroker.wire.messages.txn_offset_commit import (
    TxnOffsetCommitRequest,
    TxnOffsetCommitRequestPartition,
    TxnOffsetCommitRequestTopic,
    TxnOffsetCommitResponse,
    TxnOffsetCommitResponsePartition,
    TxnOffsetCommitResponseTopic,
)
from kpybroker.wire.records.batch import NO_SEQUENCE
from kpybroker.wire.schema import replace

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kpybroker.handlers.context import Context

LOADING_SINCE = 2
"""The version whose clients understand COORDINATOR_LOAD_IN_PROGRESS."""
ABORTABLE_SINCE = 4
ADDS_OFFSETS_SINCE = 5


async def handle(ctx: Context, request: TxnOffsetCommitRequest) -> TxnOffsetCommitResponse:
    """Sort out what does not exist; the rest is for the coordinators of the transaction and of the group."""
    ctx.require(Operation.WRITE, transactional_id=request.transactional_id)
    ctx.require(Operation.READ, group=request.group_id)
    refused: list[TxnOffsetCommitResponseTopic] = []
    accepted: list[TxnOffsetCommitRequestTopic] = []
    for topic in request.topics:
        if not ctx.allows(Operation.READ, topic=topic.name):
            refused.append(_answer(topic, topic.partitions, Code.TOPIC_AUTHORIZATION_FAILED))
            continue
        known = ctx.image.topics.by_name.get(topic.name)
        indexes = () if known is None else known.partitions
        missing = [partition for partition in topic.partitions if partition.partition_index not in indexes]
        if missing or known is None:
            refused.append(_answer(topic, missing, Code.UNKNOWN_TOPIC_OR_PARTITION))
        present = [partition for partition in topic.partitions if partition.partition_index in indexes]
        if present and known is not None:
            accepted.append(TxnOffsetCommitRequestTopic(name=topic.name, topic_id=known.id, partitions=present))
    if not accepted:
        return TxnOffsetCommitResponse(throttle_time_ms=0, topics=refused)
    response = await _commit(ctx, replace(request, topics=accepted))
    return replace(response, topics=_merged(refused, response.topics)) if refused else response


def refuse(request: TxnOffsetCommitRequest, version: int, refused: Refused) -> TxnOffsetCommitResponse:  # noqa: ARG001
    """The same error for every partition."""
    return txn_commit_error(refused.code, request.topics)


async def _commit(ctx: Context, request: TxnOffsetCommitRequest) -> TxnOffsetCommitResponse:
    """Have the transaction verified, then the offsets committed, of topics that exist."""
    if not request.group_id:
        return txn_commit_error(Code.INVALID_GROUP_ID, request.topics)
    place = CONSUMER_OFFSETS, ctx.groups.partition_for(request.group_id)
    producer = TxnProducer(request.transactional_id, request.producer_id, request.producer_epoch, _support(ctx.version))
    verified = await ctx.services.of_broker.txn_verifier.ask(producer, {place: NO_SEQUENCE})
    if place in verified.refused:
        code = coordinator_code(verified.refused[place])
        response = txn_commit_error(code, request.topics)
    else:
        response = await ctx.groups.commit_txn_offsets(request, guard=verified.guards[place])
    return response if ctx.version >= LOADING_SINCE else _without_loading(response)


def _support(version: int) -> Support:
    if version >= ADDS_OFFSETS_SINCE:
        return Support.VERSION_2
    return Support.ABORTABLE if version >= ABORTABLE_SINCE else Support.NONE


def _without_loading(response: TxnOffsetCommitResponse) -> TxnOffsetCommitResponse:
    """Producers of old can't handle a coordinator that is loading: they are told that it is not available."""
    loading = Code.COORDINATOR_LOAD_IN_PROGRESS
    if all(partition.error_code != loading for topic in response.topics for partition in topic.partitions):
        return response
    return txn_commit_error(Code.COORDINATOR_NOT_AVAILABLE, response.topics)


def _answer(
    topic: TxnOffsetCommitRequestTopic, partitions: Iterable[TxnOffsetCommitRequestPartition], code: Code
) -> TxnOffsetCommitResponseTopic:
    return TxnOffsetCommitResponseTopic(
        name=topic.name,
        partitions=[
            TxnOffsetCommitResponsePartition(partition_index=partition.partition_index, error_code=code)
            for partition in partitions
        ],
    )


def _merged(
    refused: list[TxnOffsetCommitResponseTopic], answered: list[TxnOffsetCommitResponseTopic]
) -> list[TxnOffsetCommitResponseTopic]:
    """One entry a topic: what was refused here, then what the coordinator said."""
    topics: dict[str, TxnOffsetCommitResponseTopic] = {}
    for topic in (*refused, *answered):
        known = topics.setdefault(topic.name, topic)
        if known is not topic:
            known.partitions.extend(topic.partitions)
    return list(topics.values())

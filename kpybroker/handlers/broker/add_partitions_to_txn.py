"""AddPartitionsToTxn (API 24): take partitions into a transaction, or verify that they are in it.

v2: PRODUCER_FENCED. v4: asked by brokers, of many transactions at once; and VerifyOnly (KIP-890). Clients end at v3;
those of transaction version 2 do without: the leaders of the partitions that they write to ask for them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kpybroker.cluster.names import INTERNAL_TOPICS
from kpybroker.security.operations import Operation
from kpybroker.wire.codes import Code, Refused
from kpybroker.wire.messages.add_partitions_to_txn import (
    AddPartitionsToTxnPartitionResult,
    AddPartitionsToTxnRequest,
    AddPartitionsToTxnResponse,
    AddPartitionsToTxnResult,
    AddPartitionsToTxnTopic,
    AddPartitionsToTxnTopicResult,
    AddPartitionsToTxnTransaction,
)

if TYPE_CHECKING:
    from kpybroker.handlers.context import Context

FENCED_SINCE = 2
BROKERS_SINCE = 4

Codes = dict[tuple[str, int], Code]


async def handle(ctx: Context, request: AddPartitionsToTxnRequest) -> AddPartitionsToTxnResponse:
    """Each transaction by itself; of one, all partitions or none."""
    if ctx.version >= BROKERS_SINCE:
        ctx.require(Operation.CLUSTER_ACTION)
        results = []
        for txn in request.transactions:
            codes = await (_verified(ctx, txn) if txn.verify_only else _added(ctx, txn))
            results.append(
                AddPartitionsToTxnResult(
                    transactional_id=txn.transactional_id, topic_results=_results(txn.topics, codes)
                )
            )
        return AddPartitionsToTxnResponse(throttle_time_ms=0, results_by_transaction=results)
    txn = AddPartitionsToTxnTransaction(
        transactional_id=request.v3_and_below_transactional_id,
        producer_id=request.v3_and_below_producer_id,
        producer_epoch=request.v3_and_below_producer_epoch,
        topics=request.v3_and_below_topics,
    )
    ctx.require(Operation.WRITE, transactional_id=txn.transactional_id)
    codes = await _added(ctx, txn)
    return AddPartitionsToTxnResponse(throttle_time_ms=0, results_by_topic_v3_and_below=_results(txn.topics, codes))


def refuse(request: AddPartitionsToTxnRequest, version: int, refused: Refused) -> AddPartitionsToTxnResponse:
    """To a broker once, to a client at every partition."""
    if version >= BROKERS_SINCE:
        return AddPartitionsToTxnResponse(throttle_time_ms=0, error_code=refused.code)
    topics = request.v3_and_below_topics
    codes = dict.fromkeys(_places(topics), refused.code)
    return AddPartitionsToTxnResponse(throttle_time_ms=0, results_by_topic_v3_and_below=_results(topics, codes))


async def _added(ctx: Context, txn: AddPartitionsToTxnTransaction) -> Codes:
    faults = _faults(ctx, txn)
    if faults:
        return faults
    places = _places(txn.topics)
    code = await ctx.transactions.add(
        txn.transactional_id,
        txn.producer_id,
        txn.producer_epoch,
        places,
        client_version=2 if ctx.version >= BROKERS_SINCE else 0,
    )
    if code is Code.PRODUCER_FENCED and ctx.version < FENCED_SINCE:
        code = Code.INVALID_PRODUCER_EPOCH
    return dict.fromkeys(places, code)


async def _verified(ctx: Context, txn: AddPartitionsToTxnTransaction) -> Codes:
    return _faults(ctx, txn) or await ctx.transactions.verify(
        txn.transactional_id, txn.producer_id, txn.producer_epoch, _places(txn.topics)
    )


def _faults(ctx: Context, txn: AddPartitionsToTxnTransaction) -> Codes:
    """What keeps the partitions from being added, if anything does: those that could be say so."""
    codes: Codes = {}
    for topic in txn.topics:
        known = ctx.image.topics.by_name.get(topic.name)
        writable = ctx.version >= BROKERS_SINCE or (
            topic.name not in INTERNAL_TOPICS and ctx.allows(Operation.WRITE, topic=topic.name)
        )
        for index in topic.partitions:
            if not writable:
                codes[topic.name, index] = Code.TOPIC_AUTHORIZATION_FAILED
            elif known is None or index not in known.partitions:
                codes[topic.name, index] = Code.UNKNOWN_TOPIC_OR_PARTITION
            else:
                codes[topic.name, index] = Code.OPERATION_NOT_ATTEMPTED
    return {} if set(codes.values()) <= {Code.OPERATION_NOT_ATTEMPTED} else codes


def _places(topics: list[AddPartitionsToTxnTopic]) -> list[tuple[str, int]]:
    return [(topic.name, index) for topic in topics for index in topic.partitions]


def _results(topics: list[AddPartitionsToTxnTopic], codes: Codes) -> list[AddPartitionsToTxnTopicResult]:
    return [
        AddPartitionsToTxnTopicResult(
            name=topic.name,
            results_by_partition=[
                AddPartitionsToTxnPartitionResult(partition_index=index, partition_error_code=codes[topic.name, index])
                for index in topic.partitions
            ],
        )
        for topic in topics
    ]

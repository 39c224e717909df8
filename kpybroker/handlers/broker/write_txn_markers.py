"""WriteTxnMarkers (API 27): a transaction coordinator, or an administrator, ends transactions in partitions led here.

v1: flexible. v2: the version of the transaction, which says how strictly its epoch is looked at (KIP-1228).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kpybroker.security.operations import Operation
from kpybroker.wire.codes import Code, Refused
from kpybroker.wire.messages.write_txn_markers import (
    WritableTxnMarkerPartitionResult,
    WritableTxnMarkerResult,
    WritableTxnMarkerTopicResult,
    WriteTxnMarkersRequest,
    WriteTxnMarkersResponse,
)

if TYPE_CHECKING:
    from kpybroker.handlers.context import Context

Codes = dict[tuple[str, int], Code]


async def handle(ctx: Context, request: WriteTxnMarkersRequest) -> WriteTxnMarkersResponse:
    """Write one marker after the other; what is said of one producer stands together."""
    if not ctx.allows(Operation.ALTER):
        ctx.require(Operation.CLUSTER_ACTION)
    by_producer: dict[int, Codes] = {}
    for marker in request.markers:
        codes = await ctx.services.of_broker.txn_markers.write(marker)
        if codes:
            by_producer.setdefault(marker.producer_id, {}).update(codes)
    return _response(by_producer)


def refuse(request: WriteTxnMarkersRequest, version: int, refused: Refused) -> WriteTxnMarkersResponse:  # noqa: ARG001
    """The same error for every partition."""
    by_producer: dict[int, Codes] = {}
    for marker in request.markers:
        codes = by_producer.setdefault(marker.producer_id, {})
        codes.update(
            ((topic.name, index), refused.code) for topic in marker.topics for index in topic.partition_indexes
        )
    return _response(by_producer)


def _response(by_producer: dict[int, Codes]) -> WriteTxnMarkersResponse:
    markers = []
    for producer_id, codes in by_producer.items():
        topics: dict[str, list[WritableTxnMarkerPartitionResult]] = {}
        for (topic, index), code in codes.items():
            topics.setdefault(topic, []).append(
                WritableTxnMarkerPartitionResult(partition_index=index, error_code=code)
            )
        results = [WritableTxnMarkerTopicResult(name=name, partitions=found) for name, found in topics.items()]
        markers.append(WritableTxnMarkerResult(producer_id=producer_id, topics=results))
    return WriteTxnMarkersResponse(markers=markers)

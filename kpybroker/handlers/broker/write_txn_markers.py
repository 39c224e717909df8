"""WriteTxnMarkers (API 27): a transaction coordinator, or an administrator, ends transactions in partitions led here.

v1: flexible. v2: the version of the transaction, which says how strictly its epoch is looked at (KIP-1228).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from kpybroker.security.operations import Operation
from kpybroker.wire.codes import Code, Refused
from kpybroker.wire.messages.write_txn_markers import (
    WritableTxnMarker,
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
    """Write one marker of a producer after the other, and those of several producers side by side.

    Each is on all in-sync replicas before it is answered: the transactions of others don't wait for that.
    """
    if not ctx.allows(Operation.ALTER):
        ctx.require(Operation.CLUSTER_ACTION)
    markers: dict[int, list[WritableTxnMarker]] = {}
    for marker in request.markers:
        markers.setdefault(marker.producer_id, []).append(marker)
    by_producer: dict[int, Codes] = {producer_id: {} for producer_id in markers}

    async def write(producer_id: int) -> None:
        for marker in markers[producer_id]:
            by_producer[producer_id].update(await ctx.services.of_broker.txn_markers.write(marker))

    async with trio.open_nursery() as nursery:
        for producer_id in markers:
            nursery.start_soon(write, producer_id)
    return _response({producer_id: codes for producer_id, codes in by_producer.items() if codes})


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

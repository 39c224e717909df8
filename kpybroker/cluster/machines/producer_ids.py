"""AllocateProducerIds: blocks of producer ids, each handed out once in the life of a cluster (KIP-730)."""

from __future__ import annotations

from kpybroker.cluster.machines.brokers import broker_at_epoch
from kpybroker.cluster.machines.decision import Decision, State
from kpybroker.wire.codes import Code, Refused
from kpybroker.wire.internal.metadata_records import ProducerIdsRecord
from kpybroker.wire.messages.allocate_producer_ids import AllocateProducerIdsRequest, AllocateProducerIdsResponse

BLOCK_SIZE = 1000
"""Ids in a block, as Kafka's."""

_INT64_MAX = 2**63 - 1


def allocate_producer_ids(state: State, request: AllocateProducerIdsRequest) -> Decision[AllocateProducerIdsResponse]:
    """Decide an AllocateProducerIds request (v0). Raises: Refused(STALE_BROKER_EPOCH)."""
    broker_at_epoch(state.image, request.broker_id, request.broker_epoch)
    first = max(0, state.image.producer_ids.next_producer_id)
    if first > _INT64_MAX - BLOCK_SIZE:
        raise Refused(Code.UNKNOWN_SERVER_ERROR, "Exhausted all producerIds: the next block would not fit int64")
    record = ProducerIdsRecord(
        broker_id=request.broker_id, broker_epoch=request.broker_epoch, next_producer_id=first + BLOCK_SIZE
    )
    response = AllocateProducerIdsResponse(
        throttle_time_ms=0, error_code=Code.NONE, producer_id_start=first, producer_id_len=BLOCK_SIZE
    )
    return Decision([record], response)

"""UnregisterBroker: forget a broker, whether it is alive or not (KIP-631).

A broker that still runs is not told: it leads nothing any more, its heartbeats are refused, and it is back when it
starts, and so registers, anew.
"""

from __future__ import annotations

from kpybroker.cluster.machines.decision import Decision, State, check_batch
from kpybroker.cluster.machines.leadership import in_elr, in_isr, leader_changes
from kpybroker.wire.codes import Code, Refused
from kpybroker.wire.internal.metadata_records import UnregisterBrokerRecord
from kpybroker.wire.messages.unregister_broker import UnregisterBrokerRequest, UnregisterBrokerResponse


def unregister_broker(state: State, request: UnregisterBrokerRequest) -> Decision[UnregisterBrokerResponse]:
    """Decide an UnregisterBroker request (v0). Raises: Refused(BROKER_ID_NOT_REGISTERED, POLICY_VIOLATION)."""
    image = state.image
    broker = image.brokers.get(request.broker_id)
    if broker is None:
        raise Refused(Code.BROKER_ID_NOT_REGISTERED, f"Broker ID {request.broker_id} is not currently registered")
    records = [
        *leader_changes(state, in_isr(image, broker.id), gone=broker.id),
        *leader_changes(state, in_elr(image, broker.id), gone=broker.id),
        UnregisterBrokerRecord(broker_id=broker.id, broker_epoch=broker.epoch),
    ]
    check_batch(records)
    return Decision(records, UnregisterBrokerResponse(throttle_time_ms=0, error_code=Code.NONE, error_message=""))

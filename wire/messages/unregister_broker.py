"""UnregisterBroker (API 64): remove the registration of a broker that will not come back (KIP-631)."""

from kpybroker.wire.schema import Int16, Int32, Message, message


@message(key=64, versions="0", flexible="0+")
class UnregisterBrokerRequest(Message):
    broker_id: Int32


@message(key=64, versions="0", flexible="0+")
class UnregisterBrokerResponse(Message):
    throttle_time_ms: Int32
    error_code: Int16
    error_message: str | None

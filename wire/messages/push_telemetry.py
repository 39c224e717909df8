"""PushTelemetry (API 72): a client sends its metrics (KIP-714)."""

from kpybroker.wire.schema import Int8, Int16, Int32, Message, Uuid, message


@message(key=72, versions="0", flexible="0+")
class PushTelemetryRequest(Message):
    client_instance_id: Uuid
    subscription_id: Int32
    terminating: bool
    compression_type: Int8
    metrics: bytes


@message(key=72, versions="0", flexible="0+")
class PushTelemetryResponse(Message):
    throttle_time_ms: Int32
    error_code: Int16

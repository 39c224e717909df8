"""ExpireDelegationToken (API 40): change when a delegation token ends, or end it now (KIP-48)."""

from kpybroker.wire.schema import Int16, Int32, Int64, Message, message


@message(key=40, versions="1-2", flexible="2+")
class ExpireDelegationTokenRequest(Message):
    hmac: bytes
    expiry_time_period_ms: Int64


@message(key=40, versions="1-2", flexible="2+")
class ExpireDelegationTokenResponse(Message):
    error_code: Int16
    expiry_timestamp_ms: Int64
    throttle_time_ms: Int32

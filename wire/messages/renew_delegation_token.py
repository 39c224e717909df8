"""RenewDelegationToken (API 39): extend the life of a delegation token (KIP-48)."""

from kpybroker.wire.schema import Int16, Int32, Int64, Message, message


@message(key=39, versions="1-2", flexible="2+")
class RenewDelegationTokenRequest(Message):
    hmac: bytes
    renew_period_ms: Int64


@message(key=39, versions="1-2", flexible="2+")
class RenewDelegationTokenResponse(Message):
    error_code: Int16
    expiry_timestamp_ms: Int64
    throttle_time_ms: Int32

"""SaslAuthenticate (API 36): one step of a SASL exchange (KIP-152)."""

from typing import Annotated

from kpybroker.wire.schema import IGNORABLE, Int16, Int64, Message, Since, message


@message(key=36, versions="0-2", flexible="2+")
class SaslAuthenticateRequest(Message):
    auth_bytes: bytes


@message(key=36, versions="0-2", flexible="2+")
class SaslAuthenticateResponse(Message):
    error_code: Int16
    error_message: str | None
    auth_bytes: bytes
    session_lifetime_ms: Annotated[Int64, Since(1), IGNORABLE] = 0

"""CreateDelegationToken (API 38): issue a delegation token (KIP-48)."""

from typing import Annotated

from kpybroker.wire.schema import Int16, Int32, Int64, Message, Since, Struct, message


class CreatableRenewers(Struct):
    principal_type: str
    principal_name: str


@message(key=38, versions="1-3", flexible="2+")
class CreateDelegationTokenRequest(Message):
    owner_principal_type: Annotated[str | None, Since(3)] = ""
    owner_principal_name: Annotated[str | None, Since(3)] = ""
    renewers: list[CreatableRenewers]
    max_lifetime_ms: Int64


@message(key=38, versions="1-3", flexible="2+")
class CreateDelegationTokenResponse(Message):
    error_code: Int16
    principal_type: str
    principal_name: str
    token_requester_principal_type: Annotated[str, Since(3)] = ""
    token_requester_principal_name: Annotated[str, Since(3)] = ""
    issue_timestamp_ms: Int64
    expiry_timestamp_ms: Int64
    max_timestamp_ms: Int64
    token_id: str
    hmac: bytes
    throttle_time_ms: Int32

"""DescribeDelegationToken (API 41): list delegation tokens by owner (KIP-48)."""

from typing import Annotated

from kpybroker.wire.schema import Int16, Int32, Int64, Message, Since, Struct, message


class DescribeDelegationTokenOwner(Struct):
    principal_type: str
    principal_name: str


@message(key=41, versions="1-3", flexible="2+")
class DescribeDelegationTokenRequest(Message):
    owners: list[DescribeDelegationTokenOwner] | None


class DescribedDelegationTokenRenewer(Struct):
    principal_type: str
    principal_name: str


class DescribedDelegationToken(Struct):
    principal_type: str
    principal_name: str
    token_requester_principal_type: Annotated[str, Since(3)] = ""
    token_requester_principal_name: Annotated[str, Since(3)] = ""
    issue_timestamp: Int64
    expiry_timestamp: Int64
    max_timestamp: Int64
    token_id: str
    hmac: bytes
    renewers: list[DescribedDelegationTokenRenewer]


@message(key=41, versions="1-3", flexible="2+")
class DescribeDelegationTokenResponse(Message):
    error_code: Int16
    tokens: list[DescribedDelegationToken]
    throttle_time_ms: Int32

"""DescribeUserScramCredentials (API 50): which SCRAM mechanisms users have, with their iterations (KIP-554)."""

from kpybroker.wire.schema import Int8, Int16, Int32, Message, Struct, message


class UserName(Struct):
    name: str


@message(key=50, versions="0", flexible="0+")
class DescribeUserScramCredentialsRequest(Message):
    users: list[UserName] | None


class CredentialInfo(Struct):
    mechanism: Int8
    iterations: Int32


class DescribeUserScramCredentialsResult(Struct):
    user: str
    error_code: Int16
    error_message: str | None
    credential_infos: list[CredentialInfo]


@message(key=50, versions="0", flexible="0+")
class DescribeUserScramCredentialsResponse(Message):
    throttle_time_ms: Int32
    error_code: Int16
    error_message: str | None
    results: list[DescribeUserScramCredentialsResult]

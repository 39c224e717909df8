"""SaslHandshake (API 17): choose the SASL mechanism (KIP-43)."""

from kpybroker.wire.schema import Int16, Message, message


@message(key=17, versions="0-1")
class SaslHandshakeRequest(Message):
    mechanism: str


@message(key=17, versions="0-1")
class SaslHandshakeResponse(Message):
    error_code: Int16
    mechanisms: list[str]

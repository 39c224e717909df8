"""Envelope (API 58): a broker forwards a client's request to the controller, with the client's principal (KIP-590)."""

from kpybroker.wire.schema import Int16, Message, message


@message(key=58, versions="0", flexible="0+")
class EnvelopeRequest(Message):
    request_data: bytes
    request_principal: bytes | None
    client_host_address: bytes


@message(key=58, versions="0", flexible="0+")
class EnvelopeResponse(Message):
    response_data: bytes | None = None
    error_code: Int16

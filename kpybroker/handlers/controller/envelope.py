"""Envelope (API 58): a broker forwards a client's request, carried out here as if the client had asked (KIP-590)."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

import msgspec

from kpybroker.handlers.account import Account
from kpybroker.handlers.context import Client, Context
from kpybroker.security.operations import Operation
from kpybroker.security.principal import Principal
from kpybroker.wire.api_keys import APIS
from kpybroker.wire.codec import decode, decode_prefix, encode
from kpybroker.wire.codes import Code, Refused
from kpybroker.wire.errors import WireError
from kpybroker.wire.headers import ResponseHeader, parse_request_header
from kpybroker.wire.internal.principal import DefaultPrincipalData
from kpybroker.wire.messages.envelope import EnvelopeRequest, EnvelopeResponse

if TYPE_CHECKING:
    from kpybroker.wire.headers import RequestStart
    from kpybroker.wire.schema import Message


async def handle(ctx: Context, request: EnvelopeRequest) -> EnvelopeResponse:
    """The embedded response, or an error for the broker: NOT_CONTROLLER, UNSUPPORTED_VERSION, INVALID_REQUEST, ..."""
    ctx.require(Operation.CLUSTER_ACTION)
    data = memoryview(request.request_data)
    client = Client(
        listener=ctx.client.listener,
        host=_address(request.client_host_address),
        port=ctx.client.port,
        principal=_principal(request.request_principal),
        forwarded=True,
    )
    start = _header(ctx, data)
    api = APIS[start.api_key]
    try:
        embedded, _ = decode_prefix(api.request_class(), start.api_version, data[start.body_offset :])
    except WireError as malformed:
        raise Refused(Code.UNSUPPORTED_VERSION, str(malformed)) from malformed
    response = await _carry_out(ctx, client, start, embedded)
    header = ResponseHeader(correlation_id=start.correlation_id)
    head = encode(header, api.response_header_version(start.api_version))
    return EnvelopeResponse(error_code=Code.NONE, response_data=head + encode(response, start.api_version))


async def _carry_out(ctx: Context, client: Client, start: RequestStart, request: Message) -> Message:
    services = ctx.services
    inner = Context(services, ctx.connection, client, start.api_version, start.correlation_id, start.client_id)
    if services.quotas.active:
        inner.account = Account(services.quotas, client.principal.name, start.client_id, services.clock)
        inner.account.exempt = True  # its time is counted with the envelope's
    response = await services.controller_handlers.carry_out(inner, request)
    if inner.account is not None and (throttle_ms := inner.account.settle()) and hasattr(response, "throttle_time_ms"):
        response = msgspec.structs.replace(response, throttle_time_ms=throttle_ms)  # type: ignore[type-var]
    return response


def _address(packed: bytes) -> str:
    try:
        return str(ipaddress.ip_address(packed))
    except ValueError as error:
        raise Refused(Code.INVALID_REQUEST, "Failed to parse client address from envelope") from error


def _principal(data: bytes | None) -> Principal:
    try:
        if data is None or data[:2] != b"\0\0":
            raise ValueError("no principal that we know")
        principal = decode(DefaultPrincipalData, 0, memoryview(data)[2:])
    except (ValueError, WireError) as error:
        why = "Failed to deserialize client principal from envelope"
        raise Refused(Code.PRINCIPAL_DESERIALIZATION_FAILURE, why) from error
    return Principal(principal.type, principal.name)


def _header(ctx: Context, data: memoryview) -> RequestStart:
    try:
        start = parse_request_header(data)
    except WireError as malformed:
        why = "Failed to parse request header from envelope"
        raise Refused(Code.UNSUPPORTED_VERSION, why) from malformed
    api = APIS.get(start.api_key)
    if api is None:
        raise Refused(Code.UNSUPPORTED_VERSION, f"there is no API {start.api_key}")
    if not api.forwardable:
        raise Refused(Code.INVALID_REQUEST, f"API {api.name} is not enabled or is not eligible for forwarding")
    if not ctx.services.controller_handlers.serves(start.api_key, start.api_version):
        raise Refused(Code.UNSUPPORTED_VERSION, f"{api.name} version {start.api_version} is not served")
    return start

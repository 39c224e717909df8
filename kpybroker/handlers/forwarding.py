"""The active controller as the broker's handlers see it: in this process, or behind an Envelope (KIP-590).

What a broker forwards is carried out by the controller's own handler of the API, on behalf of the same client: here
directly, elsewhere from an Envelope that says who the client is. The caller can't tell. While there is no active
controller, or one that has just ceased to be it, the request waits and is sent again.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Final, TypeAlias

import trio

from kpybroker.handlers.context import Later
from kpybroker.handlers.finder import HandlerFinder, Side
from kpybroker.handlers.refusal import refusal
from kpybroker.wire.api_keys import APIS
from kpybroker.wire.codes import Code, Refused

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from kpybroker.cluster.controller_link import ControllerLink
    from kpybroker.handlers.context import Context
    from kpybroker.security.principal import Principal
    from kpybroker.wire.messages.envelope import EnvelopeRequest
    from kpybroker.wire.schema import Message

RETRIED_FOR_S = 60.0
"""How long a request waits for an active controller; as in Apache Kafka."""

PRINCIPAL_VERSION: Final = 0

Remotely: TypeAlias = "Callable[[Context, Message], Awaitable[Message]]"
"""Asks a controller of another process, once. Raises: Refused(NOT_CONTROLLER) if it is to be asked again."""


class ControllerHandlers:
    """The controller's side of what is forwarded: its handlers in this process."""

    def __init__(self) -> None:
        self._finder = HandlerFinder(Side.CONTROLLER)

    def serves(self, key: int, version: int) -> bool:
        """Whether the controller has that API at that version."""
        served = self._finder.served(key)
        return served is not None and served[0] <= version <= served[1]

    async def carry_out(self, ctx: Context, request: Message) -> Message:
        """The response, one that declines the request included. Raises: Refused, with NOT_CONTROLLER only."""
        handler = self._finder.handler(request.API_KEY)
        try:
            response = await handler.handle(ctx, request)
        except Refused as refused:
            if refused.code == Code.NOT_CONTROLLER:
                raise
            return self.refusal(ctx, request, refused)
        assert response is not None, f"{type(request).__name__} has no answer"
        assert not isinstance(response, Later), f"{type(request).__name__} has no answer yet"
        return response

    def refusal(self, ctx: Context, request: Message, refused: Refused) -> Message:
        """The response that declines the request."""
        handler = self._finder.handler(request.API_KEY)
        return refusal(handler, request, ctx.version, refused, APIS[request.API_KEY].response_class())


class Forwarder:
    """Has the active controller, wherever it is, carry out what clients ask of this broker."""

    def __init__(self, link: ControllerLink, handlers: ControllerHandlers) -> None:
        self._link = link
        self._handlers = handlers

    async def forward(self, ctx: Context, request: Message) -> Message:
        """As Forwarding.forward. Raises: CloseConnection if the controller can't read what the client sent."""
        return await self._carried_out(ctx, request, self._in_envelope)

    async def ask(self, ctx: Context, request: Message) -> Message:
        """As Forwarding.ask."""
        return await self._carried_out(ctx, request, self._plain)

    async def _carried_out(self, ctx: Context, request: Message, remotely: Remotely) -> Message:
        deadline_s = ctx.clock.monotonic_s() + RETRIED_FOR_S
        while True:
            controller = self._link.local
            try:
                if controller is not None:
                    return await self._handlers.carry_out(ctx, request)
                return await remotely(ctx, request)
            except Refused as refused:
                if controller is not None and controller.failure is not None:  # this node is about to end
                    return self._handlers.refusal(ctx, request, refused)
            if ctx.clock.monotonic_s() >= deadline_s:
                return self._handlers.refusal(ctx, request, Refused(Code.REQUEST_TIMED_OUT))
            with trio.move_on_at(deadline_s):
                await self._link.worth_another_try()

    async def _plain(self, ctx: Context, request: Message) -> Message:
        """Raises: Refused(NOT_CONTROLLER)."""
        try:
            response_class = APIS[request.API_KEY].response_class()
            return await self._link.ask_remote(request, response_class, version=ctx.version)
        except Refused as refused:
            if refused.code == Code.NOT_CONTROLLER:
                raise
            return self._handlers.refusal(ctx, request, refused)

    async def _in_envelope(self, ctx: Context, request: Message) -> Message:
        """Raises: Refused(NOT_CONTROLLER), CloseConnection."""
        from kpybroker.handlers.context import CloseConnection
        from kpybroker.wire.codec import decode, decode_prefix
        from kpybroker.wire.errors import WireError
        from kpybroker.wire.headers import ResponseHeader
        from kpybroker.wire.messages.envelope import EnvelopeResponse

        try:
            answer = await self._link.ask_remote(envelope(ctx, request), EnvelopeResponse, version=0)
        except Refused as refused:
            if refused.code == Code.NOT_CONTROLLER:
                raise
            return self._handlers.refusal(ctx, request, Refused(Code.UNKNOWN_SERVER_ERROR))
        if answer.error_code == Code.NOT_CONTROLLER:
            raise Refused(Code.NOT_CONTROLLER)
        if answer.error_code == Code.UNSUPPORTED_VERSION:
            # The client knows versions from us that the controller does not have: it is to ask for them again.
            raise CloseConnection
        api = APIS[request.API_KEY]
        data = memoryview(answer.response_data or b"")
        try:
            if answer.error_code:
                raise Refused(Code.UNKNOWN_SERVER_ERROR)  # the fault of a broker, which the client can't understand
            _, body = decode_prefix(ResponseHeader, api.response_header_version(ctx.version), data)
            response = decode(api.response_class(), ctx.version, data[body:])
        except (Refused, WireError):
            return self._handlers.refusal(ctx, request, Refused(Code.UNKNOWN_SERVER_ERROR))
        throttle_ms: int = getattr(response, "throttle_time_ms", 0)
        if throttle_ms > 0:  # the controller counts changes, and it is here that the client is made to pause
            ctx.connection.mute(throttle_ms)
        return response


def envelope(ctx: Context, request: Message) -> EnvelopeRequest:
    """The request with whom it comes from."""
    from kpybroker.wire.codec import encode
    from kpybroker.wire.headers import RequestHeader
    from kpybroker.wire.messages.envelope import EnvelopeRequest

    api = APIS[request.API_KEY]
    header = RequestHeader(
        request_api_key=api.key,
        request_api_version=ctx.version,
        correlation_id=ctx.correlation_id,
        client_id=ctx.client_id,
    )
    host = ctx.client.host.partition("%")[0]  # an IPv6 address may name its interface
    return EnvelopeRequest(
        request_data=encode(header, api.request_header_version(ctx.version)) + encode(request, ctx.version),
        request_principal=principal_bytes(ctx.client.principal),
        client_host_address=ipaddress.ip_address(host).packed,
    )


def principal_bytes(principal: Principal) -> bytes:
    """A principal as brokers tell each other of it. None here was authenticated by a delegation token."""
    from kpybroker.wire.codec import encode
    from kpybroker.wire.internal.principal import DefaultPrincipalData

    data = DefaultPrincipalData(type=principal.kind, name=principal.name, token_authenticated=False)
    return PRINCIPAL_VERSION.to_bytes(2, "big") + encode(data, PRINCIPAL_VERSION)

"""From a frame to a reply: header, decode, handler, encode.

Three kinds of failure, never mixed. What is wrong with one partition is a value in the response. A request that is
declined whole is an exception (Refused), turned into the API's response here. Bytes that are not a request this node
serves end the connection. Anything else is a bug of ours: it is logged with its traceback, answered with
UNKNOWN_SERVER_ERROR, and the node goes on.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, TypeAlias, cast

import msgspec

from kpybroker.handlers.account import Account
from kpybroker.handlers.context import Client, CloseConnection, Context, Door, Later, Services
from kpybroker.handlers.finder import HandlerFinder
from kpybroker.handlers.refusal import refusal
from kpybroker.server.reply import Part, reply_parts
from kpybroker.server.request_log import log_completed, request_log
from kpybroker.wire.api_keys import APIS, Api
from kpybroker.wire.codec import decode_prefix
from kpybroker.wire.codes import Code, Refused
from kpybroker.wire.errors import WireError
from kpybroker.wire.headers import RequestStart, parse_request_header

if TYPE_CHECKING:
    from kpybroker.handlers.finder import Handler
    from kpybroker.seldom import SeldomLog
    from kpybroker.wire.messages.produce import ProduceRequest
    from kpybroker.wire.schema import Message

log = logging.getLogger("kpybroker.server")

PRODUCE = 0
API_VERSIONS = 18

Reply: TypeAlias = list[Part]


class NotServed(Exception):
    """A request that this node does not serve, or cannot read: there is no answer that its sender would understand."""


class Route:
    """One API at one version, as it is carried out behind one door: looked up once, used for every request."""

    __slots__ = ("body_class", "handler", "response_class", "response_header_flexible", "version")

    def __init__(self, key: int, version: int, handler: Handler) -> None:
        api = APIS[key]
        self.version = version
        self.handler = handler
        self.body_class = api.request_class()
        self.response_class = api.response_class()
        self.response_header_flexible = api.response_header_version(version) > 0


class LateReply:
    """The reply to a request of which nothing is left to be done but to wait (`later`)."""

    __slots__ = ("_context", "_dispatcher", "_route", "later")

    def __init__(self, dispatcher: Dispatcher, route: Route, context: Context, later: Later) -> None:
        self._dispatcher = dispatcher
        self._route = route
        self._context = context
        self.later = later

    def parts(self) -> Reply | None:
        """The reply as it is now; None: there is none. Raises: CloseConnection."""
        try:
            response = self.later.response()
            return None if response is None else _encoded(self._route, self._context, response)
        except CloseConnection:
            raise
        except Exception as bug:
            self._dispatcher.bug(bug, "answering %s failed", self._context.client.host)
            raise CloseConnection("a bug of this node") from bug


class Dispatcher:
    """Carries out the requests that come by one kind of listener."""

    def __init__(self, services: Services, finder: HandlerFinder, say: SeldomLog) -> None:
        self._services = services
        self._say = say
        self._finder = finder
        self._routes: dict[tuple[int, int], Route] = {}

    def advertised(self) -> list[tuple[Api, int, int]]:
        """The APIs served here, each with its least and greatest version."""
        return self._finder.advertised()

    async def answer(self, frame: memoryview, client: Client, connection: Door) -> Reply | LateReply | None:
        """Carry out the request in `frame`; None: it has no answer.

        Raises: NotServed, CloseConnection: the connection ends.
        """
        try:
            header = parse_request_header(frame)
        except WireError as malformed:
            raise NotServed(f"request header: {malformed}") from None
        route = self._routes.get((header.api_key, header.api_version))
        if route is None:
            if header.api_key == API_VERSIONS and not self._serves(header):
                return _unknown_api_versions(header, self._finder.served(API_VERSIONS))
            route = self._find(header)
        services = self._services
        context = Context(services, connection, client, route.version, header.correlation_id, header.client_id)
        if services.quotas.active:
            context.account = Account(services.quotas, client.principal.name, header.client_id, services.clock)
        elif not request_log.isEnabledFor(logging.DEBUG):
            reply = await self._carry_out(route, context, self._read(route, frame, header, client))
            return LateReply(self, route, context, reply) if isinstance(reply, Later) else reply
        return await self._observed(route, context, frame, header)

    async def _observed(self, route: Route, context: Context, frame: memoryview, header: RequestStart) -> Reply | None:
        """As `answer`, with what it took charged to the client and noted in the request log, if either is wanted."""
        clock, account, client = self._services.clock, context.account, context.client
        began_s = clock.monotonic_s()
        request = self._read(route, frame, header, client)
        if account is None:
            reply = await self._finish(route, context, request)
        else:
            account.spent_s = clock.monotonic_s() - began_s
            if header.api_key == PRODUCE:
                account.frame_bytes, account.exempt = len(frame), cast("ProduceRequest", request).acks == 0
            reply = await account.timed(self._finish(route, context, request))
            if account.settle():  # an answer that there was not is not settled yet
                context.connection.mute(account.throttle_ms)
        if request_log.isEnabledFor(logging.DEBUG):
            throttle_ms = 0 if account is None else account.throttle_ms
            log_completed(header.api_key, context, clock.monotonic_s() - began_s, throttle_ms)
        return reply

    def _serves(self, header: RequestStart) -> bool:
        served = self._finder.served(header.api_key)
        return served is not None and served[0] <= header.api_version <= served[1]

    def _find(self, header: RequestStart) -> Route:
        key, version = header.api_key, header.api_version
        served = self._finder.served(key)
        if served is None:
            raise NotServed(f"API {key} version {version} is not served on this listener")
        if not served[0] <= version <= served[1]:
            raise NotServed(f"{APIS[key].name} version {version} is not served (only {served[0]} to {served[1]})")
        try:
            route = Route(key, version, self._finder.handler(key))
        except OSError as failure:  # its module is imported now, for which there may be no descriptor left
            raise NotServed(f"{APIS[key].name} cannot be carried out: {failure}") from failure
        self._routes[key, version] = route
        return route

    def _read(self, route: Route, frame: memoryview, header: RequestStart, client: Client) -> Message:
        """The request in a frame. Raises: NotServed."""
        try:
            request, _ = decode_prefix(route.body_class, route.version, frame, header.body_offset)
        except WireError as malformed:
            raise NotServed(str(malformed)) from None
        except Exception as bug:  # there is no request to answer, so its connection ends; the node goes on
            self.bug(bug, "%s v%d from %s cannot be read", route.body_class.__name__, route.version, client.host)
            raise NotServed("a bug of this node") from bug
        return request

    async def _finish(self, route: Route, context: Context, request: Message) -> Reply | None:
        """As `_carry_out`, the wait included: it is not known before what the request has cost."""
        reply = await self._carry_out(route, context, request)
        if isinstance(reply, Later):
            await context.finish(reply)
            return LateReply(self, route, context, reply).parts()
        return reply

    async def _carry_out(self, route: Route, context: Context, request: Message) -> Reply | Later | None:
        try:
            response = await route.handler.handle(context, request)
            if response is None or isinstance(response, Later):
                return response
            return _encoded(route, context, response)
        except Refused as refused:
            return _encoded(
                route, context, refusal(route.handler, request, route.version, refused, route.response_class)
            )
        except CloseConnection:
            raise
        except Exception as bug:
            self.bug(bug, "%s v%d from %s failed", type(request).__name__, route.version, context.client.host)
            unknown = Refused(Code.UNKNOWN_SERVER_ERROR)
            return _encoded(
                route, context, refusal(route.handler, request, route.version, unknown, route.response_class)
            )

    def bug(self, bug: Exception, text: str, *arguments: object) -> None:
        """Log a bug of ours with its traceback; the same one only so often."""
        self._say(logging.ERROR, (type(bug), str(bug)[:100], text, arguments[:2]), text, *arguments, traceback=True)


def _encoded(route: Route, context: Context, response: Message) -> Reply:
    if context.account is not None:
        throttle_ms = context.account.settle()
        if throttle_ms and hasattr(response, "throttle_time_ms"):
            response = msgspec.structs.replace(response, throttle_time_ms=throttle_ms)  # type: ignore[type-var]
    return reply_parts(context.correlation_id, route.response_header_flexible, response, route.version)


def _unknown_api_versions(header: RequestStart, served: tuple[int, int] | None) -> Reply:
    """The answer to an ApiVersions of a version that is not served: at version 0, with the one range (KIP-511)."""
    from kpybroker.wire.messages.api_versions import ApiVersion, ApiVersionsResponse

    least, greatest = served or (0, 0)
    response = ApiVersionsResponse(
        error_code=Code.UNSUPPORTED_VERSION,
        api_keys=[ApiVersion(api_key=API_VERSIONS, min_version=least, max_version=greatest)],
    )
    return reply_parts(header.correlation_id, False, response, 0)

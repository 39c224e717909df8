"""How the broker has an active controller elsewhere do something: for a client in an Envelope, for itself plainly."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from kpybroker.clock import Clock
from kpybroker.handlers.context import Client, Context
from kpybroker.handlers.forwarding import ControllerHandlers, Forwarder
from kpybroker.security.principal import Principal
from kpybroker.wire.codec import encode
from kpybroker.wire.codes import Code, Refused
from kpybroker.wire.headers import ResponseHeader
from kpybroker.wire.messages.create_topics import CreatableTopicResult, CreateTopicsRequest, CreateTopicsResponse
from kpybroker.wire.messages.envelope import EnvelopeRequest, EnvelopeResponse

pytestmark = pytest.mark.simulated_time

VERSION = 7
REQUEST = CreateTopicsRequest(topics=[], timeout_ms=1000)
DONE = CreateTopicsResponse(
    throttle_time_ms=0, topics=[CreatableTopicResult(name="t", topic_id=b"t" * 16, error_code=0, error_message=None)]
)


class Link:
    """To a controller of another process."""

    local = None

    def __init__(self) -> None:
        self.asked: list[tuple[Any, int | None]] = []
        self.refusals: list[Refused] = []

    async def ask_remote(self, request: Any, response_class: type[Any], *, version: int | None) -> Any:
        self.asked.append((request, version))
        if self.refusals:
            raise self.refusals.pop()
        if response_class is EnvelopeResponse:
            data = encode(ResponseHeader(correlation_id=1), 1) + encode(DONE, VERSION)
            return EnvelopeResponse(response_data=data, error_code=0)
        return DONE

    async def worth_another_try(self) -> None:
        pass


def context() -> Context:
    services: Any = SimpleNamespace(clock=Clock())
    client = Client(listener="PLAINTEXT", host="10.0.0.9", port=1, principal=Principal("User", "alice"))
    connection: Any = None
    return Context(services, connection, client, VERSION, 1, "client")


async def test_for_a_client_it_asks_in_an_envelope() -> None:
    link: Any = Link()
    assert await Forwarder(link, ControllerHandlers()).forward(context(), REQUEST) == DONE
    ((asked, _),) = link.asked
    assert isinstance(asked, EnvelopeRequest)
    assert b"alice" in bytes(asked.request_principal or b"")


async def test_for_itself_it_asks_plainly() -> None:
    link: Any = Link()
    link.refusals = [Refused(Code.NOT_CONTROLLER)]
    assert await Forwarder(link, ControllerHandlers()).ask(context().as_broker(VERSION), REQUEST) == DONE
    assert link.asked == [(REQUEST, VERSION)] * 2


async def test_what_cannot_be_asked_is_declined() -> None:
    link: Any = Link()
    link.refusals = [Refused(Code.UNSUPPORTED_VERSION)]
    request = CreateTopicsRequest(topics=[], timeout_ms=1000)
    answer = await Forwarder(link, ControllerHandlers()).ask(context().as_broker(VERSION), request)
    assert isinstance(answer, CreateTopicsResponse)


def test_a_broker_has_no_account_and_not_its_clients_name() -> None:
    ctx = context()
    own = ctx.as_broker(VERSION)
    assert (own.account, str(own.client.principal)) == (None, "User:ANONYMOUS")

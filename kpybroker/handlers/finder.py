"""Finds the handler of an API by its file name, in the folder of the listener that it came by.

A file `handlers/broker/heartbeat.py` is all it takes for Heartbeat to be served and advertised on broker listeners.
The folders are listed once; a handler is imported at its first request.
"""

from __future__ import annotations

import importlib
from collections.abc import Awaitable, Callable
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from kpybroker.wire.api_keys import APIS, Api

if TYPE_CHECKING:
    from kpybroker.handlers.context import Context, Later
    from kpybroker.wire.codes import Refused
    from kpybroker.wire.schema import Message


class Side(Enum):
    """The two kinds of listener: what clients and brokers speak to a broker, and what nodes speak to a controller."""

    BROKER = "broker"
    CONTROLLER = "controller"


class Handler(Protocol):
    """What a handler module has."""

    handle: Callable[[Context, Message], Awaitable[Message | Later | None]]
    """Carry a request out; None is no answer at all (Produce with acks=0)."""
    refuse: Callable[[Message, int, Refused], Message]
    """The response to a request (of that version) declined as a whole; only where a response needs more than an error
    code of its own at the top."""


class HandlerFinder:
    """The handlers that exist behind one kind of listener."""

    def __init__(self, side: Side) -> None:
        self.side = side
        here = Path(__file__).parent
        shared = {file.stem: f"kpybroker.handlers.{file.stem}" for file in here.glob("*.py")}
        own = {file.stem: f"kpybroker.handlers.{side.value}.{file.stem}" for file in (here / side.value).glob("*.py")}
        names = shared | own
        self._module_of = {key: names[api.snake_name] for key, api in APIS.items() if api.snake_name in names}

    def served(self, key: int) -> tuple[int, int] | None:
        """The versions of an API that are served here: Kafka's, if there is a handler; else None."""
        if key not in self._module_of:
            return None
        api = APIS[key]
        return api.served_broker if self.side is Side.BROKER else api.served_controller

    def advertised(self) -> list[tuple[Api, int, int]]:
        """The APIs to list in an ApiVersions response, by key, with their least and greatest version."""
        found = []
        for key in sorted(self._module_of):
            api = APIS[key]
            versions = api.advertised_broker if self.side is Side.BROKER else api.served_controller
            if versions is not None:
                found.append((api, *versions))
        return found

    def handler(self, key: int) -> Handler:
        """The handler module of an API that is served here."""
        return cast("Handler", importlib.import_module(self._module_of[key]))

"""The gate: what limits on connections do to those that come, and to those that are there."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from typing import Any

import pytest
import trio

from kpybroker.clock import Clock
from kpybroker.config import BrokerConfig
from kpybroker.seldom import SeldomLog
from kpybroker.server import gate as module
from kpybroker.server.gate import Gate
from kpybroker.server.idle import IdleConnections

pytestmark = pytest.mark.simulated_time
HOST = "127.0.0.1"
TWO_LISTENERS = {
    "listeners": "CLIENTS://:9092,BROKERS://:9093,CONTROLLER://:9094",
    "listener.security.protocol.map": "CLIENTS:PLAINTEXT,BROKERS:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "advertised.listeners": "CLIENTS://localhost:9092,BROKERS://localhost:9093",
    "inter.broker.listener.name": "BROKERS",
}


class Standing:
    """A connection as the gate sees it."""

    def __init__(self, listener: str) -> None:
        self.listener = listener
        self.answering = False
        self.scope = trio.CancelScope()

    @property
    def closed(self) -> bool:
        return self.scope.cancel_called


class Door:
    """A gate that runs in a nursery, and those who come through it."""

    def __init__(self, nursery: trio.Nursery, **settings: object) -> None:
        self.nursery = nursery
        self.settings = {name.replace("_", "."): str(value) for name, value in settings.items()}
        self.idle = IdleConnections(-1)
        clock = Clock()
        self.gate = Gate(self.config(), self.idle, clock, SeldomLog(logging.getLogger("test.gate"), clock))
        self.sockets: list[socket.socket] = []

    def config(self, **changed: object) -> BrokerConfig:
        changes = {name.replace("_", "."): str(value) for name, value in changed.items()}
        return BrokerConfig.load(None, {**TWO_LISTENERS, **self.settings, **changes})

    async def open(self) -> Door:
        await self.nursery.start(self.gate.run)
        return self

    async def come(self, listener: str = "CLIENTS", host: str = HOST) -> tuple[Standing | None, socket.socket]:
        """The connection if it was let in, and its socket."""
        sock, theirs = socket.socketpair()
        self.sockets += [sock, theirs]
        if not await self.gate.let_in(sock, listener, host, self.nursery):
            return None, sock
        connection: Any = Standing(listener)
        self.idle.active(connection)
        return connection, sock

    def leave(self, connection: Any, host: str = HOST) -> None:
        self.idle.forget(connection)
        self.gate.left(connection, connection.listener, host)

    async def change(self, **settings: object) -> None:
        self.gate.reconfigure(self.config(**settings))
        await trio.testing.wait_all_tasks_blocked()


@pytest.fixture
def doors() -> Iterator[list[Door]]:
    doors: list[Door] = []
    yield doors
    for door in doors:
        for sock in door.sockets:
            sock.close()


async def test_who_finds_no_place_waits_until_there_is_one(doors: list[Door]) -> None:
    async with trio.open_nursery() as nursery:
        doors.append(door := await Door(nursery, max_connections=1).open())
        first, _ = await door.come()
        came: list[Standing | None] = []

        async def come() -> None:
            came.append((await door.come())[0])

        nursery.start_soon(come)
        await trio.testing.wait_all_tasks_blocked()
        assert came == []
        door.leave(first)
        await trio.testing.wait_all_tasks_blocked()
        assert len(came) == 1
        nursery.cancel_scope.cancel()


async def test_brokers_come_in_and_the_quietest_client_goes(doors: list[Door]) -> None:
    """One whose request is being carried out stays."""
    async with trio.open_nursery() as nursery:
        doors.append(door := await Door(nursery, max_connections=3).open())
        busy, quiet, active = [(await door.come())[0] for _ in range(3)]
        assert busy
        assert quiet
        assert active
        busy.answering = True
        broker, _ = await door.come("BROKERS")
        assert [each and each.closed for each in (busy, quiet, active, broker)] == [False, True, False, False]
        await door.come("BROKERS")
        assert active.closed, "one more is too many, while the first has not ended yet"
        door.leave(quiet)
        door.leave(active)
        nursery.cancel_scope.cancel()


async def test_limits_change_while_connections_are_there(doors: list[Door]) -> None:
    async with trio.open_nursery() as nursery:
        doors.append(door := await Door(nursery).open())
        there = [(await door.come())[0] for _ in range(5)]
        await door.change(max_connections=3)
        assert [each and each.closed for each in there] == [True, True, False, False, False]
        nursery.cancel_scope.cancel()


async def test_an_address_with_too_many_is_closed_at_once(doors: list[Door]) -> None:
    async with trio.open_nursery() as nursery:
        settings = {"max_connections_per_ip": 1, "max_connections_per_ip_overrides": "127.0.0.2:2, ::1:3"}
        doors.append(door := await Door(nursery, **settings).open())
        for host, places in ((HOST, 1), ("127.0.0.2", 2), ("::1", 3)):
            came = [await door.come(host=host) for _ in range(places + 1)]
            assert [each is not None for each, _ in came] == [True] * places + [False]
            assert came[-1][1].fileno() == -1, "closed"
        nursery.cancel_scope.cancel()


async def test_the_rate_of_the_node_delays(doors: list[Door]) -> None:
    async with trio.open_nursery() as nursery:
        doors.append(door := await Door(nursery, max_connection_creation_rate=1).open())
        times = []
        for _ in range(12):
            await door.come()
            times.append(trio.current_time())
        assert times[9] == times[0]
        assert [round(later - times[9], 2) for later in times[10:]] == [1.0, 2.0]
        nursery.cancel_scope.cancel()


async def test_an_address_that_is_too_fast_is_held_back_and_closed(
    doors: list[Door], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody waits for that; and only so many are held back."""
    monkeypatch.setattr(module, "HELD_MAX", 2)
    async with trio.open_nursery() as nursery:
        doors.append(door := Door(nursery))
        door.gate.replace(
            [((("ip", None),), {"connection_creation_rate": 1000.0}), ((("ip", HOST),), {module.RATE_KEY: 1.0})]
        )
        await door.open()
        came = [await door.come() for _ in range(13)]
        assert [each is not None for each, _ in came] == [True] * 10 + [False] * 3
        held = [sock.fileno() != -1 for _, sock in came[10:]]
        assert held == [True, True, False]
        assert (await door.come(host="127.0.0.2"))[0] is not None
        await trio.sleep(1.1)
        assert [sock.fileno() for _, sock in came[10:]] == [-1] * 3
        nursery.cancel_scope.cancel()


async def test_a_name_without_an_address_limits_nobody(doors: list[Door], caplog: pytest.LogCaptureFixture) -> None:
    async with trio.open_nursery() as nursery:
        doors.append(await Door(nursery, max_connections_per_ip_overrides="no-such-host.invalid:0").open())
        nursery.cancel_scope.cancel()
    assert "no-such-host.invalid" in caplog.text

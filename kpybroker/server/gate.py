"""The gate that every connection comes through: limits on connections, carried out.

`quotas/connections` decides; here it is waited for a place, excess connections are closed (those first that were quiet
for longest, as Kafka does), and the names of hosts in settings become addresses.
"""

from __future__ import annotations

import logging
import socket
from typing import TYPE_CHECKING

import trio

from kpybroker.cluster.addresses import Resolver
from kpybroker.config.checks import per_address_overrides
from kpybroker.quotas.connections import WITHOUT_LIMIT, ConnectionLimits, Connections, ListenerLimits, Verdict
from kpybroker.quotas.rates import Window

if TYPE_CHECKING:
    from kpybroker.clock import Clock
    from kpybroker.config import BrokerConfig
    from kpybroker.quotas.limits import Quotas
    from kpybroker.seldom import SeldomLog
    from kpybroker.server.connection import Connection
    from kpybroker.server.idle import IdleConnections

HELD_MAX = 1000
"""Connections that are held back at once before they are closed; more are closed without delay."""
RATE_KEY = "connection_creation_rate"


class Gate:
    """Lets connections in, or does not. `run` is its duty; started once all limits are in force."""

    def __init__(self, config: BrokerConfig, idle: IdleConnections, clock: Clock, say: SeldomLog) -> None:
        window = Window(config.quota_window_num, config.quota_window_size_seconds * 1000)
        self._connections = Connections(window)
        self._idle = idle
        self._clock = clock
        self._say = say
        self._config = config
        self._resolver = Resolver()
        self._rates: dict[str | None, float] = {}
        self._changed = trio.Event()
        self._room = trio.Event()
        """Set, and replaced, when a connection has ended or the limits are others."""
        self._closing: set[Connection] = set()
        self._held = 0

    def reconfigure(self, config: BrokerConfig) -> None:
        """Other settings are in force from now on."""
        self._config = config
        self._changed.set()

    def replace(self, quotas: Quotas) -> None:
        """Other quotas of addresses are in force from now on."""
        rates: dict[str | None, float] = {}
        for entity, values in quotas:
            parts = dict(entity)
            if RATE_KEY in values and "ip" in parts:
                rates[parts["ip"]] = values[RATE_KEY]
        if rates != self._rates:
            self._rates = rates
            self._changed.set()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Put changed limits in force, for ever: hosts that they name are looked up first."""
        while True:
            self._changed = trio.Event()
            config, rates = self._config, self._rates
            overrides = per_address_overrides(config.max_connections_per_ip_overrides)
            names = {name for name in (*overrides, *rates) if name is not None}
            addresses = await self._resolver.resolved(names)
            for name in names - addresses.keys():
                self._say(logging.WARNING, ("no address", name), "limits of %s: it has no address", name)
            self._connections.limits = ConnectionLimits(
                connections_max=config.max_connections,
                creation_rate=config.max_connection_creation_rate,
                per_address_max=config.max_connections_per_ip,
                overrides={addresses[name]: count for name, count in overrides.items() if name in addresses},
                listeners={point.name: _listener_limits(config, point.name) for point in config.reachable.brokers},
                inter_broker=config.reachable.inter_broker_name,
                address_rate=rates.get(None, WITHOUT_LIMIT),
                address_rates={addresses[name]: rate for name, rate in rates.items() if name and name in addresses},
            )
            self._make_room()
            self._close_excess()
            task_status.started()
            task_status = trio.TASK_STATUS_IGNORED
            await self._changed.wait()

    async def let_in(self, sock: socket.socket, listener: str, address: str, nursery: trio.Nursery) -> bool:
        """Wait until there is a place for a connection; whether it may come in. If not, `sock` is closed, now or later.

        What is held back until it is closed is so in `nursery`, and holds up nobody else.
        """
        began_ms = self._now_ms()
        until_ms = began_ms + self._connections.arrived(listener, began_ms)
        while (now_ms := self._now_ms()) < until_ms or not self._connections.has_place(listener):
            with trio.move_on_after((until_ms - now_ms) / 1000 if now_ms < until_ms else float("inf")):
                await self._room.wait()
        verdict, hold_ms = self._connections.admit(listener, address, now_ms)
        if verdict is Verdict.ADMITTED:
            self._close_excess()
            return True
        self._say(
            logging.INFO, (verdict, address), "connection from %s on %s closed: %s", address, listener, verdict.value
        )
        if hold_ms and self._held < HELD_MAX:
            self._held += 1
            nursery.start_soon(self._hold, sock, hold_ms, name=f"held back {address}")
        else:
            sock.close()
        return False

    async def _hold(self, sock: socket.socket, hold_ms: int) -> None:
        try:
            await trio.sleep(hold_ms / 1000)
        finally:
            sock.close()
            self._held -= 1

    def left(self, connection: Connection, listener: str, address: str) -> None:
        """A connection that was let in has ended."""
        self._connections.left(listener, address)
        self._closing.discard(connection)
        self._make_room()
        self._close_excess()

    def _make_room(self) -> None:
        self._room.set()
        self._room = trio.Event()

    def _close_excess(self) -> None:
        """Close what was quiet for longest, if there are more than may be."""
        excess = self._connections.excess - len(self._closing)
        if excess > 0:
            for connection in self._idle.quietest(excess, self._connections.protected):
                self._closing.add(connection)
                connection.scope.cancel()

    def _now_ms(self) -> int:
        return int(self._clock.monotonic_s() * 1000)


def _listener_limits(config: BrokerConfig, listener: str) -> ListenerLimits:
    given = [config.for_listener(listener, name) for name in ("max.connections", "max.connection.creation.rate")]
    return ListenerLimits(*(value if isinstance(value, int) else WITHOUT_LIMIT for value in given))

"""Who may connect: how many there are, from which address, by which listener, and how fast they come.

What is decided is Kafka's: a connection waits until the rate of its node and of its listener allow it and there is a
place for it; then one from an address that opens too many a second is held back and closed, one from an address that
has too many is closed at once. The listener that brokers use among themselves is not held up by the others: neither
the node's places nor the node's rate are for it, if there is another listener.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from enum import Enum
from typing import NamedTuple

from kpybroker.quotas.rates import Rate, Window

WITHOUT_LIMIT = 2**31 - 1
"""The value of a limit that is not set."""
ADDRESSES_MAX = 10_000
"""Addresses whose rate is remembered; beyond, the one that was quiet for longest is forgotten."""


class ListenerLimits(NamedTuple):
    """The limits of one listener."""

    connections_max: int = WITHOUT_LIMIT
    creation_rate: int = WITHOUT_LIMIT


class ConnectionLimits(NamedTuple):
    """All limits; addresses are as `accept` has them."""

    connections_max: int = WITHOUT_LIMIT
    creation_rate: int = WITHOUT_LIMIT
    per_address_max: int = WITHOUT_LIMIT
    overrides: Mapping[str, int] = {}
    """Other maxima for single addresses."""
    listeners: Mapping[str, ListenerLimits] = {}
    inter_broker: str = ""
    """The listener that brokers use among themselves."""
    address_rate: float = WITHOUT_LIMIT
    address_rates: Mapping[str, float] = {}
    """Other rates for single addresses."""


class Verdict(Enum):
    """What becomes of a connection for which there is a place."""

    ADMITTED = "admitted"
    TOO_MANY = "too many from its address"
    TOO_FAST = "too many a second from its address"


class Connections:
    """The connections there are, and the limits."""

    def __init__(self, window: Window, limits: ConnectionLimits | None = None) -> None:
        self.limits = limits or ConnectionLimits()
        self.total = 0
        self._window = window
        self._by_address: dict[str, int] = {}
        self._by_listener: dict[str, int] = {}
        self._node_rate = Rate(window)
        self._listener_rates: dict[str, Rate] = {}
        self._address_rates: OrderedDict[str, Rate] = OrderedDict()

    def protected(self, listener: str) -> bool:
        """Whether a listener is the brokers' own, and not the only one."""
        return listener == self.limits.inter_broker and len(self.limits.listeners) > 1

    def arrived(self, listener: str, now_ms: int) -> int:
        """One more connects; how many milliseconds it has to wait for the rates to allow it (one sample at most)."""
        limits, delay_ms = self.limits, 0
        if not self.protected(listener) and limits.creation_rate != WITHOUT_LIMIT:
            delay_ms = self._counted(self._node_rate, limits.creation_rate, now_ms)
        own = limits.listeners.get(listener, ListenerLimits())
        if own.creation_rate != WITHOUT_LIMIT:
            rate = self._listener_rates.setdefault(listener, Rate(self._window))
            delay_ms = max(delay_ms, self._counted(rate, own.creation_rate, now_ms))
        return delay_ms

    def _counted(self, rate: Rate, bound: float, now_ms: int) -> int:
        rate.record(1, now_ms)
        # A rate of 0 forbids all; what is longest to wait then is what is longest to wait at all.
        return min(rate.excess_ms(max(bound, 1e-9), now_ms), self._window.sample_ms)

    def has_place(self, listener: str) -> bool:
        """Whether there is a place for one more."""
        own = self.limits.listeners.get(listener, ListenerLimits())
        if self._by_listener.get(listener, 0) >= own.connections_max:
            return False
        return self.protected(listener) or self.total < self.limits.connections_max

    def admit(self, listener: str, address: str, now_ms: int) -> tuple[Verdict, int]:
        """What becomes of a connection that has a place; how many milliseconds to hold it back if it is TOO_FAST."""
        hold_ms = self._too_fast(listener, address, now_ms)
        if hold_ms:
            return Verdict.TOO_FAST, hold_ms
        there = self._by_address.get(address, 0)
        if there >= self.limits.overrides.get(address, self.limits.per_address_max):
            return Verdict.TOO_MANY, 0
        self._by_address[address] = there + 1
        self._by_listener[listener] = self._by_listener.get(listener, 0) + 1
        self.total += 1
        return Verdict.ADMITTED, 0

    def _too_fast(self, listener: str, address: str, now_ms: int) -> int:
        limits = self.limits
        bound = limits.address_rates.get(address, limits.address_rate)
        if bound >= WITHOUT_LIMIT:
            return 0
        rate = self._address_rates.pop(address, None) or Rate(self._window)
        self._address_rates[address] = rate
        if len(self._address_rates) > ADDRESSES_MAX:
            self._address_rates.popitem(last=False)
        hold_ms = self._counted(rate, bound, now_ms)
        if hold_ms:  # it is not let in, so it did not come: for its address, its listener and the node
            rate.record(-1, now_ms)
            if not self.protected(listener) and limits.creation_rate != WITHOUT_LIMIT:
                self._node_rate.record(-1, now_ms)
            if listener in self._listener_rates:
                self._listener_rates[listener].record(-1, now_ms)
        return hold_ms

    def left(self, listener: str, address: str) -> None:
        """A connection that was admitted has ended."""
        self.total -= 1
        self._by_listener[listener] -= 1
        self._by_address[address] -= 1
        if not self._by_address[address]:
            del self._by_address[address]

    @property
    def excess(self) -> int:
        """How many there are more than may be: the limit was lowered, or brokers came by their own listener."""
        return max(0, self.total - self.limits.connections_max)

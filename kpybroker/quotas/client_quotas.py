"""What clients use, beside what they may: bytes in and out, time of the broker, changes of topics.

A client is a user and a client id. Each thing that is limited is measured for whatever its limit binds
(`limits.Scope`), from the first time that it is used until it has not been for an hour.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from hashlib import blake2b
from typing import Generic, TypeVar

from kpybroker.quotas.limits import Limits, Quotas, Scope
from kpybroker.quotas.rates import THROTTLE_MS_MAX, Rate, TokenBucket, Window

INACTIVE_MS = 3_600_000
"""A measure that was not used for so long is forgotten, as Kafka forgets it."""
MEASURES_MAX = 10_000
"""If there are more, the one that was unused for longest is forgotten: client ids are the client's choice."""
NAME_CHARS_MAX = 256
"""A longer client id is known by its hash."""

M = TypeVar("M")


class Measures(Generic[M]):
    """The measures in use, by scope, the one that was unused for longest first."""

    def __init__(self, make: Callable[[float, int], M]) -> None:
        """`make(bound, now_ms)` gives a measure that is new."""
        self._make = make
        self._known: OrderedDict[Scope, tuple[M, int]] = OrderedDict()

    def __len__(self) -> int:
        """How many there are."""
        return len(self._known)

    def get(self, scope: Scope, bound: float, now_ms: int) -> M:
        """The measure of a scope, which is used now."""
        user, client = scope
        if client is not None and len(client) > NAME_CHARS_MAX:
            scope = user, blake2b(client.encode("utf-8", "surrogatepass")).hexdigest()
        found = self._known.get(scope)
        measure = self._make(bound, now_ms) if found is None else found[0]
        self._known[scope] = measure, now_ms
        self._known.move_to_end(scope)
        self._forget(now_ms)
        return measure

    def _forget(self, now_ms: int) -> None:
        while True:
            scope, (_, used_ms) = next(iter(self._known.items()))
            if len(self._known) <= MEASURES_MAX and now_ms - used_ms < INACTIVE_MS:
                return
            del self._known[scope]


class RateQuota:
    """A limit on what clients use in a second, over samples."""

    def __init__(self, key: str, window: Window, throttle_ms_max: int = THROTTLE_MS_MAX) -> None:
        self.limits = Limits(key)
        self.measures: Measures[Rate] = Measures(lambda _bound, _now_ms: Rate(window))
        self._window = window
        self._throttle_ms_max = throttle_ms_max

    def record(self, user: str, client: str | None, value: float, now_ms: int) -> int:
        """A client used `value`; how many milliseconds it has to pause for that."""
        found = self._find(user, client, now_ms)
        if found is None:
            return 0
        rate, bound = found
        rate.record(value, now_ms)
        return min(rate.excess_ms(bound, now_ms), self._throttle_ms_max)

    def add(self, user: str, client: str | None, value: float, now_ms: int) -> None:
        """A client used `value` (or, if negative, did not after all): it counts the next time."""
        found = self._find(user, client, now_ms)
        if found is not None:
            found[0].record(value, now_ms)

    def _find(self, user: str, client: str | None, now_ms: int) -> tuple[Rate, float] | None:
        scope = self.limits.scope(user, client)
        bound = self.limits.bound(scope)
        return None if bound is None else (self.measures.get(scope, bound, now_ms), bound)

    def most_at_once(self, user: str, client: str | None) -> float | None:
        """What a client may use at once without having to pause, after long silence; None if that is without limit."""
        bound = self.limits.bound(self.limits.scope(user, client))
        return None if bound is None else bound * (self._window.samples - 1) * self._window.sample_ms / 1000


class MutationQuota:
    """A limit on changes of topics, in partitions a second, by token buckets (KIP-599)."""

    def __init__(self, window: Window) -> None:
        self.limits = Limits("controller_mutation_rate")
        self.measures: Measures[TokenBucket] = Measures(lambda bound, now_ms: TokenBucket(window, bound, now_ms))

    def record(self, user: str, client: str | None, partitions: int, now_ms: int, *, strict: bool) -> int:
        """A client changes partitions; how many milliseconds it has to pause for that.

        `strict`: while it has to pause, it may not change any, and nothing is recorded. Else it may, and pauses longer.
        """
        scope = self.limits.scope(user, client)
        bound = self.limits.bound(scope)
        if bound is None:
            return 0
        bucket = self.measures.get(scope, bound, now_ms)
        if strict:
            debt_ms = bucket.debt_ms(bound, now_ms)
            if debt_ms == 0:
                bucket.record(partitions, bound, now_ms)
            return debt_ms
        bucket.record(partitions, bound, now_ms)
        return bucket.debt_ms(bound, now_ms)


class ClientQuotas:
    """All that is limited for clients. `active`: whether anything is."""

    def __init__(self, window: Window, controller_window: Window) -> None:
        self.produce = RateQuota("producer_byte_rate", window)
        self.fetch = RateQuota("consumer_byte_rate", window)
        self.request = RateQuota("request_percentage", window, throttle_ms_max=window.sample_ms)
        self.mutations = MutationQuota(controller_window)
        self.active = False

    def replace(self, quotas: Quotas) -> None:
        """Take all limits anew; what was measured stays."""
        known = list(quotas)
        kinds = (self.produce, self.fetch, self.request, self.mutations)
        for quota in kinds:
            quota.limits.replace(known)
        self.active = any(quota.limits for quota in kinds)

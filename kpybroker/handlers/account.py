"""One request's account: what it used, and how long its client has to pause for that.

There is an account for each request while any quota is set, and none otherwise.

Time is what the request took of the event loop, in percent of a second: the loop is what Kafka's network and request
handler threads are, so 100 is all of it, where Kafka's broker has a hundred for each of its threads. What a request
waits for (a long poll, a join, the disk) costs nothing.
"""

from __future__ import annotations

from collections.abc import Coroutine, Generator
from types import coroutine
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from kpybroker.clock import Clock
    from kpybroker.quotas.client_quotas import ClientQuotas

T = TypeVar("T")


class Account:
    """What one request used so far."""

    __slots__ = (
        "_client_id",
        "_clock",
        "_quotas",
        "_resumed_s",
        "_settled",
        "_user",
        "exempt",
        "frame_bytes",
        "spent_s",
        "throttle_ms",
    )

    def __init__(self, quotas: ClientQuotas, user: str, client_id: str | None, clock: Clock) -> None:
        self._quotas = quotas
        self._user = user
        self._client_id = client_id
        self._clock = clock
        self._settled = False
        self._resumed_s: float | None = None
        self.frame_bytes = 0
        """What counts as produced: the size of a Produce request."""
        self.exempt = False
        """Whether its time is not to be counted: a follower's fetch, a Produce that gets no answer."""
        self.spent_s = 0.0
        self.throttle_ms = 0
        """How long the client has to pause."""

    def on_behalf(self) -> Account:
        """The account of another request of the same client, that this one gives rise to: it makes no one pause."""
        return Account(self._quotas, self._user, self._client_id, self._clock)

    @coroutine
    def timed(self, call: Coroutine[Any, Any, T]) -> Generator[Any, Any, T]:
        """Await `call`, and count the time that it runs (not the time that it waits)."""
        value: Any = None
        try:
            while True:
                self._resumed_s = self._clock.monotonic_s()
                try:
                    waits_for = call.send(value)
                except StopIteration as end:
                    result: T = end.value
                    return result
                finally:
                    self.spent_s += self._clock.monotonic_s() - self._resumed_s
                    self._resumed_s = None
                value = yield waits_for
        finally:
            call.close()

    def _now_ms(self) -> int:
        return int(self._clock.monotonic_s() * 1000)

    def _percent(self) -> float:
        running_s = 0.0 if self._resumed_s is None else self._clock.monotonic_s() - self._resumed_s
        return (self.spent_s + running_s) * 100

    def mutate(self, partitions: int, *, strict: bool) -> bool:
        """The request changes so many partitions; False: it may not, as the client has to pause (KIP-599)."""
        throttle_ms = self._quotas.mutations.record(
            self._user, self._client_id, partitions, self._now_ms(), strict=strict
        )
        self.throttle_ms = max(self.throttle_ms, throttle_ms)
        return not (strict and throttle_ms > 0)

    def fetch_bytes_max(self) -> float | None:
        """What may be fetched at once without a pause that is certain; None if that is without limit."""
        return self._quotas.fetch.most_at_once(self._user, self._client_id)

    def fetched(self, size: int) -> int:
        """A fetch is about to be answered with `size` bytes; with nothing if there is a pause, which it returns."""
        now_ms = self._now_ms()
        fetch = self._quotas.fetch
        throttle_ms = fetch.record(self._user, self._client_id, size, now_ms)
        throttle_ms = max(throttle_ms, self.settle())
        if throttle_ms:
            fetch.add(self._user, self._client_id, -size, now_ms)
        self.throttle_ms = throttle_ms
        return throttle_ms

    def settle(self) -> int:
        """The request was carried out: how long its client has to pause. Counts once."""
        if self._settled:
            return self.throttle_ms
        self._settled = True
        user, client_id, now_ms = self._user, self._client_id, self._now_ms()
        if self.frame_bytes:
            self._throttle(self._quotas.produce.record(user, client_id, self.frame_bytes, now_ms))
        if not self.exempt:
            self._throttle(self._quotas.request.record(user, client_id, self._percent(), now_ms))
        return self.throttle_ms

    def _throttle(self, throttle_ms: int) -> None:
        self.throttle_ms = max(self.throttle_ms, throttle_ms)

"""How much of something happens in a second, and how long to wait until it is no more than allowed.

Kafka measures a rate over a few samples of equal length (11 of one second unless set otherwise): each holds the sum of
what was recorded while it was the latest. The rate is the sum of all samples over the time since the oldest began, and
that is never taken to be less than all samples but the last: a burst after silence is not a high rate.
"""

from __future__ import annotations

from typing import NamedTuple

THROTTLE_MS_MAX = 2**31 - 1
"""What a throttle time's field can say."""


class Window(NamedTuple):
    """What a rate is measured over."""

    samples: int
    sample_ms: int

    @property
    def all_s(self) -> float:
        """The length of all samples, in seconds."""
        return self.samples * self.sample_ms / 1000


class _Sample:
    __slots__ = ("began_ms", "last_ms", "total")

    def __init__(self, now_ms: int) -> None:
        self.began_ms = now_ms
        self.last_ms = now_ms
        self.total = 0.0


class Rate:
    """A rate in units a second."""

    __slots__ = ("_current", "_samples", "window")

    def __init__(self, window: Window) -> None:
        self.window = window
        self._samples: list[_Sample] = []
        self._current = 0

    def record(self, value: float, now_ms: int) -> None:
        """`value` more (or, if negative, not after all)."""
        sample = self._latest(now_ms)
        sample.total += value
        sample.last_ms = now_ms

    def _latest(self, now_ms: int) -> _Sample:
        samples = self._samples
        if not samples:
            samples.append(_Sample(now_ms))
        sample = samples[self._current]
        if now_ms - sample.began_ms < self.window.sample_ms:
            return sample
        self._current = (self._current + 1) % (self.window.samples + 1)  # one more: the oldest overlaps the window
        if self._current == len(samples):
            samples.append(_Sample(now_ms))
        else:
            samples[self._current] = _Sample(now_ms)
        return samples[self._current]

    def measure(self, now_ms: int) -> tuple[float, int]:
        """The rate, and the time in milliseconds that it was measured over."""
        window = self.window
        oldest_ms, total = now_ms, 0.0
        for index, sample in enumerate(self._samples):
            if now_ms - sample.last_ms >= window.samples * window.sample_ms:
                self._samples[index] = sample = _Sample(now_ms)
            oldest_ms = min(oldest_ms, sample.began_ms)
            total += sample.total
        elapsed_ms = now_ms - oldest_ms
        elapsed_ms += max(0, window.samples - 1 - elapsed_ms // window.sample_ms) * window.sample_ms
        elapsed_ms = max(elapsed_ms, 1)
        return total * 1000 / elapsed_ms, elapsed_ms

    def excess_ms(self, bound: float, now_ms: int) -> int:
        """How long nothing may happen for the rate to come down to `bound`; 0 if it is no higher."""
        rate, over_ms = self.measure(now_ms)
        if not rate > bound:
            return 0
        return round(min((rate - bound) / bound * over_ms, THROTTLE_MS_MAX))


class TokenBucket:
    """What may happen at once, and what is refilled in a second (KIP-599). It begins full."""

    __slots__ = ("_tokens", "_updated_ms", "_window")

    def __init__(self, window: Window, bound: float, now_ms: int) -> None:
        self._window = window
        self._tokens = bound * window.all_s
        self._updated_ms = now_ms

    def record(self, value: float, bound: float, now_ms: int) -> None:
        """Take `value` tokens, whether they are there or not."""
        self._refill(bound, now_ms)
        self._tokens = min(bound * self._window.all_s, self._tokens - value)

    def debt_ms(self, bound: float, now_ms: int) -> int:
        """How long until the bucket holds no less than nothing; 0 if it does."""
        self._refill(bound, now_ms)
        return 0 if self._tokens >= 0 else round(min(-self._tokens / bound * 1000, THROTTLE_MS_MAX))

    def _refill(self, bound: float, now_ms: int) -> None:
        refilled = self._tokens + bound * (now_ms - self._updated_ms) / 1000
        self._tokens = min(bound * self._window.all_s, refilled)
        self._updated_ms = now_ms

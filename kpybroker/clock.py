"""The seam to time: what a node reads the clock through, and the value its machines are told.

Two clocks, never mixed. Monotonic seconds say how long something took and when it is due: trio's clock, so that a
simulation under `trio.testing.MockClock` moves them. Wall milliseconds are what goes into records and onto disk: the
system's clock, which may jump either way and is therefore never used for a deadline.
"""

from __future__ import annotations

import time
from typing import NamedTuple

import trio


class Now(NamedTuple):
    """One moment as both clocks tell it. Machines get it with each event and never read a clock themselves."""

    monotonic_s: float
    """Seconds since an arbitrary start; never goes back. Comparable only within one run of one node."""
    wall_ms: int
    """Milliseconds since 1970-01-01 UTC, as Kafka's timestamps are. May go back."""


class Clock:
    """A node's clock: trio's monotonic time (needs a running trio loop) and the system's wall time."""

    def now(self) -> Now:
        """Both clocks, read together."""
        return Now(self.monotonic_s(), self.wall_ms())

    def monotonic_s(self) -> float:
        """Seconds of trio's clock. Raises: RuntimeError outside a trio run."""
        return trio.current_time()

    def wall_ms(self) -> int:
        """Milliseconds since the epoch by the system's clock."""
        return time.time_ns() // 1_000_000


class SimulatedClock(Clock):
    """A clock whose wall time follows trio's clock, for runs under MockClock.

    `start_wall_ms` is the wall time when the monotonic clock reads zero. `skew_ms` is how far this node's wall clock is
    off; it may be changed while the node runs, as an operator or NTP would.
    """

    def __init__(self, start_wall_ms: int, skew_ms: int = 0) -> None:
        self.start_wall_ms = start_wall_ms
        self.skew_ms = skew_ms

    def wall_ms(self) -> int:
        """Wall time derived from trio's clock, plus the skew."""
        return self.start_wall_ms + self.skew_ms + int(self.monotonic_s() * 1000)

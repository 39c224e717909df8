"""The seam to time."""

from __future__ import annotations

import time

import pytest
import trio

from kpybroker.clock import Clock, Now, SimulatedClock


async def test_both_clocks_are_read_together() -> None:
    before = time.time_ns() // 1_000_000
    now = Clock().now()
    after = time.time_ns() // 1_000_000
    assert isinstance(now, Now)
    assert before <= now.wall_ms <= after
    assert now.monotonic_s <= trio.current_time()


def test_monotonic_time_is_trio_s() -> None:
    with pytest.raises(RuntimeError):
        Clock().monotonic_s()


@pytest.mark.simulated_time
async def test_simulated_wall_time_follows_trio_s_clock() -> None:
    clock = SimulatedClock(1_000_000, skew_ms=-500)
    start = clock.now()
    assert start == Now(0.0, 999_500)
    await trio.sleep(1.25)
    assert clock.now() == Now(1.25, 1_000_750)
    clock.skew_ms = 10_000
    assert clock.wall_ms() == 1_011_250

"""Rates over samples, and token buckets: the arithmetic of Kafka's metrics."""

from __future__ import annotations

import pytest

from kpybroker.quotas.rates import THROTTLE_MS_MAX, Rate, TokenBucket, Window

WINDOW = Window(samples=11, sample_ms=1000)
START_MS = 5_000_000


def rate_of(*events: tuple[int, float], window: Window = WINDOW) -> Rate:
    rate = Rate(window)
    for at_ms, value in events:
        rate.record(value, START_MS + at_ms)
    return rate


@pytest.mark.parametrize(
    ("events", "at_ms", "measured"),
    [
        pytest.param([], 0, (0.0, 10_000), id="nothing"),
        pytest.param([(0, 100)], 0, (10.0, 10_000), id="a burst counts as over all full samples"),
        pytest.param([(0, 100)], 999, (100_000 / 10_999, 10_999), id="a sample that is not full yet"),
        pytest.param([(0, 100)], 1000, (10.0, 10_000), id="one full sample of the ten"),
        pytest.param([(0, 100), (1500, 100)], 1500, (200_000 / 10_500, 10_500), id="two samples"),
        pytest.param([(0, 100)], 10_999, (100_000 / 10_999, 10_999), id="the last moment of the oldest sample"),
        pytest.param([(0, 100)], 11_000, (0.0, 10_000), id="the oldest sample is over"),
        pytest.param([(0, 100), (0, -100)], 0, (0.0, 10_000), id="taken back"),
    ],
)
def test_rate(events: list[tuple[int, float]], at_ms: int, measured: tuple[float, int]) -> None:
    rate, over_ms = rate_of(*events).measure(START_MS + at_ms)
    assert (rate, over_ms) == (pytest.approx(measured[0]), measured[1])


@pytest.mark.parametrize(
    ("value", "bound", "throttle_ms"),
    [
        pytest.param(100, 10, 0, id="as much as may be at once"),
        pytest.param(200, 10, 10_000, id="twice that takes as long again"),
        pytest.param(101, 10, 100, id="a little more"),
        pytest.param(1e18, 1e-300, THROTTLE_MS_MAX, id="no longer than a response can say"),
    ],
)
def test_how_long_until_a_rate_is_allowed(value: float, bound: float, throttle_ms: int) -> None:
    assert rate_of((0, value)).excess_ms(bound, START_MS) == throttle_ms


def test_a_steady_rate_is_never_too_high_and_samples_are_few() -> None:
    rate = Rate(WINDOW)
    for at_ms in range(0, 60_000, 10):
        rate.record(1.0, START_MS + at_ms)
        assert rate.excess_ms(101, START_MS + at_ms) == 0
    assert rate.measure(START_MS + 60_000)[0] == pytest.approx(100, rel=0.02)
    assert len(rate._samples) == WINDOW.samples + 1


def test_bucket() -> None:
    """Eleven seconds' tokens at once; then the debt is paid off at the bound's speed (KIP-599)."""
    bucket = TokenBucket(WINDOW, 2.0, START_MS)
    bucket.record(22, 2.0, START_MS)
    assert bucket.debt_ms(2.0, START_MS) == 0
    bucket.record(3, 2.0, START_MS)
    assert bucket.debt_ms(2.0, START_MS) == 1500
    assert bucket.debt_ms(2.0, START_MS + 1000) == 500
    assert bucket.debt_ms(2.0, START_MS + 1500) == 0
    bucket.record(22, 2.0, START_MS + 3_600_000)
    assert bucket.debt_ms(2.0, START_MS + 3_600_000) == 0, "full again, and no fuller than full"
    bucket.record(1, 2.0, START_MS + 3_600_000)
    assert bucket.debt_ms(2.0, START_MS + 3_600_000) == 500

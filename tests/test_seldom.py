"""A flood of reasons makes few lines."""

from __future__ import annotations

import logging

import pytest

from kpybroker import seldom
from kpybroker.seldom import INTERVAL_S, SeldomLog


class HandClock:
    now_s = 1000.0

    def monotonic_s(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def say(clock: HandClock) -> SeldomLog:
    return SeldomLog(logging.getLogger("test.seldom"), clock)  # type: ignore[arg-type]


def test_the_same_reason_is_told_once_in_an_interval(
    say: SeldomLog, clock: HandClock, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(5):
        say(logging.WARNING, "a", "a%d", number)
    say(logging.WARNING, "b", "b")
    clock.now_s += INTERVAL_S
    say(logging.WARNING, "a", "a%d", 5)
    clock.now_s += INTERVAL_S
    say(logging.WARNING, "a", "a%d", 6)
    assert [record.getMessage() for record in caplog.records] == [
        "a0",
        "b",
        "a5 (and 4 more like it since the last such line)",
        "a6",
    ]


def test_reasons_without_end(say: SeldomLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seldom, "REASONS_MAX", 10)
    for number in range(100):
        say(logging.WARNING, number, "x")
    assert len(say._told) == 10

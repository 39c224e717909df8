"""What makes a run repeat itself: the one place that reaches into trio.

Under a simulation's clock trio picks the order of tasks that are ready from a generator, which is seeded here. Work for
worker threads is done in the loop instead, late by as much as the disk is slow: under a clock that jumps, a thread
would count as idle, and timers would overtake it.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import trio
from trio._core import _run
from trio.testing import MockClock

Delay = Callable[[], float]
"""How long a worker is at its work, in simulated seconds."""


def run(main: Callable[[], Awaitable[Any]], seed: int, delay: Delay) -> Any:
    """Run `main` under simulated time, the same way for the same seed."""
    with _repeatable(seed, delay):
        return trio.run(main, clock=MockClock(autojump_threshold=0))


@contextmanager
def _repeatable(seed: int, delay: Delay) -> Iterator[None]:
    async def run_sync(call: Callable[..., Any], *arguments: Any, **_: Any) -> Any:
        with trio.CancelScope(shield=True):  # a thread that has begun is not stopped
            await trio.sleep(delay())
            done = call(*arguments)
            await trio.sleep(delay())
        return done

    before = _run._r.getstate()
    _run._r.seed(seed)
    try:
        with (
            mock.patch.object(_run, "_ALLOW_DETERMINISTIC_SCHEDULING", True),
            mock.patch("trio.to_thread.run_sync", run_sync),
            mock.patch("trio.from_thread.check_cancelled", return_value=None),
        ):
            yield
    finally:
        _run._r.setstate(before)


def chance(seed: int, *whom: object) -> random.Random:
    """A generator of random choices for one purpose: what others draw does not change what it gives."""
    return random.Random(f"{seed} {whom}")

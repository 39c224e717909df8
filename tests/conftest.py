"""What all tests share: `async def` tests run in trio, in simulated time if they are marked so."""

from __future__ import annotations

import inspect
from functools import partial
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

REAL = frozenset({"broker", "peers", "server", "test_start.py", "tools"})
"""Tests with real processes, real sockets and real time: one by one, with nothing but calculations beside them."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rewrite", action="store_true", help="rewrite the expected effects in tests/scenarios")
    parser.addoption("--campaign-size", type=int, help="how much a campaign tries; a token of it otherwise")
    parser.addoption("--campaign-seed", default="1", help="what a campaign's random choices come from")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "xdist_group(name): run in one process with the others of that name")
    config.addinivalue_line("markers", "simulated_time: run in trio under a MockClock that jumps to the next deadline")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """In several processes (`-n 2 --dist loadgroup`) whatever has processes or ports of its own stays in one."""
    root = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(root) and item.path.relative_to(root).parts[0] in REAL:
            item.add_marker(pytest.mark.xdist_group("real"))


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    test = pyfuncitem.obj
    if not inspect.iscoroutinefunction(test):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
    simulated = pyfuncitem.get_closest_marker("simulated_time") is not None
    trio.run(partial(test, **arguments), clock=MockClock(autojump_threshold=0) if simulated else None)
    return True

"""What all tests share: `async def` tests run in trio, in simulated time if they are marked so."""

from __future__ import annotations

import inspect
from functools import partial

import hypothesis
import pytest
import trio
from trio.testing import MockClock

hypothesis.settings.register_profile(
    "tests",
    derandomize=True,  # campaigns look for what is new; a test that passes passes again
    database=None,
    deadline=None,  # nor is it a matter of how busy the machine is
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("tests")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rewrite", action="store_true", help="rewrite the expected effects in tests/scenarios")
    parser.addoption("--campaign-size", type=int, help="how much a campaign tries; a token of it otherwise")
    parser.addoption("--campaign-seed", default="1", help="what a campaign's random choices come from")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "simulated_time: run in trio under a MockClock that jumps to the next deadline")


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    test = pyfuncitem.obj
    if not inspect.iscoroutinefunction(test):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
    simulated = pyfuncitem.get_closest_marker("simulated_time") is not None
    trio.run(partial(test, **arguments), clock=MockClock(autojump_threshold=0) if simulated else None)
    return True

"""Telling the controller in which directories replicas are: the last word counts, and whoever waits hears of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from kpybroker.replication.assignments import Assignments, Replica
from kpybroker.wire.codes import Code, Refused

pytestmark = pytest.mark.simulated_time

TOPIC = b"t" * 16
HERE, THERE = b"h" * 16, b"e" * 16


class Controller:
    """Answers when the test says so."""

    def __init__(self) -> None:
        self.heard: list[dict[Replica, bytes]] = []
        self.answers = trio.Semaphore(0)
        self.refuses: Code | None = None

    async def send(self, places: Mapping[Replica, bytes]) -> None:
        self.heard.append(dict(places))
        await self.answers.acquire()
        if self.refuses is not None:
            raise Refused(self.refuses)


@asynccontextmanager
async def running(controller: Controller) -> AsyncIterator[Assignments]:
    assignments = Assignments(controller.send)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(assignments.run)
        yield assignments
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("refused", [False, True], ids=["recorded", "refused first"])
async def test_another_word_while_the_first_is_on_its_way(refused: bool) -> None:
    controller = Controller()
    async with running(controller) as assignments:
        first = assignments.add(TOPIC, 0, HERE)
        await trio.testing.wait_all_tasks_blocked()
        second = assignments.add(TOPIC, 0, THERE)
        other = assignments.add(TOPIC, 1, HERE)
        controller.refuses = Code.NOT_CONTROLLER if refused else None
        controller.answers.release()
        await trio.sleep(10)
        assert not second.is_set(), "THERE is not recorded yet"
        controller.refuses = None
        controller.answers.release()
        with trio.fail_after(10):
            for event in (first, second, other):
                await event.wait()
    assert controller.heard == [{(TOPIC, 0): HERE}, {(TOPIC, 0): THERE, (TOPIC, 1): HERE}]


async def test_a_word_after_the_first_was_recorded_has_an_event_of_its_own() -> None:
    controller = Controller()
    async with running(controller) as assignments:
        first = assignments.add(TOPIC, 0, HERE)
        controller.answers.release()
        await first.wait()
        second = assignments.add(TOPIC, 0, THERE)
        await trio.testing.wait_all_tasks_blocked()
        assert not second.is_set()
        controller.answers.release()
        await second.wait()

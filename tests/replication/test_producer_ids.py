"""Producer ids: each is handed out once, the next block comes in time, and nobody waits for a controller for ever."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from kpybroker.replication.producer_ids import ProducerIds
from kpybroker.wire.codes import Code, Refused

pytestmark = pytest.mark.simulated_time


class Controller:
    """Gives blocks of so many ids, when `there`, unless it `refuses`."""

    def __init__(self, size: int = 3) -> None:
        self.size = size
        self.asked = 0
        self.there = trio.Event()
        self.there.set()
        self.refuses: Code | None = None
        self.gives: range | None = None

    async def allocate(self) -> range:
        self.asked += 1
        await self.there.wait()
        if self.refuses is not None:
            raise Refused(self.refuses)
        return range(self.asked * 10, self.asked * 10 + self.size) if self.gives is None else self.gives


@asynccontextmanager
async def running(controller: Controller) -> AsyncIterator[ProducerIds]:
    ids = ProducerIds(controller.allocate)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ids.run)
        yield ids
        nursery.cancel_scope.cancel()


async def test_every_id_once_and_no_more_blocks_than_are_needed() -> None:
    controller = Controller()
    given: list[int] = []

    async with running(controller) as ids:

        async def take() -> None:
            given.append(await ids.next())

        async with trio.open_nursery() as nursery:
            for _ in range(7):
                nursery.start_soon(take)
    assert sorted(given) == [10, 11, 12, 20, 21, 22, 30]
    assert controller.asked == 3


async def test_the_next_block_is_asked_for_when_a_tenth_is_left() -> None:
    controller = Controller(size=10)
    async with running(controller) as ids:
        assert [await ids.next() for _ in range(9)] == [*range(10, 19)]
        await trio.testing.wait_all_tasks_blocked()
        assert controller.asked == 1
        controller.there = trio.Event()
        assert await ids.next() == 19  # nobody waits for it
        await trio.testing.wait_all_tasks_blocked()
        assert controller.asked == 2
        controller.there.set()
        await trio.testing.wait_all_tasks_blocked()
        controller.there = trio.Event()
        assert [await ids.next() for _ in range(9)] == [*range(20, 29)]
        assert controller.asked == 2


async def test_without_a_controller_a_producer_is_told_to_ask_again() -> None:
    controller = Controller()
    controller.there = trio.Event()
    async with running(controller) as ids:
        for _ in range(3):
            with pytest.raises(Refused) as refusal:
                await ids.next()
            assert refusal.value.code is Code.COORDINATOR_LOAD_IN_PROGRESS
        assert controller.asked == 1
        controller.there.set()
        assert await ids.next() == 10


@pytest.mark.parametrize("said", [Code.NOT_CONTROLLER, Code.STALE_BROKER_EPOCH, Code.KAFKA_STORAGE_ERROR])
async def test_whatever_the_controller_says_a_producer_is_told_to_ask_again(
    said: Code, caplog: pytest.LogCaptureFixture
) -> None:
    controller = Controller()
    controller.refuses = said
    async with running(controller) as ids:
        with pytest.raises(Refused) as refusal:
            await ids.next()
        assert refusal.value.code is Code.COORDINATOR_LOAD_IN_PROGRESS
        assert controller.asked <= 21, "it is left alone for 50 ms each time"
        assert len(caplog.records) == 1
        controller.refuses = None
        assert await ids.next() > 0


@pytest.mark.parametrize("block", [range(5, 8), range(-3, 0), range(2**63 - 2, 2**63 + 2), range(40, 40)])
async def test_a_block_that_cannot_be_one_is_not_used(block: range) -> None:
    controller = Controller()
    async with running(controller) as ids:
        assert [await ids.next() for _ in range(3)] == [10, 11, 12]
        await trio.testing.wait_all_tasks_blocked()
        controller.gives = block
        assert [await ids.next() for _ in range(3)] == [20, 21, 22]
        with pytest.raises(Refused) as refusal:
            await ids.next()
        assert refusal.value.code is Code.COORDINATOR_LOAD_IN_PROGRESS
        controller.gives = None
        assert await ids.next() > 22


async def test_who_asks_again_before_the_block_has_come_makes_it_one_block() -> None:
    controller = Controller()
    controller.there = trio.Event()
    async with running(controller) as ids:
        for _ in range(2):
            with pytest.raises(Refused):
                await ids.next()
            await trio.testing.wait_all_tasks_blocked()
        controller.there.set()
        await trio.testing.wait_all_tasks_blocked()
        assert await ids.next() == 10
        assert controller.asked == 1

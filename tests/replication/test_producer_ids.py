"""Producer ids: each is handed out once, and nobody waits for a controller for ever."""

from __future__ import annotations

import pytest
import trio

from kpybroker.replication.producer_ids import ProducerIds
from kpybroker.wire.codes import Code, Refused

pytestmark = pytest.mark.simulated_time


class Controller:
    """Gives blocks of three ids, when `there`, unless it `refuses`."""

    def __init__(self) -> None:
        self.asked = 0
        self.there = trio.Event()
        self.there.set()
        self.refuses: Code | None = None

    async def allocate(self) -> range:
        await self.there.wait()
        if self.refuses is not None:
            raise Refused(self.refuses)
        self.asked += 1
        return range(self.asked * 10, self.asked * 10 + 3)


async def test_every_id_once_and_no_more_blocks_than_are_needed() -> None:
    controller = Controller()
    ids = ProducerIds(controller.allocate)
    given: list[int] = []

    async def take() -> None:
        given.append(await ids.next())

    async with trio.open_nursery() as nursery:
        for _ in range(7):
            nursery.start_soon(take)
    assert sorted(given) == [10, 11, 12, 20, 21, 22, 30]
    assert controller.asked == 3


async def test_without_a_controller_a_producer_is_told_to_ask_again() -> None:
    controller = Controller()
    controller.there = trio.Event()
    ids = ProducerIds(controller.allocate)
    with pytest.raises(Refused) as refusal:
        await ids.next()
    assert refusal.value.code is Code.COORDINATOR_LOAD_IN_PROGRESS
    controller.there.set()
    assert await ids.next() == 10


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (Code.NOT_CONTROLLER, Code.COORDINATOR_LOAD_IN_PROGRESS),
        (Code.STALE_BROKER_EPOCH, Code.COORDINATOR_LOAD_IN_PROGRESS),
        (Code.KAFKA_STORAGE_ERROR, Code.KAFKA_STORAGE_ERROR),
    ],
)
async def test_what_a_producer_is_told_of_a_refusal(said: Code, told: Code) -> None:
    controller = Controller()
    controller.refuses = said
    with pytest.raises(Refused) as refusal:
        await ProducerIds(controller.allocate).next()
    assert refusal.value.code is told

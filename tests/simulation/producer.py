"""An idempotent producer in simulated time, with some batches on their way at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from kpybroker.wire.codes import Code
from kpybroker.wire.messages.init_producer_id import InitProducerIdRequest, InitProducerIdResponse
from kpybroker.wire.records.batch import build_batch
from kpybroker.wire.records.record import Record

from .clients import AGAIN, Client
from .promises import Place
from .world import BEGIN_MS

if TYPE_CHECKING:
    from .world import World

LANES = 3
OPEN_MAX = 5
"""So many batches of a producer are known to a broker: an older one could not be sent again."""


class Producer(Client):
    """Writes numbered values to a partition, each batch until it is acknowledged, over connections that overtake."""

    def __init__(self, world: World, name: str, place: Place) -> None:
        super().__init__(world, name)
        self.place = place
        self.number = 0
        self._batches = 0
        self._open: dict[int, None] = {}
        """Batches that are not acknowledged, by their numbers."""
        self._last_acknowledged = 0
        """With it all batches before it are written."""
        self._lanes = [Client(world, f"{name}/{lane}") for lane in range(LANES)]
        for lane in self._lanes:
            lane._leaders = self._leaders

    async def run(self, stop: trio.Event) -> None:
        """Until `stop` is set, and what was begun then is acknowledged."""
        request = InitProducerIdRequest(transactional_id=None, transaction_timeout_ms=0)
        while (given := await self.ask_any(request, InitProducerIdResponse, 4)).error_code:
            await self.rest()
        await self._write(self._lanes[0], given)  # alone: who knows nothing of a producer takes any number
        async with trio.open_nursery() as nursery:
            for lane in self._lanes:
                nursery.start_soon(self._write_until, stop, lane, given)

    async def _write_until(self, stop: trio.Event, lane: Client, given: InitProducerIdResponse) -> None:
        while not stop.is_set():
            if self._open and self._batches - min(self._open) >= OPEN_MAX - 1:
                await lane.rest()
                continue
            await self._write(lane, given)
            await trio.sleep(lane.rng.uniform(0.0, 1.2))

    async def _write(self, lane: Client, given: InitProducerIdResponse) -> None:
        values = [f"{self.name}:{self.number + each}".encode() for each in range(lane.rng.randrange(1, 4))]
        batch = build_batch(
            [Record(timestamp=BEGIN_MS, value=value) for value in values],
            producer_id=given.producer_id,
            producer_epoch=given.producer_epoch,
            base_sequence=self.number,
        )
        self.number += len(values)
        self._batches += 1
        mine = self._batches
        self._open[mine] = None
        while True:
            answer = await lane.produce(self.place, batch)
            if answer is not None:
                code, offset = answer
                if code is Code.NONE:
                    self.world.promises.answered(self.place, offset, values)
                    break
                early = code is Code.OUT_OF_ORDER_SEQUENCE_NUMBER
                if early and mine < self._last_acknowledged:  # after a restart only the last batch is known
                    self.world.promises.acknowledged[self.place] += values
                    break
                assert early or code in AGAIN, f"{self.name}: {self.place} answers {code.name} to batch {mine}"
            await lane.rest()
        del self._open[mine]
        self._last_acknowledged = max(mine, self._last_acknowledged)

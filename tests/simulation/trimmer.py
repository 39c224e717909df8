"""Somebody who deletes the beginning of a partition now and then, though it be in the middle of a batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from kpybroker.peers.channel import PeerGone
from kpybroker.wire.codes import Code
from kpybroker.wire.messages.delete_records import (
    DeleteRecordsPartition,
    DeleteRecordsRequest,
    DeleteRecordsResponse,
    DeleteRecordsTopic,
)

from .clients import AGAIN, EARLIEST, UNCOMMITTED, Client, records_of
from .promises import Place

if TYPE_CHECKING:
    from .world import World

KEPT = 20
"""So many of the last records are not deleted at once."""


class Trimmer(Client):
    """Deletes records of one partition."""

    def __init__(self, world: World, name: str, place: Place) -> None:
        super().__init__(world, name)
        self.place = place
        self.asked = 0
        """Everything below may be gone."""

    async def run(self, stop: trio.Event) -> None:
        """Until `stop` is set."""
        while not stop.is_set():
            await trio.sleep(self.rng.uniform(0.0, 6.0))
            latest = await self.latest(self.place)
            if latest is not None:
                await self._delete(self.rng.randrange(max(latest - KEPT, 0), latest + 1))

    async def _delete(self, before: int) -> None:
        self.asked = max(before, self.asked)
        partition = DeleteRecordsPartition(partition_index=self.place.index, offset=before)
        topic = DeleteRecordsTopic(name=self.place.topic, partitions=[partition])
        leader, _ = await self.leader(self.place)
        try:
            response = await self.ask(
                leader, DeleteRecordsRequest(topics=[topic], timeout_ms=3000), DeleteRecordsResponse, 2
            )
        except PeerGone:
            await self.look(self.place)
            return
        answer = response.topics[0].partitions[0]
        code = Code(answer.error_code)
        if code is Code.NONE:
            assert answer.low_watermark >= before, f"{self.place}: {answer.low_watermark} is left of {before}"
            return
        assert code in AGAIN or code is Code.OFFSET_OUT_OF_RANGE, f"{self.name}: {code.name}"
        await self.look(self.place)

    async def check(self) -> None:
        """What is left is what was written, and all that nobody wanted deleted."""
        left: dict[int, bytes] = {}
        while (position := await self.latest(self.place, timestamp=EARLIEST)) is None:
            await self.rest()
        while (end := await self.latest(self.place)) is None:
            await self.rest()
        start = position
        assert start <= self.asked, f"{self.place} begins at {start}, nobody asked for more than {self.asked}"
        while position < end:
            data = await self.fetch(self.place, position, UNCOMMITTED, max_bytes=1 << 20)
            if data is not None:
                records, position = records_of(data, position, UNCOMMITTED)
                left.update(records)
        assert list(left) == list(range(start, end)), f"{self.place}: records are missing"
        for offset, value in self.world.promises.known[self.place].items():
            assert offset < start or left[offset] == value, f"{self.place}: {value!r} at {offset} is {left[offset]!r}"

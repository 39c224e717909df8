"""Producer ids for this node's producers, out of blocks that the controller hands out (KIP-730)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

Allocate = Callable[[], Awaitable[range]]
"""Asks the controller for a block of ids that nobody else has. Raises: Refused."""


class ProducerIds:
    """Hands out each id once. Ids left in a block when the node stops are never used."""

    def __init__(self, allocate: Allocate) -> None:
        self._allocate = allocate
        self._block = iter(range(0))
        self._asking = trio.Lock()

    async def next(self) -> int:
        """An id that no producer has had. Raises: Refused if the controller has none to give."""
        producer_id = next(self._block, None)
        while producer_id is None:
            async with self._asking:
                producer_id = next(self._block, None)  # somebody else may have fetched a block meanwhile
                if producer_id is None:
                    self._block = iter(await self._allocate())
                    producer_id = next(self._block, None)
        return producer_id

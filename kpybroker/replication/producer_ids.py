"""Producer ids for this node's producers, out of blocks that the controller hands out (KIP-730)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from kpybroker.wire.codes import Code, Refused

PATIENCE_S = 5.0
"""How long a producer waits for a block of ids; then it asks again."""

NO_CONTROLLER = frozenset(
    {
        Code.NOT_CONTROLLER,
        Code.STALE_BROKER_EPOCH,
        Code.BROKER_ID_NOT_REGISTERED,
        Code.REQUEST_TIMED_OUT,
        Code.NETWORK_EXCEPTION,
    }
)
"""What may be over when the controller is asked again."""

Allocate = Callable[[], Awaitable[range]]
"""Asks the controller for a block of ids that nobody else has. Raises: Refused."""


class ProducerIds:
    """Hands out each id once. Ids left in a block when the node stops are never used."""

    def __init__(self, allocate: Allocate) -> None:
        self._allocate = allocate
        self._block = iter(range(0))
        self._asking = trio.Lock()

    async def next(self) -> int:
        """An id that no producer has had.

        Raises: Refused: COORDINATOR_LOAD_IN_PROGRESS, as Kafka has it, while no controller gives a block.
        """
        producer_id = next(self._block, None)
        if producer_id is not None:
            return producer_id
        try:
            with trio.fail_after(PATIENCE_S):
                return await self._next_of_another_block()
        except trio.TooSlowError:
            raise Refused(Code.COORDINATOR_LOAD_IN_PROGRESS, why="no controller gives producer ids") from None
        except Refused as refusal:
            if refusal.code in NO_CONTROLLER:
                raise Refused(Code.COORDINATOR_LOAD_IN_PROGRESS, why=str(refusal)) from refusal
            raise

    async def _next_of_another_block(self) -> int:
        while True:
            async with self._asking:
                producer_id = next(self._block, None)  # somebody else may have fetched a block meanwhile
                if producer_id is None:
                    self._block = iter(await self._allocate())
                    producer_id = next(self._block, None)
            if producer_id is not None:
                return producer_id

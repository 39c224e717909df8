"""Producer ids for this node's producers, out of blocks that the controller hands out (KIP-730).

The next block is asked for when nine tenths of one are used, as by Kafka's brokers, so that nobody waits for it.
Without one a producer waits for a moment, and is then told to ask again; the controller is asked by a task of its own,
however many producers there are.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

import trio

from kpybroker.wire.codes import Code, Refused

log = logging.getLogger("kpybroker.replication")

PATIENCE_S = 1.0
"""How long a producer waits for a block of ids; then it asks again. (Kafka's broker tells it so at once.)"""
AGAIN_S = 0.05
"""How long the controller is left alone after it gave none (Kafka's fixed value)."""
PREFETCH_AT = 0.9
"""The part of a block after which the next one is asked for (Kafka's fixed value)."""
INT64_MAX = 2**63 - 1

TRANSIENT = frozenset(
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
    """Hands out each id once; `run` must be running. Ids left in a block when the node stops are never used."""

    def __init__(self, allocate: Allocate) -> None:
        self._allocate = allocate
        self._block = range(0)
        self._next = 0
        self._ahead: range | None = None
        """The block after this one."""
        self._wanted = trio.Event()
        self._came = trio.Event()

    async def next(self) -> int:
        """An id that no producer has had.

        Raises: Refused: COORDINATOR_LOAD_IN_PROGRESS, as Kafka has it, while no controller gives a block.
        """
        with trio.move_on_after(PATIENCE_S):
            while (producer_id := self._claim()) is None:
                self._wanted.set()
                await self._came.wait()
            return producer_id
        raise Refused(Code.COORDINATOR_LOAD_IN_PROGRESS, "Producer ID block is full. Waiting for next block")

    def _claim(self) -> int | None:
        if self._next >= self._block.stop:
            if self._ahead is None:
                return None
            self._block, self._ahead = self._ahead, None
            self._next = self._block.start
        producer_id = self._next
        self._next += 1
        if producer_id == self._block.start + int(len(self._block) * PREFETCH_AT):
            self._wanted.set()
        return producer_id

    async def run(self) -> None:
        """Fetch the blocks that are wanted, until cancelled."""
        failing = False
        while True:
            await self._wanted.wait()
            self._wanted = trio.Event()
            if self._ahead is not None:
                continue
            try:
                self._ahead = self._checked(await self._allocate())
            except Refused as refused:
                if not failing:
                    level = logging.WARNING if refused.code in TRANSIENT else logging.ERROR
                    log.log(level, "The controller gives no producer ids: %s", refused)
                failing = True
                await trio.sleep(AGAIN_S)
            else:
                failing = False
            self._came.set()
            self._came = trio.Event()

    def _checked(self, block: range) -> range:
        """The block, if it can be one. Raises: Refused."""
        if not (max(self._block.stop, 0) <= block.start < block.stop <= INT64_MAX):
            raise Refused(Code.UNKNOWN_SERVER_ERROR, f"{block} cannot follow {self._block}")
        return block

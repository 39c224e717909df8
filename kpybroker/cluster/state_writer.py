"""quorum-state on its way to the disk, which is no matter of the event loop's: a sync may take long.

What the raft machine has decided about elections stands in memory at once. Nothing that follows from it leaves this
node before it is on the disk: whoever answers another node, asks one, or counts records as durable awaits `done` first.
So a node that loses its power has promised nothing that it does not know of afterwards, as if it had been slower.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

import trio

from kpybroker.storage.errors import StorageFailed

log = logging.getLogger(__name__)

AGAIN_S = 1.0
"""How long a state waits for which there was no room, or no descriptor."""


class StateWriter:
    """Writes one state at a time, the latest one, and never an older one after it; `run` must be running."""

    def __init__(self, in_worker: Callable[[Callable[[], None]], Awaitable[None]]) -> None:
        """`in_worker`: has a function called where it may block."""
        self._in_worker = in_worker
        self._write: Callable[[], None] = lambda: None
        self._wanted = 0
        self._written = 0
        self._news = trio.Event()
        self._wrote = trio.Event()

    def want(self, write: Callable[[], None]) -> None:
        """Have the state written by calling `write`. One that was wanted before, and not begun, needs it no more."""
        self._write = write
        self._wanted += 1
        self._news.set()

    async def done(self) -> None:
        """Return when all that was wanted is on the disk, what came meanwhile included."""
        while self._written < self._wanted:
            await self._wrote.wait()

    async def run(self) -> None:
        """Write, until cancelled. Raises: StorageFailed; what is but temporary is tried again."""
        while True:
            await self._news.wait()
            self._news = trio.Event()
            writing, write = self._wanted, self._write
            try:
                await self._in_worker(write)
            except StorageFailed as failure:
                if not failure.temporary:
                    raise
                log.error("the state of the metadata quorum cannot be written now: %s", failure)
                await trio.sleep(AGAIN_S)
                self._news.set()
            else:
                self._written = writing
                self._wrote.set()
                self._wrote = trio.Event()

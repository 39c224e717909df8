"""Group commit: what must be synced before it counts is synced in worker threads, together.

That is what flush.messages says, and the topic id of a new log.

While a log is being flushed, further appends go on; they are in the next flush, however many they are. So a topic with
flush.messages=1 costs one sync at a time, not one for each record, and no sync ever stops the event loop.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from kpybroker.replication.disk_trouble import RETRY_S
from kpybroker.storage.errors import StorageFailed

if TYPE_CHECKING:
    from kpybroker.replication.logs import Logs
    from kpybroker.replication.partition import Partition

SYNCS_AT_ONCE = 16
"""Logs that are flushed at the same time: thousands may be new together, and others need threads, too."""


class Flusher:
    """Flushes the logs that owe it; each is in one flush at a time. `run` must be running."""

    def __init__(self, logs: Logs) -> None:
        self._logs = logs
        self._busy: set[Partition] = set()  # wanted, or being flushed
        self._wanted: list[Partition] = []
        self._more = trio.Event()
        self._turns = trio.CapacityLimiter(SYNCS_AT_ONCE)

    def want(self, partition: Partition) -> None:
        """Flush the partition's log, soon."""
        if partition not in self._busy:
            self._busy.add(partition)
            self._wanted.append(partition)
            self._more.set()

    async def run(self) -> None:
        """Flush what is wanted, until cancelled."""
        async with trio.open_nursery() as nursery:
            while True:
                while self._wanted:
                    nursery.start_soon(self._flush, self._wanted.pop())
                self._more = trio.Event()
                await self._more.wait()

    async def _flush(self, partition: Partition) -> None:
        try:
            while _in_use(partition) and (opened := partition.log).owes_flush and opened.failure is None:
                try:
                    async with self._turns:
                        await self._logs.flush(opened, opened.owed_to)
                except StorageFailed as failure:
                    partition.failed("flush", failure)
                    if opened.failure is None:  # nothing is lost: whoever waits goes on waiting
                        await trio.sleep(RETRY_S)
                        continue
                partition.flushed()
        finally:
            self._busy.discard(partition)


def _in_use(partition: Partition) -> bool:
    """Whether this node has the replica, still, and somebody leads it."""
    return partition.is_leader or partition.follows is not None

"""How a fetch that has nothing to answer yet learns that there is something.

A Watch stands at each partition that its fetcher is interested in. The partition tells it what changed; nobody polls,
and there is no task per partition.
"""

from __future__ import annotations

from typing import Generic, TypeVar

import trio

K = TypeVar("K")


class Watch(Generic[K]):
    """Collects the partitions (by the key their watcher knows them by) that changed since they were looked at."""

    __slots__ = ("_event", "_missing_bytes", "changed")

    def __init__(self) -> None:
        self.changed: dict[K, None] = {}  # an ordered set: the order in which they changed
        self._event: trio.Event | None = None
        self._missing_bytes = 0

    def expect(self, missing_bytes: int) -> trio.Event:
        """An event that happens when `missing_bytes` more can be read, or something else changes."""
        self._missing_bytes = missing_bytes
        self._event = trio.Event()
        return self._event

    def readable(self, key: K, more_bytes: int) -> None:
        """`more_bytes` more can be read from a partition."""
        self.changed[key] = None
        if self._event is not None:
            self._missing_bytes -= more_bytes
            if self._missing_bytes <= 0:
                self._wake()

    def upset(self, key: K) -> None:
        """A partition changed in a way that its fetcher must hear of at once: leadership, truncation, deletion."""
        self.changed[key] = None
        self._wake()

    def _wake(self) -> None:
        if self._event is not None:
            self._event.set()
            self._event = None

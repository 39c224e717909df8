"""What falls due when: the timers of one shard, as plain data.

A heartbeat moves its member's deadline further out; that is the hot path, so moving one later costs a dictionary entry
and nothing else. The heap keeps the earlier time until it comes to the top, and only then is the entry put back at its
real place. `deadline_s` is exact: whoever sleeps until then never wakes for nothing. Entries that do not count any more
are swept out when they are most of the heap: members that come and go would fill it for as long as their sessions.
"""

from __future__ import annotations

import heapq
from typing import TypeAlias

Key: TypeAlias = tuple[str, ...]
"""What is due: its kind, then what tells it apart: ("heartbeat", group, member), ("join", group), ("sync", group)."""

NEVER = float("inf")
SWEPT_FROM = 8
"""How many entries that do not count are never worth sweeping."""


class Deadlines:
    """Deadlines by key, in seconds of the monotonic clock. One key has one deadline."""

    def __init__(self) -> None:
        self._due: dict[Key, float] = {}
        self._queued: dict[Key, float] = {}
        """The time of each key's one valid heap entry; never later than what `_due` says."""
        self._heap: list[tuple[float, Key]] = []

    def __len__(self) -> int:
        return len(self._due)

    def __contains__(self, key: Key) -> bool:
        return key in self._due

    def set(self, key: Key, when_s: float) -> None:
        """Make `key` due at `when_s`, whatever it was before."""
        self._due[key] = when_s
        queued = self._queued.get(key)
        if queued is None or when_s < queued:
            self._queued[key] = when_s
            heapq.heappush(self._heap, (when_s, key))
            self._sweep()

    def cancel(self, key: Key) -> None:
        """Forget `key`; nothing happens if it is not there."""
        if self._due.pop(key, None) is not None:
            self._sweep()

    def _sweep(self) -> None:
        if len(self._heap) > 2 * len(self._due) + SWEPT_FROM:
            self._queued = dict(self._due)
            self._heap = [(when_s, key) for key, when_s in self._due.items()]
            heapq.heapify(self._heap)

    def when_s(self, key: Key) -> float | None:
        """When `key` is due, None if it is not."""
        return self._due.get(key)

    @property
    def deadline_s(self) -> float:
        """The earliest deadline; infinity if there is none."""
        heap = self._heap
        while heap:
            when_s, key = heap[0]
            if self._queued.get(key) != when_s:
                heapq.heappop(heap)  # overtaken by an earlier entry of the same key
                continue
            due = self._due.get(key)
            if due == when_s:
                return when_s
            heapq.heappop(heap)
            if due is None:
                del self._queued[key]
            else:
                self._queued[key] = due
                heapq.heappush(heap, (due, key))
        return NEVER

    def pop_due(self, now_s: float) -> Key | None:
        """Take out the earliest key that is due at `now_s`; None if nothing is."""
        if self.deadline_s > now_s:
            return None
        _, key = heapq.heappop(self._heap)
        del self._queued[key], self._due[key]
        return key

"""Who waits for something at a partition: fetches that found too little, and whoever waits for replicas."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from kpybroker.replication.waiters import Watch


class Waiter(Protocol):
    """Who waits for one thing to happen: a trio.Event, for example."""

    def set(self) -> None:
        """It has happened, or never will: look."""
        ...


class Audience:
    """What of a partition is about others. Belongs to the event loop."""

    def __init__(self, high_watermark: int = 0) -> None:
        self._high_watermark = high_watermark
        self._watches: dict[Watch[Any], Any] = {}
        self._follower_watches: dict[Watch[Any], Any] = {}
        # Whoever waits holds the waiter; who has given up waiting is not told, and not remembered.
        self._high_watermark_waiters: WeakKeyDictionary[Waiter, int] = WeakKeyDictionary()
        self._low_watermark_waiters: WeakKeyDictionary[Waiter, int] = WeakKeyDictionary()
        self._sync_waiters: WeakKeyDictionary[Waiter, int] = WeakKeyDictionary()

    def watch(self, watch: Watch[Any], key: Any, *, follower: bool = False) -> None:
        """Tell `watch` of every change, by the name `key`. A follower hears of what is not replicated yet."""
        (self._follower_watches if follower else self._watches)[watch] = key

    def unwatch(self, watch: Watch[Any]) -> None:
        """Stop telling `watch`."""
        self._watches.pop(watch, None)
        self._follower_watches.pop(watch, None)

    def _tell_readers(self, more_bytes: int, *, at_once: bool) -> None:
        """The high watermark has moved; `at_once`: by more than can be counted. Waiters for acks=all hear too."""
        for watch, key in self._watches.items():
            if at_once:
                watch.upset(key)
            else:
                watch.readable(key, more_bytes)
        if self._high_watermark_waiters:
            _tell(self._high_watermark_waiters, self._high_watermark)

    def _tell_followers(self, more_bytes: int = 0, *, at_once: bool = False) -> None:
        """The log has grown; or the high watermark has moved, of which followers hear with the next answer.

        To be told of it alone (`at_once`) would cost a follower a second Fetch for each Produce.
        """
        for watch, key in self._follower_watches.items():
            if at_once:
                watch.upset(key)
            else:
                watch.readable(key, more_bytes)

    def _tell_low_watermark(self, low_watermark: int) -> None:
        _tell(self._low_watermark_waiters, low_watermark)

    def _tell_synced(self, offset: int) -> None:
        _tell(self._sync_waiters, offset)

    def log_start_moved(self) -> None:
        """Records at the start of the log are gone: fetchers hear of the new log start offset."""
        for watch, key in self._watches.items():
            watch.readable(key, 0)
        for watch, key in self._follower_watches.items():
            watch.upset(key)

    def _wake_waiters(self) -> None:
        for waiters in (self._high_watermark_waiters, self._low_watermark_waiters, self._sync_waiters):
            for waiter in list(waiters):
                waiter.set()
            waiters.clear()

    def _upset(self) -> None:
        for watches in (self._watches, self._follower_watches):
            for watch, key in watches.items():
                watch.upset(key)


def _tell(waiters: WeakKeyDictionary[Waiter, int], reached: int) -> None:
    for waiter, offset in list(waiters.items()):
        if offset <= reached:
            waiter.set()
            del waiters[waiter]

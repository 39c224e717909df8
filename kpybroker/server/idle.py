"""Closes connections that have been quiet for connections.max.idle.ms.

One task for all of a node's connections: they stand in the order of their last activity, so only the first can be due.
Activity costs a dictionary move; nothing ticks that isn't due.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from itertools import islice
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from kpybroker.server.connection import Connection


class IdleConnections:
    """When each connection was last heard of. `idle_s` negative: connections may be idle for ever."""

    def __init__(self, idle_s: float) -> None:
        self._idle_s = idle_s
        self._last_active: OrderedDict[Connection, float] = OrderedDict()
        self._came = trio.Event()

    def active(self, connection: Connection) -> None:
        """`connection` has just received or is about to send."""
        if not self._last_active:
            self._came.set()
        self._last_active[connection] = trio.current_time()
        self._last_active.move_to_end(connection)

    def forget(self, connection: Connection) -> None:
        """`connection` has ended."""
        self._last_active.pop(connection, None)

    def close_all(self) -> None:
        """Close every connection that no request is being carried out on."""
        for connection in self._last_active:
            if not connection.answering:
                connection.scope.cancel()

    def quietest(self, count: int, spared: Callable[[str], bool]) -> list[Connection]:
        """Up to so many connections, those first that were quiet for longest; they are not known here afterwards.

        None that a request is being carried out on, and none of a listener that is `spared`.
        """
        able = (each for each in self._last_active if not each.answering and not spared(each.listener))
        found = list(islice(able, count))
        for connection in found:
            self.forget(connection)
        return found

    def __len__(self) -> int:
        """How many connections are open."""
        return len(self._last_active)

    async def run(self) -> None:
        """Close what is idle, for ever."""
        if self._idle_s < 0:
            return
        while True:
            while not self._last_active:  # who came may have gone again before this task ran
                self._came = trio.Event()
                await self._came.wait()
            connection, last_active = next(iter(self._last_active.items()))
            if trio.current_time() - last_active < self._idle_s:
                await trio.sleep_until(last_active + self._idle_s)
            elif connection.answering:
                self.active(connection)
            else:
                self.forget(connection)
                connection.scope.cancel()

"""Tells the controller in which data directories this node's replicas are, where the metadata says otherwise (KIP-858).

With one directory the controller knows by itself; with several a new partition is recorded as not placed yet.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping

import trio

from kpybroker.wire.codes import Refused

log = logging.getLogger("kpybroker.replication")

Replica = tuple[bytes, int]
"""Topic id and partition."""

AT_ONCE = 2250
"""Partitions in one request, as Kafka's brokers have it."""
RETRY_S = 5.0


class Assignments:
    """What is to be told; `run` tells it. Only the last word on each partition counts."""

    def __init__(self, send: Callable[[Mapping[Replica, bytes]], Awaitable[None]]) -> None:
        self._send = send
        self._wanted: dict[Replica, bytes] = {}
        self._told: dict[Replica, trio.Event] = {}
        self._more = trio.Event()

    def add(self, topic_id: bytes, index: int, directory_id: bytes) -> trio.Event:
        """Have it told; the event happens when the controller has recorded it, or what was said of it since."""
        self._wanted[topic_id, index] = directory_id
        self._more.set()
        return self._told.setdefault((topic_id, index), trio.Event())

    async def run(self) -> None:
        """Tell the controller, until cancelled; this node's broker is registered."""
        while True:
            await self._more.wait()
            self._more = trio.Event()
            while self._wanted:
                batch = dict(list(self._wanted.items())[:AT_ONCE])
                for replica in batch:
                    del self._wanted[replica]
                try:
                    await self._send(batch)
                except Refused as refused:
                    log.error("the controller was not told where %d partitions are: %s", len(batch), refused)
                    self._wanted = {**batch, **self._wanted}
                    await trio.sleep(RETRY_S)
                else:
                    for replica in batch:
                        if replica not in self._wanted:
                            self._told.pop(replica).set()

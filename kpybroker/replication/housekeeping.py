"""What is to be done about logs now and then: retention, expiry, flushing, checkpoints. Each in a task of its own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import trio

from kpybroker.storage.errors import StorageFailed
from kpybroker.wire.codes import Refused

if TYPE_CHECKING:
    from kpybroker.clock import Clock
    from kpybroker.config import BrokerConfig
    from kpybroker.replication.logs import Logs
    from kpybroker.replication.replicas import Replicas

NEVER_MS = 2**62
"""Intervals from here on mean never (Kafka's own default is the largest long)."""


class Housekeeping:
    """The regular duties of a node that holds logs."""

    def __init__(self, config: BrokerConfig, logs: Logs, replicas: Replicas, clock: Clock) -> None:
        self._config = config
        self._logs = logs
        self._replicas = replicas
        self._clock = clock

    async def run(self) -> None:
        """Do what is due, until cancelled."""
        config = self._config
        duties: list[tuple[int, Callable[[], Awaitable[None]]]] = [
            (config.log_retention_check_interval_ms, self._apply_retention),
            (config.producer_id_expiration_check_interval_ms, self._expire_producers),
            (config.log_flush_scheduler_interval_ms, self._logs.flush_due),
            (config.log_flush_offset_checkpoint_interval_ms, self._checkpoint),
            (config.log_flush_start_offset_checkpoint_interval_ms, self._logs.checkpoint_log_starts),
            (config.replica_high_watermark_checkpoint_interval_ms, self._checkpoint_high_watermarks),
        ]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._logs.remove_deleted)
            for interval_ms, duty in duties:
                if 0 < interval_ms < NEVER_MS:  # 0: Kafka does it once, when there is nothing to do yet
                    nursery.start_soon(self._every, interval_ms, duty)

    async def _every(self, interval_ms: int, duty: Callable[[], Awaitable[None]]) -> None:
        while True:
            await trio.sleep(interval_ms / 1000)
            try:
                await duty()
            except StorageFailed as failure:
                self._logs.trouble.met("write a checkpoint", failure)

    async def _apply_retention(self) -> None:
        """Let go of old segments, of partitions that nobody has used as well."""
        for partition in self._replicas.mine():
            await trio.lowlevel.checkpoint()
            try:
                if partition.log.retention(self._clock.wall_ms(), partition.high_watermark):
                    partition.log_start_moved()
            except StorageFailed as failure:
                partition.failed("delete old segments of", failure)
            except Refused:  # it can't be opened, which was told
                continue

    async def _expire_producers(self) -> None:
        """Forget producers that have been silent for producer.id.expiration.ms."""
        for opened in self._logs.opened:
            await trio.lowlevel.checkpoint()
            opened.producers.expire(self._clock.wall_ms())

    async def _checkpoint(self) -> None:
        """Rolled segments are flushed, so that recovery need not read them; deleted ones leave the disk."""
        await self._logs.flush_due()
        self._logs.purge()
        await self._logs.checkpoint()

    async def _checkpoint_high_watermarks(self) -> None:
        await self._logs.checkpoint_high_watermarks(self._replicas.high_watermarks())

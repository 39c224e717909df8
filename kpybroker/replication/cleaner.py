"""The log cleaner: compacts the dirtiest log of those that are due, one at a time, and rests when none is.

What is read and written goes through a worker thread, which lets the event loop go first every millisecond and keeps to
log.cleaner.io.max.bytes.per.second. A log that cannot be compacted (a damaged batch) is left alone until the next
start, as in Kafka; for want of room, or of descriptors, it is tried again after a while.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

import trio

from kpybroker.storage.errors import StorageFailed
from kpybroker.wire.codes import Refused
from kpybroker.wire.errors import CorruptRecords

if TYPE_CHECKING:
    from kpybroker.clock import Clock
    from kpybroker.config.live import LiveConfig
    from kpybroker.ids import Ids
    from kpybroker.replication.logs import Logs
    from kpybroker.replication.partition import Partition
    from kpybroker.replication.replicas import Replicas
    from kpybroker.storage.compaction import Cleanable, Compaction, Pace
    from kpybroker.storage.log import Log

log = logging.getLogger("kpybroker.replication.cleaner")

WORK_S = 0.001
"""How long the worker keeps the interpreter to itself."""
AGAIN_S = 60.0
"""When a log is tried again that could not be compacted for want of room."""
REST_S = 0.0002
"""And then leaves it: long enough for a thread that waits to be woken."""


class Cleaner:
    """Compaction of a node's logs. `run` is its life."""

    def __init__(self, live: LiveConfig, logs: Logs, replicas: Replicas, clock: Clock, ids: Ids) -> None:
        self._live = live
        self._logs = logs
        self._replicas = replicas
        self._clock = clock
        self._ids = ids
        self._uncleanable: set[Log] = set()
        self._resting: dict[Log, float] = {}  # logs for which there was no room, and until when they are passed over

    async def run(self) -> None:
        """Compact what is due, until cancelled."""
        while True:
            if not await self.clean_dirtiest():
                config = self._live.current
                await trio.sleep(config.log_cleaner_backoff_ms / 1000)

    async def clean_dirtiest(self) -> bool:
        """One pass over the log that needs it most; whether there was one."""
        found = await self._dirtiest()
        if found is None:
            return False
        partition, part = found
        opened = partition.log
        try:
            await self._clean(partition, opened, part)
        except StorageFailed as failure:
            if not failure.missing:  # a file that is gone: retention or a deletion was quicker
                partition.failed("compact", failure)
                self._resting[opened] = self._clock.monotonic_s() + AGAIN_S
        except CorruptRecords as damage:
            self._give_up(opened, damage)
        return True

    def _give_up(self, opened: Log, why: Exception) -> None:
        log.error("%s is not compacted any more until the next start: %s", opened.directory, why)
        self._uncleanable.add(opened)

    async def _dirtiest(self) -> tuple[Partition, Cleanable] | None:
        best: tuple[Partition, Cleanable] | None = None
        for partition in self._replicas.compacted():
            await trio.lowlevel.checkpoint()
            part = self._due(partition)
            if part is not None and (best is None or part.ratio > best[1].ratio):
                best = partition, part
        return best

    def _due(self, partition: Partition) -> Cleanable | None:
        """What there is to compact of a partition, if it is worth a pass."""
        from kpybroker.storage.compaction import cleanable  # not before there is something to compact

        try:
            opened = partition.log
            if opened in self._uncleanable or opened.failure is not None or self._rests(opened) or partition.moving:
                return None  # what is being moved waits, as in Kafka
            stable = partition.last_stable_offset
            part = cleanable(opened, last_stable_offset=stable, now_ms=self._clock.wall_ms())
        except StorageFailed as failure:
            partition.failed("look at", failure)
            return None
        except Refused:  # it can't be opened, which was told
            return None
        except CorruptRecords as damage:
            log.error("%s cannot be looked at: %s", partition, damage)
            return None
        return part if part.is_due(opened.config) else None

    def _rests(self, opened: Log) -> bool:
        until_s = self._resting.get(opened)
        if until_s is None:
            return False
        if self._clock.monotonic_s() < until_s:
            return True
        del self._resting[opened]
        return False

    async def _clean(self, partition: Partition, opened: Log, part: Cleanable) -> None:
        from kpybroker.storage.compaction import plan
        from kpybroker.storage.offset_map import ENTRY_BYTES

        config = self._live.current
        keys_max = int(config.log_cleaner_dedupe_buffer_size * config.log_cleaner_io_buffer_load_factor) // ENTRY_BYTES
        before, started_s = opened.size_bytes, self._clock.monotonic_s()
        compaction = plan(
            opened,
            part,
            high_watermark=partition.high_watermark,
            now_ms=self._clock.wall_ms(),
            keys_max=max(keys_max, 1),
            secret=self._ids.uuid(),
        )
        pace = _Pacing(config.log_cleaner_io_max_bytes_per_second)
        await trio.to_thread.run_sync(compaction.read_keys, pace)
        if not await self._replace_groups(opened, compaction, pace):
            return
        await self._logs.flush(opened, opened.recovery_point)  # the new names, before the checkpoint says so
        opened.first_dirty_offset = compaction.end_offset
        await self._logs.checkpoint_cleaned()
        log.info(
            "compacted %s up to offset %d: %d bytes became %d in %.1f s",
            opened.directory,
            compaction.end_offset,
            before,
            opened.size_bytes,
            self._clock.monotonic_s() - started_s,
        )

    async def _replace_groups(self, opened: Log, compaction: Compaction, pace: Pace) -> bool:
        """Whether all groups were compacted; not so when the log was cut or deleted meanwhile."""
        generation = opened.generation
        for group in compaction.groups():
            segments = await trio.to_thread.run_sync(compaction.clean, group, pace)
            if opened.generation != generation:
                for segment in segments:
                    segment.discard()
                return False
            if not opened.replace([source.base_offset for source in group], segments, self._clock.wall_ms()):
                return False
        return True


class _Pacing:
    """Keeps the worker to a rate, and lets the event loop go first. Ends the work when its task is cancelled."""

    def __init__(self, bytes_per_s_max: float) -> None:
        self._bytes_per_s_max = bytes_per_s_max
        self._started_s = self._rested_s = time.monotonic()
        self._bytes = 0

    def __call__(self, count: int) -> None:
        """As `Pace`; blocks the worker thread."""
        self._bytes += count
        now_s = time.monotonic()
        if now_s - self._rested_s >= WORK_S:
            trio.from_thread.check_cancelled()
            time.sleep(REST_S)
            self._rested_s = time.monotonic()
        while (ahead_s := self._started_s + self._bytes / self._bytes_per_s_max - time.monotonic()) > 0:
            trio.from_thread.check_cancelled()
            time.sleep(min(ahead_s, 0.1))

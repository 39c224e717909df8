"""The partitions' logs in this node's data directory, and the checkpoints about them.

Whatever waits for the disk runs in a worker thread, on files that the event loop does not write.
"""

from __future__ import annotations

import logging
import math
import resource
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import trio

from kpybroker.replication.closing import close_logs
from kpybroker.replication.disk_trouble import DiskTrouble
from kpybroker.storage.data_dir import DataDir, FolderKind, OffsetCheckpoint
from kpybroker.storage.errors import StorageFailed
from kpybroker.storage.log import Log
from kpybroker.storage.open_segments import OpenSegments

if TYPE_CHECKING:
    from kpybroker.clock import Clock
    from kpybroker.ids import Ids
    from kpybroker.storage.files import Files, Room
    from kpybroker.storage.log_config import LogConfig

log = logging.getLogger("kpybroker.replication")

REMOVE_AGAIN_MS = 60_000
"""When what could not be removed is tried again."""
OPEN_SEGMENTS_MAX = 2000
"""Segment files that are kept open; fewer where the system allows fewer."""


class Logs:
    """All logs of one data directory. `clean`: its last user closed every log; nothing is read to open one."""

    def __init__(self, data_dir: DataDir, files: Files, clock: Clock, ids: Ids, *, clean: bool) -> None:
        self._data_dir = data_dir
        self._files = files
        self._clock = clock
        self._ids = ids
        self.clean = clean
        self._open: dict[tuple[str, int], Log] = {}
        allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._open_segments = OpenSegments(min(OPEN_SEGMENTS_MAX, allowed // 2))
        self._recovery_points = data_dir.read_offsets(OffsetCheckpoint.RECOVERY_POINTS)
        self._log_starts = data_dir.read_offsets(OffsetCheckpoint.LOG_STARTS)
        self._high_watermarks = data_dir.read_offsets(OffsetCheckpoint.HIGH_WATERMARKS)
        self._cleaned = data_dir.read_offsets(OffsetCheckpoint.CLEANED)
        self._doomed: list[tuple[int, str]] = []  # (when it may be removed, in wall milliseconds; folder)
        self._doomed_more = trio.Event()
        self.trouble = DiskTrouble(clock)
        self._log_starts_lock = trio.Lock()
        self._log_starts_asked = self._log_starts_written = 0

    @property
    def directory(self) -> str:
        """The absolute path of the data directory."""
        return self._data_dir.path

    # opening and deleting

    def open(self, topic: str, index: int, topic_id: bytes, config: LogConfig) -> Log:
        """The log of a partition; a new one if there is none, or only one of another topic of that name.

        Raises: StorageFailed.
        """
        folder = self._data_dir.folder(topic, index)
        found = self._files.exists(folder)
        if found and self._data_dir.topic_id(folder) != topic_id:
            # As Kafka: what cannot be told to be this partition is kept, but out of the way.
            self._set_aside(topic, index, folder)
            found = False
        if found:
            opened = Log.open(
                folder,
                config=config,
                files=self._files,
                clean=self.clean,
                recovery_point=self._recovery_points.get((topic, index), 0),
                log_start_offset=self._log_starts.get((topic, index), 0),
                now_ms=self._clock.wall_ms(),
                open_segments=self._open_segments,
            )
        else:
            self._forget(topic, index)
            opened = Log.create(
                folder, topic_id=topic_id, config=config, files=self._files, open_segments=self._open_segments
            )
        opened.first_dirty_offset = self._cleaned.get((topic, index), 0)
        self._open[topic, index] = opened
        return opened

    def delete(self, topic: str, index: int, delay_ms: int) -> None:
        """Delete a partition: at once out of sight, from the disk after `delay_ms`. Raises: StorageFailed."""
        folder = self._data_dir.folder(topic, index)
        target = self._data_dir.doomed_folder(topic, index, self._ids.uuid().hex(), FolderKind.DELETED)
        opened = self._open.pop((topic, index), None)
        self._forget(topic, index)
        if opened is not None:
            opened.move_to(target)
            opened.close(clean=False)
        elif self._files.exists(folder):
            self._data_dir.move(folder, target)
        else:
            return
        self._doom(target, self._clock.wall_ms() + delay_ms)

    def sort_out(self, wanted: Iterable[tuple[str, int]]) -> None:
        """At start: set aside folders of partitions that this node does not hold, finish deletions.

        Raises: DataDirRefused for a folder that is no partition's; StorageFailed.
        """
        mine = set(wanted)
        for folder in self._data_dir.partitions():
            if folder.kind is FolderKind.DELETED:
                self._doom(folder.path, 0)
            elif folder.kind is FolderKind.CURRENT and (folder.topic, folder.partition) not in mine:
                self._set_aside(folder.topic, folder.partition, folder.path)

    def _set_aside(self, topic: str, index: int, folder: str) -> None:
        target = self._data_dir.doomed_folder(topic, index, self._ids.uuid().hex(), FolderKind.STRAY)
        log.warning("%s is not a partition of this node's: moved to %s", folder, target)
        self._data_dir.move(folder, target)

    def _forget(self, topic: str, index: int) -> None:
        for offsets in (self._recovery_points, self._log_starts, self._high_watermarks, self._cleaned):
            offsets.pop((topic, index), None)

    def _doom(self, folder: str, due_ms: int) -> None:
        self._doomed.append((due_ms, folder))
        self._doomed_more.set()

    # what housekeeping does with them

    @property
    def opened(self) -> list[Log]:
        """The logs that are open."""
        return list(self._open.values())

    async def flush_due(self) -> None:
        """Make durable what is due to be: rolled segments, and what flush.ms says. What can't be now waits."""
        for opened in self.opened:
            offset = opened.flush_due(self._clock.wall_ms()) if opened.failure is None else None
            if offset is not None:
                try:
                    await self.flush(opened, offset)
                except StorageFailed as failure:
                    self._met(f"flush {opened.directory}", opened, failure)

    def purge(self) -> None:
        """Remove what was dropped from the logs and is due to leave the disk. What can't be removed now waits."""
        for opened in self.opened:
            try:
                opened.purge(self._clock.wall_ms())
            except StorageFailed as failure:
                self._met(f"remove old segments of {opened.directory}", opened, failure)

    def _met(self, doing: str, opened: Log, failure: StorageFailed) -> None:
        if failure.of_folder:
            opened.fail(failure)
        self.trouble.met(doing, failure)

    async def flush(self, opened: Log, offset: int) -> None:
        """Make a log durable up to `offset`. Raises: StorageFailed; unless it is temporary the log has failed then."""
        flush = opened.begin_flush(offset)
        if flush is None:
            return
        failure: StorageFailed | None = None
        with trio.CancelScope(shield=True):  # the log must hear how it ended
            try:
                await trio.to_thread.run_sync(flush.run)
            except StorageFailed as failed:
                failure = failed
        opened.end_flush(flush, failure)
        if failure is not None:
            raise failure

    async def checkpoint(self) -> None:
        """Write recovery points. Raises: StorageFailed."""
        self._collect()
        await self._write(OffsetCheckpoint.RECOVERY_POINTS, self._recovery_points)

    async def checkpoint_log_starts(self) -> None:
        """Write where the logs start. Those who ask while it is being written share one more. Raises: StorageFailed."""
        self._log_starts_asked += 1
        mine = self._log_starts_asked
        async with self._log_starts_lock:
            if self._log_starts_written < mine:
                written = self._log_starts_asked
                self._collect()
                await self._write(OffsetCheckpoint.LOG_STARTS, self._log_starts)
                self._log_starts_written = written

    async def checkpoint_high_watermarks(self, high_watermarks: Mapping[tuple[str, int], int]) -> None:
        """Write high watermarks, if any has changed. Raises: StorageFailed."""
        if any(self._high_watermarks.get(place) != offset for place, offset in high_watermarks.items()):
            known = {**self._high_watermarks, **high_watermarks}
            await self._write(OffsetCheckpoint.HIGH_WATERMARKS, known)
            self._high_watermarks.update(high_watermarks)

    async def checkpoint_cleaned(self) -> None:
        """Write up to where logs were compacted. Raises: StorageFailed."""
        for place, opened in self._open.items():
            if opened.first_dirty_offset:
                self._cleaned[place] = opened.first_dirty_offset
        await self._write(OffsetCheckpoint.CLEANED, self._cleaned)

    async def _write(self, checkpoint: OffsetCheckpoint, offsets: dict[tuple[str, int], int]) -> None:
        await trio.to_thread.run_sync(self._data_dir.write_offsets, checkpoint, dict(offsets))

    def _collect(self) -> None:
        """Take what the open logs know into the checkpoints."""
        for place, opened in self._open.items():
            if opened.failure is not None:
                continue
            self._recovery_points[place] = opened.recovery_point
            bases = opened.segments.bases
            if opened.log_start_offset > (bases[0] if bases else 0):  # one that lost all of its segments begins there
                self._log_starts[place] = opened.log_start_offset
            else:
                self._log_starts.pop(place, None)

    async def usage(self, places: Iterable[tuple[str, int]]) -> tuple[dict[tuple[str, int], int], Room]:
        """Bytes in each partition's log, and the room in the data directory. Raises: StorageFailed.

        Logs that are not open are not opened for it; one that has failed is left out.
        """
        sizes: dict[tuple[str, int], int] = {}
        closed = []
        for place in places:
            opened = self._open.get(place)
            if opened is None:
                closed.append(place)
            elif opened.failure is None:
                sizes[place] = opened.size_bytes

        def look() -> Room:
            for topic, index in closed:
                sizes[topic, index] = self._data_dir.log_size(topic, index)
            return self._data_dir.room()

        return sizes, await trio.to_thread.run_sync(look)

    async def remove_deleted(self) -> None:
        """Remove folders of deleted partitions when they are due, until cancelled."""
        while True:
            self._doomed_more = trio.Event()
            now_ms = self._clock.wall_ms()
            due = [folder for due_ms, folder in self._doomed if due_ms <= now_ms]
            self._doomed = [doomed for doomed in self._doomed if doomed[0] > now_ms]
            for folder in due:
                try:
                    await trio.to_thread.run_sync(self._data_dir.remove, folder)
                except StorageFailed as failure:
                    self.trouble.met(f"remove {folder}", failure)
                    if failure.temporary:
                        self._doomed.append((now_ms + REMOVE_AGAIN_MS, folder))
            soonest_ms = min((due_ms for due_ms, _ in self._doomed), default=math.inf)
            with trio.move_on_after((soonest_ms - now_ms) / 1000):
                await self._doomed_more.wait()

    # the end

    async def close(self, high_watermarks: Mapping[tuple[str, int], int]) -> bool:
        """Close all logs, flushed, and write the checkpoints; whether everything went well.

        Nobody may use them any more. Only if it went well may the data directory be marked as cleanly shut down.
        """
        well = await close_logs(self._open.values(), self._data_dir)
        self._collect()
        self._high_watermarks.update(high_watermarks)
        try:
            await self._write(OffsetCheckpoint.RECOVERY_POINTS, self._recovery_points)
            await self._write(OffsetCheckpoint.LOG_STARTS, self._log_starts)
            await self._write(OffsetCheckpoint.HIGH_WATERMARKS, self._high_watermarks)
        except StorageFailed as failure:
            log.error("%s", failure)
            well = False
        return well

"""One of log.dirs: the logs that are open in it, and the checkpoints about all that it holds.

Whatever waits for the disk runs in a worker thread, on files that the event loop does not write.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import trio

from kpybroker.storage.data_dir import DataDir, FolderKind, OffsetCheckpoint
from kpybroker.storage.log import Log

if TYPE_CHECKING:
    from kpybroker.clock import Clock
    from kpybroker.storage.errors import StorageFailed
    from kpybroker.storage.files import Files
    from kpybroker.storage.log_config import LogConfig
    from kpybroker.storage.open_segments import OpenSegments

TopicPartition = tuple[str, int]


class LogDir:
    """The logs of one data directory. `clean`: its last user closed every log; nothing is read to open one."""

    def __init__(
        self, data_dir: DataDir, directory_id: bytes, files: Files, clock: Clock, segments: OpenSegments, *, clean: bool
    ) -> None:
        self.data_dir = data_dir
        self.id = directory_id
        """The directory id by which the metadata knows it (KIP-858)."""
        self.clean = clean
        self.unrecovered: set[TopicPartition] | None = set() if clean else None
        """Logs that could not be recovered when this node started; None: nobody has tried, or not with all."""
        self.failure: StorageFailed | None = None
        """Why it is offline."""
        self.open_logs: dict[TopicPartition, Log] = {}
        self.futures: dict[TopicPartition, Log] = {}
        """Copies of partitions that are being moved here."""
        self.count = 0
        """How many partitions it holds, those that are on their way here included."""
        self._files = files
        self._clock = clock
        self._open_segments = segments
        self._recovery_points = data_dir.read_offsets(OffsetCheckpoint.RECOVERY_POINTS)
        self._log_starts = data_dir.read_offsets(OffsetCheckpoint.LOG_STARTS)
        self._high_watermarks = data_dir.read_offsets(OffsetCheckpoint.HIGH_WATERMARKS)
        self._cleaned = data_dir.read_offsets(OffsetCheckpoint.CLEANED)
        self._cleaned_there = dict(self._cleaned)  # what the file says
        self._log_starts_lock = trio.Lock()
        self._log_starts_asked = self._log_starts_written = 0

    @property
    def sound(self) -> bool:
        """Whether every log was closed by its last user, or has been recovered: else none may be taken for clean.

        One that could not be at first, for want of room maybe, has been once it is open.
        """
        return self.unrecovered is not None and self.unrecovered <= self.open_logs.keys()

    @property
    def path(self) -> str:
        """Its absolute path."""
        return self.data_dir.path

    # opening and letting go

    def open(self, topic: str, index: int, config: LogConfig) -> Log:
        """Open the log of a partition whose folder is here. Raises: StorageFailed."""
        opened = self.open_logs[topic, index] = self.load(topic, index, self.data_dir.folder(topic, index), config)
        return opened

    def load(self, topic: str, index: int, folder: str, config: LogConfig) -> Log:
        """Open the log in a folder, as a copy of a partition that is not in use here. Raises: StorageFailed."""
        place = topic, index
        opened = Log.open(
            folder,
            config=config,
            files=self._files,
            clean=self.clean,
            recovery_point=self._recovery_points.get(place, 0),
            log_start_offset=self._log_starts.get(place, 0),
            now_ms=self._clock.wall_ms(),
            open_segments=self._open_segments,
        )
        if self._cleaned.get(place, 0) > opened.log_end_offset:  # the power failed before its records were synced
            del self._cleaned[place]
        opened.first_dirty_offset = self._cleaned.get(place, 0)
        return opened

    def create(self, topic: str, index: int, topic_id: bytes, config: LogConfig) -> Log:
        """A new log of a partition. Raises: StorageFailed."""
        self.forget(topic, index)
        folder = self.data_dir.folder(topic, index)
        opened = self.open_logs[topic, index] = self.make(folder, topic_id, config)
        return opened

    def make(self, folder: str, topic_id: bytes, config: LogConfig) -> Log:
        """A new log in a folder. Raises: StorageFailed."""
        opened = Log.create(
            folder, topic_id=topic_id, config=config, files=self._files, open_segments=self._open_segments
        )
        self.count += 1
        return opened

    def doom(self, topic: str, index: int, unique: str, kind: FolderKind = FolderKind.DELETED) -> str | None:
        """Take a partition out of sight, to be deleted or set aside; returns its folder's new path, if there is one.

        Raises: StorageFailed.
        """
        target = self.data_dir.doomed_folder(topic, index, unique, kind)
        opened = self.open_logs.pop((topic, index), None)
        self.forget(topic, index)
        if self.unrecovered:
            self.unrecovered.discard((topic, index))
        if opened is not None:
            try:
                opened.move_to(target)
            finally:
                opened.close(clean=False)
        elif self.data_dir.has(topic, index):
            self.data_dir.move(self.data_dir.folder(topic, index), target)
        else:
            return None
        self.count -= 1
        return target

    def forget(self, topic: str, index: int) -> None:
        """Leave a partition out of the checkpoints."""
        for offsets in self._checkpoints:
            offsets.pop((topic, index), None)

    def keep(self, there: Iterable[TopicPartition]) -> None:
        """Leave all other partitions out of the checkpoints: their deletion was the last thing before a crash."""
        mine = set(there)
        for offsets in self._checkpoints:
            for place in offsets.keys() - mine:
                del offsets[place]

    @property
    def _checkpoints(self) -> tuple[dict[TopicPartition, int], ...]:
        return self._recovery_points, self._log_starts, self._high_watermarks, self._cleaned

    def fail(self, failure: StorageFailed) -> None:
        """Take it offline: none of its logs can be used any more, and others may have the directory."""
        self.failure = failure
        for opened in (*self.open_logs.values(), *self.futures.values()):
            opened.fail(failure)
            opened.close(clean=False)
        self.data_dir.close()

    # checkpoints

    def checkpointed_high_watermark(self, topic: str, index: int) -> int:
        """What was last written of a partition's high watermark, 0 if nothing."""
        return self._high_watermarks.get((topic, index), 0)

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

    async def checkpoint_high_watermarks(self, high_watermarks: Mapping[TopicPartition, int]) -> None:
        """Write the high watermarks of the logs that are open here, if any has changed. Raises: StorageFailed."""
        news = self._news(high_watermarks)
        if news:
            await self._write(OffsetCheckpoint.HIGH_WATERMARKS, self._high_watermarks | news)
            self._high_watermarks.update(news)

    async def checkpoint_cleaned(self) -> None:
        """Write up to where logs were compacted. Raises: StorageFailed."""
        for place, opened in self.open_logs.items():
            if opened.first_dirty_offset:
                self._cleaned[place] = opened.first_dirty_offset
        cleaned = dict(self._cleaned)
        await self._write(OffsetCheckpoint.CLEANED, cleaned)
        self._cleaned_there = cleaned

    async def checkpoint_all(self, high_watermarks: Mapping[TopicPartition, int]) -> None:
        """Write what a clean stop leaves; the logs are closed. Raises: StorageFailed."""
        self._collect()
        self._high_watermarks.update(self._news(high_watermarks))
        await self._write(OffsetCheckpoint.RECOVERY_POINTS, self._recovery_points)
        await self._write(OffsetCheckpoint.LOG_STARTS, self._log_starts)
        await self._write(OffsetCheckpoint.HIGH_WATERMARKS, self._high_watermarks)
        if self._cleaned != self._cleaned_there:
            await self.checkpoint_cleaned()

    def _news(self, high_watermarks: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
        """Those of the logs that are open here and have changed."""
        return {
            place: high_watermarks[place]
            for place in self.open_logs
            if place in high_watermarks and self._high_watermarks.get(place) != high_watermarks[place]
        }

    async def _write(self, checkpoint: OffsetCheckpoint, offsets: dict[TopicPartition, int]) -> None:
        await trio.to_thread.run_sync(self.data_dir.write_offsets, checkpoint, dict(offsets))

    def _collect(self) -> None:
        """Take what the open logs know into the checkpoints."""
        for place, opened in self.open_logs.items():
            if opened.failure is not None:
                continue
            self._recovery_points[place] = opened.recovery_point
            bases = opened.segments.bases
            if opened.log_start_offset > (bases[0] if bases else 0):  # one that lost all of its segments begins there
                self._log_starts[place] = opened.log_start_offset
            else:
                self._log_starts.pop(place, None)

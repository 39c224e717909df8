"""The partitions' logs in this node's data directories: where each is, where a new one goes, and what has failed.

Where a partition is, the directories say themselves: nothing is remembered of logs that are not open. A new one goes
where the metadata wants it, or where the fewest are, as in Kafka.

A directory that fails (`failed`) is offline until the node is started again: its logs fail, and whoever asked to hear
of it (`on_failure`) takes their partitions out of service. The others go on.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import trio

from kpybroker.cluster.image import MIGRATING_DIRECTORY, UNASSIGNED_DIRECTORY
from kpybroker.replication.closing import close_logs
from kpybroker.replication.disk_trouble import DiskTrouble
from kpybroker.replication.log_dir import LogDir
from kpybroker.storage.data_dir import FolderKind
from kpybroker.storage.errors import DataDirRefused, FolderOffline, StorageFailed

if TYPE_CHECKING:
    from kpybroker.clock import Clock
    from kpybroker.ids import Ids
    from kpybroker.storage.data_dir import DataDir, PartitionFolder
    from kpybroker.storage.files import Files, Room
    from kpybroker.storage.log import Log
    from kpybroker.storage.log_config import LogConfig

log = logging.getLogger("kpybroker.replication")

REMOVE_AGAIN_MS = 60_000
"""When what could not be removed is tried again."""
PREFERENCES_MAX = 10_000
"""Directories that are remembered for partitions which this node does not have yet; the oldest are forgotten."""

TopicPartition = tuple[str, int]


class Logs:
    """All logs of a node."""

    def __init__(
        self,
        dirs: Sequence[LogDir],
        files: Files,
        clock: Clock,
        ids: Ids,
        *,
        offline: Sequence[str] = (),
        paths: Sequence[str] | None = None,
        cordons: Callable[[str], bool] = lambda _: False,
    ) -> None:
        """`offline`: directories that can't be used. `paths`: the order of all.

        `cordons`: whether one is to take no new partitions.
        """
        self._files = files
        self.clock = clock
        self._ids = ids
        self._cordons = cordons
        self.dirs = list(dirs)
        """Those that are online."""
        self.offline = list(offline)
        """The paths of the others."""
        self.paths = sorted([each.path for each in self.dirs] + self.offline) if paths is None else list(paths)
        """All paths, in the order of log.dirs."""
        self.clean = all(each.clean for each in self.dirs)
        self._loop_thread = threading.get_ident()
        self._on_failure: list[Callable[[LogDir], None]] = []
        self._preferred: dict[TopicPartition, str] = {}
        self._doomed: list[tuple[int, str]] = []  # (when it may be removed, in wall milliseconds; folder)
        self._doomed_more = trio.Event()
        self.trouble = DiskTrouble(clock)
        self.trouble.on_folder_failed = self.failed

    # directories

    def on_failure(self, listener: Callable[[LogDir], None]) -> None:
        """Call `listener` when a directory has gone offline; its logs have failed by then."""
        self._on_failure.append(listener)

    def failed(self, failure: StorageFailed) -> None:
        """A directory has failed, and is offline from now on; if but a file is missing, only when all else is, too.

        Calling again is harmless.
        """
        if threading.get_ident() != self._loop_thread:  # a worker that recovers a log
            trio.from_thread.run_sync(self.failed, failure)
            return
        failing = next((each for each in self.dirs if f"{failure.path}/".startswith(f"{each.path}/")), None)
        if failing is None or not (failure.of_folder or (failure.missing and not self._files.exists(failing.path))):
            return
        log.error("Stopping serving logs in dir %s: %s", failing.path, failure)
        self.dirs = [each for each in self.dirs if each is not failing]
        self.offline.append(failing.path)
        failing.fail(failure)
        for listener in self._on_failure:
            listener(failing)

    def dir_at(self, path: str) -> LogDir | None:
        """The directory that is online at a path."""
        return next((each for each in self.dirs if each.path == path), None)

    def dir_of(self, topic: str, index: int) -> LogDir | None:
        """The directory that holds a partition."""
        dirs = self.dirs
        if len(dirs) == 1 and not self.offline:
            return dirs[0]
        place = topic, index
        for each in dirs:
            if place in each.open_logs:
                return each
        return next((each for each in dirs if each.data_dir.has(topic, index)), None)

    def cordoned(self, path: str) -> bool:
        """Whether a directory takes no new partitions (KIP-1066)."""
        return self._cordons(path)

    # opening and deleting

    def open(self, topic: str, index: int, topic_id: bytes, config: LogConfig, directory_id: bytes) -> Log:
        """The log of a partition; a new one if there is none, or only one of another topic of that name.

        `directory_id`: where the metadata says that it is. Raises: StorageFailed; FolderOffline if it may be in a
        directory that is offline.
        """
        home = self.dir_of(topic, index)
        if home is not None and home.data_dir.has(topic, index):
            if home.data_dir.topic_id(home.data_dir.folder(topic, index)) == topic_id:
                return home.open(topic, index, config)
            # As Kafka: what cannot be told to be this partition is kept, but out of the way.
            self.set_aside(home, topic, index)
        return self._create(topic, index, topic_id, config, directory_id)

    def _create(self, topic: str, index: int, topic_id: bytes, config: LogConfig, directory_id: bytes) -> Log:
        """A new log in the directory that is wanted, or the first of those to be considered that takes it."""
        wanted = self._preferred.get((topic, index))
        chosen = [each for each in self.dirs if each.path == wanted or (wanted is None and each.id == directory_id)]
        if not chosen and self.offline and not unplaced(directory_id):
            raise FolderOffline(self.offline)
        failure: StorageFailed | None = None
        for each in chosen or self.by_count():
            try:
                created = each.create(topic, index, topic_id, config)
            except StorageFailed as failed:
                failure = failed
                self.failed(failed)
            else:
                self._preferred.pop((topic, index), None)
                return created
        assert failure is not None, "a node has a directory that is online"
        raise failure

    def by_count(self) -> list[LogDir]:
        """The directories that a new partition may go to, those with the fewest first."""
        if len(self.dirs) == 1:
            return self.dirs
        return sorted(
            [each for each in self.dirs if not self._cordons(each.path)] or self.dirs[:1], key=lambda each: each.count
        )

    def prefer(self, topic: str, index: int, path: str) -> None:
        """Have a partition made in a directory once this node is given it."""
        self._preferred.pop((topic, index), None)
        self._preferred[topic, index] = path
        if len(self._preferred) > PREFERENCES_MAX:
            del self._preferred[next(iter(self._preferred))]

    def delete(self, topic: str, index: int, delay_ms: int) -> None:
        """Delete a partition: at once out of sight, from the disk after `delay_ms`. Raises: StorageFailed."""
        found = False
        for home in self.dirs:  # two, when it was just moved
            target = home.doom(topic, index, self._ids.uuid().hex())
            if target is not None:
                found = True
                self.doom(target, delay_ms)
        if not found and self.offline:
            raise FolderOffline(self.offline)

    def sort_out(self, wanted: Iterable[TopicPartition]) -> list[tuple[LogDir, PartitionFolder]]:
        """At start: set aside folders of partitions that this node does not hold, finish deletions.

        Returns the folders of partitions that were being moved from one directory to another.
        Raises: DataDirRefused for a folder that is no partition's, and for a partition that is in two directories.
        """
        mine = set(wanted)
        homes: dict[TopicPartition, LogDir] = {}
        moving = []
        for each in list(self.dirs):
            try:
                folders = each.data_dir.partitions()
                each.keep(
                    (folder.topic, folder.partition)
                    for folder in folders
                    if folder.kind in (FolderKind.CURRENT, FolderKind.FUTURE)
                )
                for folder in folders:
                    place = folder.topic, folder.partition
                    if folder.kind is FolderKind.DELETED:
                        self.doom(folder.path, 0)
                    elif folder.kind is FolderKind.FUTURE:
                        each.count += 1
                        moving.append((each, folder))
                    elif folder.kind is FolderKind.CURRENT:
                        each.count += 1
                        if place not in mine:
                            self.set_aside(each, *place)
                        elif homes.setdefault(place, each) is not each:
                            raise _in_two_directories(place, homes[place], each)
            except StorageFailed as failure:
                self.failed(failure)
        return moving

    def set_aside(self, home: LogDir, topic: str, index: int) -> None:
        """Move a partition's folder out of the way, to be looked at by somebody. Raises: StorageFailed."""
        target = home.doom(topic, index, self._ids.uuid().hex(), FolderKind.STRAY)
        log.warning("%s is not a partition of this node's: moved to %s", home.data_dir.folder(topic, index), target)

    def doom(self, folder: str, delay_ms: int) -> None:
        """Have a folder removed after a time."""
        self._doomed.append((self.clock.wall_ms() + delay_ms, folder))
        self._doomed_more.set()

    # what housekeeping does with them

    @property
    def opened(self) -> list[Log]:
        """The logs that are open."""
        return [opened for each in self.dirs for opened in each.open_logs.values()]

    async def flush_due(self) -> None:
        """Make durable what is due to be: rolled segments, and what flush.ms says. What can't be now waits."""
        for opened in self.opened:
            offset = opened.flush_due(self.clock.wall_ms()) if opened.failure is None else None
            if offset is not None:
                try:
                    await self.flush(opened, offset)
                except StorageFailed as failure:
                    self._met(f"flush {opened.directory}", opened, failure)

    def purge(self) -> None:
        """Remove what was dropped from the logs and is due to leave the disk. What can't be removed now waits."""
        for opened in self.opened:
            try:
                opened.purge(self.clock.wall_ms())
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
        """Write recovery points."""
        await self._each(LogDir.checkpoint)

    async def checkpoint_log_starts(self) -> None:
        """Write where the logs start."""
        await self._each(LogDir.checkpoint_log_starts)

    async def persist_log_starts(self, places: Iterable[TopicPartition]) -> set[TopicPartition]:
        """Make durable where certain logs start; returns those of which that failed."""
        homes: dict[LogDir, set[TopicPartition]] = {}
        lost: set[TopicPartition] = set()
        for topic, index in places:
            home = self.dir_of(topic, index)
            (lost if home is None else homes.setdefault(home, set())).add((topic, index))
        for home, there in homes.items():
            try:
                await home.checkpoint_log_starts()
            except StorageFailed as failure:
                self.trouble.met("write a checkpoint", failure)
                lost |= there
        return lost

    async def checkpoint_high_watermarks(self, high_watermarks: Mapping[TopicPartition, int]) -> None:
        """Write high watermarks, if any has changed."""
        await self._each(partial(LogDir.checkpoint_high_watermarks, high_watermarks=high_watermarks))

    async def checkpoint_cleaned(self) -> None:
        """Write up to where logs were compacted."""
        await self._each(LogDir.checkpoint_cleaned)

    async def _each(self, write: Callable[[LogDir], Awaitable[None]]) -> None:
        for each in list(self.dirs):
            try:
                await write(each)
            except StorageFailed as failure:
                self.trouble.met("write a checkpoint", failure)

    async def usage(self, home: LogDir, places: Iterable[TopicPartition]) -> tuple[dict[TopicPartition, int], Room]:
        """Bytes in the log of each partition that a directory holds, and the room in it. Raises: StorageFailed.

        Logs that are not open are not opened for it; one that has failed is left out.
        """
        sizes: dict[TopicPartition, int] = {}
        closed = []
        for place in places:
            opened = home.open_logs.get(place)
            if opened is None:
                closed.append(place)
            elif opened.failure is None:
                sizes[place] = opened.size_bytes

        def look() -> Room:
            for topic, index in closed:
                if home.data_dir.has(topic, index):
                    sizes[topic, index] = home.data_dir.log_size(topic, index)
            return home.data_dir.room()

        return sizes, await trio.to_thread.run_sync(look)

    async def remove_deleted(self) -> None:
        """Remove folders of deleted partitions when they are due, until cancelled."""
        while True:
            self._doomed_more = trio.Event()
            now_ms = self.clock.wall_ms()
            due = [folder for due_ms, folder in self._doomed if due_ms <= now_ms]
            self._doomed = [doomed for doomed in self._doomed if doomed[0] > now_ms]
            for folder in due:
                try:
                    await trio.to_thread.run_sync(self._files.remove_folder, folder)
                except StorageFailed as failure:
                    self.trouble.met(f"remove {folder}", failure)
                    if failure.temporary:
                        self._doomed.append((now_ms + REMOVE_AGAIN_MS, folder))
            soonest_ms = min((due_ms for due_ms, _ in self._doomed), default=math.inf)
            with trio.move_on_after((soonest_ms - now_ms) / 1000):
                await self._doomed_more.wait()

    # the end

    async def close(self, high_watermarks: Mapping[TopicPartition, int]) -> list[DataDir]:
        """Close all logs, flushed, and write the checkpoints; returns the directories where everything went well.

        Nobody may use them any more. Only those that are returned may be marked as cleanly shut down: not where a stop
        came before every log was recovered.
        """
        spoilt: set[LogDir] = set()

        async def close(home: LogDir) -> None:
            if not await close_logs([*home.open_logs.values(), *home.futures.values()], home.data_dir):
                spoilt.add(home)

        async with trio.open_nursery() as nursery:
            for home in self.dirs:
                nursery.start_soon(close, home)
        for home in self.dirs:
            try:
                await home.checkpoint_all(high_watermarks)
            except StorageFailed as failure:
                log.error("%s", failure)
                spoilt.add(home)
        return [home.data_dir for home in self.dirs if home.sound and home not in spoilt]


def unplaced(directory_id: bytes) -> bool:
    """Whether the metadata does not say yet in which directory a replica is."""
    return directory_id in (UNASSIGNED_DIRECTORY, MIGRATING_DIRECTORY)


def _in_two_directories(place: TopicPartition, first: LogDir, second: LogDir) -> DataDirRefused:
    topic, index = place
    return DataDirRefused(
        f"Duplicate log directories for {topic}-{index} are found in both {second.data_dir.folder(*place)} and "
        f"{first.data_dir.folder(*place)}. It is likely because log directory failure happened while broker was "
        "replacing current replica with future replica. Recover broker from this failure by manually deleting one of "
        "the two directories for this partition. It is recommended to delete the partition in the log directory that "
        "is known to have failed recently."
    )

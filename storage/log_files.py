"""The files of a log: its segments, made, retired and renamed; and making them durable.

The half of `Log` that knows no batches. Its state is described in `log.py`.
"""

import logging
from collections import deque

from kpybroker.storage import opening, recovery, retention
from kpybroker.storage.errors import StorageFailed
from kpybroker.storage.files import Files, StrPath
from kpybroker.storage.flush import Flush, sync_paths
from kpybroker.storage.log_config import LogConfig
from kpybroker.storage.names import (
    LEADER_EPOCHS,
    LOG,
    PARTITION_METADATA,
    SWAP,
)
from kpybroker.storage.region import SharedFile
from kpybroker.storage.segment import Segment
from kpybroker.storage.segments import Segments

_log = logging.getLogger(__name__)


class LogFiles:
    """What a log consists of on disk, and its flushing and closing."""

    __slots__ = (
        "_doomed",
        "_failure",
        "_files",
        "_new_folder",
        "_new_names",
        "_open_segments",
        "_owed",
        "_segments",
        "_snapshots",
        "_tail_checked",
        "_unflushed_since_ms",
        "_unnamed",
        "config",
        "directory",
        "epochs",
        "first_dirty_offset",
        "generation",
        "log_end_offset",
        "log_start_offset",
        "producers",
        "recovery_point",
        "topic_id",
    )

    def __init__(self, loaded: opening.Loaded) -> None:
        self.generation = 0  # grows with each truncation
        self._failure: StorageFailed | None = None
        self._owed: list[str] = []  # files that a flush which had to be given up was to sync
        self._new_names = self._new_folder = loaded.new
        self._unnamed = loaded.unnamed
        self.first_dirty_offset = 0  # below it every key was compacted once; whoever keeps the checkpoint sets it
        self._unflushed_since_ms = -1
        self._take(loaded)

    def _take(self, loaded: opening.Loaded) -> None:
        self._files = loaded.files
        self._open_segments = loaded.open_segments
        self.directory = loaded.directory
        self.topic_id = loaded.topic_id
        self.config = loaded.config
        self._segments = loaded.segments
        self._snapshots = loaded.snapshots
        self.producers = loaded.producers
        self.epochs = loaded.epochs
        self.log_start_offset = loaded.log_start_offset
        self.log_end_offset = loaded.log_end_offset
        self.recovery_point = loaded.recovery_point
        self._doomed = deque(loaded.doomed)  # (when they may be removed, `.deleted` files), in growing order
        self._tail_checked = not loaded.trusted

    def reconfigure(self, config: LogConfig) -> None:
        """Obey other settings from now on. What is on disk already stays as it is."""
        self.config = config
        self.producers.expiration_ms = config.producer_id_expiration_ms

    @property
    def segments(self) -> Segments:
        """The segments, to be looked at."""
        return self._segments

    @property
    def files(self) -> Files:
        """The disk."""
        return self._files

    def _usable(self) -> None:
        if self._failure is not None:
            raise self._failure

    def fail(self, failure: StorageFailed) -> None:
        """The log has failed: every further call raises `failure`. What is for good stays what was first."""
        if self._failure is None or self._failure.temporary:
            self._failure = failure

    def _note(self, failure: StorageFailed) -> None:
        """An operation failed and changed nothing: the log goes on, unless its whole folder has failed."""
        if failure.of_folder:
            self.fail(failure)

    # segments

    def roll(self, now_ms: int) -> None:
        """Begin a new segment at the log end, unless the active one is empty. Raises: StorageFailed."""
        self._usable()
        active = self._segments.active
        if active is not None and active.size > 0:
            self._roll(self.log_end_offset, now_ms)

    def _roll(self, base_offset: int, now_ms: int) -> Segment:
        """Add a segment at `base_offset`, the active one is complete. Raises: StorageFailed; nothing changed then."""
        active = self._segments.active
        if active is not None and active.base_offset == base_offset:  # empty, and its index is full
            return active
        if active is not None:
            active.settle()
            if self.recovery_point >= base_offset:  # no flush comes by it any more, and no recovery
                paths = [active.path(LOG), *active.unsynced_indexes(), *self._snapshots.take_unsynced()]
                sync_paths(self._files, paths, [self.directory])
        self._write_snapshot(base_offset)
        return self._add_segment(base_offset, now_ms)

    def _add_segment(self, base_offset: int, now_ms: int) -> Segment:
        segment = Segment(
            self._files,
            self.directory,
            base_offset,
            now_ms=now_ms,
            has_txn_index=False,
            open_segments=self._open_segments,
        )
        try:
            segment.create(self.config.segment_bytes if self.config.preallocate else 0)
        except StorageFailed as error:
            try:
                self._files.remove(segment.path(LOG))
            except StorageFailed:
                self.fail(error)  # an empty segment in the middle of what comes next would hide it
            raise
        self._segments.add(segment)
        self._new_names = True
        return segment

    def _write_snapshot(self, offset: int) -> None:
        newest = self._snapshots.newest
        if offset > self.log_start_offset and (newest is None or offset > newest):
            self._snapshots.write(offset, self.producers.active.values())
            self._new_names = True

    def _retire(self, dropped: list[Segment], now_ms: int, *, truncated: bool) -> None:
        """Rename dropped segments' files to `.deleted`, to be removed by `purge` after file.delete.delay.ms."""
        paths = []
        for segment in reversed(dropped) if truncated else dropped:  # a crash in between leaves no gap
            if truncated:
                segment.mark_stale()
            paths += segment.retire()
            snapshot = self._snapshots.retire(segment.base_offset)
            if snapshot is not None:
                paths.append(snapshot)
        if paths:
            self._doomed.append((now_ms + self.config.file_delete_delay_ms, paths))
            self._new_names = True

    def _rebuild_txn_index(self, segment: Segment) -> None:
        recovery.rebuild_txn_index(segment, self._segments, self._snapshots, self.producers, self.log_start_offset)
        sync_paths(self._files, segment.unsynced_indexes(), [self.directory])

    def increment_log_start_offset(self, offset: int) -> bool:
        """Hide everything below `offset`, which the caller has checked against the high watermark (DeleteRecords).

        Returns whether that changed anything. Segments go at the next `retention`.
        """
        if offset <= self.log_start_offset:
            return False
        self.log_start_offset = offset
        self.recovery_point = max(self.recovery_point, offset)
        self.epochs.truncate_from_start(offset)
        self.producers.replicated_to(offset)
        return True

    def retention(self, now_ms: int, high_watermark: int) -> int:
        """Let go of segments below the log start, too old or too much; returns how many. Raises: StorageFailed.

        Without room for a new segment the active one stays, and the others go all the same.
        """
        self._usable()
        total = 0
        rules = retention.breaches(self._segments, self.config, lambda: self.log_start_offset, now_ms)
        for reason, breached in rules:
            count = retention.count_deletable(
                self._segments, breached, high_watermark=high_watermark, log_end_offset=self.log_end_offset
            )
            if count and count == len(self._segments):
                count -= not self._rolled(now_ms)
            if count:
                _log.info("%s: deleting %s segments (%s)", self.directory, count, reason)
                self.increment_log_start_offset(self._segments.bases[count])
                self._let_go(self._segments.remove_first(count), now_ms)
                total += count
        return total

    def _rolled(self, now_ms: int) -> bool:
        """Begin a new segment, if there is room for it. Raises: StorageFailed."""
        try:
            self._roll(self.log_end_offset, now_ms)
        except StorageFailed as error:
            self._note(error)
            if self._failure is not None:
                raise
            return False
        return True

    def _let_go(self, dropped: list[Segment], now_ms: int) -> None:
        try:
            self._retire(dropped, now_ms, truncated=False)
        except StorageFailed as error:
            self.fail(error)
            raise

    def replace(self, old: list[int], new: list[Segment], now_ms: int) -> bool:
        """Put compacted segments, whose files are complete under `.cleaned` names, in the place of old ones.

        Returns False when the log has lost one of the old ones meanwhile: then the new ones are discarded. A crash
        leaves the old or the new ones, as `leftovers.py` finishes or undoes what it finds. Raises: StorageFailed (the
        log has failed).
        """
        self._usable()
        replaced = [segment for segment in self._segments if segment.base_offset in old]
        moved = any(segment.directory != self.directory for segment in new)  # the topic was deleted
        if moved or len(replaced) != len(old) or self._segments.active in replaced:
            for segment in new:
                segment.discard()
            return False
        bases = {segment.base_offset for segment in new}
        paths = []
        try:
            for segment in reversed(new):  # from the last: a `.cleaned` one below a `.swap` tells that some are missing
                segment.rename(SWAP)
            for segment in replaced:
                paths += segment.retire()
                snapshot = None if segment.base_offset in bases else self._snapshots.retire(segment.base_offset)
                if snapshot is not None:
                    paths.append(snapshot)
            for segment in new:
                segment.rename("")
        except StorageFailed as error:
            self.fail(error)
            raise
        for segment in new:
            segment.close()  # opened again when it is read, and counted then
            segment.open_segments = self._open_segments
        self._segments.replace(replaced, new)
        self._doomed.append((now_ms + self.config.file_delete_delay_ms, paths))
        self._new_names = True
        return True

    def purge(self, now_ms: int) -> int | None:
        """Remove the `.deleted` files that are due; returns when the next are, if any. Raises: StorageFailed."""
        while self._doomed and self._doomed[0][0] <= now_ms:
            for path in self._doomed[0][1]:
                self._files.remove(path)
            self._doomed.popleft()
        return self._doomed[0][0] if self._doomed else None

    # making durable

    @property
    def owes_flush(self) -> bool:
        """Whether nobody may be told of the last records before a flush up to `owed_to`.

        So it is when flush.messages records are not synced; and as long as the topic id is not: of a folder that has
        none after a power failure nobody knows whose records are in it. (Kafka syncs that before the first append.)
        """
        return self._unnamed or self._owes_records

    @property
    def owed_to(self) -> int:
        """Up to where a flush leaves nothing owed."""
        return self.log_end_offset if self._owes_records else self.recovery_point

    @property
    def _owes_records(self) -> bool:
        return self.log_end_offset - self.recovery_point >= self.config.flush_messages

    def flush_due(self, now_ms: int) -> int | None:
        """The offset up to which the log should be flushed now, None if nothing is due.

        Segments that were rolled are due at once, the active one after flush.ms.
        """
        if self.recovery_point >= self.log_end_offset:
            return None
        if 0 <= self._unflushed_since_ms <= now_ms - self.config.flush_ms:
            return self.log_end_offset
        active = self._segments.active
        return active.base_offset if active is not None and active.base_offset > self.recovery_point else None

    def begin_flush(self, offset: int | None = None) -> Flush | None:
        """Collect what must be synced for the log to be durable up to `offset` (the log end); None: it is already.

        The caller runs the result in a worker thread and hands it to `end_flush`. Raises: StorageFailed.
        """
        self._usable()
        offset = self.log_end_offset if offset is None else offset
        if self.epochs.unwritten and (self.epochs.entries or self._segments.all):
            self._write_epochs()
        names = self._new_names or self._unnamed
        if offset <= self.recovery_point and not names and not self._snapshots.unsynced:
            return None
        segments = self._segments.between(self.recovery_point, offset)
        shared: list[SharedFile] = []
        try:
            for segment in segments:
                shared.append(segment.file)
                shared[-1].retain()  # at once: the next one to be opened may be one too many
                segment.write_indexes()
        except StorageFailed:
            for shared_file in shared:
                shared_file.release()
            raise
        paths, folders = self._owed, []
        for segment in segments:
            paths += segment.unsynced_indexes()
        if names:
            paths += [f"{self.directory}/{name}" for name in (PARTITION_METADATA, LEADER_EPOCHS)]
        if names or self._snapshots.unsynced:
            paths += self._snapshots.take_unsynced()
            folders.append(self.directory)
        if self._new_folder or self._unnamed:
            folders.append(self.directory.rpartition("/")[0])
        self._owed = []
        self._new_names = self._new_folder = False
        self._unflushed_since_ms = -1
        return Flush(
            self._files,
            offset=offset,
            generation=self.generation,
            shared=shared,
            paths=paths,
            folders=folders,
            names=names,
        )

    def end_flush(self, flush: Flush, failure: StorageFailed | None = None) -> None:
        """A flush has run: the recovery point moves, or the log has failed with `failure`.

        After a failed sync nobody knows what of the page cache will ever reach the disk. What was but temporary (no
        descriptor for a file to be synced) leaves everything to the next flush.
        """
        flush.release()
        if failure is not None:
            if failure.temporary:
                self._owed += flush.paths
                self._new_names = self._new_names or bool(flush.folders)
                self._new_folder = self._new_folder or len(flush.folders) > 1
            else:
                self.fail(failure)
            return
        if flush.names:
            self._unnamed = False
        if flush.generation == self.generation:
            self.recovery_point = max(self.recovery_point, flush.offset)

    def flush(self, offset: int | None = None) -> None:
        """Make the log durable up to `offset` (the log end), here and now. Raises: StorageFailed."""
        self._flush_now(self.begin_flush(offset))

    def _flush_now(self, flush: Flush | None) -> None:
        if flush is None:
            return
        try:
            flush.run()
        except StorageFailed as error:
            self.end_flush(flush, error)
            raise
        self.end_flush(flush)

    # mending

    def mend(self, now_ms: int) -> None:
        """Read a log again that stopped in the middle of something for want of room, as after a crash.

        Nothing that was appended is lost by it. Raises: StorageFailed, and then it has still failed.
        """
        failure, self._failure = self._failure, None
        assert failure is not None, "it has failed"
        assert failure.temporary, "what failed for good is not mended"
        try:
            self._reload(self.recovery_point, now_ms)
        except StorageFailed as again:
            self.fail(again)
            raise

    def _reload(self, recovery_point: int, now_ms: int) -> None:
        """Recover the log in place from `recovery_point` on. Raises: StorageFailed."""
        self.close(clean=False)
        self._take(
            opening.load(
                self.directory,
                config=self.config,
                files=self._files,
                clean=False,
                recovery_point=recovery_point,
                log_start_offset=self.log_start_offset,
                now_ms=now_ms,
                on_progress=None,
                open_segments=self._open_segments,
            )
        )
        self._new_names = True
        self.generation += 1

    # the end

    def close(self, clean: bool = True) -> None:
        """Let go of all files. `clean`: sync what isn't, write indexes and producer snapshot, so that nothing has to be
        read when the log is opened again; only then may the data directory get its clean-shutdown marker.

        Raises: StorageFailed.
        """
        try:
            if clean:
                self._flush_now(self.begin_close())
        finally:
            for segment in self._segments:
                segment.close()

    def begin_close(self) -> Flush | None:
        """The first half of a clean close: write what is only in memory; returns what must be synced then, if anything.

        Raises: StorageFailed.
        """
        self._usable()
        active = self._segments.active
        if active is not None and active.dirty:
            active.settle()
        if len(self._segments):
            self._write_snapshot(self.log_end_offset)
        return self.begin_flush()

    def _write_epochs(self) -> None:
        """Replace the leader-epoch checkpoint; the next flush syncs it. Raises: StorageFailed."""
        self._files.write_whole(f"{self.directory}/{LEADER_EPOCHS}", self.epochs.text(), sync=False)
        self.epochs.written()
        self._new_names = True

    def move_to(self, directory: StrPath) -> None:
        """Rename the log's folder, open files and all; `-delete` names come from `names.doomed_folder`.

        Raises: StorageFailed.
        """
        target = str(directory)
        self._files.rename(self.directory, target)
        self._doomed = deque(
            (due, [target + path[len(self.directory) :] for path in paths]) for due, paths in self._doomed
        )
        self.directory = target
        self._snapshots.moved_to(target)
        for segment in self._segments:
            segment.moved_to(target)

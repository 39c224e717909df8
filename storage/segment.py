"""A segment: a file of batches with the indexes into it.

A segment that was there at start is opened at its first use, and its indexes are read then; one whose index is missing
or damaged is read through to build them again. The last segment of a log, the active one, is the only one that grows.

Finding the batch that holds an offset: consumers at the end of the log ask for what was just written, so the last few
hundred batches of the active segment are kept by offset and position; anything else goes through the offset index and
reads headers from there, a few KiB at a time.
"""

import logging
from collections.abc import Iterator
from contextlib import suppress

from kpybroker.storage.batches import find_batch, first_offset, scan
from kpybroker.storage.errors import CorruptFile, StorageFailed
from kpybroker.storage.files import Buffer, Files, OpenFile
from kpybroker.storage.flush import sync_paths
from kpybroker.storage.names import DELETED, LOG, OFFSET_INDEX, SEGMENT_FILES, TIME_INDEX, TXN_INDEX, file_name
from kpybroker.storage.offset_index import RELATIVE_OFFSET_MAX, OffsetIndex
from kpybroker.storage.open_segments import OpenSegments, open_file
from kpybroker.storage.recent import Recent
from kpybroker.storage.region import SharedFile
from kpybroker.storage.time_index import TimeIndex
from kpybroker.storage.txn_index import TxnIndex
from kpybroker.wire.errors import CorruptRecords, RecordsFault
from kpybroker.wire.records.batch import BatchHeader

_log = logging.getLogger(__name__)

_INDEX_INTERVAL_BYTES = 4096  # for an index that is rebuilt outside of recovery


class Segment:
    """One segment. Belongs to the event loop; see `Log` for what may be called when."""

    __slots__ = (
        "_directory",
        "_files",
        "_first_timestamp",
        "_index_rebuilt",
        "_indexed",
        "_rebuild_due",
        "_shared",
        "_size",
        "_suffix",
        "_times_known",
        "base_offset",
        "bytes_since_index",
        "created_ms",
        "dirty",
        "index_memory",
        "max_timestamp",
        "max_timestamp_offset",
        "offset_index",
        "open_segments",
        "recent",
        "time_index",
        "txn_index",
        "used",
    )

    def __init__(
        self,
        files: Files,
        directory: str,
        base_offset: int,
        *,
        now_ms: int,
        has_txn_index: bool,
        lost_indexes: bool = False,
        suffix: str = "",
        open_segments: OpenSegments | None = None,
    ) -> None:
        """`open_segments`: who closes the file when there are too many; None: nobody does.

        `lost_indexes`: there is no offset index, so all indexes are to be built anew when they are needed.
        """
        self._files = files
        self._directory = directory
        self._suffix = suffix  # of all its files' names, while it is not (or no longer) a part of the log
        self.base_offset = base_offset
        self.created_ms = now_ms
        self.dirty = False  # grew or was cut since its files last stood for themselves
        self.offset_index = OffsetIndex(files, self.path(OFFSET_INDEX), base_offset)
        self.time_index = TimeIndex(files, self.path(TIME_INDEX), base_offset)
        self.txn_index = TxnIndex(files, self.path(TXN_INDEX), base_offset, exists=has_txn_index, lost=lost_indexes)
        self._shared: SharedFile | None = None
        self.open_segments = open_segments
        self._indexed = False  # the indexes are in memory
        self.index_memory = 0  # bytes that `open_segments` was told they take
        self.used = True  # since `OpenSegments` last looked
        self._size = -1  # unknown before the file was looked at
        self.max_timestamp = -1  # of all records, with the last offset of the batch that has it; valid once loaded
        self.max_timestamp_offset = base_offset
        self._times_known = False
        self._index_rebuilt = False  # because of what a lookup found; once is enough
        self._rebuild_due = False  # they are not to be trusted, and could not be built anew
        self.bytes_since_index = 0
        self._first_timestamp = -1  # the first batch's max timestamp, which rolling by time goes by; -1: unknown
        self.recent = Recent()

    def path(self, suffix: str) -> str:
        """The path of one of its files now."""
        return f"{self._directory}/{file_name(self.base_offset, suffix)}{self._suffix}"

    @property
    def directory(self) -> str:
        """The partition's folder."""
        return self._directory

    def moved_to(self, directory: str) -> None:
        """The partition's folder was renamed; open files stay open."""
        self._directory = directory
        self._repath()

    def _repath(self) -> None:
        if self._shared is not None:  # whoever closes a log syncs its files by their names
            self._shared.file.path = self.path(LOG)
        self.offset_index.file.path = self.path(OFFSET_INDEX)
        self.time_index.file.path = self.path(TIME_INDEX)
        self.txn_index.path = self.path(TXN_INDEX)

    # opening

    @property
    def size(self) -> int:
        """Length of the log file in bytes. Raises: StorageFailed."""
        if self._size < 0:
            self._size = self._files.size(self.path(LOG))
        return self._size

    @property
    def file(self) -> SharedFile:
        """The log file, opened and the indexes read if they aren't yet. Raises: StorageFailed."""
        self.used = True
        if self._shared is None:
            self._load()
        assert self._shared is not None
        return self._shared

    @property
    def is_open(self) -> bool:
        """Whether it holds its file open."""
        return self._shared is not None

    def create(self, size: int = 0) -> None:
        """Make its log file, anew even if there is one. `size`: preallocate so many bytes. Raises: StorageFailed."""
        file = open_file(self._files, self.path(LOG), self.open_segments, create=True)
        try:
            file.truncate(0)
            if size:
                file.truncate(size)
            for suffix in (OFFSET_INDEX, TIME_INDEX, TXN_INDEX):
                self._files.remove(self.path(suffix))
        except StorageFailed:
            file.close()
            raise
        self._has_opened(file)
        self._size = 0
        self._indexed = self._times_known = True
        self.dirty = True

    def open_file(self) -> SharedFile:
        """Open the log file without looking at the indexes (recovery rebuilds them). Raises: StorageFailed."""
        if self._shared is None:
            known = self._size >= 0 and self._indexed  # a preallocated file is longer than what is in it
            file = open_file(self._files, self.path(LOG), self.open_segments)
            try:
                self._size = self._size if known else file.size()
            except StorageFailed:
                file.close()
                raise
            self._has_opened(file)
        assert self._shared is not None
        return self._shared

    def _has_opened(self, file: OpenFile) -> None:
        self._shared, self.used = SharedFile(file), True
        if self.open_segments is not None:
            self.open_segments.opened(self)

    def _load(self) -> None:
        self.open_file()
        try:
            if not self._indexed:
                self._read_indexes()
        except StorageFailed:
            self.close()  # it is open with its indexes, or not at all
            raise
        if self.open_segments is not None:
            self.open_segments.indexed(self)

    def _read_indexes(self) -> None:
        try:
            if self._rebuild_due:
                raise CorruptFile("a rebuild of the indexes was interrupted")
            self.offset_index.load(self._size)
            self.time_index.load()
        except CorruptFile as error:
            _log.warning("%s: %s; rebuilding the indexes", self._directory, error)
            self.rebuild_indexes(_INDEX_INTERVAL_BYTES)
            return
        if not self._times_known:
            self._take_times(self.time_index.last)
        self._indexed = True

    def _take_times(self, last: tuple[int, int]) -> None:
        self.max_timestamp, self.max_timestamp_offset = last
        if self.max_timestamp < 0 and self.size:
            self._find_max_timestamp(0)
        self._times_known = True

    def largest_timestamp(self) -> int:
        """The greatest timestamp of its records, or when the file was last written if they have none.

        Retention by time goes by it. Of a segment not in use the end of the time index is read. Raises: StorageFailed.
        """
        if not self._times_known:
            try:
                self._take_times(self.time_index.last_in_file())
            except CorruptFile:
                self.file  # noqa: B018 - opens it, which rebuilds the indexes
        return self.max_timestamp if self.max_timestamp >= 0 else self._files.modified_ms(self.path(LOG))

    def rebuild_indexes(self, index_interval_bytes: int) -> None:
        """Build offset and time index from all headers, up to what is no batch. Raises: StorageFailed.

        Without room to write them they are in memory only, and built again after the next start.
        """
        self.reset_indexes()
        self._rebuild_due = False
        last = -1
        try:
            for position, header in self.headers():
                if header.last_offset <= last or not self.fits(header.last_offset):  # one of the two is damaged
                    raise CorruptRecords(RecordsFault.CORRUPT, f"offset {header.last_offset} follows {last}")
                last = header.last_offset
                self.index(header.last_offset, header.max_timestamp, position, header.length, index_interval_bytes)
        except CorruptRecords as error:
            _log.warning("%s: %s", self.path(LOG), error)
        except StorageFailed:
            self.close()
            self._indexed = self._times_known = False
            self._rebuild_due = True
            raise
        try:
            self.settle()
            sync_paths(self._files, self.unsynced_indexes(), [self._directory])  # the next flush may not come by
        except StorageFailed as failure:
            if not failure.temporary:
                raise

    def reset_indexes(self) -> None:
        """Start offset and time index anew, and what is derived from them."""
        self.offset_index.reset()
        self.time_index.reset()
        self.max_timestamp = -1
        self.max_timestamp_offset = self.base_offset
        self._indexed = self._times_known = True
        self.bytes_since_index = 0
        self.recent.clear()

    def _find_max_timestamp(self, position: int) -> None:
        """Take the batches from `position` on into account for the greatest timestamp."""
        for _, header in self.headers(position):
            if header.max_timestamp > self.max_timestamp:
                self.max_timestamp, self.max_timestamp_offset = header.max_timestamp, header.last_offset

    # growing

    def append(self, data: Buffer) -> int:
        """Write `data` at the end; returns its position. The caller indexes the batches in it.

        Raises: StorageFailed; an unknown part of it is in the file then, to be cut off by `undo`.
        """
        if self.offset_index.file.spill_due:
            self._spill_indexes()
        position = self._size
        assert self._shared is not None, "only a loaded segment grows"
        self.dirty = True
        self._shared.file.write_at(position, data)
        self._size = position + len(data)
        return position

    def undo(self) -> None:
        """Cut off what a failed append left behind the end. Raises: StorageFailed."""
        assert self._shared is not None
        self._shared.file.truncate(self._size)

    def index(
        self, last_offset: int, max_timestamp: int, position: int, length: int, index_interval_bytes: int
    ) -> None:
        """Take note of a batch that was written at `position`."""
        if max_timestamp > self.max_timestamp:
            self.max_timestamp = max_timestamp
            self.max_timestamp_offset = last_offset
        if self.bytes_since_index > index_interval_bytes:
            self.offset_index.append(last_offset, position)
            self.time_index.maybe_append(self.max_timestamp, self.max_timestamp_offset)
            self.bytes_since_index = 0
        self.bytes_since_index += length
        if position == 0:
            self._first_timestamp = max_timestamp

    def _spill_indexes(self) -> None:
        """Write the index entries that wait, if the disk takes them: they may as well wait for longer."""
        for index in (self.offset_index.file, self.time_index.file):
            with suppress(StorageFailed):
                index.spill()

    def settle(self) -> None:
        """Write its indexes and cut off what was preallocated, so that the files stand for themselves.

        Raises: StorageFailed.
        """
        self.time_index.maybe_append(self.max_timestamp, self.max_timestamp_offset)
        self.write_indexes()
        shared = self.open_file()
        if shared.file.size() > self._size:
            shared.file.truncate(self._size)
        self.dirty = False

    def write_indexes(self) -> None:
        """Write all waiting index entries. Raises: StorageFailed."""
        self.offset_index.file.spill()
        self.time_index.file.spill()
        self.txn_index.spill()

    def unsynced_indexes(self) -> list[str]:
        """The index files that were written since the last call, for the caller to sync."""
        paths = []
        for kind, index in ((OFFSET_INDEX, self.offset_index.file), (TIME_INDEX, self.time_index.file)):
            if index.unsynced:
                index.unsynced = False
                paths.append(self.path(kind))
        if self.txn_index.unsynced:
            self.txn_index.unsynced = False
            paths.append(self.path(TXN_INDEX))
        return paths

    def first_timestamp(self) -> int:
        """The first batch's max timestamp, which rolling by time goes by; -1 without. Raises: StorageFailed."""
        if self._first_timestamp < 0 and self.size > 0:
            first = next(self.headers(), None)
            self._first_timestamp = -1 if first is None else first[1].max_timestamp
        return self._first_timestamp

    @property
    def index_bytes(self) -> int:
        """Length of the offset index's file as far as it is used; for a segment not in use, of the file."""
        if self._indexed:
            return len(self.offset_index) * self.offset_index.file.entry_bytes
        path = self.path(OFFSET_INDEX)
        return self._files.size(path) if self._files.exists(path) else 0

    def fits(self, offset: int) -> bool:
        """Whether `offset` can be told relative to the base offset in an index entry."""
        return 0 <= offset - self.base_offset <= RELATIVE_OFFSET_MAX

    # reading

    def headers(self, position: int = 0) -> Iterator[tuple[int, BatchHeader]]:
        """Position and header of each batch from the batch at `position` on, read in large pieces.

        Raises: StorageFailed; CorruptRecords at the first bytes that are no batch (kind TRUNCATED: it is cut off).
        """
        return ((at, header) for at, header, _ in scan(self.file.file, position, self._size, whole=False))

    def find(self, offset: int) -> tuple[int, int] | None:
        """Position and length of the first batch that ends at or after `offset`; None when all end before.

        Raises: StorageFailed, CorruptRecords.
        """
        shared = self.file
        if self.recent.covers(offset):
            return self.recent.find(offset, self._size)
        position = self.offset_index.lookup(offset)
        try:
            return find_batch(shared.file, position, self._size, offset)
        except CorruptRecords as error:
            if not position or not self.distrust_indexes(error):
                raise
        return find_batch(shared.file, self.offset_index.lookup(offset), self._size, offset)

    def distrust_indexes(self, error: CorruptRecords) -> bool:
        """Rebuild the indexes because of what was found where they led, unless that was done before: then False.

        Raises: StorageFailed.
        """
        if self._index_rebuilt:
            return False
        _log.warning("%s; rebuilding the indexes, whose entry may be wrong", error)
        self.rebuild_indexes(_INDEX_INTERVAL_BYTES)
        self._index_rebuilt = True
        return True

    def read(self, position: int, length: int) -> bytes:
        """Bytes of the log file. Raises: StorageFailed."""
        return self.file.file.read_at(position, length)

    # cutting and going

    def truncate_to(self, offset: int) -> int:
        """Drop the batches at or after `offset` and the index entries for them; returns where the segment ends now.

        A batch that holds `offset` in its middle goes as a whole, so that may be lower. Raises: StorageFailed.
        """
        found = self.find(offset)
        self.dirty = True
        end = offset
        if found is not None:
            end = min(offset, first_offset(self.read(*found)))
        self.file.truncated()
        self.recent.clear()
        self.offset_index.truncate_to(end)
        self.time_index.truncate_to(end)
        self.txn_index.truncate_to(end)
        if found is not None:
            self.file.file.truncate(found[0])
            self._size = found[0]
        self.bytes_since_index = 0
        self._first_timestamp = -1
        self.max_timestamp, self.max_timestamp_offset = self.time_index.last
        if self._size:
            self._find_max_timestamp(self.offset_index.lookup(self.max_timestamp_offset))
        return end

    def cut(self, size: int) -> None:
        """Cut the log file to `size` bytes, where a batch ends and the indexes too. Raises: StorageFailed."""
        shared = self.open_file()
        shared.truncated()
        self.recent.clear()
        shared.file.truncate(size)
        self._size = size

    def next_offset(self) -> int:
        """The offset after its last batch, found from the last index entry. Raises: StorageFailed, CorruptRecords."""
        last = self.base_offset
        self.file  # noqa: B018 - loads the index
        for _, header in self.headers(self.offset_index.lookup(self.offset_index.last_offset)):
            last = header.last_offset + 1
        if max(self.offset_index.last_offset, self.time_index.last[1]) >= max(last, self.base_offset + 1):
            _log.warning("%s: the indexes reach beyond its end %s; rebuilding them", self.path(LOG), last)
            self.rebuild_indexes(_INDEX_INTERVAL_BYTES)
            if max(self.offset_index.last_offset, self.max_timestamp_offset) >= max(last, self.base_offset + 1):
                raise CorruptRecords(RecordsFault.CORRUPT, f"{self.path(LOG)}: a batch claims offsets beyond its end")
        return last

    def mark_stale(self) -> None:
        """Its regions must not be sent any more: the log was truncated below it."""
        if self._shared is not None:
            self._shared.truncated()

    def retire(self) -> list[str]:
        """Rename its files to `.deleted` and let go of them; returns the new paths. Raises: StorageFailed."""
        paths = self.rename(DELETED)
        self.close()
        return paths

    def rename(self, suffix: str) -> list[str]:
        """Give its files names with `suffix` behind; returns the new paths. Raises: StorageFailed."""
        old = [(kind, self.path(kind)) for kind in SEGMENT_FILES]
        self._suffix = suffix
        self._repath()
        paths = []
        for kind, path in old:
            if self._files.exists(path):
                self._files.rename(path, self.path(kind))
                paths.append(self.path(kind))
        return paths

    def discard(self) -> None:
        """Remove the files of a segment that is not to become part of the log, as far as the disk lets us."""
        self.close()
        for kind in SEGMENT_FILES:
            try:
                self._files.remove(self.path(kind))
            except StorageFailed as error:
                _log.warning("%s", error)

    def close(self) -> None:
        """Let go of the file; regions keep it open as long as they need it. The segment opens it again when used."""
        if self._shared is not None:
            self._shared.release()
            self._shared = None

    def forget(self) -> None:
        """`close`, and let go of the indexes if the files stand for themselves: they are read again when used."""
        self.close()
        if self._indexed and not self.dirty:
            self._indexed = False
            self.offset_index.forget()
            self.time_index.forget()

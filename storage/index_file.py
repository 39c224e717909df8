"""What offset and time index have in common: a file of fixed-size entries that only grows, or is cut.

The entries are kept in memory by the index itself. They reach the file late, some 4 KiB at a time, when the segment is
rolled or closed, and before a flush: an index that a killed process left short is rebuilt, together with the segment
that recovery reads anyway, so an append costs no second and third write.
"""

from kpybroker.storage.errors import StorageFailed
from kpybroker.storage.files import Files

_SPILL_BYTES = 4096


class IndexFile:
    """The file of an index: what is written, and what waits to be."""

    __slots__ = ("_files", "_trimmed", "_written", "entry_bytes", "path", "pending", "unsynced")

    def __init__(self, files: Files, path: str, entry_bytes: int) -> None:
        self._files = files
        self.path = path
        self.entry_bytes = entry_bytes
        self._written = -1  # bytes of entries in the file; -1: there is no file yet
        self.pending = bytearray()  # entries that wait to be written, appended by the index itself
        self.unsynced = True  # written since somebody last synced it, for all we know
        self._trimmed = True  # the file ends with its last entry (the JVM preallocates index files with zeros)

    def read(self) -> bytes | None:
        """The entries in the file without its preallocated tail of zeros, or None when there is no file.

        The result may not be a whole number of entries: the file is then damaged.
        """
        data = self._files.read_whole(self.path)
        if data is None:
            return None
        entries = data.rstrip(b"\0")
        size = min(-(-len(entries) // self.entry_bytes) * self.entry_bytes, len(data))
        self._written = size
        self._trimmed = size == len(data)
        return data[:size]

    def read_last(self, entries: int) -> bytes:
        """The last entries in the file, fewer if it has no more; nothing when it is missing or no row of entries.

        Of a file with a preallocated tail these are zeros. Raises: StorageFailed.
        """
        try:
            file = self._files.open(self.path)
        except StorageFailed as error:
            if error.missing:
                return b""
            raise
        try:
            size = file.size()
            if size % self.entry_bytes:
                return b""
            length = min(size, entries * self.entry_bytes)
            return file.read_at(size - length, length) if length else b""
        finally:
            file.close()

    def forget(self) -> None:
        """Nothing of the file is known any more; nothing may wait to be written."""
        assert not self.pending, "entries wait to be written"
        self._written = -1

    @property
    def spill_due(self) -> bool:
        """Whether enough entries wait to be worth a write."""
        return len(self.pending) >= _SPILL_BYTES

    def spill(self) -> None:
        """Write what waits; the file is made when it is missing. Raises: StorageFailed; everything still waits then."""
        if not self.pending and self._written >= 0 and self._trimmed:
            return
        file = self._files.open(self.path, create=True)
        self.unsynced = True
        try:
            start = max(self._written, 0)
            if self.pending:
                file.write_at(start, self.pending)
            size = start + len(self.pending)
            if self._written < 0 or not self._trimmed:
                file.truncate(size)
        finally:
            file.close()
        self.pending.clear()
        self._written = size
        self._trimmed = True

    def cut(self, entries: int) -> None:
        """Keep only the first `entries`. Raises: StorageFailed."""
        size = entries * self.entry_bytes
        written = max(self._written, 0)
        if size < written:
            file = self._files.open(self.path)
            self.unsynced = True
            try:
                file.truncate(size)
            finally:
                file.close()
            self._written = size
            self._trimmed = True
            self.pending.clear()
        else:
            del self.pending[size - written :]

    def reset(self) -> None:
        """Start again without entries; the old file, if any, is replaced at the next spill."""
        self.pending.clear()
        self._written = -1
        self._trimmed = False

"""The transaction index of a segment: the aborted transactions whose marker lies in it.

The file is a row of 34-byte entries, big-endian: version 0 (int16), producer id, first offset, last offset (the
marker's), last stable offset at that moment (int64 each). There is no file as long as there is no entry. A reader of
committed records gets, with the batches, those that overlap what it fetched (KIP-98).
"""

import struct
from typing import NamedTuple

from kpybroker.storage.errors import CorruptFile
from kpybroker.storage.files import Files

ENTRY_BYTES = 34

_VERSION = 0
_ENTRY = struct.Struct(">hqqqq")


class AbortedTxn(NamedTuple):
    """A transaction that ended in abort. Offsets are those of its first record and of its marker, both included."""

    producer_id: int
    first_offset: int
    last_offset: int
    last_stable_offset: int
    """What read_committed could reach just after the marker: everything below it was decided then."""


class TxnIndex:
    """The entries, in the order of their markers; read at first use, written through."""

    __slots__ = ("_entries", "_files", "_lost", "base_offset", "path", "unsynced")

    def __init__(self, files: Files, path: str, base_offset: int, *, exists: bool, lost: bool = False) -> None:
        """`lost`: the segment's other indexes are gone, so that there is no file says nothing."""
        self._files = files
        self.path = path
        self.base_offset = base_offset
        self.unsynced = True  # written since somebody last synced it, for all we know
        self._lost = lost
        self._entries: list[AbortedTxn] | None = None if exists or lost else []

    @property
    def entries(self) -> list[AbortedTxn]:
        """All entries. Raises: StorageFailed, CorruptFile."""
        if self._entries is None:
            self._entries = self._read()
        return self._entries

    def collect(self, first: int, end: int, into: list[AbortedTxn]) -> bool:
        """Add to `into` what overlaps the offsets from `first` to before `end`.

        Returns whether that is all: entries of later segments lie beyond `end`. Raises: StorageFailed, CorruptFile.
        """
        for entry in self.entries:
            if entry.last_offset >= first and entry.first_offset < end:
                into.append(entry)
            if entry.last_stable_offset >= end:
                return True
        return False

    def append(self, entry: AbortedTxn) -> None:
        """Add an entry and write it. Raises: StorageFailed, then nothing was added."""
        entries = self.entries
        assert not entries or entries[-1].last_offset < entry.last_offset, "markers come in the order of the log"
        position = len(entries) * ENTRY_BYTES
        self.unsynced = True
        file = self._files.open(self.path, create=True)
        try:
            file.write_at(position, _ENTRY.pack(_VERSION, *entry))
        finally:
            file.close()
        entries.append(entry)  # a torn entry after a failed write is overwritten by the next one, and ignored before

    def truncate_to(self, offset: int) -> None:
        """Drop the transactions that ended at or after `offset`. Raises: StorageFailed, CorruptFile."""
        entries = self.entries
        kept = next((at for at, entry in enumerate(entries) if entry.last_offset >= offset), len(entries))
        if kept < len(entries):
            self._cut(kept * ENTRY_BYTES)
            del entries[kept:]

    def reset(self) -> None:
        """Forget every entry, for a rebuild. Raises: StorageFailed."""
        self._files.remove(self.path)
        self._entries = []
        self._lost = False

    def _cut(self, size: int) -> None:
        self.unsynced = True
        file = self._files.open(self.path)
        try:
            file.truncate(size)
        finally:
            file.close()

    def _read(self) -> list[AbortedTxn]:
        if self._lost:
            raise CorruptFile(f"{self.path} may be missing, as the offset index is")
        data = self._files.read_whole(self.path)
        if data is None:
            return []
        whole = len(data) - len(data) % ENTRY_BYTES  # Kafka, too, leaves out an entry that was cut short
        entries = []
        for version, *fields in _ENTRY.iter_unpack(data[:whole]):
            entry = AbortedTxn(*fields)
            if version != _VERSION or entry.last_offset < self.base_offset:
                raise CorruptFile(f"{self.path} has an entry that makes no sense: version {version}, {entry}")
            entries.append(entry)
        return entries

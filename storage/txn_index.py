"""The transaction index of a segment: the aborted transactions whose marker lies in it.

The file is a row of 34-byte entries, big-endian: version 0 (int16), producer id, first offset, last offset (the
marker's), last stable offset at that moment (int64 each). There is no file as long as there is no entry. A reader of
committed records gets, with the batches, those that overlap what it fetched (KIP-98).
"""

import struct
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

from kpybroker.storage.errors import CorruptFile, StorageFailed
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
    """The entries, in the order of their markers; read at first use, written through as far as the disk lets us."""

    __slots__ = ("_entries", "_files", "_lost", "_written", "base_offset", "path", "unsynced")

    def __init__(self, files: Files, path: str, base_offset: int, *, exists: bool, lost: bool = False) -> None:
        """`lost`: the segment's other indexes are gone, so that there is no file says nothing."""
        self._files = files
        self.path = path
        self.base_offset = base_offset
        self.unsynced = True  # written since somebody last synced it, for all we know
        self._lost = lost
        self._entries: list[AbortedTxn] | None = None if exists or lost else []
        self._written = 0  # entries that the file has; -1: it has something else, and is to be replaced

    @property
    def entries(self) -> list[AbortedTxn]:
        """All entries. Raises: StorageFailed, CorruptFile."""
        if self._entries is None:
            self._entries = self._read()
            self._written = len(self._entries)
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
        """Add an entry. If it can't be written now it waits for `spill`: the marker is in the log already.

        Raises: StorageFailed, CorruptFile, as `entries`, which the caller has used before.
        """
        entries = self.entries
        assert not entries or entries[-1].last_offset < entry.last_offset, "markers come in the order of the log"
        entries.append(entry)
        if self._written == len(entries) - 1:
            with suppress(StorageFailed):  # a torn entry is overwritten by the next attempt, and ignored before
                self.spill()

    def spill(self) -> None:
        """Write what waits. Raises: StorageFailed; everything still waits then."""
        entries = self._entries
        if entries is None or self._written == len(entries):
            return
        self.unsynced = True
        if self._written < 0:
            self._replace(entries)
        else:
            file = self._files.open(self.path, create=True)
            try:
                file.write_at(self._written * ENTRY_BYTES, _packed(entries[self._written :]))
            finally:
                file.close()
        self._written = len(entries)

    def truncate_to(self, offset: int) -> None:
        """Drop the transactions that ended at or after `offset`. Raises: StorageFailed, CorruptFile."""
        entries = self.entries
        kept = next((at for at, entry in enumerate(entries) if entry.last_offset >= offset), len(entries))
        if kept < self._written:
            self._cut(kept * ENTRY_BYTES)
            self._written = kept
        del entries[kept:]

    def reset(self) -> None:
        """Forget every entry, for a rebuild; the file is replaced when the new ones are spilled."""
        self._entries = []
        self._lost = False
        self._written = -1

    def distrust(self) -> None:
        """Forget what is known of it: it is to be rebuilt when it is needed."""
        self._entries = None
        self._lost = True

    def _replace(self, entries: list[AbortedTxn]) -> None:
        if entries:
            self._files.write_whole(self.path, _packed(entries), sync=False)
        else:
            self._files.remove(self.path)

    def _cut(self, size: int) -> None:
        self.unsynced = True
        file = self._files.open(self.path)
        try:
            file.truncate(size)
        finally:
            file.close()

    def _read(self) -> list[AbortedTxn]:
        if self._lost:
            raise CorruptFile(f"{self.path} is lost")
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


def _packed(entries: Sequence[AbortedTxn]) -> bytes:
    return b"".join([_ENTRY.pack(_VERSION, *entry) for entry in entries])

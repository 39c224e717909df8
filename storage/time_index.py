"""The time index of a segment: the greatest timestamp so far, at some offsets.

The file is a row of 12-byte entries, big-endian: timestamp in milliseconds (int64), offset relative to the segment's
base (int32). An entry says that no record up to that offset has a greater timestamp, and that the batch ending with it
has this one. Timestamps and offsets grow.
"""

import struct
from array import array
from bisect import bisect_left, bisect_right
from operator import le, lt

from kpybroker.storage.errors import CorruptFile
from kpybroker.storage.files import Files
from kpybroker.storage.index_file import IndexFile

ENTRY_BYTES = 12
NO_TIMESTAMP = -1

_ENTRY = struct.Struct(">qi")


class TimeIndex:
    """The entries in memory, and the file behind them. Invariant: both grow."""

    __slots__ = ("_relative", "_timestamps", "base_offset", "file")

    def __init__(self, files: Files, path: str, base_offset: int) -> None:
        self.file = IndexFile(files, path, ENTRY_BYTES)
        self.base_offset = base_offset
        self._timestamps = array("q")
        self._relative = array("i")

    def __len__(self) -> int:
        return len(self._timestamps)

    @property
    def last(self) -> tuple[int, int]:
        """The last entry as (timestamp, offset); (-1, base offset) without one."""
        if not self._timestamps:
            return NO_TIMESTAMP, self.base_offset
        return self._timestamps[-1], self.base_offset + self._relative[-1]

    @property
    def entries(self) -> list[tuple[int, int]]:
        """All entries as (timestamp, offset)."""
        base = self.base_offset
        return [
            (timestamp, base + relative) for timestamp, relative in zip(self._timestamps, self._relative, strict=True)
        ]

    def load(self) -> None:
        """Read the file. Raises: CorruptFile when it is missing or makes no sense; it is rebuilt then."""
        data = self.file.read()
        if data is None:
            raise CorruptFile(f"{self.file.path} is missing")
        if len(data) % ENTRY_BYTES:
            raise CorruptFile(f"{self.file.path} is not a whole number of entries")
        entries = list(_ENTRY.iter_unpack(data))
        timestamps = array("q", [entry[0] for entry in entries])
        relative = array("i", [entry[1] for entry in entries])
        if timestamps and (
            timestamps[0] < 0
            or relative[0] < 0
            or not all(map(lt, timestamps, timestamps[1:]))
            or not all(map(le, relative, relative[1:]))
        ):
            raise CorruptFile(f"{self.file.path} makes no sense")
        self._timestamps, self._relative = timestamps, relative

    def last_in_file(self) -> tuple[int, int]:
        """As `last`, by a look at the end of the file; if that can't tell, by loading all of it.

        That the entry before fits is all that is checked, which is as much as Kafka does. Raises: as `load`.
        """
        entries = list(_ENTRY.iter_unpack(self.file.read_last(2)))
        if entries:
            before, (timestamp, relative) = entries[0], entries[-1]
            fits = len(entries) == 1 or (before[0] < timestamp and 0 <= before[1] <= relative)
            if timestamp > 0 and relative >= 0 and fits:
                return timestamp, self.base_offset + relative
        self.load()
        return self.last

    def forget(self) -> None:
        """Let go of the entries, which are all in the file; `load` must come before the next use."""
        self.file.forget()
        self._timestamps = array("q")
        self._relative = array("i")

    def lookup(self, timestamp: int) -> int:
        """An offset at or before the first record whose timestamp is `timestamp` or greater."""
        at = bisect_right(self._timestamps, timestamp)
        return self.base_offset + (self._relative[at - 1] if at else 0)

    def maybe_append(self, timestamp: int, offset: int) -> None:
        """Add an entry if `timestamp` is greater than all before: the batch ending with `offset` has it."""
        if self._timestamps:
            if timestamp <= self._timestamps[-1]:
                return
        elif timestamp < 0:
            return
        relative = offset - self.base_offset
        assert not self._relative or relative >= self._relative[-1], "a greater timestamp comes in a later batch"
        self._timestamps.append(timestamp)
        self._relative.append(relative)
        self.file.pending += _ENTRY.pack(timestamp, relative)

    def truncate_to(self, offset: int) -> None:
        """Drop the entries at or after `offset`. Raises: StorageFailed."""
        self.keep(bisect_left(self._relative, offset - self.base_offset))

    def keep(self, entries: int) -> None:
        """Drop all but the first `entries`. Raises: StorageFailed."""
        if entries < len(self._timestamps):
            self.file.cut(entries)
            del self._timestamps[entries:]
            del self._relative[entries:]

    def reset(self) -> None:
        """Forget every entry, for a rebuild; the file is replaced when the new ones are written."""
        self._timestamps = array("q")
        self._relative = array("i")
        self.file.reset()

"""The offset index of a segment: for some offsets, the position of the batch that holds them.

The file is a row of 8-byte entries, big-endian: offset relative to the segment's base (int32), position (int32). An
entry names a batch's *last* offset and its first byte, one batch every `index.interval.bytes` or so, so the batch that
holds an offset is found by going to the greatest entry not above it and reading headers from there.
"""

import struct
from array import array
from bisect import bisect_left, bisect_right
from operator import lt

from kpybroker.storage.errors import CorruptFile
from kpybroker.storage.files import Files
from kpybroker.storage.index_file import IndexFile

ENTRY_BYTES = 8
RELATIVE_OFFSET_MAX = 2**31 - 1

_ENTRY = struct.Struct(">ii")


class OffsetIndex:
    """The entries in memory, and the file behind them. Invariant: offsets and positions both grow strictly."""

    __slots__ = ("_positions", "_relative", "base_offset", "file")

    def __init__(self, files: Files, path: str, base_offset: int) -> None:
        self.file = IndexFile(files, path, ENTRY_BYTES)
        self.base_offset = base_offset
        self._relative = array("i")
        self._positions = array("i")

    def __len__(self) -> int:
        return len(self._relative)

    @property
    def last_offset(self) -> int:
        """The offset of the last entry, or the base offset without one."""
        return self.base_offset + (self._relative[-1] if self._relative else 0)

    @property
    def entries(self) -> list[tuple[int, int]]:
        """All entries as (offset, position)."""
        base = self.base_offset
        return [(base + relative, position) for relative, position in zip(self._relative, self._positions, strict=True)]

    def load(self, log_bytes: int) -> None:
        """Read the file of a segment that is `log_bytes` long.

        Raises: CorruptFile when it is missing or cannot be this segment's index; it is rebuilt then.
        """
        data = self.file.read()
        if data is None:
            raise CorruptFile(f"{self.file.path} is missing")
        if len(data) % ENTRY_BYTES:
            raise CorruptFile(f"{self.file.path} is not a whole number of entries")
        both = array("i", data)
        both.byteswap()
        relative, positions = both[0::2], both[1::2]
        if relative and (
            relative[0] < 0
            or positions[0] < 0
            or positions[-1] >= log_bytes
            or not all(map(lt, relative, relative[1:]))
            or not all(map(lt, positions, positions[1:]))
        ):
            raise CorruptFile(f"{self.file.path} does not fit its segment")
        self._relative, self._positions = relative, positions

    def forget(self) -> None:
        """Let go of the entries, which are all in the file; `load` must come before the next use."""
        self.file.forget()
        self._relative = array("i")
        self._positions = array("i")

    def lookup(self, offset: int) -> int:
        """A position at or before the batch that holds `offset`."""
        at = bisect_right(self._relative, offset - self.base_offset)
        return self._positions[at - 1] if at else 0

    def upper_bound(self, position: int) -> int | None:
        """The offset of the first entry at or after `position`; None when there is none."""
        at = bisect_left(self._positions, position)
        return self.base_offset + self._relative[at] if at < len(self._positions) else None

    def append(self, offset: int, position: int) -> None:
        """Add an entry: the batch at `position` ends with `offset`."""
        relative = offset - self.base_offset
        assert relative > (self._relative[-1] if self._relative else -1), "index entries grow"
        self._relative.append(relative)
        self._positions.append(position)
        self.file.pending += _ENTRY.pack(relative, position)

    def truncate_to(self, offset: int) -> None:
        """Drop the entries at or after `offset`. Raises: StorageFailed."""
        self.keep(bisect_left(self._relative, offset - self.base_offset))

    def keep(self, entries: int) -> None:
        """Drop all but the first `entries`. Raises: StorageFailed."""
        if entries < len(self._relative):
            self.file.cut(entries)
            del self._relative[entries:]
            del self._positions[entries:]

    def reset(self) -> None:
        """Forget every entry, for a rebuild; the file is replaced when the new ones are written."""
        self._relative = array("i")
        self._positions = array("i")
        self.file.reset()

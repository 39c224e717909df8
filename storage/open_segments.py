"""Bounds what the segments of all logs of a node keep open and in memory.

A segment opens its file and reads its indexes when it is used, and keeps both. When there are too many files, or when
the indexes take too much memory, the ones that were opened first let go of theirs, unless they were used since they
were last looked at: then they get another turn. A segment that grows keeps its indexes.
"""

from collections import deque
from typing import TYPE_CHECKING

from kpybroker.storage.errors import StorageFailed
from kpybroker.storage.files import Files, OpenFile
from kpybroker.storage.offset_index import ENTRY_BYTES as OFFSET_ENTRY_BYTES
from kpybroker.storage.time_index import ENTRY_BYTES as TIME_ENTRY_BYTES

if TYPE_CHECKING:
    from kpybroker.storage.segment import Segment


_SHED_PART = 8
INDEX_BYTES_MAX = 32 << 20
"""Memory for indexes: enough for some twenty segments of 1 GiB with batches of 16 KiB."""


def open_file(files: Files, path: str, others: "OpenSegments | None", *, create: bool = False) -> OpenFile:
    """Open a segment's file; without descriptors left, with one that others give up. Raises: StorageFailed."""
    try:
        return files.open(path, create=create)
    except StorageFailed as failure:
        if not failure.out_of_descriptors or others is None or not others.shed():
            raise
        return files.open(path, create=create)


class OpenSegments:
    """The segments with an open file, the ones to be closed next first. Belongs to the event loop."""

    __slots__ = ("_index_bytes", "_segments", "index_bytes_max", "most")

    def __init__(self, most: int, index_bytes_max: int = INDEX_BYTES_MAX) -> None:
        self.most = most
        self.index_bytes_max = index_bytes_max
        self._segments: deque[Segment] = deque()
        self._index_bytes = 0

    def opened(self, segment: "Segment") -> None:
        """A segment has opened its file; too many others close theirs."""
        turns = 2 * len(self._segments)
        while len(self._segments) >= self.most and turns:
            turns -= 1
            self._look_at_oldest()
        self._segments.append(segment)

    def indexed(self, segment: "Segment") -> None:
        """A segment that is open has its indexes in memory; others let go of theirs if that is too much."""
        index_bytes = len(segment.offset_index) * OFFSET_ENTRY_BYTES + len(segment.time_index) * TIME_ENTRY_BYTES
        self._index_bytes += index_bytes - segment.index_memory
        segment.index_memory = index_bytes
        turns = 2 * len(self._segments)
        while self._index_bytes > self.index_bytes_max and len(self._segments) > 1 and turns:
            turns -= 1
            self._look_at_oldest()

    def _look_at_oldest(self) -> None:
        segment = self._segments.popleft()
        if segment.used and segment.is_open:
            segment.used = False
            self._segments.append(segment)
        else:
            self._let_go(segment)

    def _let_go(self, segment: "Segment") -> None:
        segment.forget()
        self._index_bytes -= segment.index_memory
        segment.index_memory = 0

    def shed(self) -> bool:
        """Close some, those that were opened first: descriptors are short. Whether there was one to close."""
        segments = self._segments
        wanted = len(segments) // _SHED_PART + 1
        closed = 0
        while segments and closed < wanted:
            segment = segments.popleft()
            closed += segment.is_open
            self._let_go(segment)
        return closed > 0

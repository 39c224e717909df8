"""Bounds how many segment files are open at a time, over all logs of a node.

A segment opens its file when it is used, and keeps it. When there are too many, the ones that were opened first are
closed, unless they were used since they were last looked at: then they get another turn. What is known of a segment
stays in memory, so that opening it again costs one system call.
"""

from collections import deque
from typing import TYPE_CHECKING

from kpybroker.storage.errors import StorageFailed
from kpybroker.storage.files import Files, OpenFile

if TYPE_CHECKING:
    from kpybroker.storage.segment import Segment


_SHED_PART = 8


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

    __slots__ = ("_segments", "most")

    def __init__(self, most: int) -> None:
        self.most = most
        self._segments: deque[Segment] = deque()

    def opened(self, segment: "Segment") -> None:
        """A segment has opened its file; too many others close theirs."""
        segments = self._segments
        turns = 2 * len(segments)
        while len(segments) >= self.most and turns:
            turns -= 1
            oldest = segments.popleft()
            if oldest.used and oldest.is_open:
                oldest.used = False
                segments.append(oldest)
            else:
                oldest.close()
        segments.append(segment)

    def shed(self) -> bool:
        """Close some, those that were opened first: descriptors are short. Whether there was one to close."""
        segments = self._segments
        wanted = len(segments) // _SHED_PART + 1
        closed = 0
        while segments and closed < wanted:
            segment = segments.popleft()
            closed += segment.is_open
            segment.close()
        return closed > 0

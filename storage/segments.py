"""The segments of a log in the order of their offsets."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator

from kpybroker.storage.segment import Segment


class Segments:
    """A sorted list. Invariant: `bases` are the base offsets of `all`, growing."""

    __slots__ = ("all", "bases")

    def __init__(self, segments: list[Segment]) -> None:
        self.all = sorted(segments, key=lambda segment: segment.base_offset)
        self.bases = [segment.base_offset for segment in self.all]

    def __len__(self) -> int:
        return len(self.all)

    def __iter__(self) -> Iterator[Segment]:
        return iter(self.all)

    @property
    def active(self) -> Segment | None:
        """The last one, which grows; None as long as nothing was ever appended."""
        return self.all[-1] if self.all else None

    @property
    def size_bytes(self) -> int:
        """Bytes in all log files. Raises: StorageFailed."""
        return sum(segment.size for segment in self.all)

    def floor(self, offset: int) -> int:
        """Index of the segment that `offset` belongs to; -1 below the first."""
        return bisect_right(self.bases, offset) - 1

    def base_after(self, index: int) -> int | None:
        """The base offset of the segment after the one at `index`."""
        return self.bases[index + 1] if index + 1 < len(self.bases) else None

    def between(self, start: int, end: int) -> list[Segment]:
        """Those that can hold offsets from `start` to before `end`."""
        return self.all[max(self.floor(start), 0) : bisect_left(self.bases, end)]

    def add(self, segment: Segment) -> None:
        """Add one behind all others."""
        assert not self.bases or segment.base_offset > self.bases[-1], "segments are added in order"
        self.all.append(segment)
        self.bases.append(segment.base_offset)

    def remove_first(self, count: int) -> list[Segment]:
        """Take out the first `count`."""
        removed = self.all[:count]
        del self.all[:count]
        del self.bases[:count]
        return removed

    def remove_from(self, index: int) -> list[Segment]:
        """Take out those from `index` on."""
        removed = self.all[index:]
        del self.all[index:]
        del self.bases[index:]
        return removed

    def replace(self, old: list[Segment], new: list[Segment]) -> None:
        """Put `new` in the place of `old`, which lie side by side."""
        index = self.all.index(old[0])
        assert self.all[index : index + len(old)] == old, "what is replaced lies side by side"
        self.all[index : index + len(old)] = new
        self.bases[index : index + len(old)] = [segment.base_offset for segment in new]

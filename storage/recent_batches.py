"""The last batches of a growing segment, for consumers at the end of the log, who ask for what was just written."""

from array import array
from bisect import bisect_left

_KEPT_MAX = 512


class RecentBatches:
    """Their last offsets and positions. Offsets below `floor` are not covered; -1: none is."""

    __slots__ = ("_last", "_positions", "floor")

    def __init__(self) -> None:
        self._last = array("q")
        self._positions = array("i")
        self.floor = -1

    def add(self, base_offset: int, last_offset: int, position: int) -> None:
        """A batch was appended."""
        recent = self._last
        if not recent:
            self.floor = base_offset
        elif len(recent) >= _KEPT_MAX:
            half = _KEPT_MAX // 2
            self.floor = recent[half - 1] + 1
            del recent[:half]
            del self._positions[:half]
        recent.append(last_offset)
        self._positions.append(position)

    def find(self, offset: int, size: int) -> tuple[int, int] | None:
        """Position and length of the first batch that ends at or after `offset`, which is covered; None if none does.

        `size` is where the last one ends.
        """
        positions = self._positions
        at = bisect_left(self._last, offset)
        if at == len(positions):
            return None
        position = positions[at]
        return position, (positions[at + 1] if at + 1 < len(positions) else size) - position

    def clear(self) -> None:
        """Forget them."""
        del self._last[:]
        del self._positions[:]
        self.floor = -1

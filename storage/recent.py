"""Where the last batches of a growing segment are: consumers at the end of the log ask for what was just written."""

from array import array
from bisect import bisect_left

_MOST = 512


class Recent:
    """The last few hundred batches appended, by their last offset and position."""

    __slots__ = ("_floor", "_last", "_positions")

    def __init__(self) -> None:
        self._last = array("q")
        self._positions = array("i")
        self._floor = -1  # offsets below it are not covered; -1: none is

    def add(self, base_offset: int, last_offset: int, position: int) -> None:
        """A batch was appended."""
        last = self._last
        if not last:
            self._floor = base_offset
        elif len(last) >= _MOST:
            half = _MOST // 2
            self._floor = last[half - 1] + 1
            del last[:half]
            del self._positions[:half]
        last.append(last_offset)
        self._positions.append(position)

    def clear(self) -> None:
        """The segment was cut."""
        del self._last[:]
        del self._positions[:]
        self._floor = -1

    def covers(self, offset: int) -> bool:
        """Whether `find` knows the answer for this offset."""
        return 0 <= self._floor <= offset

    def find(self, offset: int, size: int) -> tuple[int, int] | None:
        """Position and length of the first batch that ends at or after `offset`; None when all end before.

        `size` is where the last batch ends.
        """
        positions = self._positions
        at = bisect_left(self._last, offset)
        if at == len(positions):
            return None
        position = positions[at]
        return position, (positions[at + 1] if at + 1 < len(positions) else size) - position

"""What of a log is above its high watermark: how many bytes come to light when that moves."""

from __future__ import annotations

from collections import deque

HIDDEN_MAX = 1000
"""How many appends are remembered one by one; with more the last ones count as one."""


class Hidden(deque[tuple[int, int]]):
    """Appends by their end offset, each with its bytes."""

    def hide(self, end_offset: int, more_bytes: int) -> None:
        """So many bytes more, up to that offset, are in the log and above the high watermark."""
        if len(self) == HIDDEN_MAX:
            more_bytes += self.pop()[1]
        self.append((end_offset, more_bytes))

    def uncover(self, high_watermark: int) -> int:
        """How many bytes come to light when the high watermark gets there."""
        more_bytes = 0
        while self and self[0][0] <= high_watermark:
            more_bytes += self.popleft()[1]
        return more_bytes

    def cut(self, end_offset: int) -> None:
        """The log ends there now."""
        while self and self[-1][0] > end_offset:
            self.pop()

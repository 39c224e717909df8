"""What a verification finds, and how far it has come."""

from collections.abc import Callable
from typing import NamedTuple


class Finding(NamedTuple):
    """One flaw."""

    file: str
    position: int | None
    """The byte where it is; None: in the file as a whole."""
    what: str

    def __str__(self) -> str:
        return f"{self.file}{'' if self.position is None else f' at byte {self.position}'}: {self.what}"


class Report:
    """Collects flaws as they are found; hands them on at once, so that none is kept."""

    __slots__ = ("_on_bytes", "_on_finding", "held", "seen")

    def __init__(self, on_finding: Callable[[Finding], None], on_bytes: Callable[[int], None]) -> None:
        self._on_finding = on_finding
        self._on_bytes = on_bytes
        self.held: list[Finding] | None = None
        """While it is a list, findings wait in it."""
        self.seen = 0

    def add(self, file: str, position: int | None, what: str) -> None:
        """A flaw."""
        if self.held is not None:
            if len(self.held) < _HELD_MAX:
                self.held.append(Finding(file, position, what))
            return
        self.seen += 1
        self._on_finding(Finding(file, position, what))

    def release(self, *, discard: bool = False) -> None:
        """Let go of what waits: hand it on, or forget it."""
        held, self.held = self.held, None
        for finding in held or ():
            if not discard:
                self.add(*finding)

    def progress(self, count: int) -> None:
        """So many bytes more were looked at."""
        self._on_bytes(count)


_HELD_MAX = 100_000

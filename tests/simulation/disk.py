"""The disk of a simulated machine: that of the fault campaigns, which here lives as long as its machine."""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from kpybroker.storage.errors import StorageFailed, SyncFailed
from tests.storage.faulty_files import FaultyFiles

NEEDS_ROOM = ("create", "write", "mkdir")


class Trouble(NamedTuple):
    """What is wrong with a disk: it is full (ENOSPC), or fails at everything (EIO)."""

    folder: str
    """Where; everything in it is concerned."""
    errno: int

    def meets(self, what: str, path: str) -> bool:
        """Whether an operation ends in this."""
        return path.startswith(self.folder) and (self.errno != errno.ENOSPC or what in NEEDS_ROOM)


class SimulatedDisk(FaultyFiles):
    """Remembers no operations: a cluster does very many."""

    def __init__(self) -> None:
        super().__init__()
        self.trace = deque(maxlen=0)
        self.reads = deque(maxlen=0)
        self.countdown = 0
        """In so many changes from now `fall` is called, if it is above 0."""
        self.fall: Callable[[], None] = lambda: None
        self.trouble: Trouble | None = None

    def change(self, what: str, path: str) -> None:
        super().change(what, path)
        self._try(what, path)
        if self.countdown:
            self.countdown -= 1
            if not self.countdown:
                self.fall()

    def look(self, what: str, path: str) -> None:
        super().look(what, path)
        self._try(what, path)

    def _try(self, what: str, path: str) -> None:
        if self.trouble is not None and self.trouble.meets(what, str(path)):
            kind = SyncFailed if "sync" in what else StorageFailed
            raise self._error(path, self.trouble.errno, kind)

    def _copy(self, content_of: Callable[[object], bytes], names_of: Callable[[object], object]) -> SimulatedDisk:
        other = super()._copy(content_of, names_of)
        other.trouble = self.trouble
        return other

"""The disk of a simulated machine: that of the fault campaigns, which here lives as long as its machine."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from tests.storage.faulty_files import FaultyFiles


class SimulatedDisk(FaultyFiles):
    """Remembers no operations: a cluster does very many."""

    def __init__(self) -> None:
        super().__init__()
        self.trace = deque(maxlen=0)
        self.reads = deque(maxlen=0)
        self.countdown = 0
        """In so many changes from now `fall` is called, if it is above 0."""
        self.fall: Callable[[], None] = lambda: None

    def change(self, what: str, path: str) -> None:
        super().change(what, path)
        if self.countdown:
            self.countdown -= 1
            if not self.countdown:
                self.fall()

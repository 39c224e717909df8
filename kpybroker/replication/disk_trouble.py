"""What becomes of failures of the disk, wherever they come up.

They are told, in one line for each kind of failure in a while: a full disk refuses thousands of requests. A log that
stopped half-way for want of room is mended when it is next asked for something, and not more often than every RETRY_S.
A log that could not be opened is not tried again for as long: each attempt may read a whole segment. What is the
failure of a whole folder is handed to `on_folder_failed`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from kpybroker.seldom import SeldomLog
from kpybroker.storage.errors import StorageFailed

if TYPE_CHECKING:
    from kpybroker.clock import Clock
    from kpybroker.replication.replica_log import ReplicaLog
    from kpybroker.storage.log import Log

log = logging.getLogger("kpybroker.replication")

RETRY_S = 1.0


def _nobody(_: StorageFailed) -> None:
    pass


class DiskTrouble:
    """Hears of every failure of the disk that this node's logs meet. Belongs to the event loop."""

    def __init__(self, clock: Clock) -> None:
        self.on_folder_failed: Callable[[StorageFailed], None] = _nobody
        """Told of failures that are a whole folder's, or may be, as a file is missing; their path lies in it.

        It may hear of one many times.
        """
        self._clock = clock
        self._say = SeldomLog(log, clock)
        self._tried_ms: dict[str, int] = {}  # folder of a log that failed half-way: when it was last to be mended
        self._unopened: dict[tuple[str, int], tuple[int, StorageFailed]] = {}

    def met(self, doing: str, failure: StorageFailed) -> None:
        """Something failed: say so, and hand on what is a folder's failure. `doing` completes "cannot ..."."""
        self._say(logging.ERROR, (doing.partition(" ")[0], failure.error.errno), "cannot %s: %s", doing, failure)
        if failure.of_folder or failure.missing:
            self.on_folder_failed(failure)

    def met_by(self, partition: ReplicaLog, doing: str, failure: StorageFailed) -> None:
        """As `met`, of a partition, whose log is mended if it has stopped half-way."""
        self.met(f"{doing} {partition}", failure)
        opened = partition.opened
        if opened is not None and opened.failure is not None and opened.failure.temporary:
            self._mend(partition, opened)

    def _mend(self, partition: ReplicaLog, opened: Log) -> None:
        now_ms = self._clock.wall_ms()
        if self._too_early(self._tried_ms.get(opened.directory), now_ms):
            return
        self._tried_ms[opened.directory] = now_ms
        try:
            opened.mend(now_ms)
        except StorageFailed as failure:
            self.met(f"mend {partition}", failure)
            return
        del self._tried_ms[opened.directory]
        log.warning("%s was mended and is in use again", partition)
        partition.mended()

    def opening(self, place: tuple[str, int], opening: Callable[[], Log]) -> Log:
        """Open a log, unless that failed a moment ago: then it is the same failure again. Raises: StorageFailed.

        May run in a worker thread.
        """
        now_ms = self._clock.wall_ms()
        failed = self._unopened.get(place)
        if failed is not None and self._too_early(failed[0], now_ms):
            raise failed[1]
        try:
            opened = opening()
        except StorageFailed as failure:
            self._unopened[place] = now_ms, failure
            raise
        self._unopened.pop(place, None)
        return opened

    def forget(self, place: tuple[str, int]) -> None:
        """A partition is no longer here."""
        self._unopened.pop(place, None)

    @staticmethod
    def _too_early(tried_ms: int | None, now_ms: int) -> bool:
        """Whether the last attempt is but a moment ago, by a clock that may have been set back since."""
        return tried_ms is not None and 0 <= now_ms - tried_ms < RETRY_S * 1000

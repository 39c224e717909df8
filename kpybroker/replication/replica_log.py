"""A replica's log as whoever reads it has it: opened at first use, read up to what is replicated."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import trio

from kpybroker.replication.audience import Audience, Waiter
from kpybroker.replication.machines.follower import Diverged, divergence
from kpybroker.storage.errors import FolderOffline, OffsetOutOfRange, StorageFailed
from kpybroker.wire.codes import Code, Refused
from kpybroker.wire.errors import CorruptRecords
from kpybroker.wire.records.batch import iter_headers

if TYPE_CHECKING:
    from kpybroker.replication.surroundings import Surroundings
    from kpybroker.storage.log import Appended, Log
    from kpybroker.storage.region import FileRegion
    from kpybroker.storage.txn_index import AbortedTxn


class Read(NamedTuple):
    """What a fetch gets of a partition."""

    region: FileRegion | None
    high_watermark: int
    last_stable_offset: int
    log_start_offset: int
    aborted: list[AbortedTxn] | None
    """Aborted transactions that overlap the region; None for a reader that does not care (read_uncommitted)."""
    end_offset: int
    """What this reader may see ends here."""


class ReplicaLog(Audience):
    """The log of one replica, and how far it is replicated. What role the replica has its heir knows."""

    def __init__(self, topic: str, index: int, topic_id: bytes, around: Surroundings) -> None:
        super().__init__()
        self.topic = topic
        self.index = index
        self.topic_id = topic_id
        self._around = around
        self._replicas: tuple[int, ...] = ()
        self._log: Log | None = None

    def __str__(self) -> str:
        return f"{self.topic}-{self.index}"

    @property
    def log(self) -> Log:
        """The log, opened at first use. Raises: Refused(KAFKA_STORAGE_ERROR)."""
        opened = self._log
        if opened is None:
            try:
                opened = self.load()
            except StorageFailed as failure:
                raise self.failed("open", failure) from failure
            self.begin()
        return opened

    def load(self) -> Log:
        """Open the log, in a worker thread maybe; then `begin`. Raises: StorageFailed."""
        if self._log is None:
            opened = self._around.open_log(self)
            checkpointed = self._around.checkpointed_high_watermark(self) if len(self._replicas) > 1 else 0
            self._high_watermark = self._trusted(opened, checkpointed)
            self._log = opened
            opened.producers.replicated_to(self._high_watermark)  # recovery reads markers as if nobody had them yet
        return self._log

    def _trusted(self, log: Log, checkpointed: int) -> int:
        """The high watermark of a log as it is opened: what nobody else has may have to go again."""
        if len(self._replicas) == 1:
            return log.log_end_offset
        return max(min(checkpointed, log.log_end_offset), log.log_start_offset)

    def begin(self) -> None:
        """The log was loaded: take up what the metadata says of the partition."""
        raise NotImplementedError

    def mended(self) -> None:
        """The log, which had failed, was read again."""
        raise NotImplementedError

    def failed(self, doing: str, failure: StorageFailed) -> Refused:
        """The disk failed when something was done to the log: what the client is to be told. `doing` is said to people.

        If that is the folder's failure, the log takes nothing more.
        """
        if failure.of_folder and self._log is not None:
            self._log.fail(failure)
        self._around.met(self, doing, failure)
        if isinstance(failure, FolderOffline):  # as Kafka's partition that has no log
            return Refused(Code.NOT_LEADER_OR_FOLLOWER, str(failure))
        return Refused(Code.KAFKA_STORAGE_ERROR, str(failure))

    @property
    def opened(self) -> Log | None:
        """The log if it has been opened."""
        return self._log

    @property
    def high_watermark(self) -> int:
        """The offset below which every record is on all in-sync replicas; readers see nothing at or above it."""
        if self._log is None:
            _ = self.log  # opens it
        return self._high_watermark

    @property
    def last_stable_offset(self) -> int:
        """The offset below which every transaction is decided."""
        first_unstable = self.log.first_unstable_offset
        high_watermark = self.high_watermark
        return high_watermark if first_unstable is None else min(first_unstable, high_watermark)

    def replicated(self, offset: int) -> trio.Event | None:
        """An event that happens when the high watermark reaches `offset`; None if it has."""
        event = trio.Event()
        return event if self.tell_replicated(event, offset) else None

    def tell_replicated(self, waiter: Waiter, offset: int) -> bool:
        """Have `waiter`, while somebody holds it, told when the high watermark reaches `offset`; False if it has."""
        if self.high_watermark >= offset:
            return False
        self._high_watermark_waiters[waiter] = offset
        return True

    def tell_synced(self, waiter: Waiter, offset: int) -> bool:
        """The same when what is below `offset` need not be synced any more; False if it need not now."""
        if self._told_to >= offset:
            return False
        self._sync_waiters[waiter] = offset
        return True

    @property
    def flushing(self) -> bool:
        """Whether records wait to be synced, as flush.messages wants it, before anybody hears of them.

        So do those of a new log, until its topic id is synced.
        """
        return self._log is not None and self._log.owes_flush

    @property
    def _told_to(self) -> int:
        """Up to where others may be told of what is in the log."""
        log = self.log
        return log.recovery_point if log.owes_flush else log.log_end_offset

    def read(
        self, offset: int, *, bytes_max: int, committed: bool, at_least_one: bool, to_log_end: bool = False
    ) -> Read:
        """Records from `offset` on, up to the high watermark (to the last stable offset if `committed`).

        `to_log_end`: for a follower.
        Raises: Refused with OFFSET_OUT_OF_RANGE, KAFKA_STORAGE_ERROR, or CORRUPT_MESSAGE where no batch can be found.
        """
        log = self.log
        high_watermark, stable = self.high_watermark, self.last_stable_offset
        end_offset = log.log_end_offset if to_log_end else stable if committed else high_watermark
        try:
            found = log.read(offset, bytes_max=bytes_max, end_offset=end_offset, at_least_one=at_least_one)
            aborted = log.aborted_in(offset, found) if committed else None
        except OffsetOutOfRange as outside:
            raise Refused(Code.OFFSET_OUT_OF_RANGE, str(outside)) from None
        except StorageFailed as failure:
            raise self.failed("read", failure) from failure
        except CorruptRecords as damage:
            raise Refused(Code.CORRUPT_MESSAGE, str(damage)) from damage
        return Read(found.region, high_watermark, stable, log.log_start_offset, aborted, end_offset)

    def end_of_epoch(self, leader_epoch: int) -> tuple[int, int] | None:
        """The greatest epoch at or below `leader_epoch` that this log has, and the offset where it ends; None: no such.

        Source: KIP-101, KIP-279.
        """
        epoch, end_offset = self.log.end_offset_for_epoch(leader_epoch)
        return None if epoch < 0 else (epoch, end_offset)

    def divergence(self, last_fetched_epoch: int, fetch_offset: int) -> Diverged | None:
        """Whether a fetcher, its last record before `fetch_offset` being of that epoch, has what this log does not.

        Raises: Refused(OFFSET_OUT_OF_RANGE) if this log knows nothing of such an epoch. Source: KIP-595.
        """
        log = self.log
        diverged = divergence(log.epochs, log.log_end_offset, last_fetched_epoch, fetch_offset)
        if diverged is not None and diverged.epoch < 0:
            raise Refused(Code.OFFSET_OUT_OF_RANGE)
        return diverged


def append_fetched(log: Log, records: bytes | bytearray | memoryview, now_ms: int) -> Appended:
    """Append what a leader sent. Raises: as Log.append_as_follower.

    Where the leader's log begins within a batch (DeleteRecords) it sends all of that, and a log that is to begin there
    has all of it too, out of sight, as in Kafka.
    """
    start = log.log_start_offset
    if not 0 < start == log.log_end_offset:
        return log.append_as_follower(records, now_ms=now_ms)
    _, first = next(iter_headers(records), (0, None))
    if first is not None and first.base_offset < start <= first.last_offset:
        log.truncate_fully_and_start_at(first.base_offset, now_ms=now_ms)
    appended = log.append_as_follower(records, now_ms=now_ms)
    log.increment_log_start_offset(start)
    return appended

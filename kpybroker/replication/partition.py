"""A partition as this node sees it: its log, who leads it, how far it is replicated, and who waits for it.

Belongs to the event loop. What it promises to a reader is bounded by the high watermark (read_uncommitted) or the last
stable offset (read_committed).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import trio

from kpybroker.storage.errors import FolderOffline, OffsetOutOfRange, StorageFailed
from kpybroker.storage.origin import Origin
from kpybroker.wire.codes import Code, Refused
from kpybroker.wire.errors import CorruptRecords

if TYPE_CHECKING:
    from kpybroker.replication.waiters import Watch
    from kpybroker.storage.log import Appended, Log
    from kpybroker.storage.region import FileRegion
    from kpybroker.storage.txn_index import AbortedTxn
    from kpybroker.storage.verification import Guard


HIGH_WATERMARK = -1
"""In DeleteRecords: the offset up to which everything is deleted that can be."""


class Read(NamedTuple):
    """What a fetch gets of a partition."""

    region: FileRegion | None
    high_watermark: int
    last_stable_offset: int
    log_start_offset: int
    aborted: list[AbortedTxn] | None
    """Aborted transactions that overlap the region; None for a reader that does not care (read_uncommitted)."""


class Diverged(NamedTuple):
    """Where the fetcher's log departs from this one: the greatest epoch both may have, and where it ends here."""

    epoch: int
    end_offset: int


class Partition:
    """One replica on this node, leader of its partition."""

    def __init__(
        self,
        topic: str,
        index: int,
        topic_id: bytes,
        open_log: Callable[[], Log],
        flush: Callable[[Partition], None],
        met: Callable[[Partition, str, StorageFailed], None],
    ) -> None:
        """`flush` is asked to have the log flushed, and to call `flushed` when it is; `met` hears of disk failures."""
        self.topic = topic
        self.index = index
        self.topic_id = topic_id
        self.leader_epoch = -1
        self.partition_epoch = -1
        self.leader_id = -1
        self.is_leader = False
        self._open_log = open_log
        self._flush = flush
        self._met = met
        self.moving = False
        """A copy of it is being made in another data directory."""
        self._log: Log | None = None
        self._held_back_bytes = 0  # appended, and hidden until they are synced
        self._watches: dict[Watch[Any], Any] = {}
        self._high_watermark_waiters: dict[trio.Event, int] = {}
        self._high_watermark = 0

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
        return opened

    def load(self) -> Log:
        """Open the log, in a worker thread maybe. Raises: StorageFailed."""
        if self._log is None:
            self._log = self._open_log()
            self._high_watermark = self._log.log_end_offset
            self._log.producers.replicated_to(self._high_watermark)  # recovery reads markers as if nobody had them yet
            self._begin_epoch()
        return self._log

    def replace_log(self, log: Log, *, high_watermark: int | None = None) -> None:
        """From now on the replica is this log, which has the same records, in another data directory.

        `high_watermark`: None leaves it where it is.
        """
        if high_watermark is not None:
            self._high_watermark = high_watermark
        self._log = log
        log.producers.replicated_to(self._high_watermark)
        self._begin_epoch()

    def failed(self, doing: str, failure: StorageFailed) -> Refused:
        """The disk failed when something was done to the log: what the client is to be told. `doing` is said to people.

        If that is the folder's failure, the log takes nothing more.
        """
        if failure.of_folder and self._log is not None:
            self._log.fail(failure)
        self._met(self, doing, failure)
        if isinstance(failure, FolderOffline):  # as Kafka's partition that has no log
            return Refused(Code.NOT_LEADER_OR_FOLLOWER, str(failure))
        return Refused(Code.KAFKA_STORAGE_ERROR, str(failure))

    def mended(self) -> None:
        """The log, which had failed, was read again."""
        self._begin_epoch()
        self._advance_high_watermark(0, None if not self.flushing else self.log.recovery_point)

    @property
    def opened(self) -> Log | None:
        """The log if it has been opened."""
        return self._log

    @property
    def high_watermark(self) -> int:
        """The offset below which every record is on all in-sync replicas; readers see nothing at or above it."""
        if self._log is None:
            return self.log.log_end_offset
        return self._high_watermark

    @property
    def last_stable_offset(self) -> int:
        """The offset below which every transaction is decided."""
        first_unstable = self.log.first_unstable_offset
        high_watermark = self.high_watermark
        return high_watermark if first_unstable is None else min(first_unstable, high_watermark)

    def lead(self, leader_id: int, leader_epoch: int, partition_epoch: int, me: int) -> None:
        """The metadata log says who leads, and in which epoch."""
        changed = (leader_id, leader_epoch) != (self.leader_id, self.leader_epoch)
        self.leader_id, self.leader_epoch, self.partition_epoch = leader_id, leader_epoch, partition_epoch
        self.is_leader = leader_id == me
        if changed:
            self._begin_epoch()
            self._upset()

    def _begin_epoch(self) -> None:
        """A leader's epoch begins where its log ends, before anything is written in it (KIP-101)."""
        if self.is_leader and self._log is not None:
            self._log.epochs.assign(self.leader_epoch, self._log.log_end_offset)

    def check_leader(self, current_leader_epoch: int = -1) -> None:
        """Raises: Refused unless this node leads, in the epoch that the client believes in (-1: it does not say)."""
        if not self.is_leader:
            raise Refused(Code.NOT_LEADER_OR_FOLLOWER)
        if current_leader_epoch >= 0 and current_leader_epoch != self.leader_epoch:
            older = current_leader_epoch < self.leader_epoch
            raise Refused(Code.FENCED_LEADER_EPOCH if older else Code.UNKNOWN_LEADER_EPOCH)

    def begin_verification(
        self, producer_id: int, producer_epoch: int, sequence: int, *, bumps_epoch: bool, now_ms: int
    ) -> Guard | None:
        """A guard to ask the transaction's coordinator with, for the `append` that follows (KIP-890).

        None: the transaction is open here, nobody need be asked. `bumps_epoch`: transaction version 2. Raises: Refused.
        """
        self.check_leader()
        return self.log.producers.begin_verification(
            producer_id, producer_epoch, sequence, bumps_epoch=bumps_epoch, now_ms=now_ms
        )

    def append(
        self,
        records: bytes | bytearray | memoryview,
        *,
        now_ms: int,
        origin: Origin = Origin.CLIENT,
        guard: Guard | None = None,
        transaction_version: int = 0,
    ) -> Appended:
        """Append a batch; readers may see it when the high watermark has passed it.

        The first batch of a transaction needs the `guard` of a question that the coordinator has answered;
        `transaction_version` is that of a marker. Raises: Refused; RecordsRefused for what is wrong with the records.
        """
        self.check_leader()
        try:
            appended = self.log.append_as_leader(
                records,
                leader_epoch=self.leader_epoch,
                now_ms=now_ms,
                origin=origin,
                guard=guard,
                transaction_version=transaction_version,
            )
        except StorageFailed as failure:
            raise self.failed("append to", failure) from failure
        if not appended.duplicate:
            if self._log is not None and self._log.owes_flush:
                self._held_back_bytes += len(records)
                self._flush(self)
            else:
                self._advance_high_watermark(len(records))
        return appended

    @property
    def flushing(self) -> bool:
        """Whether records wait to be synced, as flush.messages wants it, before anybody hears of them."""
        return self._log is not None and self._log.owes_flush

    def flushed(self) -> None:
        """The log was flushed as far as its recovery point; or it has failed, and whoever waits finds so."""
        log, held_back = self.log, self._held_back_bytes
        if log.failure is not None:
            self._upset()
            self._wake_waiters()
            return
        if not log.owes_flush:
            self._held_back_bytes = 0
        self._advance_high_watermark(held_back, log.recovery_point)

    def _advance_high_watermark(self, more_bytes: int, end_offset: int | None = None) -> None:
        """This replica is the only one, so what it has is replicated. Tells readers and whoever waits for acks=all."""
        reached = self.log.log_end_offset if end_offset is None else end_offset
        if reached > self._high_watermark:  # not so when the log was replaced by one that is synced less far
            self._high_watermark = reached
        decided = self.log.producers.replicated_to(self._high_watermark)
        for watch, key in self._watches.items():
            if decided:  # what was held back from readers of committed records may be any number of bytes
                watch.upset(key)
            else:
                watch.readable(key, more_bytes)
        if self._high_watermark_waiters:
            for event, offset in list(self._high_watermark_waiters.items()):
                if offset <= self._high_watermark:
                    event.set()
                    del self._high_watermark_waiters[event]

    def delete_records(self, before: int) -> int:
        """Hide everything below an offset (-1: the high watermark); returns the low watermark (KIP-107).

        That is the least log start of all replicas, and this one is the only one. Raises: Refused.
        """
        self.check_leader()
        log = self.log
        if log.failure is not None:
            raise self.failed("delete records of", log.failure)
        if log.config.compacted and not log.config.deletes:
            raise Refused(Code.POLICY_VIOLATION)
        offset = self.high_watermark if before == HIGH_WATERMARK else before
        if not 0 <= offset <= self.high_watermark:
            raise Refused(Code.OFFSET_OUT_OF_RANGE)
        if log.increment_log_start_offset(offset):
            self.log_start_moved()
        return log.log_start_offset

    def log_start_moved(self) -> None:
        """Records at the start of the log are gone: fetchers hear of the new log start offset."""
        for watch, key in self._watches.items():
            watch.readable(key, 0)

    def replicated(self, offset: int) -> trio.Event | None:
        """An event that happens when the high watermark reaches `offset`; None if it has."""
        if self.high_watermark >= offset:
            return None
        event = trio.Event()
        self._high_watermark_waiters[event] = offset
        return event

    def read(self, offset: int, *, bytes_max: int, committed: bool, at_least_one: bool) -> Read:
        """Records from `offset` on, up to the high watermark (to the last stable offset if `committed`).

        Raises: Refused with OFFSET_OUT_OF_RANGE, KAFKA_STORAGE_ERROR, or CORRUPT_MESSAGE where no batch can be found.
        """
        log = self.log
        high_watermark, stable = self.high_watermark, self.last_stable_offset
        end_offset = stable if committed else high_watermark
        try:
            found = log.read(offset, bytes_max=bytes_max, end_offset=end_offset, at_least_one=at_least_one)
            aborted = log.aborted_in(offset, found) if committed else None
        except OffsetOutOfRange as outside:
            raise Refused(Code.OFFSET_OUT_OF_RANGE, str(outside)) from None
        except StorageFailed as failure:
            raise self.failed("read", failure) from failure
        except CorruptRecords as damage:
            raise Refused(Code.CORRUPT_MESSAGE, str(damage)) from damage
        return Read(found.region, high_watermark, stable, log.log_start_offset, aborted)

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
        end = self.end_of_epoch(last_fetched_epoch)
        if end is None:
            raise Refused(Code.OFFSET_OUT_OF_RANGE)
        epoch, end_offset = end
        if epoch < last_fetched_epoch or end_offset < fetch_offset:
            return Diverged(epoch, end_offset)
        return None

    def watch(self, watch: Watch[Any], key: Any) -> None:
        """Tell `watch` of every change, by the name `key`."""
        self._watches[watch] = key

    def unwatch(self, watch: Watch[Any]) -> None:
        """Stop telling `watch`."""
        self._watches.pop(watch, None)

    def stop(self) -> None:
        """The replica is gone (its topic was deleted, its data directory has failed): whoever waits for it finds so."""
        self.is_leader = False
        self._upset()
        self._wake_waiters()

    def _wake_waiters(self) -> None:
        for event in self._high_watermark_waiters:
            event.set()
        self._high_watermark_waiters.clear()

    def _upset(self) -> None:
        for watch, key in self._watches.items():
            watch.upset(key)

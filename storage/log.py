"""A partition's log: one folder, batches in, regions of files out.

Offsets: the log holds `[log_start_offset, log_end_offset)`; everything below `recovery_point` is known to be synced.
A log belongs to the event loop, and its calls block for as long as the page cache needs; what may take longer (syncing)
is split so that a worker thread can do it. The caller says what time it is, and where the high watermark is.

How a log is opened is told in `opening.py`, what recovery does in `recovery.py`. An append is one write to the active
segment; indexes and leader epochs are kept in memory and written later, since recovery can build them from the batches.
An append that fails leaves the log as it was. If even that can't be had, or the failure is the whole folder's (see
`errors.py`), the log has *failed*: every further call raises the failure, until the log is opened again. What was but
temporary (no room, no descriptors) in the middle of an operation of several steps is undone by `mend`, which reads the
log again as after a crash.
"""

import logging
from bisect import bisect_right

import msgspec

from kpybroker.storage import lookup, opening, recovery
from kpybroker.storage.errors import OffsetOutOfRange, StorageFailed
from kpybroker.storage.files import Buffer, Files, StrPath
from kpybroker.storage.incoming import Incoming, Placed, own, produced, replicated
from kpybroker.storage.log_config import LogConfig
from kpybroker.storage.log_files import LogFiles
from kpybroker.storage.lookup import TimestampedOffset
from kpybroker.storage.open_segments import OpenSegments
from kpybroker.storage.origin import Origin
from kpybroker.storage.region import FileRegion
from kpybroker.storage.rolling import has_room
from kpybroker.storage.segment import Segment
from kpybroker.storage.txn_index import AbortedTxn
from kpybroker.storage.verification import UNVERIFIED, Guard
from kpybroker.wire.codes import Code, Refused
from kpybroker.wire.errors import CorruptRecords
from kpybroker.wire.records.batch import TRANSACTIONAL

_log = logging.getLogger(__name__)


class Appended(msgspec.Struct, frozen=True, gc=False):
    """What became of an append."""

    first_offset: int
    last_offset: int
    max_timestamp: int
    log_append_time_ms: int
    """The broker's timestamp of all records, -1 if they keep the producer's; of a duplicate, its timestamp."""
    log_start_offset: int
    duplicate: bool
    """The producer had sent the batch before: nothing was written, the offsets are those that it got then."""


class ReadResult(msgspec.Struct, frozen=True, gc=False):
    """What a read found. Without a region there is nothing (yet) to be read at that offset."""

    region: FileRegion | None
    segment_base: int = -1
    """Base offset of the segment that the region is in; for `aborted_in`."""


_NOTHING = ReadResult(None)
_FAR = 2**62  # beyond every offset


class Log(LogFiles):
    """One partition's log. Made by `create` and `open`."""

    __slots__ = ()

    @classmethod
    def create(
        cls,
        directory: StrPath,
        *,
        topic_id: bytes,
        config: LogConfig,
        files: Files,
        open_segments: OpenSegments | None = None,
    ) -> "Log":
        """A new log in a new folder: it gets `partition.metadata`, and the rest with the first append.

        The first flush makes the folder's content durable. Raises: StorageFailed.
        """
        return cls(
            opening.create(str(directory), topic_id=topic_id, config=config, files=files, open_segments=open_segments)
        )

    @classmethod
    def open(
        cls,
        directory: StrPath,
        *,
        config: LogConfig,
        files: Files,
        clean: bool,
        recovery_point: int,
        log_start_offset: int = 0,
        now_ms: int,
        on_progress: recovery.OnProgress | None = None,
        open_segments: OpenSegments | None = None,
    ) -> "Log":
        """Open what is in a folder.

        `clean`: the last one to use the data directory left the clean-shutdown marker; then a few small files are read,
        no segment. Otherwise segments from the recovery point on are read and cut at the first bytes that are no whole
        batch, and `on_progress` is told about each. `recovery_point` and `log_start_offset` come from the data
        directory's checkpoints, 0 if they don't know. Raises: StorageFailed.
        """
        return cls(
            opening.load(
                str(directory),
                config=config,
                files=files,
                clean=clean,
                recovery_point=recovery_point,
                log_start_offset=log_start_offset,
                now_ms=now_ms,
                on_progress=on_progress,
                open_segments=open_segments,
            )
        )

    # what it is

    @property
    def size_bytes(self) -> int:
        """Bytes in all segments. Raises: StorageFailed."""
        return self._segments.size_bytes

    @property
    def segment_count(self) -> int:
        """How many segments there are."""
        return len(self._segments)

    @property
    def latest_epoch(self) -> int | None:
        """The leader epoch of the last batch, or a later one that was assigned."""
        return self.epochs.latest

    @property
    def first_unstable_offset(self) -> int | None:
        """Where read_committed must stop: the oldest transaction that is open or was decided above the high watermark.

        None: nowhere. `producers.replicated_to(high_watermark)` moves it.
        """
        first = self.producers.first_unstable_offset
        return None if first is None else max(first, self.log_start_offset)

    @property
    def failure(self) -> StorageFailed | None:
        """Why the log has failed for good, None if it hasn't."""
        return self._failure

    # appending

    def append_as_leader(
        self,
        records: Buffer,
        *,
        leader_epoch: int,
        now_ms: int,
        origin: Origin = Origin.CLIENT,
        guard: Guard | None = UNVERIFIED,
        transaction_version: int = 0,
    ) -> Appended:
        """Append what a client or one of this node's coordinators wrote: it gets offsets and leader epoch here.

        From a client it is one batch, checked as Kafka does (see `validation`), and answered without being written if
        it is one of its producer's last five. `guard` was handed out when its transaction began to be verified,
        `transaction_version` is that of the markers in it (KIP-890).
        Raises: Refused, or the validation's error with per-record reasons; CorruptRecords; StorageFailed. The log is as
        it was then.
        """
        if self._failure is not None:
            raise self._failure
        if not self._tail_checked:
            self._check_tail(now_ms)
        config = self.config
        if origin is Origin.CLIENT:
            incoming = produced(
                records,
                partition=self.producers.name,
                config=config,
                next_offset=self.log_end_offset,
                leader_epoch=leader_epoch,
                now_ms=now_ms,
            )
        else:
            stamped = config.timestamp_type == "LogAppendTime" and origin is Origin.COORDINATOR
            incoming = own(
                records,
                self.log_end_offset,
                leader_epoch=leader_epoch,
                log_append_time_ms=now_ms if stamped else -1,
            )
        if len(incoming.data) > config.segment_bytes:
            raise Refused(
                Code.RECORD_LIST_TOO_LARGE,
                f"Message batch size is {len(incoming.data)} bytes in append to partition {self.producers.name}, "
                f"which exceeds the maximum configured segment size of {config.segment_bytes}.",
            )
        for batch in incoming.batches:
            header = batch.header
            if header.producer_id < 0:
                continue
            if origin is Origin.CLIENT and (seen := self.producers.find_duplicate(header)) is not None:
                return Appended(
                    seen.first_offset, seen.last_offset, seen.timestamp, seen.timestamp, self.log_start_offset, True
                )
            if batch.marker is not None:
                self._ready_for_marker()
                self.producers.check_marker(header, batch.marker, batch.base_offset, transaction_version)
            else:
                if header.attributes & TRANSACTIONAL:
                    self.producers.check_verified(header, guard)
                self.producers.check_data(header, batch.base_offset, origin)
        return self._append(incoming, leader_epoch, now_ms)

    def append_as_follower(self, records: Buffer, *, now_ms: int) -> Appended:
        """Append what the leader of the partition sent, as it is; an incomplete last batch is left out.

        Raises: UnexpectedOffset when it does not follow the log's end, CorruptRecords for a wrong checksum,
        InvalidTransactionState, StorageFailed. The log is as it was then.
        """
        self._usable()
        if not self._tail_checked:
            self._check_tail(now_ms)
        incoming = replicated(records, self.log_end_offset)
        self.producers.check_replicated([batch.header for batch in incoming.batches])
        if any(batch.marker is not None for batch in incoming.batches):
            self._ready_for_marker()
        return self._append(incoming, None, now_ms)

    def _append(self, incoming: Incoming, leader_epoch: int | None, now_ms: int) -> Appended:
        batches = incoming.batches
        if not batches:
            end = self.log_end_offset
            return Appended(end, end - 1, -1, -1, self.log_start_offset, False)
        last_offset = batches[-1].last_offset
        max_timestamp = batches[0].max_timestamp
        if len(batches) > 1:
            max_timestamp = max([batch.max_timestamp for batch in batches])
        try:
            segment = self._segment_for(incoming, max_timestamp, now_ms)
        except StorageFailed as error:
            self._note(error)
            raise
        try:
            position = segment.append(incoming.data)
        except StorageFailed as error:
            self._take_back(segment, error)
            raise
        for batch in batches:
            self._take_note(segment, position, batch, leader_epoch)
            position += batch.length
        self.log_end_offset = self.producers.end_offset = last_offset + 1
        if self._unflushed_since_ms < 0:
            self._unflushed_since_ms = now_ms
        return Appended(
            batches[0].base_offset,
            last_offset,
            max_timestamp,
            incoming.log_append_time_ms,
            self.log_start_offset,
            False,
        )

    def _take_note(self, segment: Segment, position: int, batch: Placed, leader_epoch: int | None) -> None:
        """A batch is in the file. Nothing here can fail: files that belong to it are written as far as possible."""
        header = batch.header
        if header.producer_id >= 0:
            if not header.is_control:
                self.producers.apply_data(header, batch.base_offset, batch.max_timestamp)
            elif batch.marker is not None:
                ended = self.producers.ended_by(header, batch.marker, batch.base_offset)
                if ended is not None and ended.aborted:
                    segment.txn_index.append(self.producers.aborted(ended))
                self.producers.apply_marker(header, batch.marker, batch.base_offset)
        epoch = header.partition_leader_epoch if leader_epoch is None else leader_epoch
        if epoch >= 0:
            self.epochs.assign(epoch, batch.base_offset)
        interval = self.config.index_interval_bytes
        segment.index(batch.last_offset, batch.max_timestamp, position, batch.length, interval)
        segment.recent.add(batch.base_offset, batch.last_offset, position)

    def _ready_for_marker(self) -> None:
        """An aborting marker goes into the index of aborted transactions, which is read before anything is written.

        Raises: StorageFailed.
        """
        active = self._segments.active
        if active is not None:
            lookup.sound_txn_index(active, self._rebuild_txn_index)

    def _take_back(self, segment: Segment, error: StorageFailed) -> None:
        """An append failed: the file gets its old length back, or the log has failed."""
        try:
            segment.undo()
        except StorageFailed as second:
            self.fail(second)
        self._note(error)

    def _segment_for(self, incoming: Incoming, max_timestamp: int, now_ms: int) -> Segment:
        """The segment to append to: the active one, or a new one if it is full, too old, or can't count so far."""
        segment, first, last = self._segments.active, incoming.batches[0], incoming.batches[-1]
        if segment is None:
            return self._add_segment(self.log_end_offset, now_ms)
        more_bytes = len(incoming.data)
        if has_room(segment, more_bytes, last.last_offset, max_timestamp, config=self.config, now_ms=now_ms):
            return segment
        return self._roll(max(first.base_offset, self.log_end_offset), now_ms)

    def _check_tail(self, now_ms: int) -> None:
        """Before the first append after a clean stop: whether the log ends where the snapshot's name said."""
        self._tail_checked = True
        segment = self._segments.active
        assert segment is not None, "a trusted log has segments"
        try:
            end = segment.next_offset()
        except CorruptRecords as error:
            _log.warning("%s was marked as cleanly shut down, but %s", self.directory, error)
            end = -1
        if end != self.log_end_offset:
            self._reload(min(self.recovery_point, segment.base_offset), now_ms)

    # reading

    def read(self, offset: int, *, bytes_max: int, end_offset: int, at_least_one: bool = True) -> ReadResult:
        """A region that begins with the batch that holds `offset` and ends before `end_offset`.

        Within one segment and at most `bytes_max` long, so its last batch may be cut, except that the first batch is
        whole if `at_least_one` is set (KIP-74); otherwise there is nothing when that one doesn't fit. `end_offset` is
        the high watermark, the last stable offset, or the log end, as the reader may see.
        Raises: OffsetOutOfRange; StorageFailed; CorruptRecords.
        """
        if self._failure is not None:
            raise self._failure
        if not self.log_start_offset <= offset <= self.log_end_offset:
            raise OffsetOutOfRange(offset, self.log_start_offset, self.log_end_offset)
        if offset >= end_offset or offset == self.log_end_offset:
            return _NOTHING
        segments = self._segments
        index = max(bisect_right(segments.bases, offset) - 1, 0)
        while index < len(segments.all):
            segment = segments.all[index]
            found = segment.find(offset)
            if found is None:
                index += 1  # compaction took the last batches of this segment
                continue
            position, first = found
            if first > bytes_max:
                if not at_least_one:
                    return _NOTHING
                bytes_max = first
            length = min(bytes_max, self._limit(index, segment, end_offset) - position)
            if length <= 0:
                return _NOTHING
            return ReadResult(FileRegion(segment.file, position, length), segment.base_offset)
        return _NOTHING

    def _limit(self, index: int, segment: Segment, end_offset: int) -> int:
        """The position in a segment that readers up to `end_offset` may not pass."""
        if end_offset < self.log_end_offset:
            after = self._segments.base_after(index)
            if after is None or end_offset < after:
                found = segment.find(end_offset)
                if found is not None:
                    return found[0]
        return segment.size

    def offset_for_timestamp(self, timestamp: int) -> TimestampedOffset | None:
        """The first record whose timestamp is `timestamp` (milliseconds) or greater; None when all are older.

        Raises: StorageFailed, CorruptRecords. Source: KIP-33.
        """
        self._usable()
        return lookup.by_timestamp(self._segments, timestamp, self.log_start_offset)

    def max_timestamp(self) -> TimestampedOffset | None:
        """The record with the greatest timestamp, the first of several; None without one. Source: KIP-734."""
        self._usable()
        return lookup.of_greatest_timestamp(self._segments)

    def end_offset_for_epoch(self, epoch: int) -> tuple[int, int]:
        """(epoch, end offset) of the greatest leader epoch not above `epoch`; (-1, -1) when it can't be said."""
        return self.epochs.end_offset_for(epoch, self.log_end_offset)

    def aborted_transactions(self, first: int, end: int) -> list[AbortedTxn]:
        """The aborted transactions that overlap the offsets from `first` to before `end`. Raises: StorageFailed."""
        self._usable()
        return lookup.aborted(self._segments, first, end, self._rebuild_txn_index)

    def aborted_in(self, offset: int, result: ReadResult) -> list[AbortedTxn]:
        """What a reader of committed records needs to know with the region that it got at `offset`.

        As in Kafka this may be more: up to the next index entry behind the region. Raises: StorageFailed.
        """
        if result.region is None:
            return []
        index = self._segments.floor(result.segment_base)
        end = self._segments.all[index].offset_index.upper_bound(result.region.position + result.region.length)
        end = self._segments.base_after(index) if end is None else end
        return self.aborted_transactions(offset, self.log_end_offset if end is None else end)

    # cutting

    def truncate_to(self, offset: int, *, now_ms: int) -> int:
        """Drop every batch at or after `offset`, down to the batch boundary below it.

        Returns the new log end offset. Not synced: the caller decides. Bumps the generation: older regions of the cut
        segments are not sent. Raises: StorageFailed (the log has failed), never a partial truncation that goes on being
        used. Source: KIP-101.
        """
        self._usable()
        if offset >= self.log_end_offset:
            self.epochs.truncate_from_end(self.log_end_offset)
            return self.log_end_offset
        index = self._segments.floor(offset)
        if index < 0:
            self.truncate_fully_and_start_at(offset, now_ms=now_ms)
            return offset
        try:
            lookup.sound_txn_index(self._segments.all[index], self._rebuild_txn_index)
            self._retire(self._segments.remove_from(index + 1), now_ms, truncated=True)
            end = self._segments.all[index].truncate_to(offset)
            self.log_start_offset = min(end, self.log_start_offset)
            self._snapshots.remove_outside(self.log_start_offset, end)
            self._cut_at(end)
            self._write_epochs()
            recovery.load_producers(self._segments, self._snapshots, self.producers, self.log_start_offset, end, now_ms)
        except StorageFailed as error:
            self.fail(error)
            raise
        return end

    def truncate_fully_and_start_at(self, offset: int, *, now_ms: int) -> None:
        """Drop everything and go on at `offset`, which becomes log start and log end. Raises as `truncate_to`."""
        self._usable()
        try:
            self._retire(self._segments.remove_from(0), now_ms, truncated=True)
            self._snapshots.remove_outside(_FAR, 0)
            self.epochs.clear()
            self.log_start_offset = offset
            self._cut_at(offset)
            self.producers.clear(offset)
            self._write_epochs()
            self._add_segment(offset, now_ms)
        except StorageFailed as error:
            self.fail(error)
            raise

    def _cut_at(self, end: int) -> None:
        self.log_end_offset = end
        self.recovery_point = min(self.recovery_point, end)
        self.first_dirty_offset = min(self.first_dirty_offset, end)
        self.epochs.truncate_from_end(end)
        self.generation += 1
        self._tail_checked = True

"""Compaction of a log: of each key only the latest record stays.

A pass goes in steps that alternate between the event loop and a worker thread, as `run` in a test shows:

    cleanable   loop    how much there is to do
    plan        loop    which segments, and what must be known of the log's transactions and producers
    read_keys   worker  the latest offset of each key in the dirty part
    groups      loop    segments that become one
    clean       worker  a group's batches, filtered, into files named `.cleaned`, synced
    put in      loop    `Log.replace`: the new segments take the place of the old; a crash leaves the one or the other

The worker reads files by their names and never touches a log's objects. Between two steps the log may have lost
segments to retention, or all of it: the pass is given up then, what it has put in stays.

Which part is dirty is told by an offset, the first that no pass has covered; a checkpoint file keeps it.
Source: KIP-58, KIP-354, KIP-534.
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import msgspec

from kpybroker.storage.batch_filter import BatchFilter, LastOfProducer, Rules, note_keys
from kpybroker.storage.batches import scan
from kpybroker.storage.cleaned_txns import CleanedTxns
from kpybroker.storage.files import Files
from kpybroker.storage.flush import sync_paths
from kpybroker.storage.log_config import LogConfig
from kpybroker.storage.names import CLEANED, LOG, SEGMENT_FILES
from kpybroker.storage.offset_index import RELATIVE_OFFSET_MAX
from kpybroker.storage.offset_map import OffsetMap
from kpybroker.storage.segment import Segment
from kpybroker.storage.txn_index import AbortedTxn
from kpybroker.wire.records.batch import BatchHeader, read_header

if TYPE_CHECKING:
    from kpybroker.storage.log import Log

_WRITE_BYTES = 1 << 20
_FILE_BYTES_MAX = 2**31 - 1
NEVER_MS = 2**63 - 1
"""max.compaction.lag.ms of a topic whose records may wait for ever."""

Pace = Callable[[int], None]
"""Told of bytes read or written, in the worker: sleeps to keep to a rate, or raises to end the pass."""


class Cleanable(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """How much of a log there is to compact. Offsets exclude their upper end."""

    first_dirty: int
    first_uncleanable: int
    clean_bytes: int
    cleanable_bytes: int
    overdue: bool
    """Some record has been waiting for longer than max.compaction.lag.ms."""

    @property
    def ratio(self) -> float:
        """The dirty part of what a pass would read."""
        total = self.clean_bytes + self.cleanable_bytes
        return self.cleanable_bytes / total if total else 0.0

    def is_due(self, config: LogConfig) -> bool:
        """Whether a pass is worth it."""
        return self.ratio > config.cleanable_ratio_min or (self.overdue and self.cleanable_bytes > 0)


_NOTHING = Cleanable(first_dirty=0, first_uncleanable=0, clean_bytes=0, cleanable_bytes=0, overdue=False)


def cleanable(log: "Log", *, last_stable_offset: int, now_ms: int) -> Cleanable:
    """How much of a log there is to compact now. Raises: StorageFailed."""
    segments, config = log.segments, log.config
    start = log.log_start_offset
    first_dirty = log.first_dirty_offset if start <= log.first_dirty_offset <= log.log_end_offset else start
    if not len(segments):
        return _NOTHING
    dirty_at = max(segments.floor(first_dirty), 0)
    limit = min(last_stable_offset, segments.bases[-1])
    if config.compaction_lag_ms_min > 0:
        youngest = now_ms - config.compaction_lag_ms_min
        young = (each.base_offset for each in segments.all[dirty_at:-1] if each.largest_timestamp() > youngest)
        limit = min(limit, next(young, limit))
    limit = segments.bases[max(segments.floor(limit), 0)]  # whole segments only: the one that holds the limit is out
    dirty = [each for each in segments.all[dirty_at:-1] if each.base_offset < limit]
    overdue = False
    if config.compaction_lag_ms_max < NEVER_MS:  # otherwise no segment has to be opened for the question
        stamps = (each.first_timestamp() for each in segments.all[dirty_at:-1])
        overdue = any(0 < stamp < now_ms - config.compaction_lag_ms_max for stamp in stamps)
    return Cleanable(
        first_dirty=first_dirty,
        first_uncleanable=max(limit, first_dirty),
        clean_bytes=sum(segment.size for segment in segments if segment.base_offset < first_dirty),
        cleanable_bytes=sum(segment.size for segment in dirty),
        overdue=overdue,
    )


class Source(msgspec.Struct, frozen=True, gc=False):
    """A segment to be compacted, as the worker needs to know it."""

    base_offset: int
    path: str
    size: int
    index_bytes: int
    modified_ms: int


class Compaction:
    """One pass over one log. Made on the loop by `plan`."""

    def __init__(
        self,
        *,
        directory: str,
        files: Files,
        config: LogConfig,
        part: Cleanable,
        rules: Rules,
        sources: list[Source],
        aborted_txns: list[AbortedTxn],
        offsets: OffsetMap,
    ) -> None:
        """`sources`: all segments below the part's end; `aborted_txns`: those that overlap them."""
        self._directory = directory
        self._files = files
        self._config = config
        self._part = part
        self._rules = rules
        self._sources = sources
        self._aborted = aborted_txns
        self._offsets = offsets
        self._txns = CleanedTxns(aborted_txns)
        self._filter = BatchFilter(rules, self._offsets, self._txns)

    @property
    def end_offset(self) -> int:
        """Up to where the pass compacts; known once the keys are read."""
        return max(self._offsets.latest_offset + 1, self._part.first_dirty)

    def read_keys(self, pace: Pace) -> None:
        """Fill the map of offsets from the dirty part; in the worker. Raises: StorageFailed, CorruptRecords."""
        start = self._part.first_dirty
        txns = CleanedTxns(self._aborted)
        first = sum(source.base_offset <= start for source in self._sources) - 1
        for source in self._sources[max(first, 0) :]:
            for header, batch in self._batches(source, pace):
                if not note_keys(header, batch, self._offsets, txns, start):
                    return
        self._offsets.latest_offset = max(self._offsets.latest_offset, self._part.first_uncleanable - 1)

    def groups(self) -> Iterator[list[Source]]:
        """The segments that hold what is to be compacted, in groups that become one segment each."""
        group: list[Source] = []
        ends = [source.base_offset for source in self._sources[1:]] + [self._part.first_uncleanable]
        for source, end in zip(self._sources, ends, strict=True):
            if source.base_offset >= self.end_offset:
                break
            if group and not self._fits(group, source, end):
                yield group
                group = []
            group.append(source)
        if group:
            yield group

    def clean(self, group: list[Source], pace: Pace) -> list[Segment]:
        """Write what is left of a group's batches into new segments, not part of the log yet; in the worker.

        Raises: StorageFailed, CorruptRecords, and what `pace` raises; what was written is removed then.
        """
        output = _Output(self._files, self._directory, self._config, self._rules.now_ms, group[0].base_offset)
        try:
            for source in group:
                for header, batch in self._batches(source, pace):
                    left = self._filter.keep(header, batch, segment_modified_ms=source.modified_ms)
                    if left:
                        output.add(left)
                        pace(len(left))
                    for txn in self._txns.kept:
                        output.add_aborted(txn)
                    self._txns.kept.clear()
            return output.finish(group[-1].modified_ms)
        except BaseException:
            output.discard()
            raise

    def _fits(self, group: list[Source], source: Source, end: int) -> bool:
        """Whether a segment may join a group. Empty ones may bring their offsets along, however many there are."""
        config = self._config
        return (
            sum(each.size for each in group) + source.size <= config.segment_bytes
            and sum(each.index_bytes for each in group) + source.index_bytes <= config.index_bytes_max
            and (source.size == 0 or end - 1 - group[0].base_offset <= RELATIVE_OFFSET_MAX)
        )

    def _batches(self, source: Source, pace: Pace) -> Iterator[tuple[BatchHeader, memoryview]]:
        file = self._files.open(source.path)
        try:
            for _, header, batch in scan(file, 0, source.size, whole=True):
                pace(header.length)
                yield header, batch
        finally:
            file.close()


class _Output:
    """The segments that a group becomes: one, unless recompressed batches make it too large."""

    def __init__(self, files: Files, directory: str, config: LogConfig, now_ms: int, base_offset: int) -> None:
        self._files = files
        self._directory = directory
        self._config = config
        self._now_ms = now_ms
        self._segments: list[Segment] = []
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._begin(base_offset)

    def _begin(self, base_offset: int) -> None:
        segment = Segment(
            self._files, self._directory, base_offset, now_ms=self._now_ms, has_txn_index=False, suffix=CLEANED
        )
        self._segments.append(segment)
        segment.create()

    def add(self, batch: bytes | memoryview) -> None:
        """Add a batch. Raises: StorageFailed."""
        header = read_header(batch)
        segment = self._segments[-1]
        size = segment.size + self._pending_bytes
        if size and (size + len(batch) > _FILE_BYTES_MAX or not segment.fits(header.last_offset)):
            self._write()
            self._begin(header.base_offset)
            segment, size = self._segments[-1], 0
        segment.index(header.last_offset, header.max_timestamp, size, len(batch), self._config.index_interval_bytes)
        self._pending.append(bytes(batch))
        self._pending_bytes += len(batch)
        if self._pending_bytes >= _WRITE_BYTES:
            self._write()

    def add_aborted(self, txn: AbortedTxn) -> None:
        """Add an entry to the index of aborted transactions. Raises: StorageFailed."""
        self._segments[-1].txn_index.append(txn)

    def _write(self) -> None:
        if self._pending:
            self._segments[-1].append(b"".join(self._pending))
            self._pending.clear()
            self._pending_bytes = 0

    def finish(self, modified_ms: int) -> list[Segment]:
        """Everything is written: sync it. The files keep the age of the old ones, which retention may go by."""
        self._write()
        for segment in self._segments:
            segment.settle()
            sync_paths(self._files, (segment.path(suffix) for suffix in SEGMENT_FILES))
            self._files.set_modified_ms(segment.path(LOG), modified_ms)
        self._files.sync_folder(self._directory)
        return self._segments

    def discard(self) -> None:
        """The pass has ended early: leave nothing behind, as far as the disk lets us."""
        for segment in self._segments:
            segment.discard()


def plan(log: "Log", part: Cleanable, *, high_watermark: int, now_ms: int, keys_max: int, secret: bytes) -> Compaction:
    """Prepare a pass over a log, whose worker then needs nothing of the log but its files. Raises: StorageFailed."""
    segments, config = log.segments, log.config
    files = log.files
    clean = [segment for segment in segments if segment.base_offset < part.first_dirty]
    legacy_horizon_ms = files.modified_ms(clean[-1].path(LOG)) - config.delete_retention_ms if clean else 0
    rules = Rules(
        now_ms=now_ms,
        delete_retention_ms=config.delete_retention_ms,
        legacy_horizon_ms=legacy_horizon_ms,
        high_watermark=high_watermark,
        producers={
            producer.producer_id: LastOfProducer(producer.last_offset, producer.epoch)
            for producer in log.producers.active.values()
        },
    )
    sources = [
        Source(
            segment.base_offset,
            segment.path(LOG),
            segment.size,
            segment.index_bytes,
            files.modified_ms(segment.path(LOG)),
        )
        for segment in segments.all[:-1]
        if segment.base_offset < part.first_uncleanable
    ]
    return Compaction(
        directory=log.directory,
        files=files,
        config=config,
        part=part,
        rules=rules,
        sources=sources,
        aborted_txns=log.aborted_transactions(segments.bases[0], part.first_uncleanable),
        offsets=OffsetMap(keys_max, secret),
    )

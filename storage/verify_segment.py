"""Verifying a segment: all batches in its log file, its indexes against them.

After bytes that are no batch the reading goes on where an index entry names a position behind them, or where a batch
follows if only the checksum was wrong; the rest is told as skipped.
"""

from bisect import bisect_right

import msgspec
from crc32c import crc32c

from kpybroker.storage.batches import end_marker
from kpybroker.storage.errors import StorageFailed
from kpybroker.storage.files import Files, OpenFile
from kpybroker.storage.names import LOG, OFFSET_INDEX, TIME_INDEX, TXN_INDEX, file_name
from kpybroker.storage.verify_epochs import EpochEntries
from kpybroker.storage.verify_indexes import OffsetEntries, TimeEntries, TxnEntries
from kpybroker.storage.verify_producers import Txns
from kpybroker.storage.verify_records import check_records
from kpybroker.storage.verify_report import Finding, Report
from kpybroker.wire.errors import CorruptRecords, MalformedMessage, RecordsFault
from kpybroker.wire.records.batch import BATCH_OVERHEAD, BatchHeader, check_crc, read_header

_CHUNK_BYTES = 1 << 20
_BATCH_BYTES_MAX = 64 << 20  # a longer one's checksum is computed piece by piece, before it is read as a whole
_CRC_FROM = 21
_GAPS_MAX = 1000


class LogState(msgspec.Struct, kw_only=True):
    """What is known of a log behind the batch that was read last."""

    topic: str
    epochs: EpochEntries
    txns: Txns
    compacted: bool
    """It is compacted by its settings, or has a batch that lost records."""
    end_offset: int
    newest_epoch: int = -1
    gaps: list[Finding] = []
    """Gaps between offsets, which are flaws unless it turns out that the log was compacted."""

    def copy(self) -> "LogState":
        """The same, to go on with separately."""
        return msgspec.structs.replace(self, txns=self.txns.copy(), gaps=list(self.gaps))


class SegmentCheck:
    """One segment to be checked."""

    def __init__(
        self, directory: str, base_offset: int, last: bool, clean: bool, live: bool, files: Files, report: Report
    ) -> None:
        self._directory = directory
        self._base = base_offset
        self._last = last
        self._clean = clean
        self._live = live
        self._files = files
        self._report = report

    def path(self, suffix: str) -> str:
        """The path of one of its files."""
        return f"{self._directory}/{file_name(self._base, suffix)}"

    def identity(self) -> tuple[int, ...] | None:
        """What changes when compaction puts another segment in its place; None when it is gone."""
        try:
            return tuple(
                self._files.identity(self.path(suffix)) if self._files.exists(self.path(suffix)) else 0
                for suffix in (LOG, OFFSET_INDEX, TIME_INDEX)
            )
        except StorageFailed:
            return None

    def run(self, state: LogState) -> LogState:
        """Check it, `state` being what the segments before left. Raises: StorageFailed."""
        # Indexes first: in a log that is in use they are written behind the batches that they name.
        offsets = OffsetEntries(self._files, self.path(OFFSET_INDEX), self._base, self._report)
        times = TimeEntries(self._files, self.path(TIME_INDEX), self._base, self._report)
        txns = TxnEntries(self._files, self.path(TXN_INDEX), self._report)
        file = self._files.open(self.path(LOG))
        try:
            batches = _Batches(self, file, state, offsets, times, txns, self._report)
            end, whole = batches.run(self._last and not self._clean, self._live and self._last)
        finally:
            file.close()
        self._check_ends(state, offsets, times, txns, end, whole)
        return state

    def _check_ends(
        self, state: LogState, offsets: OffsetEntries, times: TimeEntries, txns: TxnEntries, end: int, whole: bool
    ) -> None:
        growing = self._last and not self._clean
        if not whole and growing:
            return  # entries may name batches that are being written
        offsets.end(end)
        times.end(complete=not growing and whole)
        txns.end()
        if not growing and end and state.end_offset > self._base:
            for index in (offsets, times):
                if not index.exists:
                    self._report.add(index.path, None, "is missing")

    @property
    def base_offset(self) -> int:
        """The offset in its files' names."""
        return self._base


class _Batches:
    """The log file of a segment, while it is read."""

    def __init__(
        self,
        segment: SegmentCheck,
        file: OpenFile,
        state: LogState,
        offsets: OffsetEntries,
        times: TimeEntries,
        txns: TxnEntries,
        report: Report,
    ) -> None:
        self._file = file
        self._state = state
        self._offsets = offsets
        self._times = times
        self._txns = txns
        self._report = report
        self._base = segment.base_offset
        self._path = segment.path(LOG)
        self._start = 0  # where in the file `_data` begins
        self._data = memoryview(b"")
        self._size = file.size()
        self._whole = True

    def run(self, preallocated: bool, torn: bool) -> tuple[int, bool]:
        """Check all batches; returns where the last one ends, and whether there was nothing that is none.

        `preallocated`: it may end in zeros; `torn`: its last batch may be incomplete.
        """
        if self._state.end_offset > self._base:
            self._wrong(None, f"the segment before reaches to offset {self._state.end_offset}")
        elif self._state.end_offset < self._base:
            self._gap(None, f"offsets {self._state.end_offset} to {self._base - 1} before it are missing")
            self._state.epochs.gap(self._base)
        self._state.end_offset = max(self._state.end_offset, self._base)
        position = end = 0
        while position < self._size:
            try:
                header, batch = self._read(position)
            except CorruptRecords as error:
                if torn and error.kind is RecordsFault.TRUNCATED:
                    return end, False
                if (preallocated or torn) and self._zeros(position):
                    return end, True
                position = self._resume(position, str(error.why))
                continue
            self._check(position, header, batch)
            position += header.length
            end = position
            self._report.progress(header.length)
        return end, self._whole

    def _read(self, position: int) -> tuple[BatchHeader, memoryview | None]:
        """The batch at `position`; without its bytes if it is very long and damaged. Raises: CorruptRecords."""
        self._fill(position, min(BATCH_OVERHEAD, self._size - position))
        header = read_header(self._data, position - self._start)
        if position + header.length > self._size:
            raise CorruptRecords(
                RecordsFault.TRUNCATED,
                f"a batch of {header.length} bytes, the file has {self._size - position} left",
            )
        if header.length > _BATCH_BYTES_MAX and header.magic == 2 and not self._crc_fits(position, header):
            return header, None
        self._fill(position, header.length)
        at = position - self._start
        return header, self._data[at : at + header.length]

    def _fill(self, position: int, length: int) -> None:
        """Have `length` bytes from `position` on."""
        if position + length > self._start + len(self._data):
            self._start = position
            self._data = memoryview(self._file.read_at(position, max(length, _CHUNK_BYTES)))
            if len(self._data) < length:
                raise CorruptRecords(RecordsFault.TRUNCATED, "the file became shorter")

    def _crc_fits(self, position: int, header: BatchHeader) -> bool:
        crc, at, end = 0, position + _CRC_FROM, position + header.length
        while at < end:
            data = self._file.read_at(at, min(_CHUNK_BYTES, end - at))
            if not data:
                return False
            crc = crc32c(data, crc)
            at += len(data)
        return crc == header.crc

    def _zeros(self, position: int) -> bool:
        while position < self._size:
            data = self._file.read_at(position, _CHUNK_BYTES)
            if not data or data.strip(b"\0"):
                return not data
            position += len(data)
        return True

    def _resume(self, position: int, why: str) -> int:
        """There is no batch at `position`: where the next may be."""
        self._whole = False
        positions = self._offsets.positions
        at = bisect_right(positions, position)
        after = positions[at] if at < len(positions) else self._size
        after = min(after, self._size)
        self._wrong(position, f"no batch: {why}; {after - position} bytes are skipped")
        self._report.progress(after - position)
        if after < self._size:
            try:
                self._fill(after, min(BATCH_OVERHEAD, self._size - after))
                self._state.end_offset = read_header(self._data, after - self._start).base_offset
            except CorruptRecords:
                return after
        return after

    def _check(self, position: int, header: BatchHeader, batch: memoryview | None) -> None:
        state = self._state
        after_gap = self._check_offsets(position, header)
        self._offsets.batch(position, header)
        self._times.batch(header)
        epoch = header.partition_leader_epoch
        if header.magic >= 2:
            if epoch < state.newest_epoch:
                self._wrong(position, f"leader epoch {epoch}, a batch before has {state.newest_epoch}")
            elif (what := state.epochs.batch(header, gaps=after_gap)) is not None:
                self._wrong(position, what)
            else:
                state.newest_epoch = epoch
        if batch is None:
            self._wrong(position, "Record is corrupt (the checksum of its content is another)")
            return
        try:
            check_crc(batch, 0, header)
            if header.magic >= 2 and not 0 <= header.count <= header.last_offset_delta + 1:
                self._wrong(position, f"{header.count} records in {header.last_offset_delta + 1} offsets")
                return
            check_records(state.topic, header, batch)
            if header.producer_id >= 0:
                self._check_producer(position, header, batch)
        except MalformedMessage as error:
            self._wrong(position, str(error))

    def _check_offsets(self, position: int, header: BatchHeader) -> bool:
        """Returns whether offsets are missing before it. A batch of magic 0 or 1 names its last offset only."""
        state = self._state
        gap = header.base_offset > state.end_offset
        if header.magic >= 2:
            if 0 <= header.count <= header.last_offset_delta:
                state.compacted = True  # records were taken out of it
            if header.base_offset < state.end_offset:
                self._wrong(position, f"begins with offset {header.base_offset}, {state.end_offset} was due")
            elif gap:
                self._gap(position, f"offsets {state.end_offset} to {header.base_offset - 1} are missing")
            if header.last_offset_delta < 0:
                self._wrong(position, f"ends {-header.last_offset_delta} offsets before it begins")
        elif header.base_offset < state.end_offset:
            self._wrong(position, f"ends with offset {header.base_offset}, {state.end_offset} was due")
        state.end_offset = header.last_offset + 1
        return gap

    def _gap(self, position: int | None, what: str) -> None:
        """Something is missing, as nothing may be in a log that was not compacted."""
        gaps = self._state.gaps
        if not self._state.compacted and len(gaps) < _GAPS_MAX:
            gaps.append(Finding(self._path, position, what))

    def _check_producer(self, position: int, header: BatchHeader, batch: memoryview) -> None:
        """Raises: CorruptRecords for a marker that is none."""
        txns = self._state.txns
        if not header.is_control:
            wrong, gap = txns.data(header)
            if wrong is not None:
                self._wrong(position, wrong)
            if gap is not None:
                self._gap(position, gap)
            return
        marker = end_marker(batch)
        if marker is None:
            return
        wanted, known = txns.end(header)
        if not marker.commit:
            compacted = self._state.compacted
            self._txns.abort_marker(
                wanted,
                start_known=known and txns.all_known and not compacted,
                all_known=txns.all_known and not compacted,
                indexed=known,
            )

    def _wrong(self, position: int | None, what: str) -> None:
        self._report.add(self._path, position, what)

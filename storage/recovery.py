"""Reading a log again after an unclean stop, and building from it what was only in memory.

Segments from the one that holds the recovery point on are read whole: every batch is checked, offset, time and
transaction index are built anew, leader epochs and producer state go along. At the first bytes that are no whole, sound
batch the log ends: they are cut off, and segments after them are dropped, as by Kafka's LogLoader. Unlike there, what
is more than a batch that was being written is set aside first (`dropped.py`).
"""

import logging
from collections.abc import Callable

from kpybroker.storage.batches import end_marker, scan
from kpybroker.storage.dropped import set_aside
from kpybroker.storage.errors import StorageFailed
from kpybroker.storage.files import Buffer, Files
from kpybroker.storage.leader_epochs import LeaderEpochs
from kpybroker.storage.producer_snapshots import ProducerSnapshots
from kpybroker.storage.producer_state import ProducerStates
from kpybroker.storage.segment import Segment
from kpybroker.storage.segments import Segments
from kpybroker.wire.errors import CorruptRecords, RecordsFault
from kpybroker.wire.records.batch import BatchHeader, check_crc

_log = logging.getLogger(__name__)

OnProgress = Callable[[str, int, int, int], None]
"""Called with the folder, the base offset of the segment to be recovered, how many are done, and of how many."""


def recover(
    segments: Segments,
    snapshots: ProducerSnapshots,
    producers: ProducerStates,
    epochs: LeaderEpochs,
    *,
    files: Files,
    directory: str,
    recovery_point: int,
    log_start_offset: int,
    index_interval_bytes: int,
    now_ms: int,
    on_progress: OnProgress | None,
    drop: Callable[[list[Segment]], None],
) -> int:
    """Recover the segments that may hold anything at or after `recovery_point`; returns the log end offset.

    `drop` is called with the segments after a damaged one, before that one is cut: a crash in between must not leave a
    log with a gap. Raises: StorageFailed.
    """
    first = max(segments.floor(recovery_point), 0)
    start = max(log_start_offset, segments.bases[0])
    load_producers(segments, snapshots, producers, start, segments.bases[first], now_ms)
    todo = segments.all[first:]
    end = segments.bases[first]
    for done, segment in enumerate(todo):
        _log.info(
            "Recovering unflushed segment %s. %s/%s recovered for %s.", segment.base_offset, done, len(todo), directory
        )
        if on_progress is not None:
            on_progress(directory, segment.base_offset, done, len(todo))
        producers.end_offset = segment.base_offset
        if segment.base_offset > start:
            snapshots.write(segment.base_offset, producers.active.values())
        end, valid = recover_segment(segment, producers, epochs, index_interval_bytes)
        if valid < segment.size:
            _log.warning(
                "Corruption found in segment %s of %s, truncating to offset %s", segment.base_offset, directory, end
            )
            later = segments.remove_from(first + done + 1)
            kept = set_aside(files, directory, segment, valid, later)
            if kept:
                _log.warning(
                    "%s: dropped %s bytes from offset %s on; they are kept in %s",
                    directory,
                    segment.size - valid + sum(each.size for each in later),
                    end,
                    ", ".join(kept),
                )
            drop(later)
            segment.cut(valid)
            break
    return end


def recover_segment(
    segment: Segment, producers: ProducerStates, epochs: LeaderEpochs, index_interval_bytes: int
) -> tuple[int, int]:
    """Read one segment whole, as told above; returns the offset and the byte where it ends. Raises: StorageFailed."""
    shared = segment.open_file()
    segment.reset_indexes()
    segment.txn_index.reset()
    end, size = segment.base_offset, segment.size
    valid, newest = 0, -1
    try:
        for position, header, batch in scan(shared.file, 0, size, whole=True):
            check_crc(batch, 0, header)
            if header.base_offset < end and header.magic >= 2:
                raise CorruptRecords(RecordsFault.CORRUPT, f"offset {header.base_offset} comes again before {end}")
            last_offset = header.last_offset
            if segment.fits(last_offset):  # a segment from before Kafka 2.0 may reach further than its index
                segment.index(last_offset, header.max_timestamp, position, header.length, index_interval_bytes)
            if header.partition_leader_epoch != newest or epochs.latest != newest:
                newest = _take_epoch(epochs, header, newest)
            if header.producer_id >= 0:
                _apply(segment, producers, header, batch)
            end = last_offset + 1
            valid = position + header.length
    except CorruptRecords as error:
        _log.warning("Found invalid messages in log segment %s at byte offset %s: %s", shared.file.path, valid, error)
    segment.settle()
    producers.end_offset = end
    return end, valid


def _take_epoch(epochs: LeaderEpochs, header: BatchHeader, newest: int) -> int:
    """Correct the epochs where a batch contradicts them: the file may be older than the last truncation.

    `newest` is the greatest epoch of the batches before; it, or this batch's, is returned.
    """
    epoch = header.partition_leader_epoch
    if epoch < newest or min(epoch, header.base_offset) < 0 or header.magic < 2:
        return newest
    if epochs.epoch_of(header.base_offset) != epoch:
        epochs.assign(epoch, header.base_offset)
    return epoch


def _apply(segment: Segment, producers: ProducerStates, header: BatchHeader, batch: Buffer) -> None:
    if not header.is_control:
        producers.apply_data(header, header.base_offset, header.max_timestamp)
        return
    marker = end_marker(batch)
    if marker is None:
        return
    ended = producers.ended_by(header, marker, header.base_offset)
    if ended is not None and ended.aborted:
        segment.txn_index.append(producers.aborted(ended))
    producers.apply_marker(header, marker, header.base_offset)


def load_producers(
    segments: Segments, snapshots: ProducerSnapshots, producers: ProducerStates, start: int, end: int, now_ms: int
) -> None:
    """Set the producers' state as of `end`: from the newest usable snapshot, and from the headers after it.

    `start` is the log start offset. Raises: StorageFailed.
    """
    loaded = snapshots.load_newest(start, end)
    if loaded is None:
        producers.clear(start)
    else:
        producers.load(loaded[1], loaded[0], now_ms)
    if producers.end_offset < end:
        try:
            _replay(segments, producers, producers.end_offset, end)
        except CorruptRecords as error:
            _log.warning("%s: producer state is incomplete: %s", producers.name, error)
    producers.end_offset = end


def _replay(segments: Segments, producers: ProducerStates, start: int, end: int) -> None:
    for segment in segments.between(start, end):
        position = 0
        if start > segment.base_offset:
            found = segment.find(start)
            if found is None:
                continue
            position = found[0]
        for at, header in segment.headers(position):
            if header.base_offset >= end:
                return
            if header.producer_id < 0:
                continue
            if not header.is_control:
                producers.apply_data(header, header.base_offset, header.max_timestamp)
            elif (marker := end_marker(segment.read(at, header.length))) is not None:
                producers.apply_marker(header, marker, header.base_offset)


def rebuild_txn_index(
    segment: Segment, segments: Segments, snapshots: ProducerSnapshots, known: ProducerStates, start: int
) -> None:
    """Make a segment's index of aborted transactions anew, from the producers before it and from its batches.

    `known` is the log's state, of which only what never changes is used; `start` is the log start offset. Raises:
    StorageFailed.
    """
    producers = ProducerStates(known.name, known.expiration_ms)
    load_producers(segments, snapshots, producers, start, segment.base_offset, 0)
    segment.txn_index.reset()
    try:
        _index_aborted(segment, producers)
        segment.txn_index.spill()
    except StorageFailed:
        segment.txn_index.distrust()  # what is in memory only would not be there after a clean stop
        raise


def _index_aborted(segment: Segment, producers: ProducerStates) -> None:
    try:
        for at, header in segment.headers():
            if header.producer_id >= 0:
                _apply(segment, producers, header, segment.read(at, header.length) if header.is_control else b"")
    except CorruptRecords as error:
        _log.warning("%s: the index of aborted transactions is incomplete: %s", producers.name, error)


def find_epochs(segments: Segments, epochs: LeaderEpochs, end: int) -> None:
    """Take the leader epochs below `end` from the batches: the checkpoint is missing or makes no sense.

    Raises: StorageFailed.
    """
    newest = -1
    try:
        for segment in segments.between(0, end):
            for _, header in segment.headers():
                if header.base_offset >= end:
                    return
                newest = _take_epoch(epochs, header, newest)
    except CorruptRecords as error:
        _log.warning("leader epochs are incomplete: %s", error)

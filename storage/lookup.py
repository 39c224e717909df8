"""Finding offsets by timestamp, and the aborted transactions among some offsets."""

import logging
from collections.abc import Callable

import msgspec

from kpybroker.storage.errors import CorruptFile
from kpybroker.storage.segment import Segment
from kpybroker.storage.segments import Segments
from kpybroker.storage.txn_index import AbortedTxn
from kpybroker.wire.errors import CorruptRecords
from kpybroker.wire.records.batch import BatchHeader, read_records

_log = logging.getLogger(__name__)


class TimestampedOffset(msgspec.Struct, frozen=True, gc=False):
    """A record found by its timestamp (milliseconds). `leader_epoch` is its batch's, None in old formats."""

    offset: int
    timestamp: int
    leader_epoch: int | None


def by_timestamp(segments: Segments, timestamp: int, log_start_offset: int) -> TimestampedOffset | None:
    """The first record, from the log start on, whose timestamp is `timestamp` or greater.

    As in Kafka only the first segment that may have such a record is searched, so none is found as long as that one
    lies wholly below the log start and awaits its deletion, or was emptied by compaction. Raises: StorageFailed,
    CorruptRecords.
    """
    for segment in segments:
        if segment.largest_timestamp() >= timestamp:
            segment.file  # noqa: B018 - reads the indexes
            try:
                return _first_in(segment, timestamp, log_start_offset)
            except CorruptRecords as error:
                if not segment.distrust_indexes(error):
                    raise
            return _first_in(segment, timestamp, log_start_offset)
    return None


def _first_in(segment: Segment, timestamp: int, log_start_offset: int) -> TimestampedOffset | None:
    position = segment.offset_index.lookup(max(segment.time_index.lookup(timestamp), log_start_offset))
    for at, header in segment.headers(position):
        if header.max_timestamp >= timestamp:
            found = _record(segment, at, header, timestamp, log_start_offset)
            if found is not None:
                return found
    return None


def of_greatest_timestamp(segments: Segments) -> TimestampedOffset | None:
    """The first record that has the greatest timestamp of all; None in an empty log. Raises as `by_timestamp`."""
    latest: Segment | None = None
    for segment in segments:
        segment.largest_timestamp()
        if latest is None or segment.max_timestamp > latest.max_timestamp:
            latest = segment
    if latest is None or latest.max_timestamp < 0:
        return None
    latest.file  # noqa: B018 - reads the indexes
    for at, header in latest.headers(latest.offset_index.lookup(latest.max_timestamp_offset)):
        if header.max_timestamp == latest.max_timestamp:
            return _record(latest, at, header, header.max_timestamp, 0)
    return None


def _record(
    segment: Segment, position: int, header: BatchHeader, timestamp: int, start: int
) -> TimestampedOffset | None:
    """The first record of a batch that is young enough, and not below `start`."""
    epoch = header.partition_leader_epoch
    for record in read_records(segment.read(position, header.length)):
        if record.timestamp >= timestamp and record.offset >= start:
            return TimestampedOffset(record.offset, record.timestamp, epoch if epoch >= 0 else None)
    return None


def aborted(segments: Segments, first: int, end: int, rebuild: Callable[[Segment], None]) -> list[AbortedTxn]:
    """The aborted transactions that overlap the offsets from `first` to before `end`.

    `rebuild` makes a segment's transaction index anew, when it makes no sense. Raises: StorageFailed.
    """
    found: list[AbortedTxn] = []
    for segment in segments.all[max(segments.floor(first), 0) :]:
        sound_txn_index(segment, rebuild)
        if segment.txn_index.collect(first, end, found):
            break
    return found


def sound_txn_index(segment: Segment, rebuild: Callable[[Segment], None]) -> None:
    """See that a segment's transaction index can be used. Raises: StorageFailed."""
    try:
        segment.txn_index.entries  # noqa: B018 - reads the file
    except CorruptFile as error:
        _log.warning("%s; rebuilding it", error)
        rebuild(segment)

"""Compaction as a test runs it, without threads; and a log as a client that reads it from the start sees it."""

from kpybroker.storage.compaction import Compaction, cleanable, plan
from kpybroker.storage.log import Log
from kpybroker.wire.records.batch import iter_headers, iter_records
from kpybroker.wire.records.record import Record

from .making import NOW

KEYS_MAX = 1000


def no_pace(count: int) -> None:
    """The worker goes as fast as it can."""


def begin(log: Log, *, now_ms: int = NOW, keys_max: int = KEYS_MAX) -> Compaction | None:
    """A pass over all that may be compacted; None if there is nothing."""
    part = cleanable(log, last_stable_offset=stable(log), now_ms=now_ms)
    if not part.cleanable_bytes:
        return None
    return plan(log, part, high_watermark=log.log_end_offset, now_ms=now_ms, keys_max=keys_max, secret=b"secret")


def stable(log: Log) -> int:
    log.producers.replicated_to(log.log_end_offset)
    return log.log_end_offset if log.first_unstable_offset is None else log.first_unstable_offset


def compact(log: Log, *, now_ms: int = NOW, keys_max: int = KEYS_MAX) -> bool:
    """One whole pass; whether there was something to do."""
    compaction = begin(log, now_ms=now_ms, keys_max=keys_max)
    if compaction is None:
        return False
    compaction.read_keys(no_pace)
    for group in compaction.groups():
        segments = compaction.clean(group, no_pace)
        assert log.replace([source.base_offset for source in group], segments, now_ms)
    log.first_dirty_offset = compaction.end_offset
    return True


def batches(log: Log) -> list[tuple]:
    """Every batch, with its header, as a consumer that starts at the log start gets them."""
    offset, found = log.log_start_offset, []
    while True:
        result = log.read(offset, bytes_max=1, end_offset=log.log_end_offset)
        if result.region is None:
            return found
        data = result.region.read()
        result.region.release()
        for _, header in iter_headers(data):
            found.append((header, list(iter_records(data))))
            assert header.last_offset >= offset
            offset = header.last_offset + 1


def records(log: Log) -> list[Record]:
    """Every record that is not a marker."""
    return [record for header, found in batches(log) if not header.is_control for record in found]


def state(log: Log) -> dict[bytes, bytes]:
    """What a table has that is filled from the log."""
    table: dict[bytes, bytes] = {}
    for record in records(log):
        if record.value is None:
            table.pop(bytes(record.key), None)
        else:
            table[bytes(record.key)] = bytes(record.value)
    return table

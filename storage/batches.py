"""Walking through the batches of a file, in large reads, and what transaction markers say.

Modules that only transactions need are imported when the first one comes.
"""

import struct
from collections.abc import Iterator

from kpybroker.storage.files import Buffer, OpenFile
from kpybroker.storage.producer_state import EndMarker
from kpybroker.wire.errors import CorruptRecords, RecordsFault
from kpybroker.wire.records.batch import BATCH_OVERHEAD, BatchHeader, read_header, read_records

_CHUNK_BYTES = 1 << 20
_HEADER_CHUNK_BYTES = 1 << 16
_SHORTEST = 26  # a magic-0 batch of one record without key and value
_PROBE_BYTES = 64  # a header: batches longer than an index interval are found by one or two of them
_SMALL_PROBE_BYTES = 8192  # smaller ones: an index interval and the header after it, as a rule
_SMALL_BYTES = 4096
_SIZE_MIN = 14
_LOG_OVERHEAD = 12
_HEADER_MIN = 27  # up to the last offset delta; the shortest batch of any magic is 26 bytes
_OFFSETS = struct.Struct(">qi4xb6xi")  # base offset, size, magic, last offset delta


def scan(file: OpenFile, position: int, end: int, *, whole: bool) -> Iterator[tuple[int, BatchHeader, memoryview]]:
    """Position, header and bytes of each batch in a file, from the batch at `position` to `end`.

    The bytes are the whole batch if `whole` is set, otherwise whatever part of it was read along with the header. The
    memoryview is good until the next step. Raises: StorageFailed; CorruptRecords at the first bytes that are no batch,
    kind TRUNCATED when `end` lies inside the last one.
    """
    start, data = position, memoryview(b"")
    chunk = _CHUNK_BYTES if whole else _HEADER_CHUNK_BYTES
    while position < end:
        at = position - start
        if len(data) - at < BATCH_OVERHEAD and len(data) - at < end - position:
            start, at = position, 0
            data = memoryview(file.read_at(position, min(chunk, end - position)))
        header = read_header(data, at)
        length = header.length
        if length < _SHORTEST or position + length > end:
            raise CorruptRecords(RecordsFault.TRUNCATED, f"the batch at {position} ends behind the file's end {end}")
        if whole and len(data) - at < length:
            start, at = position, 0
            data = memoryview(file.read_at(position, max(length, min(chunk, end - position))))
            if len(data) < length:
                raise CorruptRecords(RecordsFault.TRUNCATED, f"the file ended inside the batch at {position}")
        yield position, header, data[at : at + length]
        position += length


def end_marker(batch: Buffer) -> EndMarker | None:
    """What a control batch with a producer id says; None when compaction has emptied it. Raises: CorruptRecords."""
    from kpybroker.wire.internal.control_records import EndTxnMarker
    from kpybroker.wire.records.control import ControlType, control_type, read_control

    for record in read_records(batch):
        kind, marker = control_type(record), read_control(record)
        if not isinstance(marker, EndTxnMarker):
            raise CorruptRecords(RecordsFault.INVALID, f"control record of type {kind} in a producer's control batch")
        return EndMarker(kind == ControlType.COMMIT, marker.coordinator_epoch, record.timestamp)
    return None


def first_offset(batch: Buffer) -> int:
    """The offset of a batch's first record; old formats keep it in the (compressed) records. Raises: CorruptRecords."""
    header = read_header(batch)
    if header.magic >= 2:
        return header.base_offset
    return next((record.offset for record in read_records(batch)), header.base_offset)


def find_batch(file: OpenFile, position: int, size: int, offset: int) -> tuple[int, int] | None:
    """Position and length of the first batch, from the one at `position` on, that ends at or after `offset`.

    None when all in the `size` bytes of the file end before. Raises: StorageFailed, CorruptRecords.
    """
    start, probe = position, _PROBE_BYTES
    while position + _LOG_OVERHEAD < size:
        data = file.read_at(position, min(probe, size - position))
        if position + len(data) == size:
            data += b"\0"  # the shortest batch of all, of magic 0, is a byte less than what is looked at
        at, end = 0, len(data) - _HEADER_MIN
        while at <= end:
            base_offset, rest, magic, delta = _OFFSETS.unpack_from(data, at)
            if rest < _SIZE_MIN or not 0 <= magic <= 2 or (magic == 2 and delta < 0):
                raise CorruptRecords(RecordsFault.CORRUPT, f"{file.path}: no batch at {position + at}")
            if base_offset > offset and start and position + at == start:  # what lies between would be passed over
                raise CorruptRecords(RecordsFault.CORRUPT, f"{file.path}: not offset {offset} at {start}")
            if (base_offset + delta if magic == 2 else base_offset) >= offset:
                if position + at + rest + _LOG_OVERHEAD > size:
                    raise _cut_short(file, position + at)
                return position + at, rest + _LOG_OVERHEAD
            at += rest + _LOG_OVERHEAD
        if at == 0:
            break
        position += at
        probe = _SMALL_PROBE_BYTES if rest < _SMALL_BYTES else _PROBE_BYTES
    if position != size:
        raise _cut_short(file, position)
    return None


def _cut_short(file: OpenFile, position: int) -> CorruptRecords:
    return CorruptRecords(RecordsFault.TRUNCATED, f"{file.path} ends inside the batch at {position}")

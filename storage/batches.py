"""Walking through the batches of a file, in large reads, and what transaction markers say.

Modules that only transactions need are imported when the first one comes.
"""

from collections.abc import Iterator

from kpybroker.storage.files import Buffer, OpenFile
from kpybroker.storage.producer_state import EndMarker
from kpybroker.wire.errors import CorruptRecords, RecordsFault
from kpybroker.wire.records.batch import BATCH_OVERHEAD, BatchHeader, read_header, read_records

_CHUNK_BYTES = 1 << 20
_HEADER_CHUNK_BYTES = 1 << 16
_SHORTEST = 26  # a magic-0 batch of one record without key and value


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
        if len(data) - at < min(BATCH_OVERHEAD, end - position):
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

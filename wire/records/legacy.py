"""Magic 0 and 1: what Kafka wrote before 0.11. Brokers read it from old segments, and refuse it from producers.

A record stands alone: offset 8 | size 4 | CRC-32 4 | magic 1 | attributes 1 | (magic 1: timestamp 8) | key length 4 and
key | value length 4 and value. Compressed ones are the value of an outer record, whose offset is the last one inside;
magic 1 counts the inner offsets from 0. With LogAppendTime the outer timestamp holds for all. Source: KIP-31, KIP-32.
"""

import struct
import zlib
from collections.abc import Iterable, Iterator

from kpybroker.wire.errors import CorruptRecords, RecordsFault
from kpybroker.wire.records import compression
from kpybroker.wire.records.batch import (
    CODEC_MASK,
    CODECS,
    LOG_APPEND_TIME,
    LOG_OVERHEAD,
    SIZE_MIN,
    BatchHeader,
    Buffer,
    Codec,
    TimestampType,
)
from kpybroker.wire.records.record import Record, invalid, refilled

_OFFSET_SIZE = struct.Struct(">qi")
_REST = struct.Struct(">Ibb")  # CRC, magic, attributes
_INT64 = struct.Struct(">q")
_INT32 = struct.Struct(">i")
_TIMESTAMP_AT = 18
_CRC_COVERS_FROM = 16
_SIZE_MIN_MAGIC_1 = SIZE_MIN + 8


def read_header(buffer: Buffer, position: int) -> BatchHeader:
    """The header of a magic 0 or 1 batch; see `batch.read_header`."""
    offset, size = _OFFSET_SIZE.unpack_from(buffer, position)
    try:
        crc, magic, attributes = _REST.unpack_from(buffer, position + LOG_OVERHEAD)
        timestamp = -1
        if magic == 1:
            if size < _SIZE_MIN_MAGIC_1:
                raise CorruptRecords(RecordsFault.CORRUPT, f"a magic 1 record of {size} bytes")
            (timestamp,) = _INT64.unpack_from(buffer, position + _TIMESTAMP_AT)
    except struct.error:
        raise CorruptRecords(RecordsFault.TRUNCATED, "record header cut") from None
    length = size + LOG_OVERHEAD
    return BatchHeader(offset, length, -1, magic, crc, attributes, 0, timestamp, timestamp, -1, -1, -1, -1)


def compute_crc(buffer: Buffer, position: int, length: int) -> int:
    """The CRC-32 that the record of `length` bytes at `position` should have."""
    return zlib.crc32(memoryview(buffer)[position + _CRC_COVERS_FROM : position + length])


def iter_records(
    buffer: Buffer, position: int, header: BatchHeader, *, bytes_max: int = compression.BYTES_MAX
) -> Iterator[Record]:
    """The records of the batch at `position`: one, or what is compressed in it.

    The CRC of each is checked (of the inner ones, not of the outer). Raises: CorruptRecords of any kind; TOO_LARGE when
    more than `bytes_max` come out of the decompression.
    """
    batch = memoryview(buffer)[position : position + header.length]
    if header.codec == "none":
        yield _record(batch, header.base_offset)
        return
    if header.codec == "zstd":
        raise invalid(f"zstd does not exist in magic {header.magic}")
    inner = list(_inner_records(batch, header, bytes_max))
    if not inner:
        raise invalid("Found invalid compressed record set with no inner records")
    base_offset = 0
    if header.magic == 1 and header.base_offset:  # 0 from some librdkafka: relative to nothing
        last_inner, _ = inner[-1]
        base_offset = header.base_offset - last_inner
        if base_offset < 0:
            raise invalid(
                f"Found invalid wrapper offset in compressed v1 message set, wrapper offset '{header.base_offset}' is "
                f"less than the last inner message offset '{last_inner}' and it is not zero."
            )
    log_append_time = header.max_timestamp if header.timestamp_type == "LogAppendTime" else None
    for offset, entry in inner:
        number = entry[17] & CODEC_MASK
        if number >= len(CODECS):
            raise CorruptRecords(RecordsFault.UNREADABLE, f"unknown compression codec {number}")
        if number:
            raise invalid("Inner messages must not be compressed")
        yield _record(entry, base_offset + offset, log_append_time)


def base_offset(buffer: Buffer, position: int, header: BatchHeader) -> int:
    """The offset of the first record; a compressed batch has to be decompressed for it. Raises: as `iter_records`."""
    if not header.is_compressed:
        return header.base_offset
    return next(iter_records(buffer, position, header)).offset


def _inner_records(batch: memoryview, header: BatchHeader, bytes_max: int) -> Iterator[tuple[int, memoryview]]:
    """(the offset as written, the record with its offset and size) for each; an incomplete last one is left out."""
    value = _value(batch, header.magic)
    if value is None:
        raise invalid(f"Found invalid compressed record set with null value (magic = {header.magic})")
    chunks = compression.limited(compression.decompressed(header.codec, value, magic=header.magic), bytes_max)
    data = b""
    while True:
        try:
            if len(data) < LOG_OVERHEAD:
                data = refilled(data, 0, LOG_OVERHEAD - len(data), chunks)
            offset, size = _OFFSET_SIZE.unpack_from(data)
            if size < SIZE_MIN:
                raise CorruptRecords(
                    RecordsFault.CORRUPT, f"Record size is less than the minimum record overhead ({SIZE_MIN})"
                )
            length = size + LOG_OVERHEAD
            if len(data) < length:
                data = refilled(data, 0, length - len(data), chunks)
        except EOFError:
            return
        yield offset, memoryview(data)[:length]
        data = data[length:]


def _fields_at(magic: int) -> int:
    return _TIMESTAMP_AT if magic == 0 else _TIMESTAMP_AT + 8


def _sized(entry: memoryview, position: int) -> tuple[memoryview | None, int]:
    """(The bytes whose int32 length stands at `position`, where they end); None for a negative length."""
    try:
        (length,) = _INT32.unpack_from(entry, position)
    except struct.error:
        raise CorruptRecords(RecordsFault.UNREADABLE, "a length lies outside its record") from None
    position += 4
    if length < 0:
        return None, position
    if position + length > len(entry):
        raise CorruptRecords(RecordsFault.UNREADABLE, f"{length} bytes announced, {len(entry) - position} left")
    return entry[position : position + length], position + length


def _value(entry: memoryview, magic: int) -> memoryview | None:
    _, position = _sized(entry, _fields_at(magic))
    value, _ = _sized(entry, position)
    return value


def _record(entry: memoryview, offset: int, log_append_time: int | None = None) -> Record:
    crc, magic, _ = _REST.unpack_from(entry, LOG_OVERHEAD)
    computed = compute_crc(entry, 0, len(entry))
    if crc != computed:
        raise CorruptRecords(RecordsFault.CORRUPT, f"Record is corrupt (stored crc = {crc}, computed crc = {computed})")
    timestamp = -1
    if magic:
        if len(entry) < LOG_OVERHEAD + _SIZE_MIN_MAGIC_1:
            raise CorruptRecords(RecordsFault.UNREADABLE, f"a magic {magic} record of {len(entry)} bytes")
        (timestamp,) = _INT64.unpack_from(entry, _TIMESTAMP_AT)
        if magic == 1 and log_append_time is not None:
            timestamp = log_append_time
    key, position = _sized(entry, _fields_at(magic))
    value, _ = _sized(entry, position)
    return Record(offset, timestamp, None if key is None else bytes(key), None if value is None else bytes(value))


# Building


def build_message_set(
    records: Iterable[Record],
    *,
    magic: int,
    codec: Codec = "none",
    level: int | None = None,
    timestamp_type: TimestampType = "CreateTime",
    log_append_time: int = -1,
) -> bytes:
    """The records, whose offsets are absolute, as magic 0 or 1: one by one, or compressed in one outer record.

    With LogAppendTime every timestamp becomes `log_append_time`. Raises: ValueError for headers, zstd, another magic,
    or no records.
    """
    records = list(records)
    if magic not in (0, 1) or codec == "zstd" or not records or any(record.headers for record in records):
        raise ValueError("not to be expressed in magic 0 or 1")
    attributes = 0
    if magic and timestamp_type == "LogAppendTime":
        attributes = LOG_APPEND_TIME
        records = [Record(r.offset, log_append_time, r.key, r.value) for r in records]
    if codec == "none":
        return b"".join(_entry(record, record.offset, magic, attributes) for record in records)
    first = records[0].offset if magic else 0
    inner = b"".join(_entry(record, record.offset - first, magic, attributes) for record in records)
    outer = Record(
        timestamp=max(record.timestamp for record in records),
        value=compression.compress(codec, inner, level, magic=magic),
    )
    return _entry(outer, records[-1].offset, magic, attributes | CODECS.index(codec))


def _entry(record: Record, offset: int, magic: int, attributes: int) -> bytes:
    parts = [bytes((magic, attributes)), _INT64.pack(record.timestamp) if magic else b""]
    for field in (record.key, record.value):
        parts += _INT32.pack(-1 if field is None else len(field)), bytes(field or b"")
    body = b"".join(parts)
    return _OFFSET_SIZE.pack(offset, len(body) + 4) + struct.pack(">I", zlib.crc32(body)) + body

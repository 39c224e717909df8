"""Record batches: headers without their records, checksums, stamping in place, reading and building.

A log, a Produce body and a Fetch answer are all the same thing: batches, one after the other. A magic-2 batch is

    base offset 8 | size of the rest 4 | leader epoch 4 | magic 1 | CRC-32C 4 | attributes 2 | last offset delta 4 |
    base timestamp 8 | max timestamp 8 | producer id 8 | producer epoch 2 | base sequence 4 | record count 4 | records

The CRC covers everything from the attributes on, so that a leader can stamp base offset and leader epoch without
computing it again. Magic 0 and 1 (before Kafka 0.11) share the first 17 bytes' layout as far as the magic byte; the
rest of them is in `legacy.py`. Source: KIP-98, KIP-32, KIP-534 (delete horizon).
"""

import struct
from collections.abc import Iterable, Iterator
from typing import Literal

import msgspec
from crc32c import crc32c

from kpybroker.wire.errors import CorruptRecords, RecordsFault
from kpybroker.wire.records import compression
from kpybroker.wire.records.record import (
    Data,
    Frame,
    Record,
    decode_records,
    decode_stream,
    encode_record,
    invalid,
)

Buffer = Data
Codec = Literal["none", "gzip", "snappy", "lz4", "zstd"]
TimestampType = Literal["NoTimestampType", "CreateTime", "LogAppendTime"]

CODECS: tuple[Codec, ...] = ("none", "gzip", "snappy", "lz4", "zstd")
"""Codec names; the index is the number in a batch's attributes."""

LOG_OVERHEAD = 12
"""Bytes of base offset and size, which the size field does not count."""
BATCH_OVERHEAD = 61
"""Bytes of a magic-2 header; records begin there."""
UP_TO_MAGIC = 17
"""Bytes needed to see size and magic."""
SIZE_MIN = 14
"""Least value of the size field in any magic (a magic-0 record without key and value)."""
INT32_MAX = 2**31 - 1

CODEC_MASK = 0x07
LOG_APPEND_TIME = 0x08
TRANSACTIONAL = 0x10
CONTROL = 0x20
DELETE_HORIZON = 0x40

NO_TIMESTAMP = -1
NO_PRODUCER_ID = -1
NO_SEQUENCE = -1

_HEADER = struct.Struct(">qiibIhiqqqhii")
_SIZE_MAGIC = struct.Struct(">8xi4xb")
_SIZE = struct.Struct(">8xi")
_STAMP = struct.Struct(">qii")
_INT64 = struct.Struct(">q")
_INT32 = struct.Struct(">i")
_UINT32 = struct.Struct(">I")
_BEFORE_CRC = struct.Struct(">qiibI")
_AFTER_CRC = struct.Struct(">hiqqqhii")
_CRC_AT = 17
_ATTRIBUTES_AT = 21
_MAX_TIMESTAMP_AT = 35


class BatchHeader(msgspec.Struct, frozen=True, gc=False):
    """What a batch says of itself. `length` is the whole batch in bytes, header included.

    For magic 0 and 1 `base_offset` is the offset in the outer record, which is the batch's last one (the first is known
    only after decompression: `legacy.base_offset`), `count` is -1 (not written down), producer fields are -1.
    """

    base_offset: int
    length: int
    partition_leader_epoch: int
    magic: int
    crc: int
    attributes: int
    last_offset_delta: int
    base_timestamp: int
    max_timestamp: int
    producer_id: int
    producer_epoch: int
    base_sequence: int
    count: int

    @property
    def last_offset(self) -> int:
        """Offset of the last record, also if compaction removed that record."""
        return self.base_offset + self.last_offset_delta

    @property
    def next_offset(self) -> int:
        """The offset after the last one."""
        return self.base_offset + self.last_offset_delta + 1

    @property
    def is_compressed(self) -> bool:
        """Whether the records are compressed, by whatever codec."""
        return self.attributes & CODEC_MASK != 0

    @property
    def codec(self) -> Codec:
        """The codec's name. Raises: CorruptRecords (UNREADABLE) for the numbers 5 to 7, which mean nothing."""
        number = self.attributes & CODEC_MASK
        if number >= len(CODECS):
            raise CorruptRecords(RecordsFault.UNREADABLE, f"unknown compression codec {number}")
        return CODECS[number]

    @property
    def timestamp_type(self) -> TimestampType:
        """Who set the timestamps: the producer (CreateTime) or the broker (LogAppendTime); magic 0 has none."""
        if self.attributes & LOG_APPEND_TIME and self.magic:
            return "LogAppendTime"
        return "CreateTime" if self.magic else "NoTimestampType"

    @property
    def is_transactional(self) -> bool:
        """Whether the batch belongs to a transaction (KIP-98)."""
        return self.attributes & TRANSACTIONAL != 0 and self.magic >= 2

    @property
    def is_control(self) -> bool:
        """Whether the batch holds control records (markers, leader changes) instead of a user's."""
        return self.attributes & CONTROL != 0 and self.magic >= 2

    @property
    def delete_horizon_ms(self) -> int | None:
        """When tombstones and markers in it may go (KIP-534); the base timestamp field holds it. None: not set."""
        if self.attributes & DELETE_HORIZON and self.magic >= 2:
            return self.base_timestamp
        return None

    @property
    def last_sequence(self) -> int:
        """The producer's sequence number of the last record, wrapping after 2**31 - 1; -1 without one."""
        if self.base_sequence == NO_SEQUENCE:
            return NO_SEQUENCE
        return increment_sequence(self.base_sequence, self.last_offset_delta)


def increment_sequence(sequence: int, increment: int) -> int:
    """A producer's sequence number `increment` later: after 2**31 - 1 comes 0."""
    total = sequence + increment
    return total if total <= INT32_MAX else total - INT32_MAX - 1


def split(buffer: Buffer, position: int = 0, *, size_max: int = INT32_MAX) -> Iterator[tuple[int, int]]:
    """Position and length in bytes of each whole batch from `position` on; an incomplete last one is left out.

    Only size and magic are looked at, the rule of Kafka's own reader of batches in memory. Raises: CorruptRecords, kind
    CORRUPT for a size below 14 or above `size_max` or a magic other than 0, 1, 2 (also where the batch itself is
    incomplete), UNREADABLE for a size that overflows with the 12 bytes before it.
    """
    end = len(buffer)
    while (remaining := end - position) >= LOG_OVERHEAD:
        (size,) = _SIZE.unpack_from(buffer, position)
        if size < SIZE_MIN:
            raise CorruptRecords(
                RecordsFault.CORRUPT, f"Record size {size} is less than the minimum record overhead ({SIZE_MIN})"
            )
        if size > size_max:
            raise CorruptRecords(
                RecordsFault.CORRUPT, f"Record size {size} exceeds the largest allowable message size ({size_max})."
            )
        if remaining < UP_TO_MAGIC:
            return
        magic = buffer[position + 16]
        if magic > 2:
            raise CorruptRecords(RecordsFault.CORRUPT, f"Invalid magic found in record: {_signed_byte(magic)}")
        length = size + LOG_OVERHEAD
        if length > INT32_MAX:
            raise CorruptRecords(RecordsFault.UNREADABLE, f"record size {size} leaves no room for its own header")
        if remaining < length:
            return
        yield position, length
        position += length


def iter_headers(buffer: Buffer, position: int = 0) -> Iterator[tuple[int, BatchHeader]]:
    """Position and header of each whole batch from `position` on; an incomplete last one is left out.

    Raises: CorruptRecords as `split` and `read_header` do.
    """
    for start, _ in split(buffer, position):
        yield start, read_header(buffer, start)


def read_header(buffer: Buffer, position: int = 0) -> BatchHeader:
    """The header at `position`; the records need not be in the buffer, the first 61 bytes do (26 for magic 0 and 1).

    Raises: CorruptRecords, kind CORRUPT for a size too small for its magic or an unknown magic, TRUNCATED when the
    buffer ends inside the header.
    """
    try:
        (
            base_offset,
            size,
            leader_epoch,
            magic,
            crc,
            attributes,
            last_offset_delta,
            base_timestamp,
            max_timestamp,
            producer_id,
            producer_epoch,
            base_sequence,
            count,
        ) = _HEADER.unpack_from(buffer, position)
    except struct.error:
        return _read_unusual_header(buffer, position)
    if magic != 2 or size < BATCH_OVERHEAD - LOG_OVERHEAD:
        return _read_unusual_header(buffer, position)
    return BatchHeader(
        base_offset,
        size + LOG_OVERHEAD,
        leader_epoch,
        2,
        crc,
        attributes,
        last_offset_delta,
        base_timestamp,
        max_timestamp,
        producer_id,
        producer_epoch,
        base_sequence,
        count,
    )


def _read_unusual_header(buffer: Buffer, position: int) -> BatchHeader:
    """A header that isn't a whole magic-2 one: an old magic, or the right refusal."""
    if len(buffer) - position < UP_TO_MAGIC:
        raise CorruptRecords(RecordsFault.TRUNCATED, f"batch header cut after {len(buffer) - position} bytes")
    size, magic = _SIZE_MAGIC.unpack_from(buffer, position)
    if size < SIZE_MIN:
        raise CorruptRecords(
            RecordsFault.CORRUPT, f"Record size {size} is less than the minimum record overhead ({SIZE_MIN})"
        )
    if not 0 <= magic <= 2:
        raise CorruptRecords(RecordsFault.CORRUPT, f"Invalid magic found in record: {magic}")
    if magic < 2:
        from kpybroker.wire.records import legacy

        return legacy.read_header(buffer, position)
    length = size + LOG_OVERHEAD
    if length < BATCH_OVERHEAD:
        raise CorruptRecords(
            RecordsFault.CORRUPT,
            f"Record batch is corrupt (the size {length} is smaller than the minimum allowed overhead "
            f"{BATCH_OVERHEAD})",
        )
    raise CorruptRecords(RecordsFault.TRUNCATED, f"batch header cut after {len(buffer) - position} bytes")


def check_crc(buffer: Buffer, position: int, header: BatchHeader) -> None:
    """Compare the stored checksum with the bytes; no copy is made.

    Raises: CorruptRecords, kind CORRUPT when they differ, TRUNCATED when the batch is not whole in the buffer.
    """
    end = position + header.length
    if end > len(buffer):
        raise CorruptRecords(
            RecordsFault.TRUNCATED, f"batch of {header.length} bytes cut after {len(buffer) - position}"
        )
    if header.magic < 2:
        from kpybroker.wire.records import legacy

        computed = legacy.compute_crc(buffer, position, header.length)
    else:
        computed = crc32c(memoryview(buffer)[position + _ATTRIBUTES_AT : end])
    if computed != header.crc:
        raise CorruptRecords(
            RecordsFault.CORRUPT, f"Record is corrupt (stored crc = {header.crc}, computed crc = {computed})"
        )


def stamp(
    buffer: bytearray | memoryview, position: int, header: BatchHeader, *, base_offset: int, leader_epoch: int
) -> None:
    """Write base offset and leader epoch into a magic-2 batch where it lies. The CRC stays right: it covers neither.

    `header` is the one read at `position`. Raises: TypeError when the buffer is read-only.
    """
    _STAMP.pack_into(buffer, position, base_offset, header.length - LOG_OVERHEAD, leader_epoch)


def stamp_timestamps(
    buffer: bytearray | memoryview, position: int, header: BatchHeader, *, attributes: int, max_timestamp: int
) -> None:
    """Write attributes and max timestamp into a magic-2 batch where it lies, and the CRC that follows from them."""
    struct.pack_into(">h", buffer, position + _ATTRIBUTES_AT, attributes)
    _INT64.pack_into(buffer, position + _MAX_TIMESTAMP_AT, max_timestamp)
    computed = crc32c(memoryview(buffer)[position + _ATTRIBUTES_AT : position + header.length])
    _UINT32.pack_into(buffer, position + _CRC_AT, computed)


def iter_records(buffer: Buffer, position: int = 0, *, bytes_max: int = compression.BYTES_MAX) -> Iterator[Record]:
    """The records of the batch at `position`, one after the other; decompressed ones a chunk at a time.

    With LogAppendTime every record has the batch's max timestamp. The CRC of magic 2 is not checked. Raises:
    CorruptRecords of any kind; TOO_LARGE when more than `bytes_max` come out of the decompression.
    """
    header = read_header(buffer, position)
    end = position + header.length
    if end > len(buffer):
        raise CorruptRecords(
            RecordsFault.TRUNCATED, f"batch of {header.length} bytes cut after {len(buffer) - position}"
        )
    if header.magic < 2:
        from kpybroker.wire.records import legacy  # old segments only

        yield from legacy.iter_records(buffer, position, header, bytes_max=bytes_max)
        return
    if header.count == 0:
        return
    codec = header.codec
    if header.count < 0:
        raise invalid(f"Found invalid record count {header.count} in magic v2 batch")
    if codec == "none":
        data = buffer if end == len(buffer) else memoryview(buffer)[:end]
        yield from decode_records(data, position + BATCH_OVERHEAD, header.count, frame_of(header))
    else:
        chunks = compression.decompressed(codec, memoryview(buffer)[position + BATCH_OVERHEAD : end])
        yield from decode_stream(compression.limited(chunks, bytes_max), header.count, frame_of(header))


def read_records(buffer: Buffer, position: int = 0, *, bytes_max: int = compression.BYTES_MAX) -> list[Record]:
    """All records of the batch at `position`; see `iter_records`."""
    return list(iter_records(buffer, position, bytes_max=bytes_max))


def frame_of(header: BatchHeader) -> Frame:
    """What the records of a batch take from its header."""
    log_append_time = header.max_timestamp if header.attributes & LOG_APPEND_TIME else None
    return Frame(header.base_offset, header.base_timestamp, log_append_time)


def build_batch(
    records: Iterable[Record],
    *,
    base_offset: int = 0,
    codec: Codec = "none",
    level: int | None = None,
    timestamp_type: TimestampType = "CreateTime",
    log_append_time: int = NO_TIMESTAMP,
    producer_id: int = NO_PRODUCER_ID,
    producer_epoch: int = -1,
    base_sequence: int = NO_SEQUENCE,
    leader_epoch: int = -1,
    transactional: bool = False,
    control: bool = False,
    delete_horizon_ms: int | None = None,
    last_offset: int | None = None,
    max_timestamp: int | None = None,
) -> bytes:
    """A magic-2 batch of `records`, laid out as Kafka's own writer does.

    `last_offset` and `max_timestamp` are those of the records unless given: compaction keeps the ones that the batch
    had, and a batch that lost all its records needs both. With LogAppendTime the max timestamp is `log_append_time` and
    the records keep what they have. Raises: ValueError for a level that the codec does not have, or an empty batch
    without a last offset.
    """
    attributes = (
        CODECS.index(codec)
        | (LOG_APPEND_TIME if timestamp_type == "LogAppendTime" else 0)
        | (TRANSACTIONAL if transactional else 0)
        | (CONTROL if control else 0)
        | (DELETE_HORIZON if delete_horizon_ms is not None else 0)
    )
    body = _Body(base_offset, delete_horizon_ms)
    stream = None if codec == "none" else compression.compressor(codec, level)
    payload = b"".join(body.plain(records) if stream is None else body.compressed(records, stream))
    if timestamp_type == "LogAppendTime":
        body.max_timestamp = log_append_time
    if last_offset is None:
        if not body.count:
            raise ValueError("a batch without records needs a last offset")
        last_offset = body.last_offset
    after_crc = _AFTER_CRC.pack(
        attributes,
        last_offset - base_offset,
        NO_TIMESTAMP if body.base_timestamp is None else body.base_timestamp,
        body.max_timestamp if max_timestamp is None else max_timestamp,
        producer_id,
        producer_epoch,
        base_sequence,
        body.count,
    )
    size = BATCH_OVERHEAD - LOG_OVERHEAD + len(payload)
    before_crc = _BEFORE_CRC.pack(base_offset, size, leader_epoch, 2, crc32c(payload, crc32c(after_crc)))
    return before_crc + after_crc + payload


def rebuilt(
    header: BatchHeader,
    payload: Iterable[bytes],
    *,
    count: int,
    base_timestamp: int,
    max_timestamp: int,
    attributes: int,
) -> bytes:
    """The magic-2 batch of `header` with other records: `payload` are their encoded bytes, `count` their number.

    Offsets, producer and leader epoch stay what they are, also where the last record is gone: a producer's last
    sequence number is told by the last offset. The codec is the one that `attributes` name, at its default level.
    """
    codec = CODECS[attributes & CODEC_MASK]
    if codec == "none":
        body = b"".join(payload)
    else:
        stream = compression.compressor(codec)
        body = b"".join([*(stream.write(piece) for piece in payload), stream.finish()])
    after_crc = _AFTER_CRC.pack(
        attributes,
        header.last_offset_delta,
        base_timestamp,
        max_timestamp,
        header.producer_id,
        header.producer_epoch,
        header.base_sequence,
        count,
    )
    size = BATCH_OVERHEAD - LOG_OVERHEAD + len(body)
    before_crc = _BEFORE_CRC.pack(
        header.base_offset, size, header.partition_leader_epoch, 2, crc32c(body, crc32c(after_crc))
    )
    return before_crc + after_crc + body


class _Body:
    """The records of a batch on their way into bytes, and what the header says about them."""

    def __init__(self, base_offset: int, delete_horizon_ms: int | None) -> None:
        self.base_offset = base_offset
        self.base_timestamp = delete_horizon_ms
        self.max_timestamp = NO_TIMESTAMP
        self.last_offset = base_offset - 1
        self.count = 0

    def plain(self, records: Iterable[Record]) -> Iterator[bytes]:
        for record in records:
            offset = record.offset if record.offset >= 0 else self.last_offset + 1
            if self.base_timestamp is None:
                self.base_timestamp = record.timestamp
            self.max_timestamp = max(self.max_timestamp, record.timestamp)
            self.last_offset = offset
            self.count += 1
            yield encode_record(record, offset - self.base_offset, self.base_timestamp)

    def compressed(self, records: Iterable[Record], stream: compression.Compressor) -> Iterator[bytes]:
        """The compressed stream; what goes into it is collected into pieces worth a call."""
        pending: list[bytes] = []
        pending_bytes = 0
        for encoded in self.plain(records):
            pending.append(encoded)
            pending_bytes += len(encoded)
            if pending_bytes >= compression.CHUNK_BYTES:
                yield stream.write(b"".join(pending))
                pending, pending_bytes = [], 0
        yield stream.write(b"".join(pending))
        yield stream.finish()


def _signed_byte(value: int) -> int:
    return value - 256 if value > 127 else value

"""The records inside a magic-2 batch: encoding and decoding. `walk.py` checks them without decoding.

A record is: length, attributes 1 (unused), timestamp delta, offset delta, key length, key, value length, value, header
count, then per header key length, key, value length, value. Lengths, counts and deltas are zig-zag varints of at most 5
bytes (the timestamp delta 10); a negative length means null, which a header's key must not be. Source: KIP-98.
"""

from collections.abc import Iterator

import msgspec

from kpybroker.wire.errors import CorruptRecords, RecordsFault

Data = bytes | bytearray | memoryview
Headers = tuple[tuple[str, bytes | None], ...]

LEFT_OVER = "Incorrect declared batch size, records still remaining in file"

_INT64_MIN, _INT64_MAX = -(2**63), 2**63 - 1
_ZIGZAG = tuple((number >> 1) ^ -(number & 1) for number in range(128))
_BYTES = tuple(bytes((number,)) for number in range(256))
_NULL = _BYTES[1]  # the varint -1


class Record(msgspec.Struct, frozen=True, gc=False):
    """One record. `timestamp` in ms since 1970, -1 for none.

    `offset` is absolute; -1 in a record to be written means the one after its predecessor. Header keys that are not
    UTF-8 keep their bytes as surrogates, and are written back as they were.
    """

    offset: int = -1
    timestamp: int = -1
    key: bytes | memoryview | None = None
    value: bytes | memoryview | None = None
    headers: Headers = ()


def wrapped_int64(number: int) -> int:
    """`number` as a signed 64-bit integer that overflows as Java's do: deltas may point anywhere."""
    if _INT64_MIN <= number <= _INT64_MAX:
        return number
    return (number + 2**63) % 2**64 - 2**63


# Encoding


def varint(number: int) -> bytes:
    """`number` (32 or 64 bits) as a zig-zag varint."""
    raw = number << 1 if number >= 0 else ~(number << 1)
    if raw < 128:
        return _BYTES[raw]
    encoded = bytearray()
    while raw >= 128:
        encoded.append(raw & 0x7F | 0x80)
        raw >>= 7
    encoded.append(raw)
    return bytes(encoded)


def encode_record(record: Record, offset_delta: int, base_timestamp: int) -> bytes:
    """The bytes of `record` in a batch with `base_timestamp`."""
    key, value, headers = record.key, record.value, record.headers
    parts = [
        b"\x00",
        varint(wrapped_int64(record.timestamp - base_timestamp)),
        varint(offset_delta),
        _NULL if key is None else varint(len(key)),
        key or b"",
        _NULL if value is None else varint(len(value)),
        value or b"",
        varint(len(headers)),
    ]
    for header_key, header_value in headers:
        name = header_key.encode("utf-8", "surrogateescape")
        parts += varint(len(name)), name
        if header_value is None:
            parts.append(_NULL)
        else:
            parts += varint(len(header_value)), header_value
    body = b"".join(parts)
    return varint(len(body)) + body


# Decoding


def read_varint(data: Data, position: int) -> tuple[int, int]:
    """(The 32-bit number, where it ends). Raises: IndexError past the end, ValueError after 5 bytes."""
    raw = shift = 0
    while True:
        byte = data[position]
        position += 1
        raw |= (byte & 0x7F) << shift
        if byte < 128:
            break
        shift += 7
        if shift == 35:
            raise ValueError("varint of more than 5 bytes")
    raw &= 0xFFFFFFFF
    return (raw >> 1) ^ -(raw & 1), position


def read_varlong(data: Data, position: int) -> tuple[int, int]:
    """(The 64-bit number, where it ends). Raises: IndexError past the end, ValueError after 10 bytes."""
    raw = shift = 0
    while True:
        byte = data[position]
        position += 1
        raw |= (byte & 0x7F) << shift
        if byte < 128:
            break
        shift += 7
        if shift == 70:
            raise ValueError("varint of more than 10 bytes")
    raw &= 0xFFFFFFFFFFFFFFFF
    return (raw >> 1) ^ -(raw & 1), position


def invalid(why: str) -> CorruptRecords:
    """The error for records that break the format's rules."""
    return CorruptRecords(RecordsFault.INVALID, why)


class Frame(msgspec.Struct, frozen=True, gc=False):
    """What a batch's header gives its records: `log_append_time` replaces every timestamp if it isn't None."""

    base_offset: int
    base_timestamp: int
    log_append_time: int | None


def _decode_body(data: Data, position: int, end: int, frame: Frame) -> Record:
    """The record whose body is `data[position:end]`; `data` holds that much."""
    start = position
    try:
        timestamp_delta, position = read_varlong(data, position + 1)
        offset_delta, position = read_varint(data, position)
        key, position = _read_bytes(data, position, end)
        value, position = _read_bytes(data, position, end)
        count, position = read_varint(data, position)
        if count < 0 or count > end - position:
            raise invalid(f"Found invalid number of record headers {count}")
        headers: Headers = ()
        if count:
            headers, position = _read_headers(data, position, end, count)
    except (IndexError, ValueError) as error:
        raise invalid(f"Found invalid record structure: {error}") from None
    if position != end:
        raise invalid(
            f"Invalid record size: expected to read {end - start} bytes in record payload, "
            f"but instead read {position - start}"
        )
    timestamp = frame.log_append_time
    if timestamp is None:
        timestamp = wrapped_int64(frame.base_timestamp + timestamp_delta)
    return Record(frame.base_offset + offset_delta, timestamp, key, value, headers)


def _read_bytes(data: Data, position: int, end: int) -> tuple[bytes | None, int]:
    byte = data[position]
    if byte < 128:
        length = _ZIGZAG[byte]
        position += 1
    else:
        length, position = read_varint(data, position)
    if length < 0:
        return None, position
    after = position + length
    if after > end:
        raise ValueError(f"{length} bytes announced, {end - position} left")
    return bytes(data[position:after]), after


def _read_headers(data: Data, position: int, end: int, count: int) -> tuple[Headers, int]:
    headers = []
    for _ in range(count):
        key, position = _read_bytes(data, position, end)
        if key is None:
            raise invalid("Invalid negative header key size")
        value, position = _read_bytes(data, position, end)
        headers.append((key.decode("utf-8", "surrogateescape"), value))
    return tuple(headers), position


def decode_records(data: Data, position: int, count: int, frame: Frame) -> Iterator[Record]:
    """The `count` records of an uncompressed batch that begin at `position` and fill `data` to its end.

    Raises: CorruptRecords, kind INVALID, or UNREADABLE where Kafka's reader trips over a record's length.
    """
    end_of_data = len(data)
    for left in range(count - 1, -1, -1):
        try:
            length, position = read_varint(data, position)
        except IndexError:
            raise invalid("Incorrect declared batch size, premature EOF reached") from None
        except ValueError as error:
            raise CorruptRecords(RecordsFault.UNREADABLE, f"record length: {error}") from None
        end = position + length
        if end > end_of_data:
            raise invalid(
                f"Invalid record size: expected {length} bytes in record payload, "
                f"but instead the buffer has only {end_of_data - position} remaining bytes."
            )
        record = _decode_body(data, position, end, frame)
        position = end
        if not left and position != end_of_data:
            raise invalid(LEFT_OVER)
        yield record


def decode_stream(chunks: Iterator[bytes], count: int, frame: Frame) -> Iterator[Record]:
    """The `count` records that a decompressed stream consists of; holds a chunk and a record, not the whole.

    Raises: CorruptRecords, kind INVALID, and what `chunks` raises.
    """
    data: bytes = b""
    position = 0
    for left in range(count - 1, -1, -1):
        try:
            data, position, length = _stream_length(data, position, chunks)
            if position + length > len(data):
                data, position = refilled(data, position, position + length - len(data), chunks), 0
        except EOFError:
            raise invalid("Incorrect declared batch size, premature EOF reached") from None
        end = position + length
        record = _decode_body(data, position, end, frame)
        position = end
        if not left and (position < len(data) or next(chunks, None) is not None):
            raise invalid(LEFT_OVER)
        yield record


def _stream_length(data: bytes, position: int, chunks: Iterator[bytes]) -> tuple[bytes, int, int]:
    """(The data, where the record's body begins in it, how long that is), with more data where the length is cut."""
    while True:
        try:
            length, body = read_varint(data, position)
        except IndexError:
            data, position = refilled(data, position, 1, chunks), 0
            continue
        except ValueError as error:
            raise invalid(f"record length: {error}") from None
        if length < 0:
            raise invalid(f"Invalid record size {length}")
        return data, body, length


def refilled(data: Data, position: int, missing: int, chunks: Iterator[bytes]) -> bytes:
    """`data` from `position` on with at least `missing` more bytes behind it. Raises: EOFError if they don't come."""
    parts = [data[position:]]
    while missing > 0:
        chunk = next(chunks, None)
        if chunk is None:
            raise EOFError
        parts.append(chunk)
        missing -= len(chunk)
    return b"".join(parts)

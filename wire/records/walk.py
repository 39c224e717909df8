"""A walk over a batch's records that looks at no key and no value: what a leader does with every produced batch.

Three readers of the same bytes, each falling back to the next:

- the uniform run: records of one shape (same lengths throughout, no headers) repeat at a fixed stride, so the bytes of
  their heads are columns, which slices with a step compare without a loop in Python;
- the ordinary record, by the loop in `_Seen._one_by_one`, which accepts all common shapes and stops at anything else;
- the careful reader: `record.decode_records` for a batch that lies there uncompressed, `_Source` for a stream of
  decompressed chunks. They alone decide what is an error.

What they check differs, as in Kafka: without compression every length must agree with the others; in a compressed batch
a record's own length has to be possible, but is not compared with those of its parts.
"""

from collections.abc import Callable, Iterator

import msgspec

from kpybroker.wire.errors import CorruptRecords, RecordsFault
from kpybroker.wire.records.record import (
    LEFT_OVER,
    Data,
    Frame,
    decode_records,
    invalid,
    read_varint,
    read_varlong,
    refilled,
    wrapped_int64,
)

_FRAME = Frame(0, 0, None)

UNORDERED_MAX = 100_000
"""Most records of a compressed batch that are looked at when their offsets are not consecutive."""

_RUN_MIN = 6  # records that must be left for a uniform run to be worth looking for
_RUN_PAUSE = 64  # records to go on one by one after finding none, then twice as many, and so on
_COPIED_MAX = 1 << 16  # bytes that are copied sooner than a memoryview's items are read
_NO_RUN = (0, 0, 0, False)
_EVEN = bytes(range(0, 256, 2))
_CONTINUED = bytes(range(128, 256))  # bytes of a varint that are not its last
_OFFSETS_1 = bytes(range(0, 128, 2))  # offset deltas 0 to 63 as one-byte varints
_OFFSETS_LOW = bytes(range(128, 256, 2)) * 128  # the first byte of offset deltas 0 to 8191 as two-byte varints
_OFFSETS_HIGH = b"".join(bytes((high,)) * 64 for high in range(128))  # and the second
_LENGTH_MAX = 2**31 - 6  # with its own five bytes still an int32
_HEADERS_MAX = 1 << 20  # of one record in a compressed batch: a few bytes could unfold into billions of empty ones


class Walked(msgspec.Struct, frozen=True, gc=False):
    """What a walk saw of a batch's records.

    All timestamp deltas are at least `delta_min`, which is at most 0, and `delta_max` is the largest of them or, when
    all are negative, -1. `null_keys`: some key is null. `consecutive`: the offset deltas are 0, 1, 2 and so on.
    """

    delta_min: int
    delta_max: int
    null_keys: bool
    consecutive: bool


class Head(msgspec.Struct, frozen=True, gc=False):
    """A record without its contents; a null key or value has a negative size."""

    offset_delta: int
    timestamp: int
    key_size: int
    value_size: int


def walk(data: Data, position: int, count: int) -> Walked:
    """Check the `count` records of an uncompressed batch that begin at `position` and fill `data`, and sum them up.

    Raises: CorruptRecords, as `decode_records` does for the same bytes.
    """
    if len(data) <= _COPIED_MAX and isinstance(data, memoryview):
        data = bytes(data)
    found = taken, stride, highest, null_keys = _uniform_run(data, position, 0, count)
    if taken == count and count and position + taken * stride == len(data):
        return Walked(0, highest >> 1, null_keys, True)
    seen = _Seen()
    index, position = seen.run(data, position, 0, count, found)
    if index < count:  # something is out of the ordinary: the careful reader goes on from there
        for record in decode_records(data, position, count - index, _FRAME):
            seen.add(record.offset == index, record.timestamp, record.key is not None)
            index += 1
    elif position != len(data) and count:
        raise invalid(LEFT_OVER)
    return seen.result()


def walk_stream(chunks: Iterator[bytes], count: int) -> Walked:
    """Check the `count` records of a decompressed stream, and sum them up. Holds about one chunk.

    Raises: CorruptRecords, kind INVALID, what `chunks` raises, and TOO_LARGE after `UNORDERED_MAX` records when the
    offsets turn out not to be consecutive: a few bytes may unfold into billions of the same record.
    """
    seen = _Seen()
    if not count:
        return seen.result()
    source = _Source(chunks)
    source.data = next(chunks, b"")
    index = 0
    while index < count:
        index, source.position = seen.run(source.data, source.position, index, count)
        if index < count:  # cut by the chunk's end, or out of the ordinary
            head = source.read_head(_FRAME)
            seen.add(head.offset_delta == index, head.timestamp, head.key_size >= 0)
            index += 1
        if index > UNORDERED_MAX and not seen.consecutive:
            raise too_many_unordered()
    source.expect_end()
    return seen.result()


def too_many_unordered() -> CorruptRecords:
    """The error for more than `UNORDERED_MAX` records whose offsets are not consecutive."""
    return CorruptRecords(
        RecordsFault.TOO_LARGE,
        f"more than {UNORDERED_MAX} records in a compressed batch, and their offsets out of order",
    )


def stream_heads(chunks: Iterator[bytes], count: int, frame: Frame) -> Iterator[Head]:
    """Each record's head, read as `walk_stream` reads; raises the same."""
    source = _Source(chunks)
    for _ in range(count):
        yield source.read_head(frame)
    source.expect_end()


class _Source:
    """A decompressed stream, read byte by byte where records are long, odd or lie across two chunks."""

    __slots__ = ("_chunks", "data", "position")

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self.data = b""
        self.position = 0

    def read_head(self, frame: Frame) -> Head:
        try:
            length = self._varint()
            if not 0 <= length <= _LENGTH_MAX:
                raise invalid(f"Invalid record size {length}")
            self._skip(1)  # attributes
            delta = self._number(read_varlong)
            offset_delta = self._varint()
            key_size = self._varint()
            self._skip(key_size)
            value_size = self._varint()
            self._skip(value_size)
            self._skip_headers(self._varint())
        except ValueError as error:
            raise invalid(f"Found invalid record structure: {error}") from None
        timestamp = frame.log_append_time
        if timestamp is None:
            timestamp = wrapped_int64(frame.base_timestamp + delta)
        return Head(offset_delta, timestamp, key_size, value_size)

    def expect_end(self) -> None:
        if self.position < len(self.data) or next(self._chunks, None) is not None:
            raise invalid(LEFT_OVER)

    def _skip_headers(self, count: int) -> None:
        if count < 0:
            raise invalid(f"Found invalid number of record headers {count}")
        for index in range(count):
            if index == _HEADERS_MAX:
                raise CorruptRecords(RecordsFault.TOO_LARGE, f"a record with more than {_HEADERS_MAX} headers")
            length = self._varint()
            if length < 0:
                raise invalid(f"Invalid negative header key size {length}")
            self._skip(length)
            self._skip(self._varint())

    def _varint(self) -> int:
        return self._number(read_varint)

    def _number(self, read: Callable[[Data, int], tuple[int, int]]) -> int:
        while True:
            try:
                number, self.position = read(self.data, self.position)
            except IndexError:
                try:
                    self.data = refilled(self.data, self.position, 1, self._chunks)
                except EOFError:
                    raise invalid("Incorrect declared batch size, premature EOF reached") from None
                self.position = 0
            else:
                return number

    def _skip(self, count: int) -> None:
        """Pass over `count` bytes, if that is more than none; they are not kept."""
        if count <= 0:
            return
        self.position += count
        while self.position > len(self.data):
            self.position -= len(self.data)
            chunk = next(self._chunks, None)
            if chunk is None:
                raise invalid(f"Reached end of input stream before skipping all bytes. Remaining bytes:{self.position}")
            self.data = chunk


class _Seen:
    """What a walk has seen so far. Timestamp deltas are kept as encoded: even is 0 or more, odd is negative."""

    __slots__ = ("consecutive", "highest", "lowest", "null_keys")

    def __init__(self) -> None:
        self.highest = -2  # the greatest even one
        self.lowest = -1  # the greatest odd one, that is the most negative delta
        self.null_keys = False
        self.consecutive = True

    def add(self, in_place: bool, delta: int, has_key: bool) -> None:
        """One record, from a careful reader."""
        if delta >= 0:
            self.highest = max(self.highest, delta << 1)
        else:
            self.lowest = max(self.lowest, ~(delta << 1))
        self.null_keys |= not has_key
        self.consecutive &= in_place

    def result(self) -> Walked:
        return Walked(-((self.lowest + 1) >> 1), self.highest >> 1, self.null_keys, self.consecutive)

    def run(
        self, data: Data, start: int, index: int, count: int, found: tuple[int, int, int, bool] | None = None
    ) -> tuple[int, int]:
        """Walk records `index` to `count`, the first at `start`, as long as they are ordinary and whole.

        `found`: the uniform run at `start`, if the caller has looked for it.
        Returns the index and position of the first that isn't; what was summed up of that one, its bytes say again.
        """
        pause = _RUN_PAUSE
        while index < count:
            taken, stride, highest, null_keys = found or _uniform_run(data, start, index, count)
            found = None
            if taken:
                self.highest = max(self.highest, highest)
                self.null_keys |= null_keys
                index += taken
                start += taken * stride
                pause = _RUN_PAUSE
            else:
                stop = min(index + pause, count)
                index, start = self._one_by_one(data, start, index, stop)
                if index < stop:
                    break
                pause *= 2
        return index, start

    def _one_by_one(self, data: Data, start: int, index: int, stop: int) -> tuple[int, int]:
        """As `run`. Varints of two bytes are decoded where they stand, a call would cost more than the rest.

        A record that is cut ends in an IndexError, at the latest where its header count should be, its last byte.
        """
        highest, lowest, null_keys = self.highest, self.lowest, self.null_keys
        try:
            while index < stop:
                end, position = data[start], start + 1
                if end > 127:
                    byte = data[position]
                    if byte > 127:
                        end, position = _wide(data, start)
                    else:
                        end, position = end + (byte << 7) - 128, position + 1
                if end & 1:
                    break
                end = position + (end >> 1)
                raw, position = data[position + 1], position + 2
                if raw > 127:
                    byte = data[position]
                    if byte > 127:
                        raw, position = _wide(data, position - 1)
                    else:
                        raw, position = raw + (byte << 7) - 128, position + 1
                if not raw & 1:
                    if raw > highest:
                        highest = raw
                elif raw > lowest:
                    lowest = raw
                raw, position = data[position], position + 1
                if raw > 127:
                    byte = data[position]
                    if byte > 127:
                        raw, position = _wide(data, position - 1)
                    else:
                        raw, position = raw + (byte << 7) - 128, position + 1
                if raw != index + index:
                    self.consecutive = False
                raw, position = data[position], position + 1
                if raw == 1:
                    null_keys = True
                else:
                    if raw > 127:
                        raw, position = _wide(data, position - 1)
                    if raw & 1:
                        break
                    position += raw >> 1
                raw, position = data[position], position + 1
                if raw > 127:
                    byte = data[position]
                    if byte > 127:
                        raw, position = _wide(data, position - 1)
                    else:
                        raw, position = raw + (byte << 7) - 128, position + 1
                if not raw & 1:
                    position += raw >> 1
                elif raw != 1:
                    break
                raw = data[position]
                position = _skip_headers(data, position + 1, raw) if raw else position + 1
                if position != end:
                    break
                start = end
                index += 1
        except (IndexError, ValueError):
            pass
        self.highest, self.lowest, self.null_keys = highest, lowest, null_keys
        return index, start


def _wide(data: Data, position: int) -> tuple[int, int]:
    """(a varint of two to four bytes as it is encoded, where it ends). Raises: ValueError for a longer one."""
    raw = data[position] & 0x7F
    byte = data[position + 1]
    if byte < 128:
        return raw | byte << 7, position + 2
    raw |= (byte & 0x7F) << 7
    byte = data[position + 2]
    if byte < 128:
        return raw | byte << 14, position + 3
    raw |= (byte & 0x7F) << 14
    byte = data[position + 3]
    if byte < 128:
        return raw | byte << 21, position + 4
    raise ValueError("a varint of more than four bytes")


def _skip_headers(data: Data, position: int, raw_count: int) -> int:
    """Where the headers end that begin at `position`. Raises: ValueError for a count or length that isn't ordinary."""
    if raw_count & 1 or raw_count > 127:
        raise ValueError("a header count that isn't ordinary")
    for _ in range(raw_count >> 1):
        raw = data[position]
        position += 1
        if raw > 127:
            raw, position = _wide(data, position - 1)
        if raw & 1:
            raise ValueError("a header without a key")
        position += raw >> 1
        raw = data[position]
        position += 1
        if raw > 127:
            raw, position = _wide(data, position - 1)
        if not raw & 1:
            position += raw >> 1
        elif raw != 1:
            raise ValueError("a negative length")
    return position


def _uniform_run(data: Data, start: int, index: int, count: int) -> tuple[int, int, int, bool]:
    """How many records from `start` on have the shape of the first, no headers, and the offset deltas that they should.

    Returns (that number, bytes from one to the next, their greatest timestamp delta as encoded, whether keys are null);
    all zeros when there is no such run or not everything about it is plain.
    """
    shape = _shape(data, start) if count - index >= _RUN_MIN else None
    if shape is None:
        return _NO_RUN
    stride, timestamp_at, offset_at, key_at, constants, key_raw = shape
    most = (len(data) - start) // stride
    if most > count - index:
        most = count - index
    offsets_left = (64 if key_at - offset_at == 1 else 8192) - index
    if most > offsets_left:
        most = offsets_left
    if most < _RUN_MIN:
        return _NO_RUN
    end = start + most * stride
    for at in constants:
        column = data[at:end:stride]
        if column != bytes((data[at],)) * most:
            column = bytes(column)
            most -= len(column.lstrip(column[:1]))
            if most < _RUN_MIN:
                return _NO_RUN
            end = start + most * stride
    stop = index + most
    if key_at - offset_at == 1:
        if data[offset_at:end:stride] != _OFFSETS_1[index:stop]:
            return _NO_RUN
    elif (
        data[offset_at:end:stride] != _OFFSETS_LOW[index:stop]
        or data[offset_at + 1 : end : stride] != _OFFSETS_HIGH[index:stop]
    ):
        return _NO_RUN
    highest = data[timestamp_at]
    if highest & 1 or highest > 127 or data[timestamp_at:end:stride] != bytes((highest,)) * most:  # not all the same
        highest = _greatest_delta([bytes(data[at:end:stride]) for at in range(timestamp_at, offset_at)])
    return _NO_RUN if highest < 0 else (most, stride, highest, key_raw == 1)


def _shape(data: Data, start: int) -> tuple[int, int, int, int, list[int], int] | None:
    """What the record at `start` looks like; None if not plain, or if the next one is of another length.

    (How many bytes; where timestamp delta, offset delta and key length begin; where the bytes are that a record of the
    same shape has in common with it; its key length as encoded.)
    """
    try:
        raw, position = data[start], start + 1
        if raw > 127:
            raw, position = _wide(data, start)
        end = position + (raw >> 1)
        if raw & 1 or data[start:position] != data[end : end + position - start]:
            return None
        constants = list(range(start, position))
        offset_at = timestamp_at = position + 1
        while data[offset_at] > 127:
            offset_at += 1
        offset_at += 1
        key_at = offset_at + 1
        if data[offset_at] > 127:
            key_at += 1
            if data[offset_at + 1] > 127:
                return None
        if offset_at - timestamp_at > 3:
            return None
        key_raw, position = data[key_at], key_at + 1
        if key_raw != 1:
            if key_raw > 127:
                key_raw, position = _wide(data, key_at)
            if key_raw & 1:
                return None
            constants += range(key_at + 1, position)
            position += key_raw >> 1
        value_at = position
        raw, position = data[value_at], value_at + 1
        if raw != 1:
            if raw > 127:
                raw, position = _wide(data, value_at)
            if raw & 1:
                return None
            constants += range(value_at + 1, position)
            position += raw >> 1
        if position + 1 != end or data[position]:
            return None
    except (IndexError, ValueError):
        return None
    constants += (key_at, value_at, position)
    return end - start, timestamp_at, offset_at, key_at, constants, key_raw


def _greatest_delta(columns: list[bytes]) -> int:
    """The greatest of the varints whose first bytes are `columns[0]` and so on, as encoded; -1 unless all are even."""
    first = columns[0]
    if first.translate(None, _EVEN) or not columns[-1].isascii():
        return -1
    if len(columns) == 1:
        return max(first)
    if any(column.translate(None, _CONTINUED) for column in columns[:-1]):
        return -1
    greatest = 0
    for byte in max(zip(*reversed(columns), strict=True)):
        greatest = greatest << 7 | byte & 0x7F
    return greatest

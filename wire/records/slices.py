"""A batch's records as the bytes that they are, with as much of each as compaction looks at.

Compaction asks of a record its key, its offset, and whether it has a value, and copies what it keeps. So nothing is
built per record but a tuple, and nothing is encoded again unless the batch's base timestamp changes.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from kpybroker.wire.records.record import Data, invalid, read_varint, read_varlong, refilled, varint, wrapped_int64


class RecordSlice(NamedTuple):
    """One record. Deltas are to the batch's base offset and base timestamp."""

    offset_delta: int
    timestamp_delta: int
    key: bytes | None
    has_value: bool
    body: bytes
    """The record without the length before it."""
    after_timestamp: int
    """Where in `body` the timestamp delta ends."""

    def encoded(self) -> bytes:
        """The record with its length, as it was."""
        return varint(len(self.body)) + self.body

    def moved(self, milliseconds: int) -> bytes:
        """The record with its length, in a batch whose base timestamp is so much later."""
        delta = varint(wrapped_int64(self.timestamp_delta - milliseconds))
        rest = self.body[self.after_timestamp :]
        return b"".join((varint(1 + len(delta) + len(rest)), self.body[:1], delta, rest))


def record_slices(chunks: Iterable[Data], count: int) -> Iterator[RecordSlice]:
    """The `count` records that the (decompressed) chunks consist of. Holds a chunk and a record, not the whole.

    Raises: CorruptRecords, kind INVALID, and what `chunks` raises.
    """
    rest = (bytes(chunk) for chunk in chunks)
    data = next(rest, b"")
    position = 0
    for _ in range(count):
        length, start = -1, 0
        while length < 0:
            try:
                length, start = read_varint(data, position)
            except IndexError:  # the chunk ends within the length
                data, position = _more(data, position, 1, rest), 0
                continue
            except ValueError as error:
                raise invalid(f"record length: {error}") from None
            if length < 0:
                raise invalid(f"Invalid record size {length}")
        position = start + length
        if position > len(data):
            data = _more(data, start, position - len(data), rest)
            start, position = 0, length
        yield _slice(data[start:position])
    if position != len(data) or next(rest, None) is not None:
        raise invalid("Incorrect declared batch size, records still remaining in file")


def _more(data: bytes, position: int, missing: int, rest: Iterator[bytes]) -> bytes:
    try:
        return refilled(data, position, missing, rest)
    except EOFError:
        raise invalid("Incorrect declared batch size, premature EOF reached") from None


def _slice(body: bytes) -> RecordSlice:
    try:
        timestamp_delta, after_timestamp = read_varlong(body, 1)
        offset_delta, position = read_varint(body, after_timestamp)
        key_size, position = read_varint(body, position)
        key = None
        if key_size >= 0:
            key = body[position : position + key_size]
            position += key_size
        value_size, _ = read_varint(body, position)
    except (IndexError, ValueError) as error:
        raise invalid(f"Found invalid record structure: {error}") from None
    return RecordSlice(offset_delta, timestamp_delta, key, value_size >= 0, body, after_timestamp)

"""The walk sees what the careful readers see, in every shape of batch, however it is cut into chunks."""

from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kpybroker.wire.errors import CorruptRecords, RecordsFault
from kpybroker.wire.records import walk as walk_module
from kpybroker.wire.records.record import Frame, Record, decode_records, encode_record, varint
from kpybroker.wire.records.walk import UNORDERED_MAX, Walked, stream_heads, walk, walk_stream

FRAME = Frame(0, 0, None)


def encoded(records: list[Record]) -> bytes:
    return b"".join(encode_record(record, index, 0) for index, record in enumerate(records))


def chunked(data: bytes, sizes: list[int]) -> Iterator[bytes]:
    position = 0
    for size in sizes:
        if chunk := data[position : position + size]:
            yield chunk
        position += size
    if position < len(data):
        yield data[position:]


def expected(records: list[tuple[int, int, bool]]) -> Walked:
    """From (offset delta, timestamp delta, has key) of each record."""
    deltas = [delta for _, delta, _ in records]
    return Walked(
        min([0, *deltas]),
        max([-1, *deltas]),
        any(not has_key for _, _, has_key in records),
        [offset for offset, _, _ in records] == list(range(len(records))),
    )


def facts(records: list[Record]) -> list[tuple[int, int, bool]]:
    return [(index, record.timestamp, record.key is not None) for index, record in enumerate(records)]


def uniform(
    count: int, *, step_ms: int = 0, key: bytes | None = None, value: bytes | None = b"v" * 100
) -> list[Record]:
    return [Record(timestamp=index * step_ms, key=key, value=value) for index in range(count)]


SHAPES = {
    "one": uniform(1),
    "just below a run": uniform(5),
    "a run": uniform(6),
    "just above a run": uniform(7),
    "offsets of one and two bytes": uniform(65),
    "offsets of three bytes": uniform(8300, value=b""),
    "timestamps of one, two and three bytes": uniform(500, step_ms=40),
    "timestamps going back": [Record(timestamp=500 - index, value=b"v") for index in range(400)],
    "negative timestamps": [Record(timestamp=-5 - index, value=b"v") for index in range(200)],
    "the same negative timestamp": [Record(timestamp=-1, value=b"v") for _ in range(20)],
    "timestamps on both sides": [Record(timestamp=(-1) ** index * (900 - index), value=b"v") for index in range(200)],
    "timestamps out of order": [Record(timestamp=(index * 37) % 64, value=b"v") for index in range(200)],
    "two-byte timestamps out of order": [
        Record(timestamp=64 + (index * 997) % 8000, value=b"v") for index in range(200)
    ],
    "keys": uniform(100, key=b"key"),
    "long keys": uniform(100, key=b"k" * 300),
    "empty keys": uniform(100, key=b""),
    "null values": uniform(100, value=None, key=b"key"),
    "long values": uniform(40, value=b"v" * 20_000),
    "two shapes in turn": uniform(40) + uniform(40, key=b"key") + uniform(90),
    "one other in the middle": [*uniform(50), Record(value=b"x"), *uniform(50)],
    "same length, other lengths within": [
        Record(key=b"k" * (index % 3 + 1), value=b"v" * (50 - index % 3)) for index in range(200)
    ],
    "headers": [Record(value=b"v", headers=(("h", b"1"), ("g", None))) for _ in range(100)],
    "many headers": [Record(value=b"v", headers=(("h", b"1"),) * 100) for _ in range(3)],
    "far timestamps": [Record(timestamp=index << 40, value=b"v") for index in range(100)],
    "lengths in the keys": uniform(100, key=varint(99), value=varint(77) * 30),
}


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("buffer", [bytes, bytearray, memoryview])
def test_shapes(name: str, buffer: type) -> None:
    records = SHAPES[name]
    data = encoded(records)
    assert walk(buffer(b"header" + data), 6, len(records)) == expected(facts(records))


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("size", [1, 7, 1000, 5000, 128 * 1024])
def test_shapes_in_chunks(name: str, size: int) -> None:
    records = SHAPES[name]
    data = encoded(records)
    if len(data) > 50_000:
        size = max(size, 1000)
    sizes = [size] * (len(data) // size)
    assert walk_stream(chunked(data, sizes), len(records)) == expected(facts(records))
    heads = list(stream_heads(chunked(data, sizes), len(records), FRAME))
    assert [(head.offset_delta, head.timestamp, head.key_size >= 0) for head in heads] == facts(records)


@pytest.mark.parametrize("step_ms", [0, 40])
@pytest.mark.parametrize("key", [None, b"key"])
def test_each_byte_of_a_record_within_a_run(step_ms: int, key: bytes | None) -> None:
    """Whatever a byte of one record becomes, the run does not hide it."""
    records = uniform(200, step_ms=step_ms, key=key, value=b"v")
    whole = encoded(records)
    starts = [len(encoded(records[:index])) for index in (40, 41, 120, 121)]
    for start, end in (starts[:2], starts[2:]):
        for place in range(start, end):
            for flip in (1, 2, 0x80, 0xFF):
                data = bytearray(whole)
                data[place] ^= flip
                same_as_the_careful_reader(bytes(data), 200)
                same_as_the_careful_stream(bytes(data), 200, [])


def test_each_byte_of_a_record_with_long_lengths() -> None:
    """Its lengths are of two bytes each, which all the others have in common."""
    records = uniform(12, key=b"k" * 70, value=b"v" * 70)
    whole = encoded(records)
    length = len(whole) // 12
    for place in range(5 * length, 6 * length):
        for flip in (1, 2, 0x80):
            data = bytearray(whole)
            data[place] ^= flip
            same_as_the_careful_reader(bytes(data), 12)


@pytest.mark.parametrize("place", range(8))
def test_all_records_wrong_in_the_same_way(place: int) -> None:
    """A run of one shape, which is no record's."""
    record = b"\x0e\0\0\0\1\2v\0"
    for value in range(256):
        wrong = bytearray(record)
        wrong[place] = value
        data = b"".join(
            bytes(wrong[:3]) + bytes((wrong[3] + 2 * index & 0xFF,)) + bytes(wrong[4:]) for index in range(9)
        )
        same_as_the_careful_reader(data, 9)


def test_something_behind_a_run() -> None:
    data = encoded(uniform(9)) + b"\0"
    assert outcome(lambda: walk(data, 0, 9)) is RecordsFault.INVALID
    same_as_the_careful_reader(data, 9)


def test_uniform_runs_are_found() -> None:
    data = encoded(uniform(200, step_ms=1))
    taken, stride, highest, null_keys = walk_module._uniform_run(data, 0, 0, 200)
    assert (taken, stride, highest, null_keys) == (64, len(encoded(uniform(1))), 63 * 2, True)
    start = taken * stride
    assert walk_module._uniform_run(data, start, 64, 200)[0] == 136


@given(
    counts=st.lists(st.tuples(st.integers(1, 80), st.integers(0, 3), st.booleans()), min_size=1, max_size=4),
    step_ms=st.integers(-3, 200),
    flips=st.lists(st.integers(0, 10**9), max_size=3),
    sizes=st.lists(st.integers(1, 4000), max_size=6),
)
@settings(max_examples=300, deadline=None)
def test_damaged_records(counts: list[tuple[int, int, bool]], step_ms: int, flips: list[int], sizes: list[int]) -> None:
    records: list[Record] = []
    for count, size, has_key in counts:
        for _ in range(count):
            key = b"k" * size if has_key else None
            records.append(Record(timestamp=len(records) * step_ms, key=key, value=b"v" * size))
    data = bytearray(encoded(records))
    for flip in flips:
        data[flip // 8 % len(data)] ^= 1 << flip % 8
    same_as_the_careful_reader(bytes(data), len(records))
    same_as_the_careful_stream(bytes(data), len(records), sizes)


def outcome(walked: Callable[[], Walked]) -> Walked | RecordsFault:
    try:
        return walked()
    except CorruptRecords as error:
        return error.kind


def same_as_the_careful_reader(data: bytes, count: int) -> None:
    def carefully() -> Walked:
        records = decode_records(data, 0, count, FRAME)
        return expected([(record.offset, record.timestamp, record.key is not None) for record in records])

    assert outcome(lambda: walk(data, 0, count)) == outcome(carefully)


def same_as_the_careful_stream(data: bytes, count: int, sizes: list[int]) -> None:
    def carefully() -> Walked:
        heads = stream_heads(iter([data]), count, FRAME)
        return expected([(head.offset_delta, head.timestamp, head.key_size >= 0) for head in heads])

    assert outcome(lambda: walk_stream(chunked(data, sizes), count)) == outcome(carefully)


def test_a_stream_with_wrong_offsets_is_not_read_to_its_end() -> None:
    record = encode_record(Record(value=b"v"), 0, 0)

    def endless() -> Iterator[bytes]:
        for _ in range(UNORDERED_MAX // 1000 + 1):
            yield record * 1000
        raise AssertionError("read on")

    with pytest.raises(CorruptRecords) as raised:
        walk_stream(endless(), 2**31 - 1)
    assert raised.value.kind is RecordsFault.TOO_LARGE


def test_a_record_of_a_million_headers() -> None:
    count = (1 << 20) + 1
    record = b"\x10\x00\x00\x00\x01\x01" + varint(count)
    for headers, kind in ((b"", RecordsFault.INVALID), (bytes(2 * count), RecordsFault.TOO_LARGE)):
        with pytest.raises(CorruptRecords) as raised:
            walk_stream(iter([record, headers]), 1)
        assert raised.value.kind is kind


def test_no_records() -> None:
    assert walk(b"", 0, 0) == walk_stream(iter([]), 0) == Walked(0, -1, False, True)

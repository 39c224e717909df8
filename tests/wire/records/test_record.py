"""Single records: what goes in comes out, and the edges of their numbers."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kpybroker.wire.records.batch import build_batch, read_header, read_records
from kpybroker.wire.records.record import Record, encode_record, read_varint, read_varlong, varint, wrapped_int64

INT64 = st.integers(-(2**63), 2**63 - 1)

HEADERS = st.lists(st.tuples(st.text(max_size=8), st.none() | st.binary(max_size=8)), max_size=3).map(tuple)
RECORDS = st.lists(
    st.builds(
        Record,
        timestamp=st.integers(-1, 2**62),
        key=st.none() | st.binary(max_size=70),
        value=st.none() | st.binary(max_size=200),
        headers=HEADERS,
    ),
    min_size=1,
    max_size=8,
)


@settings(deadline=None)
@given(RECORDS, st.sampled_from(["none", "gzip", "snappy", "lz4", "zstd"]))
def test_written_and_read(records: list[Record], codec: str) -> None:
    batch = build_batch(records, base_offset=100, codec=codec)  # type: ignore[arg-type]
    expected = [Record(100 + i, r.timestamp, r.key, r.value, r.headers) for i, r in enumerate(records)]
    assert read_records(batch) == expected
    assert read_header(batch).max_timestamp == max(record.timestamp for record in records)


@settings(deadline=None)
@given(st.integers(-(2**31), 2**31 - 1))
def test_varint(number: int) -> None:
    encoded = varint(number)
    assert read_varint(b"x" + encoded, 1) == (number, 1 + len(encoded))
    for end in range(len(encoded)):
        with pytest.raises(IndexError):
            read_varint(encoded[:end], 0)


@settings(deadline=None)
@given(INT64)
def test_varlong(number: int) -> None:
    encoded = varint(number)
    assert len(encoded) <= 10
    assert read_varlong(encoded, 0) == (number, len(encoded))


@pytest.mark.parametrize(
    ("encoded", "number"),
    [
        pytest.param(b"\x80\x80\x80\x80\x00", 0, id="overlong"),
        pytest.param(b"\xff\xff\xff\xff\x0f", -(2**31), id="least"),
        pytest.param(b"\xfe\xff\xff\xff\x7f", 2**31 - 1, id="bits beyond the 32nd are dropped, as by Java"),
    ],
)
def test_five_bytes(encoded: bytes, number: int) -> None:
    assert read_varint(encoded, 0) == (number, 5)


def test_varints_of_too_many_bytes() -> None:
    with pytest.raises(ValueError, match="5 bytes"):
        read_varint(b"\x80" * 5 + b"\x00", 0)
    with pytest.raises(ValueError, match="10 bytes"):
        read_varlong(b"\x80" * 10 + b"\x00", 0)


@settings(deadline=None)
@given(INT64, INT64)
def test_timestamps_at_any_distance(timestamp: int, base: int) -> None:
    assert wrapped_int64(base + wrapped_int64(timestamp - base)) == timestamp
    assert encode_record(Record(timestamp=timestamp), 0, base)


def test_header_keys_that_are_not_utf8_survive() -> None:
    data = bytearray(build_batch([Record(headers=(("ab", b"1"),))]))
    damaged = bytes(data).replace(b"ab", b"\xff\xfe")
    (record,) = read_records(damaged)
    assert record.headers == (("\udcff\udcfe", b"1"),)
    assert read_records(build_batch([record]))[0].headers == record.headers


def test_keys_and_values_may_be_views() -> None:
    record = Record(key=memoryview(b"key"), value=memoryview(b"value"))
    assert read_records(build_batch([record]))[0].value == b"value"

"""Magic 0 and 1, built and read; Kafka's vectors of them run in test_batch."""

from typing import Any

import pytest

from kpybroker.wire.errors import CorruptRecords, RecordsFault
from kpybroker.wire.records import compression
from kpybroker.wire.records.batch import (
    LOG_APPEND_TIME,
    Codec,
    TimestampType,
    check_crc,
    iter_headers,
    iter_records,
    read_header,
    read_records,
)
from kpybroker.wire.records.legacy import base_offset, build_message_set
from kpybroker.wire.records.record import Record

CODECS: tuple[Codec, ...] = ("none", "gzip", "snappy", "lz4")


def records(magic: int, first: int = 40) -> list[Record]:
    times = (7, 9, 8) if magic else (-1, -1, -1)
    contents = ((b"k", b"v"), (None, b""), (b"", None))
    return [Record(first + i, times[i], *contents[i]) for i in range(3)]


@pytest.mark.parametrize("magic", [0, 1])
@pytest.mark.parametrize("codec", CODECS)
def test_built_and_read(magic: int, codec: Codec) -> None:
    data = build_message_set(records(magic), magic=magic, codec=codec)
    read = []
    for position, header in iter_headers(data):
        check_crc(data, position, header)
        read += read_records(data, position)
    assert read == records(magic)
    header = read_header(data)
    assert base_offset(data, 0, header) == 40
    assert (header.magic, header.count, header.producer_id, header.partition_leader_epoch) == (magic, -1, -1, -1)
    if codec != "none":
        assert (header.last_offset, header.max_timestamp) == (42, 9 if magic else -1)


@pytest.mark.parametrize("codec", CODECS)
def test_log_append_time(codec: Codec) -> None:
    data = build_message_set(records(1), magic=1, codec=codec, timestamp_type="LogAppendTime", log_append_time=1234)
    read = [record for position, _ in iter_headers(data) for record in iter_records(data, position)]
    assert [record.timestamp for record in read] == [1234] * 3
    assert read_header(data).timestamp_type == "LogAppendTime"


def test_vectors_written_as_kafka_writes_them(valid_vector: dict[str, Any]) -> None:
    data = bytes.fromhex(valid_vector["hex"])
    header = read_header(data)
    if header.magic == 2:
        return
    read = [record for position, _ in iter_headers(data) for record in iter_records(data, position)]
    kind: TimestampType = "LogAppendTime" if header.attributes & LOG_APPEND_TIME else "CreateTime"
    ours = build_message_set(
        read, magic=header.magic, codec=header.codec, timestamp_type=kind, log_append_time=header.max_timestamp
    )
    if header.is_compressed:
        assert read_records(ours) == read
        mine = read_header(ours)
        assert (mine.base_offset, mine.max_timestamp, mine.attributes) == (
            header.base_offset,
            header.max_timestamp,
            header.attributes,
        )
        if header.codec == "lz4":  # the same frame header, with the right or the wrong checksum
            value_at = 26 if header.magic == 0 else 34
            assert ours[value_at : value_at + 7] == data[value_at : value_at + 7]
    else:
        assert ours == data


def wrapped(inner: bytes, *, offset: int, magic: int = 1, codec: Codec = "gzip") -> bytes:
    """An outer record around whatever `inner` is."""
    data = bytearray(build_message_set([Record(offset, 5, value=compression.compress(codec, inner))], magic=magic))
    data[17] |= 1
    return bytes(data)


def test_an_outer_offset_of_zero_is_relative_to_nothing() -> None:
    inner = build_message_set(records(1, first=3), magic=1)
    assert [r.offset for r in iter_records(wrapped(inner, offset=0))] == [3, 4, 5]


@pytest.mark.parametrize(
    ("batch", "kind"),
    [
        pytest.param(
            wrapped(build_message_set(records(1), magic=1), offset=41), RecordsFault.INVALID, id="offset below"
        ),
        pytest.param(wrapped(b"", offset=9), RecordsFault.INVALID, id="nothing inside"),
        pytest.param(
            wrapped(wrapped(build_message_set(records(1), magic=1), offset=0), offset=0),
            RecordsFault.INVALID,
            id="compressed twice",
        ),
        pytest.param(wrapped(bytes(40), offset=9), RecordsFault.CORRUPT, id="a size of 0 inside"),
    ],
)
def test_refused(batch: bytes, kind: RecordsFault) -> None:
    with pytest.raises(CorruptRecords) as raised:
        read_records(batch)
    assert raised.value.kind is kind


@pytest.mark.parametrize(("magic", "offsets"), [(0, [40, 41, 42]), (1, [0, 1, 2])])
def test_offsets_inside(magic: int, offsets: list[int]) -> None:
    data = build_message_set(records(magic), magic=magic, codec="gzip")
    inner = compression.decompress("gzip", data[26 if magic == 0 else 34 :])
    assert [header.base_offset for _, header in iter_headers(inner)] == offsets


def test_the_outer_log_append_time_holds_for_what_is_inside() -> None:
    data = bytearray(wrapped(build_message_set(records(1), magic=1), offset=42))
    assert [record.timestamp for record in iter_records(data)] == [7, 9, 8]
    data[17] |= LOG_APPEND_TIME
    assert [record.timestamp for record in iter_records(data)] == [5, 5, 5]


def test_an_incomplete_record_inside_is_left_out() -> None:
    inner = build_message_set(records(1), magic=1)
    assert len(read_records(wrapped(inner[:-3], offset=0))) == 2


def test_an_inner_record_with_a_wrong_checksum() -> None:
    inner = bytearray(build_message_set(records(1), magic=1))
    inner[-1] ^= 1
    with pytest.raises(CorruptRecords) as raised:
        read_records(wrapped(bytes(inner), offset=0))
    assert raised.value.kind is RecordsFault.CORRUPT


def test_a_limit_on_what_comes_out() -> None:
    data = build_message_set([Record(0, 5, None, bytes(100_000))], magic=1, codec="gzip")
    with pytest.raises(CorruptRecords) as raised:
        read_records(data, bytes_max=1000)
    assert raised.value.kind is RecordsFault.TOO_LARGE


@pytest.mark.parametrize(
    "wrong", [{"magic": 2}, {"codec": "zstd"}, {"records": []}, {"records": [Record(0, headers=(("h", b""),))]}]
)
def test_not_to_be_expressed(wrong: dict[str, Any]) -> None:
    arguments: dict[str, Any] = {"records": records(1), "magic": 1} | wrong
    with pytest.raises(ValueError, match="magic"):
        build_message_set(**arguments)

"""Batches against what Apache Kafka's own classes say of the same bytes, whole, cut and damaged."""

import random
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kpybroker.wire.errors import CorruptRecords, RecordsFault
from kpybroker.wire.records import legacy
from kpybroker.wire.records.batch import (
    LOG_APPEND_TIME,
    BatchHeader,
    build_batch,
    check_crc,
    increment_sequence,
    iter_headers,
    iter_records,
    read_header,
    read_records,
    split,
    stamp,
    stamp_timestamps,
)
from kpybroker.wire.records.record import Record

Vector = dict[str, Any]

KINDS = {
    None: None,
    "CorruptRecordException": RecordsFault.CORRUPT,
    "InvalidRecordException": RecordsFault.INVALID,
    "IllegalArgumentException": RecordsFault.UNREADABLE,
    "IndexOutOfBoundsException": RecordsFault.UNREADABLE,
    "KafkaException": RecordsFault.UNDECOMPRESSABLE,
}


def fault_of(action: Callable[[], object]) -> RecordsFault | None:
    try:
        action()
    except CorruptRecords as error:
        return error.kind
    return None


def as_json(record: Record, sequence: int) -> Vector:
    return {
        "offset": record.offset,
        "timestamp": record.timestamp,
        "sequence": sequence,
        "key": None if record.key is None else bytes(record.key).hex(),
        "value": None if record.value is None else bytes(record.value).hex(),
        "headers": [[key, None if value is None else value.hex()] for key, value in record.headers],
    }


def header_as_json(position: int, header: BatchHeader) -> Vector:
    return {
        "position": position,
        "size": header.length,
        "magic": header.magic,
        "last_offset": header.last_offset,
        "next_offset": header.next_offset,
        "crc": header.crc,
        "compression": header.codec,
        "timestamp_type": header.timestamp_type,
        "max_timestamp": header.max_timestamp,
        "partition_leader_epoch": header.partition_leader_epoch,
        "producer_id": header.producer_id,
        "producer_epoch": header.producer_epoch,
        "base_sequence": header.base_sequence,
        "last_sequence": header.last_sequence,
        "count": None if header.magic < 2 else header.count,
        "transactional": header.is_transactional,
        "control": header.is_control,
        "delete_horizon_ms": header.delete_horizon_ms,
    }


def test_headers_are_what_kafka_says(valid_vector: Vector) -> None:
    data = bytes.fromhex(valid_vector["hex"])
    headers = list(iter_headers(data))
    assert len(headers) == len(valid_vector["batches"])
    for (position, header), batch in zip(headers, valid_vector["batches"], strict=True):
        expected = {
            key: value for key, value in batch.items() if key not in ("records", "base_offset", "base_timestamp")
        }
        assert header_as_json(position, header) == expected
        check_crc(data, position, header)
        first = header.base_offset if header.magic == 2 else legacy.base_offset(data, position, header)
        assert first == batch["base_offset"]
        if header.magic == 2:
            assert header.base_timestamp == batch["base_timestamp"]
    assert sum(header.length for _, header in headers) == valid_vector["valid_bytes"]


@pytest.mark.parametrize("buffer", [bytes, bytearray, memoryview])
def test_records_are_what_kafka_says(valid_vector: Vector, buffer: Callable[[bytes], Any]) -> None:
    data = buffer(bytes.fromhex(valid_vector["hex"]))
    for (position, header), batch in zip(iter_headers(data), valid_vector["batches"], strict=True):
        records = []
        for record in read_records(data, position):
            sequence = -1
            if header.base_sequence >= 0:
                sequence = increment_sequence(header.base_sequence, record.offset - header.base_offset)
            records.append(as_json(record, sequence))
        fields = ("offset", "timestamp", "sequence", "key", "value", "headers")
        assert records == [{field: record[field] for field in fields} for record in batch["records"]]


def rebuilt(data: bytes, header: BatchHeader) -> bytes:
    """The batch written again from what was read. The attribute is cleared to see the timestamps as they are stored."""
    plain = bytearray(data)
    plain[22] &= ~LOG_APPEND_TIME
    return build_batch(
        read_records(plain),
        base_offset=header.base_offset,
        codec=header.codec,
        timestamp_type=header.timestamp_type,
        log_append_time=header.max_timestamp,
        producer_id=header.producer_id,
        producer_epoch=header.producer_epoch,
        base_sequence=header.base_sequence,
        leader_epoch=header.partition_leader_epoch,
        transactional=header.is_transactional,
        control=header.is_control,
        delete_horizon_ms=header.delete_horizon_ms,
        last_offset=header.last_offset,
        max_timestamp=header.max_timestamp if header.count == 0 else None,
    )


def test_a_batch_is_written_as_kafka_writes_it(valid_vector: Vector) -> None:
    data = bytes.fromhex(valid_vector["hex"])
    for position, header in iter_headers(data):
        if header.magic < 2:
            continue
        original = data[position : position + header.length]
        ours = rebuilt(original, header)
        check_crc(ours, 0, read_header(ours))
        if header.is_compressed:
            assert read_records(ours) == read_records(original)
            assert header_as_json(0, read_header(ours)) | {"size": 0, "crc": 0} == (
                header_as_json(0, header) | {"size": 0, "crc": 0}
            )
        else:
            assert ours == original


def test_a_damaged_buffer_is_split_as_by_kafka(corrupt_vector: Vector) -> None:
    data = bytes.fromhex(corrupt_vector["hex"])
    batches = []

    def split_all() -> None:
        for batch in split(data):
            batches.append(batch)  # noqa: PERF402 - those before the error count

    assert fault_of(split_all) == KINDS[corrupt_vector["java"]["batches_error"]]
    assert len(batches) == corrupt_vector["java"]["batches"]


def whole_batches(data: bytes) -> list[int]:
    positions = []
    try:
        for position, _ in split(data):
            positions.append(position)
    except CorruptRecords:
        pass
    return positions


def test_size_and_checksum_of_a_damaged_batch(corrupt_vector: Vector) -> None:
    data = bytes.fromhex(corrupt_vector["hex"])

    def check_all() -> None:
        for position in whole_batches(data):
            check_crc(data, position, read_header(data, position))

    assert fault_of(check_all) == KINDS[corrupt_vector["java"]["ensure_valid_error"]]


def test_records_of_a_damaged_batch(corrupt_vector: Vector) -> None:
    data = bytes.fromhex(corrupt_vector["hex"])
    java = corrupt_vector["java"]
    records = []

    def read_all() -> None:
        for position in whole_batches(data):
            for record in iter_records(data, position):
                records.append(record)  # noqa: PERF402 - those before the error count

    fault = fault_of(read_all)
    expected = KINDS[java.get("records_error")]
    if java.get("records_error") == "IllegalArgumentException" and java["ensure_valid_error"] and fault != expected:
        expected = RecordsFault.CORRUPT  # shorter than its header: Java's reader does not see that in time
    assert fault == expected
    if fault is not RecordsFault.UNDECOMPRESSABLE and "records_read" in java:  # then Kafka's buffers decide how many
        assert len(records) == java["records_read"]


def test_every_cut_of_a_small_batch(valid_vector: Vector) -> None:
    data = bytes.fromhex(valid_vector["hex"])
    places = range(len(data)) if len(data) <= 2048 else random.Random(len(data)).sample(range(len(data)), 200)
    last = max(batch["position"] for batch in valid_vector["batches"])
    for end in places:
        cut = data[:end]
        assert len(list(iter_headers(cut))) == sum(
            batch["position"] + batch["size"] <= end for batch in valid_vector["batches"]
        )
        if end <= last:
            continue
        fault = fault_of(partial(read_records, cut, last))
        assert (fault is None) == (end >= valid_vector["valid_bytes"])


def read_everything(data: bytes | bytearray) -> None:
    for position, header in iter_headers(data):
        for record in iter_records(data, position):
            assert isinstance(record, Record)
        check_crc(data, position, header)


@settings(deadline=None)
@given(data=st.data())
def test_flipped_bits_give_records_or_the_one_error(valid_batches: list[bytes], data: st.DataObject) -> None:
    damaged = bytearray(data.draw(st.sampled_from(valid_batches)))
    for place in data.draw(st.lists(st.integers(0, 8 * len(damaged) - 1), min_size=1, max_size=6)):
        damaged[place >> 3] ^= 1 << (place & 7)
    assert fault_of(lambda: read_everything(damaged)) in (None, *RecordsFault)


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_noise_gives_batches_or_the_one_error(noise: bytes) -> None:
    assert fault_of(lambda: read_everything(noise)) in (None, *RecordsFault)


def test_stamping_leaves_the_checksum_right() -> None:
    batch = bytearray(build_batch([Record(key=b"k", value=b"v", timestamp=5)]))
    before = read_header(batch)
    stamp(batch, 0, before, base_offset=2**40, leader_epoch=77)
    after = read_header(batch)
    assert (after.base_offset, after.partition_leader_epoch, after.length) == (2**40, 77, before.length)
    check_crc(batch, 0, after)


def test_stamping_timestamps_writes_a_new_checksum() -> None:
    batch = bytearray(b"before" + build_batch([Record(timestamp=5)]) + b"after")
    header = read_header(batch, 6)
    stamp_timestamps(batch, 6, header, attributes=header.attributes | LOG_APPEND_TIME, max_timestamp=99)
    after = read_header(batch, 6)
    assert (after.timestamp_type, after.max_timestamp) == ("LogAppendTime", 99)
    check_crc(batch, 6, after)
    assert batch.startswith(b"before")
    assert batch.endswith(b"after")
    assert [record.timestamp for record in read_records(bytes(batch[6:-5]))] == [99]


def test_a_read_only_buffer_is_not_stamped() -> None:
    batch = build_batch([Record(timestamp=5)])
    with pytest.raises(TypeError):
        stamp(memoryview(batch), 0, read_header(batch), base_offset=1, leader_epoch=1)


def test_offsets_left_open_follow_one_another() -> None:
    batch = build_batch([Record(value=b"a"), Record(offset=15, value=b"b"), Record(value=b"c")], base_offset=10)
    assert [record.offset for record in read_records(batch)] == [10, 15, 16]
    assert read_header(batch).last_offset == 16


def test_an_empty_batch_needs_a_last_offset() -> None:
    with pytest.raises(ValueError, match="last offset"):
        build_batch([])


def test_decompression_has_a_limit() -> None:
    batch = build_batch([Record(value=bytes(100_000))], codec="gzip")
    assert fault_of(lambda: read_records(batch, bytes_max=50_000)) is RecordsFault.TOO_LARGE
    assert len(read_records(batch, bytes_max=200_000)) == 1


@pytest.mark.parametrize(
    ("sequence", "increment", "expected"), [(0, 0, 0), (2**31 - 1, 1, 0), (2**31 - 2, 3, 1), (5, 10, 15)]
)
def test_sequences_wrap(sequence: int, increment: int, expected: int) -> None:
    assert increment_sequence(sequence, increment) == expected

"""Produced batches against Kafka's log validator: what is refused and why, what is written."""

import gzip
import json
from functools import cache
from pathlib import Path
from typing import Any

import hypothesis
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kpybroker.storage.validation import RecordsRefused, Validated, ValidationConfig, validate
from kpybroker.wire.codes import Code
from kpybroker.wire.records import compression
from kpybroker.wire.records.batch import BATCH_OVERHEAD, CODECS, build_batch, check_crc, read_header, read_records
from kpybroker.wire.records.record import Record, encode_record

Vector = dict[str, Any]

DATA = Path(__file__).parents[1] / "data"
NOW_MS = 1_700_000_100_000
NO_BOUND = 2**63 - 1


@cache
def load(name: str) -> list[Vector]:
    with gzip.open(DATA / name, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def batches() -> dict[str, str]:
    return {vector["name"]: vector["hex"] for vector in load("record_batches.jsonl.gz")}


def settings(**changes: Any) -> ValidationConfig:
    plain: dict[str, Any] = {
        "codec": "producer",
        "codec_level": None,
        "timestamp_type": "CreateTime",
        "timestamp_before_max_ms": NO_BOUND,
        "timestamp_after_max_ms": NO_BOUND,
        "compacted": False,
    }
    return ValidationConfig(**(plain | changes))


def place(batch: bytes | bytearray | memoryview, config: ValidationConfig | None = None, **more: Any) -> Validated:
    """`batch` validated for offset 1000 and leader epoch 7."""
    arguments: dict[str, Any] = {"next_offset": 1000, "leader_epoch": 7, "now_ms": NOW_MS, "partition": "t-0"} | more
    return validate(batch, config=config or settings(), **arguments)


def refused(
    batch: bytes | bytearray | memoryview, config: ValidationConfig | None = None, **more: Any
) -> RecordsRefused:
    with pytest.raises(RecordsRefused) as raised:
        place(batch, config, **more)
    return raised.value


def with_base_offset_0(text: str) -> bytearray:
    batch = bytearray.fromhex(text)
    batch[:8] = bytes(8)
    return batch


# Kafka's vectors


@pytest.mark.parametrize(
    "vector", [pytest.param(v, id=f"{v['name']}-{index}") for index, v in enumerate(load("append_results.jsonl.gz"))]
)
@pytest.mark.parametrize("writable", [True, False])
def test_what_kafka_makes_of_it(vector: Vector, writable: bool) -> None:
    batch: bytearray | bytes = with_base_offset_0(batches()[vector["name"]])
    if not writable:
        batch = bytes(batch)
    config = settings(
        codec=vector["topic_codec"], timestamp_type=vector["topic_timestamp_type"], compacted=vector["compacted"]
    )
    where = {"next_offset": vector["next_offset"], "leader_epoch": vector["leader_epoch"], "now_ms": vector["clock_ms"]}
    result = vector["result"]
    if result["error"] is not None:
        before = bytes(batch)
        error = refused(batch, config, **where)
        assert error.code == result["code"]
        assert [e.batch_index for e in error.record_errors] == result.get("record_errors", [])
        assert bytes(batch) == before
        return
    validated = place(batch, config, **where)
    assert validated.max_timestamp == result["max_timestamp"]
    same_batch(validated, bytes.fromhex(result["hex"]))


def same_batch(validated: Validated, expected: bytes) -> None:
    ours, theirs = read_header(validated.records), read_header(expected)
    if validated.rebuilt and ours.is_compressed:  # compressors differ, what they were given must not
        facts = [msgspec.structs.asdict(header) | {"crc": 0, "length": 0} for header in (ours, theirs)]
        assert facts[0] == facts[1]
        assert read_records(validated.records) == read_records(expected)
        check_crc(validated.records, 0, ours)
    else:
        assert bytes(validated.records) == expected
    assert (validated.last_offset, ours.count) == (theirs.last_offset, theirs.count)


@pytest.mark.parametrize(
    "vector",
    [pytest.param(v, id=v["name"]) for v in load("record_batches.jsonl.gz") if (v.get("java") or {}).get("append")],
)
def test_damaged_batches(vector: Vector) -> None:
    batch = with_base_offset_0(vector["hex"])
    expected = vector["java"]["append"]
    if expected["error"] is None:
        assert place(batch).max_timestamp == expected["max_timestamp"]
    else:
        assert refused(batch).code == expected["code"]


# In place


def produced(*records: Record, **more: Any) -> bytearray:
    return bytearray(build_batch(records or [Record(timestamp=NOW_MS, key=b"k", value=b"v")], **more))


@pytest.mark.parametrize("codec", CODECS)
def test_a_batch_that_needs_nothing_is_stamped_where_it_lies(codec: Any) -> None:
    batch = produced(codec=codec)
    buffer = bytearray(b"before") + batch + b"after"
    view = memoryview(buffer)[6 : 6 + len(batch)]
    validated = place(view)
    assert validated.records is view
    assert not validated.rebuilt
    header = read_header(buffer, 6)
    assert (header.base_offset, header.partition_leader_epoch) == (1000, 7)
    check_crc(buffer, 6, header)
    assert buffer[:6] == b"before"
    assert buffer[6 + len(batch) :] == b"after"
    assert bytes(view[16:]) == bytes(batch[16:])


def test_a_read_only_batch_is_copied() -> None:
    batch = bytes(produced())
    validated = place(memoryview(batch))
    assert read_header(batch).base_offset == 0
    assert read_header(validated.records).base_offset == 1000


def test_what_is_said_of_it() -> None:
    batch = produced(Record(timestamp=NOW_MS + 5), Record(timestamp=NOW_MS), Record(timestamp=NOW_MS - 5))
    validated = place(batch)
    assert (validated.last_offset, validated.max_timestamp) == (1002, NOW_MS + 5)
    assert validated.log_append_time_ms == -1
    assert validated.header.base_offset == 0


@pytest.mark.parametrize("codec", CODECS)
def test_log_append_time(codec: Any) -> None:
    validated = place(produced(codec=codec), settings(timestamp_type="LogAppendTime"))
    header = read_header(validated.records)
    check_crc(validated.records, 0, header)
    assert (header.timestamp_type, header.max_timestamp) == ("LogAppendTime", NOW_MS)
    assert (validated.max_timestamp, validated.log_append_time_ms, validated.rebuilt) == (NOW_MS, NOW_MS, False)
    assert [record.timestamp for record in read_records(validated.records)] == [NOW_MS]


@pytest.mark.parametrize("codec", CODECS)
def test_a_wrong_max_timestamp_is_put_right(codec: Any) -> None:
    batch = produced(Record(timestamp=NOW_MS), Record(timestamp=NOW_MS - 9), codec=codec, max_timestamp=NOW_MS + 1)
    batch[21] = 0x01  # attributes without a meaning, which are lost on the way
    batch[17:21] = _crc(batch)
    validated = place(batch)
    header = read_header(validated.records)
    check_crc(validated.records, 0, header)
    assert header.max_timestamp == validated.max_timestamp == NOW_MS
    assert header.attributes == CODECS.index(codec)


def test_an_incomplete_batch_behind_it_is_left_out() -> None:
    batch = produced()
    assert len(place(batch + batch[:30]).records) == len(batch)


# Another codec


@pytest.mark.parametrize("source", CODECS)
@pytest.mark.parametrize("target", CODECS)
def test_the_topic_s_codec(source: Any, target: Any) -> None:
    records = [Record(timestamp=NOW_MS + i, key=b"%d" % i, value=b"v" * 50, headers=(("h", None),)) for i in range(100)]
    sequence = {"producer_id": 9, "producer_epoch": 1, "base_sequence": 5, "transactional": True}
    batch = produced(*records, codec=source, **sequence)
    validated = place(batch, settings(codec=target))
    header = read_header(validated.records)
    assert header.codec == target
    assert validated.rebuilt == (source != target)
    assert (header.producer_id, header.producer_epoch, header.base_sequence, header.is_transactional) == (9, 1, 5, True)
    assert [r.offset for r in read_records(validated.records)] == list(range(1000, 1100))
    assert [r.headers for r in read_records(validated.records)] == [(("h", None),)] * 100


def test_the_topic_s_level() -> None:
    body = [Record(value=b"".join(b"%d;" % (n * n) for n in range(20_000)))]
    sizes = [len(place(produced(*body), settings(codec="gzip", codec_level=level)).records) for level in (1, 9)]
    assert sizes[1] < sizes[0]
    kept = produced(*body, codec="gzip", level=1)
    assert not place(kept, settings(codec="gzip", codec_level=9)).rebuilt  # Kafka compares codecs, not levels


def test_what_kafkas_writer_trips_over() -> None:
    gzip_topic = settings(codec="gzip")
    assert refused(produced(Record(timestamp=-2)), gzip_topic).code is Code.UNKNOWN_SERVER_ERROR
    assert refused(produced(transactional=True), gzip_topic).code is Code.UNKNOWN_SERVER_ERROR
    unknown_epoch = produced(producer_id=5, base_sequence=0)
    assert refused(unknown_epoch, gzip_topic).code is Code.UNKNOWN_SERVER_ERROR
    assert place(unknown_epoch).last_offset == 1000


# Refusals


def test_out_of_bounds_timestamps() -> None:
    config = settings(timestamp_before_max_ms=1000, timestamp_after_max_ms=500)
    times = [NOW_MS - 1001, NOW_MS - 1000, NOW_MS, -1, NOW_MS + 500, NOW_MS + 501]
    for codec in ("none", "zstd"):
        error = refused(produced(*(Record(timestamp=time) for time in times), codec=codec), config)
        assert error.code is Code.INVALID_TIMESTAMP
        assert error.error_message == "One or more records have been rejected due to invalid timestamp"
        assert [(e.batch_index, e.message) for e in error.record_errors] == [
            (
                index,
                f"Timestamp {times[index]} of message with offset {index} is out of range. "
                f"The timestamp should be within [{NOW_MS - 1000}, {NOW_MS + 500}]",
            )
            for index in (0, 5)
        ]


@pytest.mark.parametrize(
    ("time", "fine"), [(-1000, True), (-1001, False), (500, True), (501, False), (0, True), (-1 - NOW_MS, True)]
)
@pytest.mark.parametrize("target", ["producer", "lz4"])
def test_each_bound(time: int, fine: bool, target: Any) -> None:
    config = settings(timestamp_before_max_ms=1000, timestamp_after_max_ms=500, codec=target)
    batch = produced(Record(timestamp=NOW_MS + time))
    if fine:
        assert place(batch, config).max_timestamp == NOW_MS + time
    else:
        assert refused(batch, config).code is Code.INVALID_TIMESTAMP


def test_timestamps_do_not_matter_with_log_append_time() -> None:
    config = settings(timestamp_before_max_ms=0, timestamp_after_max_ms=0, timestamp_type="LogAppendTime")
    assert place(produced(Record(timestamp=5)), config).max_timestamp == NOW_MS


def test_a_producer_that_sets_log_append_time() -> None:
    config = settings(timestamp_type="LogAppendTime")
    record = Record(timestamp=5, value=b"abc")
    for codec, name, key in (("none", "DefaultRecord", 0), ("zstd", "PartialDefaultRecord", -1)):
        batch = produced(record, timestamp_type="LogAppendTime", log_append_time=77, codec=codec)
        error = refused(batch, config)
        assert error.code is Code.INVALID_TIMESTAMP
        assert [e.message for e in error.record_errors] == [
            f"Invalid timestamp type in message {name}(offset=0, timestamp=77, key={key} bytes, value=3 bytes). "
            "Producer should not set timestamp type to LogAppendTime."
        ]


@pytest.mark.parametrize("codec", CODECS)
def test_null_keys_on_a_compacted_topic(codec: Any) -> None:
    batch = produced(Record(key=b"k"), Record(), Record(key=b""), Record(), Record(), Record(), codec=codec)
    error = refused(batch, settings(compacted=True))
    message = "Compacted topic cannot accept message without key in topic partition t-0"
    assert error.code is Code.INVALID_RECORD
    assert [(e.batch_index, e.message) for e in error.record_errors] == [(i, message) for i in (1, 3, 4, 5)]
    shown = ", ".join(f"RecordError(batchIndex={index}, message='{message}')" for index in (1, 3, 4))
    assert error.error_message == (
        "One or more records have been rejected due to 4 record errors in total, "
        f"and only showing the first three errors at most: [{shown}]"
    )
    assert place(batch, settings()).last_offset == 1005


@pytest.mark.parametrize(
    ("at", "value", "why"),
    [
        pytest.param(23, b"\xff\xff\xff\xfe", "Batch has an invalid offset range: [0, -2]", id="last offset delta"),
        pytest.param(57, b"\x00\x00\x00\x00", "Invalid reported count for record batch: 0", id="no record"),
        pytest.param(
            57, b"\x00\x00\x00\x02", "Inconsistent batch offset range [0, 0] and count of records 2", id="count"
        ),
        pytest.param(22, b"\x20", "Clients are not allowed to write control records", id="control"),
        pytest.param(
            43,
            b"\x00" * 8,
            "Invalid sequence number -1 in record batch with producerId 0",
            id="producer without sequence",
        ),
    ],
)
def test_headers_that_a_client_may_not_send(at: int, value: bytes, why: str) -> None:
    batch = produced()
    batch[at : at + len(value)] = value
    batch[17:21] = _crc(batch)
    error = refused(batch)
    assert (error.code, error.why) == (Code.INVALID_RECORD, f"{why} in topic partition t-0")
    assert error.error_message is None


def _crc(batch: bytearray) -> bytes:
    from crc32c import crc32c

    return crc32c(batch[21:]).to_bytes(4)


def test_more_or_less_than_one_batch() -> None:
    batch = produced()
    assert refused(batch + batch).code is Code.INVALID_RECORD
    assert refused(batch[:-1]).code is Code.INVALID_RECORD
    assert refused(bytearray()).code is Code.INVALID_RECORD


def test_a_wrong_checksum() -> None:
    batch = produced()
    batch[-1] ^= 1
    assert refused(batch).code is Code.CORRUPT_MESSAGE


def test_an_old_magic() -> None:
    assert refused(bytearray.fromhex(batches()["magic1-none-CreateTime-base0-0"])).code is Code.INVALID_RECORD


def test_control_records_of_our_own() -> None:
    batch = produced(control=True, producer_id=5, producer_epoch=0)
    validated = place(batch, settings(codec="gzip"), from_client=False)
    assert (validated.last_offset, validated.rebuilt) == (1000, False)
    assert read_header(validated.records).is_control
    assert refused(batch, settings(codec="gzip")).code is Code.INVALID_RECORD


# Bombs


def raw_batch(body: bytes, count: int, codec: Any) -> bytearray:
    """A batch around compressed `body` that claims `count` records."""
    batch = produced(codec=codec)[:BATCH_OVERHEAD] + body
    batch[8:12] = (len(batch) - 12).to_bytes(4)
    batch[23:27] = (count - 1).to_bytes(4)
    batch[57:61] = count.to_bytes(4)
    batch[17:21] = _crc(batch)
    return batch


@pytest.mark.parametrize("target", ["producer", "zstd"])
@pytest.mark.parametrize("codec", ["gzip", "lz4"])
def test_the_same_record_a_million_times(codec: Any, target: Any) -> None:
    record = encode_record(Record(value=b"v"), 0, 0)
    body = compression.compress(codec, record * 1_000_000)
    assert refused(raw_batch(body, 1_000_000, codec), settings(codec=target)).code is Code.MESSAGE_TOO_LARGE


@pytest.mark.parametrize("codec", CODECS)
def test_offsets_out_of_order(codec: Any) -> None:
    """A compressed batch that is kept may not have them; otherwise they are numbered anew, or not looked at."""
    body = b"".join(encode_record(Record(timestamp=NOW_MS, value=b"v"), offset, NOW_MS) for offset in (1, 0, 2))
    batch = raw_batch(compression.compress(codec, body), 3, codec)
    if codec != "none":
        assert refused(batch).code is Code.UNKNOWN_SERVER_ERROR
    target = "gzip" if codec != "gzip" else "lz4"
    assert [record.offset for record in read_records(place(batch, settings(codec=target)).records)] == [
        1000,
        1001,
        1002,
    ]


@pytest.mark.parametrize("target", ["producer", "gzip"])
def test_more_than_may_come_out(target: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for limit in ("DECOMPRESSED_BYTES_MAX", "REBUILT_BYTES_MAX"):
        monkeypatch.setattr(f"kpybroker.storage.validation.{limit}", 1 << 20)
    fine = produced(Record(value=bytes((1 << 20) - 100)), codec="zstd")
    assert place(fine, settings(codec=target)).last_offset == 1000
    bomb = produced(Record(value=bytes(1 << 21)), codec="zstd")
    assert refused(bomb, settings(codec=target)).code is Code.MESSAGE_TOO_LARGE


# Anything


@hypothesis.settings(deadline=None)
@given(data=st.data())
def test_damage_is_refused_or_gives_a_batch(data: st.DataObject) -> None:
    codec = data.draw(st.sampled_from(CODECS))
    count = data.draw(st.sampled_from([1, 3, 80]))
    batch = produced(*(Record(timestamp=NOW_MS + i, value=b"v" * 30) for i in range(count)), codec=codec)
    for flip in data.draw(st.lists(st.integers(0, 10**6), min_size=1, max_size=4)):
        batch[flip // 8 % len(batch)] ^= 1 << flip % 8
    if data.draw(st.booleans()):
        batch[17:21] = _crc(batch)
    config = settings(
        codec=data.draw(st.sampled_from(["producer", *CODECS])),
        timestamp_type=data.draw(st.sampled_from(["CreateTime", "LogAppendTime"])),
        timestamp_after_max_ms=1000,
        compacted=data.draw(st.booleans()),
    )
    try:
        validated = place(batch, config)
    except RecordsRefused:
        return
    header = read_header(validated.records)
    check_crc(validated.records, 0, header)
    assert header.last_offset == validated.last_offset

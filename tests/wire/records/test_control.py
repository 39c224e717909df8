"""Control batches against Kafka's, both ways."""

from typing import Any

import pytest

from kpybroker.wire.errors import CorruptRecords, RecordsFault
from kpybroker.wire.internal.control_records import EndTxnMarker, KRaftVersionRecord, SnapshotFooterRecord
from kpybroker.wire.json_form import to_json
from kpybroker.wire.records.batch import read_header, read_records
from kpybroker.wire.records.control import (
    ControlType,
    QuorumRecord,
    build_control_batch,
    build_marker_batch,
    control_type,
    read_control,
)
from kpybroker.wire.records.record import Record

Vector = dict[str, Any]


def test_read_and_written_as_by_kafka(control_vector: Vector) -> None:
    data = bytes.fromhex(control_vector["hex"])
    header = read_header(data)
    (record,) = read_records(data)
    (expected,) = control_vector["batches"][0]["records"]
    assert control_type(record).name == expected["control_type"]
    value = read_control(record)
    place = {"base_offset": header.base_offset, "leader_epoch": header.partition_leader_epoch}
    if isinstance(value, EndTxnMarker):
        assert value.coordinator_epoch == expected["coordinator_epoch"]
        ours = build_marker_batch(
            commit=control_type(record) is ControlType.COMMIT,
            coordinator_epoch=value.coordinator_epoch,
            producer_id=header.producer_id,
            producer_epoch=header.producer_epoch,
            timestamp_ms=record.timestamp,
            **place,
        )
    else:
        assert value is not None
        assert to_json(value, 0) == expected["message"]
        ours = build_control_batch([value], timestamp_ms=record.timestamp, **place)
    assert ours == data


def test_several_in_one_batch() -> None:
    values: list[QuorumRecord] = [KRaftVersionRecord(version=0, kraft_version=1), SnapshotFooterRecord(version=0)]
    batch = build_control_batch(values, timestamp_ms=5, base_offset=7, leader_epoch=3)
    records = read_records(batch)
    assert [record.offset for record in records] == [7, 8]
    assert [read_control(record) for record in records] == values
    assert read_header(batch).is_control
    assert not read_header(batch).is_transactional


def test_later_versions_are_read_as_ours() -> None:
    marker = Record(key=b"\x00\x01\x00\x01more", value=b"\x00\x05\x00\x00\x00\x07more")
    assert read_control(marker) == EndTxnMarker(coordinator_epoch=7)


def test_unknown_types_are_passed_over() -> None:
    record = Record(key=b"\x00\x00\x00\x63", value=b"whatever")
    assert control_type(record) is ControlType.UNKNOWN
    assert read_control(record) is None


@pytest.mark.parametrize(
    ("key", "value"),
    [
        pytest.param(None, b"", id="no key"),
        pytest.param(b"\x00\x00\x00", b"", id="short key"),
        pytest.param(b"\xff\xff\x00\x00", b"", id="negative key version"),
        pytest.param(b"\x00\x00\x00\x01", None, id="no value"),
        pytest.param(b"\x00\x00\x00\x01", b"\x00", id="no marker version"),
        pytest.param(b"\x00\x00\x00\x01", b"\xff\xff\x00\x00\x00\x01", id="negative marker version"),
        pytest.param(b"\x00\x00\x00\x01", b"\x00\x00\x00", id="short marker"),
        pytest.param(b"\x00\x00\x00\x06", b"\x00\x00\xff", id="short voters"),
    ],
)
def test_damaged(key: bytes | None, value: bytes | None) -> None:
    with pytest.raises(CorruptRecords) as raised:
        read_control(Record(key=key, value=value))
    assert raised.value.kind is RecordsFault.INVALID

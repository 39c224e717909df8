"""Log files in the words of the manifests that come with Kafka's data directories."""

import hashlib
from collections.abc import Iterator
from typing import Any

from kpybroker.wire.errors import CorruptRecords
from kpybroker.wire.internal.framing import (
    decode_group_record,
    decode_metadata_record,
    decode_share_record,
    decode_transaction_record,
)
from kpybroker.wire.json_form import to_json
from kpybroker.wire.primitives import read_uvarint
from kpybroker.wire.records.batch import BatchHeader, check_crc, iter_headers, iter_records
from kpybroker.wire.records.control import control_type
from kpybroker.wire.records.record import Record

METADATA = "__cluster_metadata"
COORDINATORS = {
    "__consumer_offsets": decode_group_record,
    "__transaction_state": decode_transaction_record,
    "__share_group_state": decode_share_record,
}


def batches_of(data: bytes, topic: str) -> Iterator[dict[str, Any]]:
    """Every batch of a log file; control records and those of internal topics decoded."""
    for position, header in iter_headers(data):
        batch = described(data, position, header)
        if header.is_control or topic == METADATA or topic in COORDINATORS:
            records = iter_records(data, position)
            batch["records"] = [control(record) if header.is_control else internal(topic, record) for record in records]
        yield batch


def described(data: bytes, position: int, header: BatchHeader) -> dict[str, Any]:
    batch = {
        "position": position,
        "size": header.length,
        "base_offset": header.base_offset,
        "last_offset": header.last_offset,
        "crc": header.crc,
        "valid": is_valid(data[position : position + header.length], header),
        "compression": header.codec,
        "timestamp_type": header.timestamp_type,
        "max_timestamp": header.max_timestamp,
        "leader_epoch": header.partition_leader_epoch,
        "count": header.count,
    }
    if header.producer_id >= 0:
        last = header.base_sequence + header.last_offset_delta if header.base_sequence >= 0 else -1
        batch |= {
            "producer_id": header.producer_id,
            "producer_epoch": header.producer_epoch,
            "base_sequence": header.base_sequence,
            "last_sequence": last,
        }
    if header.is_transactional:
        batch["transactional"] = True
    if header.is_control:
        batch["control"] = True
    return batch


def is_valid(batch: bytes, header: BatchHeader) -> bool:
    try:
        check_crc(batch, 0, header)
    except CorruptRecords:
        return False
    return True


def control(record: Record) -> dict[str, Any]:
    assert record.value is not None
    kind = control_type(record).name
    return {
        "offset": record.offset,
        "timestamp": record.timestamp,
        "control_type": kind,
        "value": bytes(record.value).hex(),
    }


def internal(topic: str, record: Record) -> dict[str, Any]:
    """A record of one of the broker's own topics."""
    found: dict[str, Any] = {"offset": record.offset, "timestamp": record.timestamp}
    if topic == METADATA:
        assert record.value is not None
        message = decode_metadata_record(record.value)
        version = metadata_version(record.value)
        return found | {"record": type(message).__name__, "json": to_json(message, version), "version": version}
    assert record.key is not None
    key, value = COORDINATORS[topic](record.key, record.value)
    found |= {"record": type(key).__name__, "key": to_json(key, 0), "value": None}
    if value is not None:
        assert record.value is not None
        version = int.from_bytes(record.value[:2], "big")
        found |= {"value_version": version, "value": to_json(value, version)}
    return found


def metadata_version(value: bytes | memoryview) -> int:
    """The third of the numbers before a metadata record: frame, type, version."""
    position = 0
    for _ in range(3):
        number, position = read_uvarint(value, position)
    return number


def record_of(record: Record, header: BatchHeader) -> dict[str, Any]:
    """A record that a client wrote."""
    value = record.value
    return {
        "offset": record.offset,
        "timestamp": record.timestamp,
        "timestamp_type": header.timestamp_type,
        "leader_epoch": header.partition_leader_epoch,
        "key": None if record.key is None else bytes(record.key).hex(),
        "value_sha256": None if value is None else hashlib.sha256(value).hexdigest(),
        "value_size": -1 if value is None else len(value),
        "headers": [[key, None if text is None else text.hex()] for key, text in record.headers],
    }

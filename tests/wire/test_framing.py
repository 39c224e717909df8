"""What stands before records in the internal logs, and at which version they are written."""

from pathlib import Path
from typing import Any

import pytest

from kpybroker.wire.catalogue import all_messages, message_class
from kpybroker.wire.codec import decode, encode
from kpybroker.wire.errors import MalformedMessage, UnencodableMessage, UnknownRecord, WireError
from kpybroker.wire.internal import framing
from kpybroker.wire.internal.group_records import OffsetCommitKey, OffsetCommitValue
from kpybroker.wire.internal.metadata_records import (
    BrokerRegistrationChangeRecord,
    PartitionChangeRecord,
    UnregisterControllerRecord,
)
from kpybroker.wire.schema import Message, replace

Vectors = tuple[dict[str, Any], ...]

DATA = Path(__file__).parent.parent / "data"

PAIRS = {
    "group-coordinator": framing.decode_group_record,
    "transaction-coordinator": framing.decode_transaction_record,
    "share-coordinator": framing.decode_share_record,
}


def of_type(vectors: Vectors, *types: str) -> Vectors:
    return tuple(vector for vector in vectors if vector["type"] in types and "prefix" in vector)


def test_prefixes(vectors: Vectors) -> None:
    """Every record of the vectors is framed as Java framed it."""
    for vector in vectors:
        if "prefix" in vector:
            assert framing.log_prefix(message_class(vector["message"]), vector["version"]).hex() == vector["prefix"]
        elif vector["type"] not in ("request", "response"):
            assert framing.log_prefix(message_class(vector["message"]), vector["version"]) == b""


def test_metadata_records(vectors: Vectors) -> None:
    for vector in of_type(vectors, "metadata"):
        cls = message_class(vector["message"])
        if cls.__module__.endswith("metadata_records"):
            value = bytes.fromhex(vector["prefix"] + vector["hex"])
            record = framing.decode_metadata_record(value)
            assert type(record) is cls
            assert framing.decode_metadata_record(memoryview(value)) == record
            if (
                framing.WRITE_VERSIONS.get(cls.__name__) is not None
                and framing.write_version(record) == vector["version"]
            ):
                assert framing.encode_metadata_record(record) == value
            for cut in range(len(value)):
                with pytest.raises(MalformedMessage):
                    framing.decode_metadata_record(value[:cut])


def test_coordinator_records(vectors: Vectors, specs: dict[str, dict[str, Any]]) -> None:
    """Keys and values by their type; a key alone is a tombstone."""
    keys = {}
    for vector in of_type(vectors, "coordinator-key"):
        folder = specs[vector["message"]]["folder"]
        data = bytes.fromhex(vector["prefix"] + vector["hex"])
        keys[folder, vector["api_key"]] = data
        key, value = PAIRS[folder](data, None)
        assert (type(key).__name__, value) == (vector["message"], None)
        assert framing.encode_key(key) == data
    for vector in of_type(vectors, "coordinator-value"):
        folder = specs[vector["message"]]["folder"]
        data = bytes.fromhex(vector["prefix"] + vector["hex"])
        _, value = PAIRS[folder](keys[folder, vector["api_key"]], memoryview(data))
        assert type(value).__name__ == vector["message"]
        assert value is not None
        written = framing.WRITE_VERSIONS.get(vector["message"])
        if written is not None and framing.write_version(value) == vector["version"]:
            assert framing.encode_value(value) == data


@pytest.mark.parametrize(
    ("decoder", "data"),
    [
        pytest.param(lambda data: framing.decode_metadata_record(data), b"\1\6\0", id="metadata type 6 is not used"),
        pytest.param(lambda data: framing.decode_metadata_record(data), b"\1\0\x20", id="metadata version"),
        pytest.param(lambda data: framing.decode_group_record(data, None), b"\x7f\0", id="group type"),
        pytest.param(lambda data: framing.decode_transaction_record(data, None), b"\0\1", id="transaction type"),
        pytest.param(lambda data: framing.decode_group_record(b"\0\2\0\1g", data), b"\0\5", id="value version"),
    ],
)
def test_newer_than_we_are(decoder: Any, data: bytes) -> None:
    with pytest.raises(UnknownRecord):
        decoder(data)


@pytest.mark.parametrize("data", [b"", b"\0\0\0", b"\2\2\0", b"\1", b"\xff" * 9, b"\1\x14\0\0\0"])
def test_no_metadata_record(data: bytes) -> None:
    with pytest.raises(WireError) as caught:
        framing.decode_metadata_record(data)
    assert not isinstance(caught.value, UnknownRecord)


def test_every_record_has_a_version_or_is_never_written(specs: dict[str, dict[str, Any]]) -> None:
    """Those that are not written: newer than 4.3, of the past, other programs' or files with versions of their own."""
    known = {cls.__name__: cls for cls in all_messages() if specs[cls.__name__]["type"] not in ("request", "response")}
    for name, version in framing.WRITE_VERSIONS.items():
        assert version in known[name].VERSIONS
    never = {name for name in set(known) - set(framing.WRITE_VERSIONS) if not name.endswith("Key")}
    assert never == {
        "UnregisterControllerRecord",  # Kafka 4.4
        "ConsumerGroupPartitionMetadataValue",  # no longer since 4.1
        "LegacyOffsetCommitValue",
        "ControlRecordTypeSchema",
        "QuorumStateData",
        "RemoteLogSegmentMetadataRecord",
        "RemoteLogSegmentMetadataUpdateRecord",
        "RemoteLogSegmentMetadataSnapshotRecord",
        "RemotePartitionDeleteMetadataRecord",
        "RequestHeader",
        "ResponseHeader",
    }


def test_kafka_4_3_can_read_what_is_written() -> None:
    """What its classes say of themselves; a JVM replica halts on what it can't read."""
    lines = (DATA / "record-versions-kafka-4.3.1.txt").read_text().splitlines()
    known = {name: range(int(lowest), int(highest) + 1) for name, lowest, highest in map(str.split, lines)}
    unlisted = {"AbortedTxn", "EndTxnMarker", "ConsumerProtocolSubscription", "ConsumerProtocolAssignment"}
    assert set(framing.WRITE_VERSIONS) - set(known) == unlisted
    for name, version in framing.WRITE_VERSIONS.items():
        assert name in unlisted or version in known[name]
    assert framing.WRITE_VERSIONS["LeaderChangeMessage"] == 0  # read at 0 whatever it says


def test_a_record_of_the_future_is_not_written() -> None:
    with pytest.raises(UnencodableMessage, match="not a record that this release writes"):
        framing.encode_metadata_record(UnregisterControllerRecord(controller_id=1))


CHANGE = BrokerRegistrationChangeRecord(broker_id=1, broker_epoch=2)


@pytest.mark.parametrize(
    ("record", "version"),
    [
        pytest.param(replace(CHANGE, fenced=1), 0, id="fence"),
        pytest.param(replace(CHANGE, in_controlled_shutdown=1), 1, id="shut down"),
        pytest.param(replace(CHANGE, log_dirs=[bytes(16)]), 2, id="directories"),
        pytest.param(replace(CHANGE, cordoned_log_dirs=[]), 3, id="cordoned directories"),
        pytest.param(PartitionChangeRecord(partition_id=0, topic_id=bytes(16)), 2, id="partition"),
        pytest.param(OffsetCommitValue(offset=1, metadata="", commit_timestamp=2), 4, id="offset"),
        pytest.param(
            OffsetCommitValue(offset=1, metadata="", commit_timestamp=2, expire_timestamp=3), 1, id="expiring"
        ),
    ],
)
def test_write_version(record: Message, version: int) -> None:
    assert framing.write_version(record) == version
    assert decode(type(record), version, encode(record, version)) == record


def test_a_committed_offset() -> None:
    key = OffsetCommitKey(group="g", topic="t", partition=3)
    value = OffsetCommitValue(offset=1, metadata="", commit_timestamp=2)
    assert framing.decode_group_record(framing.encode_key(key), framing.encode_value(value)) == (key, value)
    assert framing.decode_group_record(framing.encode_key(key), None) == (key, None)

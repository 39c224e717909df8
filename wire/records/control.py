"""Control batches: transaction markers, and what the metadata quorum writes into its log beside metadata records.

A control record's key is a version and a type; the type says what its value is. Markers carry a version before their
value, the quorum's records do not. They are written uncompressed, by brokers only. Source: KIP-98, KIP-595, KIP-853.
"""

import struct
from collections.abc import Sequence
from enum import IntEnum

from kpybroker.wire.codec import decode_prefix, encode
from kpybroker.wire.errors import MalformedMessage
from kpybroker.wire.internal.control_records import (
    EndTxnMarker,
    KRaftVersionRecord,
    LeaderChangeMessage,
    SnapshotFooterRecord,
    SnapshotHeaderRecord,
    VotersRecord,
)
from kpybroker.wire.records.batch import build_batch
from kpybroker.wire.records.record import Record, invalid

QuorumRecord = LeaderChangeMessage | SnapshotHeaderRecord | SnapshotFooterRecord | KRaftVersionRecord | VotersRecord

_KEY = struct.Struct(">hh")
_VERSION = struct.Struct(">h")


class ControlType(IntEnum):
    """The type in a control record's key. UNKNOWN: one that a later Kafka may have added, to be passed over."""

    UNKNOWN = -1
    ABORT = 0
    COMMIT = 1
    LEADER_CHANGE = 2
    SNAPSHOT_HEADER = 3
    SNAPSHOT_FOOTER = 4
    KRAFT_VERSION = 5
    KRAFT_VOTERS = 6


_QUORUM_TYPES: dict[type[QuorumRecord], ControlType] = {
    LeaderChangeMessage: ControlType.LEADER_CHANGE,
    SnapshotHeaderRecord: ControlType.SNAPSHOT_HEADER,
    SnapshotFooterRecord: ControlType.SNAPSHOT_FOOTER,
    KRaftVersionRecord: ControlType.KRAFT_VERSION,
    VotersRecord: ControlType.KRAFT_VOTERS,
}
_QUORUM_CLASSES = {kind: cls for cls, kind in _QUORUM_TYPES.items()}


def control_type(record: Record) -> ControlType:
    """What kind of control record it is. Raises: CorruptRecords, kind INVALID, for a key that cannot be one."""
    if record.key is None or len(record.key) < _KEY.size:
        raise invalid(f"Invalid value size found for control record key. Must have at least {_KEY.size} bytes")
    version, number = _KEY.unpack_from(record.key)
    if version < 0:
        raise invalid(f"Invalid version found for control record: {version}. May indicate data corruption")
    try:
        return ControlType(number)
    except ValueError:
        return ControlType.UNKNOWN


def read_control(record: Record) -> EndTxnMarker | QuorumRecord | None:
    """The value of a control record; None for an unknown type.

    Versions later than ours are read as ours: Kafka only ever adds fields. Raises: CorruptRecords, kind INVALID.
    """
    kind = control_type(record)
    if kind is ControlType.UNKNOWN:
        return None
    if record.value is None:
        raise invalid(f"control record of type {kind.name} without a value")
    try:
        if kind in (ControlType.ABORT, ControlType.COMMIT):
            return _read_marker(record.value)
        message, _ = decode_prefix(_QUORUM_CLASSES[kind], 0, record.value)
    except MalformedMessage as error:
        raise invalid(str(error)) from None
    return message


def _read_marker(value: bytes | memoryview) -> EndTxnMarker:
    if len(value) < _VERSION.size:
        raise invalid("end transaction marker without a version")
    (version,) = _VERSION.unpack_from(value)
    if version < 0:
        raise invalid(f"Invalid version found for end transaction marker: {version}. May indicate data corruption")
    marker, _ = decode_prefix(EndTxnMarker, 0, value, _VERSION.size)
    return marker


def build_marker_batch(
    *,
    commit: bool,
    coordinator_epoch: int,
    producer_id: int,
    producer_epoch: int,
    timestamp_ms: int,
    base_offset: int = 0,
    leader_epoch: int = -1,
) -> bytes:
    """The batch that ends a transaction of `producer_id` in one partition (KIP-98)."""
    kind = ControlType.COMMIT if commit else ControlType.ABORT
    value = _VERSION.pack(0) + encode(EndTxnMarker(coordinator_epoch=coordinator_epoch), 0)
    return build_batch(
        [Record(base_offset, timestamp_ms, _KEY.pack(0, kind), value)],
        base_offset=base_offset,
        leader_epoch=leader_epoch,
        producer_id=producer_id,
        producer_epoch=producer_epoch,
        transactional=True,
        control=True,
    )


def build_control_batch(
    records: Sequence[QuorumRecord], *, timestamp_ms: int, base_offset: int = 0, leader_epoch: int = -1
) -> bytes:
    """A batch of the quorum's own records, in the order given. All are written at version 0, as Kafka reads them."""
    return build_batch(
        [
            Record(base_offset + index, timestamp_ms, _KEY.pack(0, _QUORUM_TYPES[type(record)]), encode(record, 0))
            for index, record in enumerate(records)
        ],
        base_offset=base_offset,
        leader_epoch=leader_epoch,
        control=True,
    )

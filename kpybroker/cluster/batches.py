"""Batches of the metadata log and of snapshot files: metadata records or control records, to bytes and back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from kpybroker.cluster.errors import UnreplayableRecord
from kpybroker.cluster.loader import MetadataBatch
from kpybroker.cluster.replay import MetadataRecord
from kpybroker.wire.errors import MalformedMessage
from kpybroker.wire.internal.framing import METADATA_VERSION_NOW, decode_metadata_record, encode_metadata_record
from kpybroker.wire.records.batch import build_batch, check_crc, iter_headers, iter_records
from kpybroker.wire.records.control import QuorumRecord, build_control_batch, read_control
from kpybroker.wire.records.record import Record


class ControlBatch(NamedTuple):
    """A batch of the quorum's own records. Those of types that we don't know are left out."""

    base_offset: int
    last_offset: int
    epoch: int
    timestamp: int
    records: Sequence[QuorumRecord]


def encode_batch(
    records: Sequence[MetadataRecord],
    *,
    timestamp_ms: int,
    base_offset: int = 0,
    leader_epoch: int = -1,
    metadata_version: int | None = None,
) -> bytes:
    """One batch of metadata records, uncompressed, as a cluster of that metadata.version has them.

    Every record is read back before it is let out: a replica in Java halts for good on one that it can't read.
    Raises: UnencodableMessage.
    """
    values = []
    version = METADATA_VERSION_NOW if metadata_version is None else metadata_version
    for record in records:
        value = encode_metadata_record(record, version)
        assert decode_metadata_record(value) == record, f"{record} does not survive the log"
        values.append(value)
    return build_batch(
        [Record(offset, timestamp_ms, None, value) for offset, value in enumerate(values, base_offset)],
        base_offset=base_offset,
        leader_epoch=leader_epoch,
    )


def encode_control_batch(
    records: Sequence[QuorumRecord], *, timestamp_ms: int, base_offset: int = 0, leader_epoch: int = -1
) -> bytes:
    """One batch of control records."""
    return build_control_batch(records, timestamp_ms=timestamp_ms, base_offset=base_offset, leader_epoch=leader_epoch)


def read_batches(data: bytes | memoryview) -> Iterator[MetadataBatch | ControlBatch]:
    """The whole batches in `data`, decoded; an incomplete last one is left out.

    Raises: CorruptRecords for bytes that are no batches or a wrong checksum; UnreplayableRecord for a record that is
    none.
    """
    for position, header in iter_headers(data):
        check_crc(data, position, header)
        fields = (header.base_offset, header.last_offset, header.partition_leader_epoch, header.max_timestamp)
        if header.is_control:
            read = (read_control(record) for record in iter_records(data, position))
            known = [record for record in read if isinstance(record, QuorumRecord)]
            yield ControlBatch(*fields, known)
        else:
            yield MetadataBatch(*fields, [_metadata_record(record) for record in iter_records(data, position)])


def _metadata_record(record: Record) -> MetadataRecord:
    if record.value is None:
        raise UnreplayableRecord(record.offset, "a record", "it has no value")
    try:
        return decode_metadata_record(record.value)
    except MalformedMessage as error:
        raise UnreplayableRecord(record.offset, "a record", str(error)) from error

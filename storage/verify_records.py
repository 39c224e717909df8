"""What the records of a batch must be, beyond their checksum: they can be walked, and internal ones decoded."""

from kpybroker.wire.errors import CorruptRecords, MalformedMessage, UnknownRecord
from kpybroker.wire.internal.framing import (
    decode_group_record,
    decode_metadata_record,
    decode_share_record,
    decode_transaction_record,
)
from kpybroker.wire.records import compression
from kpybroker.wire.records.batch import BATCH_OVERHEAD, BatchHeader, iter_records
from kpybroker.wire.records.control import read_control
from kpybroker.wire.records.record import Record
from kpybroker.wire.records.slices import record_slices
from kpybroker.wire.records.walk import walk, walk_stream

_BYTES_MAX = 1 << 30
_COORDINATORS = {
    "__consumer_offsets": decode_group_record,
    "__transaction_state": decode_transaction_record,
    "__share_group_state": decode_share_record,
}
METADATA_TOPIC = "__cluster_metadata"


def check_records(topic: str, header: BatchHeader, batch: memoryview) -> None:
    """Raises: MalformedMessage (CorruptRecords is one) for the first record that can't be."""
    if header.is_control:
        for record in iter_records(batch, bytes_max=_BYTES_MAX):
            read_control(record)
    elif topic == METADATA_TOPIC or topic in _COORDINATORS:
        for record in iter_records(batch, bytes_max=_BYTES_MAX):
            check_internal(topic, record)
    elif header.magic < 2:
        for _ in iter_records(batch, bytes_max=_BYTES_MAX):
            pass
    elif header.count:
        _walk(header, batch)


def check_internal(topic: str, record: Record) -> None:
    """Decode a record of one of the broker's own topics. Raises: MalformedMessage.

    Types that later versions of Kafka bring are let through.
    """
    try:
        if topic == METADATA_TOPIC:
            if record.value is None:
                raise MalformedMessage("no value", message=f"metadata record at offset {record.offset}")
            decode_metadata_record(record.value)
        elif record.key is None:
            raise MalformedMessage("no key", message=f"record of {topic} at offset {record.offset}")
        else:
            _COORDINATORS[topic](record.key, record.value)
    except UnknownRecord:
        return


def _walk(header: BatchHeader, batch: memoryview) -> None:
    if not header.is_compressed:
        walk(batch, BATCH_OVERHEAD, header.count)
        return
    chunks = compression.decompressed(header.codec, batch[BATCH_OVERHEAD:])
    try:
        walk_stream(compression.limited(chunks, _BYTES_MAX), header.count)
    except CorruptRecords as error:
        if not _compacted(header, error):
            raise
        chunks = compression.decompressed(header.codec, batch[BATCH_OVERHEAD:])
        for _ in record_slices(compression.limited(chunks, _BYTES_MAX), header.count):
            pass


def _compacted(header: BatchHeader, error: CorruptRecords) -> bool:
    """Whether it is only the gaps between its offsets that a batch of very many records is refused for."""
    return error.kind == "too large" and header.count <= header.last_offset_delta

"""What a log is handed to append: checked, stamped with offset and leader epoch, ready to be written."""

import struct

import msgspec

from kpybroker.storage.batches import end_marker
from kpybroker.storage.errors import UnexpectedOffset
from kpybroker.storage.files import Buffer
from kpybroker.storage.log_config import LogConfig
from kpybroker.storage.producer_state import EndMarker
from kpybroker.storage.validation import validate
from kpybroker.wire.codes import Code, Refused
from kpybroker.wire.records.batch import (
    LOG_APPEND_TIME,
    LOG_OVERHEAD,
    BatchHeader,
    check_crc,
    iter_headers,
    stamp,
    stamp_timestamps,
)

_OFFSET_SIZE = struct.Struct(">qi")


class Placed(msgspec.Struct, gc=False):
    """A batch with its place in the log. The header is as it came; offsets and timestamp are those written."""

    header: BatchHeader
    base_offset: int
    last_offset: int
    max_timestamp: int
    length: int
    marker: EndMarker | None = None


class Incoming(msgspec.Struct, gc=False):
    """The bytes to be written and the batches in them."""

    data: Buffer
    batches: list[Placed]
    log_append_time_ms: int = -1


def produced(
    records: Buffer, *, partition: str, config: LogConfig, next_offset: int, leader_epoch: int, now_ms: int
) -> Incoming:
    """A client's batch: checked, and rewritten if the topic's codec or timestamp type wants that.

    Raises: RecordsRefused, Refused (MESSAGE_TOO_LARGE, INVALID_RECORD).
    """
    if len(records) >= LOG_OVERHEAD:
        base_offset, size = _OFFSET_SIZE.unpack_from(records)
        if base_offset != 0:
            raise Refused(
                Code.INVALID_RECORD,
                f"The baseOffset of the record batch in the append to {partition} should be 0, but it is {base_offset}",
            )
        if size + LOG_OVERHEAD > config.message_bytes_max:
            raise Refused(
                Code.MESSAGE_TOO_LARGE,
                f"The record batch size in the append to {partition} is {size + LOG_OVERHEAD} bytes which exceeds the "
                f"maximum configured value of {config.message_bytes_max}).",
            )
    validated = validate(
        records, config=config, next_offset=next_offset, leader_epoch=leader_epoch, now_ms=now_ms, partition=partition
    )
    data = validated.records
    length = len(data)
    if validated.rebuilt and length > config.message_bytes_max:
        raise Refused(
            Code.MESSAGE_TOO_LARGE,
            f"Message batch size is {length} bytes in append to partition {partition} which exceeds the maximum "
            f"configured size of {config.message_bytes_max}.",
        )
    placed = Placed(validated.header, next_offset, validated.last_offset, validated.max_timestamp, length)
    return Incoming(data, [placed], validated.log_append_time_ms)


def own(records: Buffer, next_offset: int, *, leader_epoch: int, log_append_time_ms: int) -> Incoming:
    """Batches that this node built itself (coordinators, controller): stamped, not walked.

    `log_append_time_ms` other than -1 becomes the timestamp of all records. Raises: CorruptRecords.
    """
    data = bytearray(records)
    placed = []
    for position, header in list(iter_headers(data)):
        stamp(data, position, header, base_offset=next_offset, leader_epoch=leader_epoch)
        max_timestamp = header.max_timestamp
        if log_append_time_ms >= 0:
            max_timestamp = log_append_time_ms
            attributes = header.attributes | LOG_APPEND_TIME
            stamp_timestamps(data, position, header, attributes=attributes, max_timestamp=max_timestamp)
        last = next_offset + header.last_offset_delta
        marker = end_marker(data[position : position + header.length]) if _ends_txn(header) else None
        placed.append(Placed(header, next_offset, last, max_timestamp, header.length, marker))
        next_offset = last + 1
    return Incoming(data, placed, log_append_time_ms)


def replicated(records: Buffer, next_offset: int) -> Incoming:
    """Batches from the partition's leader: offsets and epochs stay, an incomplete last batch is left out.

    Raises: CorruptRecords; UnexpectedOffset when they don't begin at or after `next_offset`, or don't grow.
    """
    placed = []
    size = 0
    for position, header in iter_headers(records):
        check_crc(records, position, header)
        if header.base_offset < next_offset:
            raise UnexpectedOffset(f"a batch at offset {header.base_offset} where {next_offset} or more was expected")
        marker = end_marker(records[position : position + header.length]) if _ends_txn(header) else None
        last = header.last_offset
        placed.append(Placed(header, header.base_offset, last, header.max_timestamp, header.length, marker))
        next_offset = last + 1
        size = position + header.length
    return Incoming(memoryview(records)[:size], placed)


def _ends_txn(header: BatchHeader) -> bool:
    return header.is_control and header.producer_id >= 0

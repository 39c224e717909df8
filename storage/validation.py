"""What a produced batch is refused for, and how it is rewritten: Kafka's log validation.

A batch that needs nothing but its place is stamped where it lies: base offset and leader epoch are not under the CRC.
Another timestamp type or a wrong max timestamp is written into it as well, with a new CRC. Only another codec means a
new batch. The records are walked for all this (`wire.records.walk`); where it finds what could be an error of single
records, they are looked at one by one, since the answer names each.

Codes and texts are those of Kafka 4.3's broker. So is the laxness: record attributes and unused batch attributes are
not looked at, nor are offset deltas without compression; with compression a record's own length isn't. Ours alone are
three limits for compressed batches that unfold into far more than they are: how many bytes may come out, how many
headers a record may have, and how many records there may be whose offset deltas are not consecutive.
Not checked here, because the log does: a client's base offset (0) and the size limits.
"""

from collections.abc import Iterable, Iterator
from typing import Literal

import msgspec

from kpybroker.storage.log_config import CodecSetting, LogConfig
from kpybroker.wire.codes import Code, Refused
from kpybroker.wire.errors import CorruptRecords, RecordsFault
from kpybroker.wire.records import compression
from kpybroker.wire.records.batch import (
    BATCH_OVERHEAD,
    CODEC_MASK,
    CONTROL,
    DELETE_HORIZON,
    LOG_APPEND_TIME,
    NO_PRODUCER_ID,
    NO_TIMESTAMP,
    TRANSACTIONAL,
    BatchHeader,
    Codec,
    build_batch,
    check_crc,
    frame_of,
    iter_records,
    read_header,
    split,
    stamp,
    stamp_timestamps,
)
from kpybroker.wire.records.record import Record, wrapped_int64
from kpybroker.wire.records.walk import UNORDERED_MAX, Head, Walked, stream_heads, too_many_unordered, walk, walk_stream

DECOMPRESSED_BYTES_MAX = 32 * 1024 * 1024
DECOMPRESSED_RATIO_MAX = 100
"""Bytes that may come out of one produced batch, or, if that is more, out of each of its bytes.

They pass by, a chunk at a time, and cost no memory; but while they do, nobody else is served.
"""

REBUILT_BYTES_MAX = compression.BYTES_MAX
"""The same for a batch that is compressed anew: a single record may be all of them, and is held in memory."""

_INT64_MAX = 2**63 - 1

CODE_OF_FAULT = {
    RecordsFault.CORRUPT: Code.CORRUPT_MESSAGE,
    RecordsFault.INVALID: Code.INVALID_RECORD,
    RecordsFault.UNREADABLE: Code.UNKNOWN_SERVER_ERROR,
    RecordsFault.UNDECOMPRESSABLE: Code.UNKNOWN_SERVER_ERROR,
    RecordsFault.TRUNCATED: Code.INVALID_RECORD,
    RecordsFault.TOO_LARGE: Code.MESSAGE_TOO_LARGE,
}
"""What a producer is answered for each kind of unreadable batch."""


class ValidationConfig(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The topic's settings that matter here, named and meant as in `LogConfig`, which serves as well."""

    codec: CodecSetting
    codec_level: int | None
    timestamp_type: Literal["CreateTime", "LogAppendTime"]
    timestamp_before_max_ms: int
    timestamp_after_max_ms: int
    compacted: bool


class RecordError(msgspec.Struct, frozen=True, gc=False):
    """Why one record was refused, as ProduceResponse carries it: its index in the batch, and words."""

    batch_index: int
    message: str


class RecordsRefused(Refused):
    """A produced batch declined. `record_errors` names the records, if it was for single ones."""

    def __init__(self, code: Code, why: str, record_errors: tuple[RecordError, ...] = ()) -> None:
        super().__init__(code, why)
        self.record_errors = record_errors

    @property
    def error_message(self) -> str | None:
        """What the Produce response says: Kafka gives its reason only together with record errors (KIP-467)."""
        return self.why if self.record_errors else None


class Validated(msgspec.Struct, frozen=True, gc=False):
    """A batch ready to be written.

    `records` is the buffer that came in, stamped, unless that was read-only or `rebuilt` is set: then the batch is
    another one, of another size. `header` is the one that came in. `log_append_time_ms` is -1 with CreateTime.
    """

    records: bytes | bytearray | memoryview
    header: BatchHeader
    last_offset: int
    max_timestamp: int
    log_append_time_ms: int
    rebuilt: bool


def validate(
    batch: bytes | bytearray | memoryview,
    *,
    config: ValidationConfig | LogConfig,
    next_offset: int,
    leader_epoch: int,
    now_ms: int,
    partition: str = "",
    from_client: bool = True,
) -> Validated:
    """Check the one magic-2 batch in `batch`, and give it `next_offset`, `leader_epoch` and the topic's timestamp type.

    `batch` is written to unless it is read-only; after a refusal its bytes are as they were. `partition` ("topic-0") is
    only for the messages. Not `from_client`: counts, control flag and sequence are taken as they are. Raises:
    RecordsRefused.
    """
    try:
        produced = _Produced(batch, config, next_offset, leader_epoch, now_ms, partition)
        if from_client:
            produced.check_header()
        return produced.finish()
    except CorruptRecords as error:
        raise RecordsRefused(CODE_OF_FAULT[error.kind], error.why) from None


def unfolded_bytes_max(batch_bytes: int) -> int:
    """The most that may come out of a produced batch of that size."""
    return max(DECOMPRESSED_BYTES_MAX, DECOMPRESSED_RATIO_MAX * batch_bytes)


class _Produced:
    """One batch under validation."""

    def __init__(
        self,
        batch: bytes | bytearray | memoryview,
        config: ValidationConfig | LogConfig,
        next_offset: int,
        leader_epoch: int,
        now_ms: int,
        partition: str,
    ) -> None:
        self.config = config
        self.next_offset = next_offset
        self.leader_epoch = leader_epoch
        self.now_ms = now_ms
        self.partition = partition
        self.header = header = read_header(batch)
        if header.magic != 2:
            raise _invalid(f"magic {header.magic} is not accepted, only magic 2")
        if header.length != len(batch):
            batch = _only_batch(batch)
        check_crc(batch, 0, header)
        self.batch = batch
        self.source = header.codec
        self.target: Codec = self.source if config.codec == "producer" else config.codec
        self.log_append = config.timestamp_type == "LogAppendTime"

    def check_header(self) -> None:
        """What a client may not claim in a batch's header."""
        header = self.header
        first = header.base_offset
        last = first + header.last_offset_delta
        if last < first:
            raise _invalid(f"Batch has an invalid offset range: [{first}, {last}]{self._where}")
        if header.count <= 0:
            raise _invalid(f"Invalid reported count for record batch: {header.count}{self._where}")
        if header.count != last - first + 1:
            raise _invalid(
                f"Inconsistent batch offset range [{first}, {last}] and count of records {header.count}{self._where}"
            )
        if header.attributes & CONTROL:
            raise _invalid(f"Clients are not allowed to write control records{self._where}")
        if header.producer_id > NO_PRODUCER_ID and header.base_sequence < 0:
            raise _invalid(
                f"Invalid sequence number {header.base_sequence} in record batch with producerId "
                f"{header.producer_id}{self._where}"
            )

    def finish(self) -> Validated:
        if self.source != self.target and not (self.source == "none" and self.header.is_control):
            return self._rebuilt()
        count = self.header.count
        if count < 0:
            raise _invalid(f"Found invalid record count {count} in magic v2 batch")
        if self.source == "none":
            walked = walk(self.batch, BATCH_OVERHEAD, count)
        else:
            walked = walk_stream(self._decompressed(), count)
        max_timestamp = self._max_timestamp(walked)
        if self.source != "none" and not walked.consecutive:  # then Kafka builds a new batch of what it has skipped
            raise RecordsRefused(
                Code.UNKNOWN_SERVER_ERROR, f"offsets in a compressed batch are not consecutive{self._where}"
            )
        return self._in_place(self.now_ms if self.log_append else max_timestamp)

    @property
    def _where(self) -> str:
        return f" in topic partition {self.partition}"

    def _decompressed(self) -> Iterator[bytes]:
        chunks = compression.decompressed(self.source, memoryview(self.batch)[BATCH_OVERHEAD:])
        return compression.limited(chunks, unfolded_bytes_max(len(self.batch)))

    def _max_timestamp(self, walked: Walked) -> int:
        """The records' greatest timestamp. Raises: RecordsRefused for records that the topic's settings forbid."""
        header, config = self.header, self.config
        if not (walked.null_keys and config.compacted) and not header.attributes & LOG_APPEND_TIME:
            if self.log_append:
                return NO_TIMESTAMP
            least = header.base_timestamp + walked.delta_min
            greatest = header.base_timestamp + walked.delta_max
            if (
                walked.delta_max >= 0
                and least >= self.now_ms - config.timestamp_before_max_ms
                and NO_TIMESTAMP <= greatest <= self.now_ms + config.timestamp_after_max_ms
                and greatest <= _INT64_MAX
            ):
                return greatest
        errors = _RecordErrors(self)
        greatest = NO_TIMESTAMP
        for head in self._heads():
            errors.look_at(head)
            greatest = max(greatest, head.timestamp)
        errors.raise_any()
        return greatest

    def _heads(self) -> Iterable[Head]:
        count, frame = self.header.count, frame_of(self.header)
        if self.source == "none":
            return (_head(record, self.header.base_offset) for record in iter_records(self.batch))
        return stream_heads(self._decompressed(), count, frame)

    def _in_place(self, max_timestamp: int) -> Validated:
        header, batch = self.header, self.batch
        if isinstance(batch, bytes) or (isinstance(batch, memoryview) and batch.readonly):
            batch = bytearray(batch)
        last_offset = self.next_offset + header.count - 1
        base_offset = last_offset - header.last_offset_delta
        stamp(batch, 0, header, base_offset=base_offset, leader_epoch=self.leader_epoch)
        log_append = LOG_APPEND_TIME if self.log_append else 0
        if max_timestamp != header.max_timestamp or header.attributes & LOG_APPEND_TIME != log_append:
            kept = header.attributes & (CODEC_MASK | TRANSACTIONAL | CONTROL | DELETE_HORIZON)
            stamp_timestamps(batch, 0, header, attributes=kept | log_append, max_timestamp=max_timestamp)
        log_append_time_ms = self.now_ms if self.log_append else -1
        return Validated(batch, header, last_offset, max_timestamp, log_append_time_ms, False)

    def _rebuilt(self) -> Validated:
        header = self.header
        accepted = _Accepted(self)
        last_offset = self.next_offset + header.count - 1
        records = build_batch(
            accepted,
            base_offset=self.next_offset,
            codec=self.target,
            level=self.config.codec_level,
            timestamp_type=self.config.timestamp_type,
            log_append_time=self.now_ms,
            producer_id=header.producer_id,
            producer_epoch=header.producer_epoch,
            base_sequence=header.base_sequence,
            leader_epoch=self.leader_epoch,
            transactional=header.is_transactional,
            last_offset=last_offset,
        )
        accepted.raise_any()
        if self.log_append:
            return Validated(records, header, last_offset, self.now_ms, self.now_ms, True)
        return Validated(records, header, last_offset, accepted.greatest, -1, True)


class _Accepted:
    """The records of a batch on their way into another one. After the first refused one the rest is only looked at."""

    def __init__(self, produced: _Produced) -> None:
        self._produced = produced
        self._errors = _RecordErrors(produced)
        self._unwritable = ""
        self.greatest = NO_TIMESTAMP

    def __iter__(self) -> Iterator[Record]:
        produced = self._produced
        base_offset = produced.header.base_offset
        consecutive = True
        for index, record in enumerate(
            iter_records(produced.batch, bytes_max=min(REBUILT_BYTES_MAX, unfolded_bytes_max(len(produced.batch))))
        ):
            consecutive &= record.offset == base_offset + index
            if index > UNORDERED_MAX and produced.source != "none" and not consecutive:
                raise too_many_unordered()
            self._errors.look_at(_head(record, base_offset))
            if record.timestamp < NO_TIMESTAMP:
                self._unwritable = f"Invalid negative timestamp {record.timestamp}"
            if not self._errors.found and not self._unwritable:
                self.greatest = max(self.greatest, record.timestamp)
                yield Record(-1, record.timestamp, record.key, record.value, record.headers)

    def raise_any(self) -> None:
        """Raises: RecordsRefused for single records, or for what Kafka's own writer trips over afterwards."""
        self._errors.raise_any()
        header = self._produced.header
        if not self._unwritable and header.is_transactional and header.producer_id == NO_PRODUCER_ID:
            self._unwritable = "Cannot write transactional messages without a valid producer ID"
        if not self._unwritable and header.producer_id != NO_PRODUCER_ID and header.producer_epoch == -1:
            self._unwritable = "Invalid negative producer epoch"
        if self._unwritable:
            raise RecordsRefused(Code.UNKNOWN_SERVER_ERROR, self._unwritable)


class _RecordErrors:
    """Single records checked against the topic's settings, and what was wrong with them."""

    def __init__(self, produced: _Produced) -> None:
        self._config = produced.config
        self._now_ms = produced.now_ms
        self._base_offset = produced.header.base_offset
        self._producer_set_log_append = bool(produced.header.attributes & LOG_APPEND_TIME)
        self._where = f" in topic partition {produced.partition}"
        skipped = produced.source != "none" and produced.source == produced.target
        self._kind = "PartialDefaultRecord" if skipped else "DefaultRecord"
        self._index = 0
        self._timestamps_wrong = False
        self.found: list[RecordError] = []

    def look_at(self, head: Head) -> None:
        """The next record."""
        if self._config.compacted and head.key_size < 0:
            self._add(f"Compacted topic cannot accept message without key{self._where}")
        elif self._config.timestamp_type == "CreateTime" and head.timestamp != NO_TIMESTAMP:
            self._check_bounds(head)
        elif self._producer_set_log_append:
            self._timestamps_wrong = True
            self._add(
                f"Invalid timestamp type in message {self._described(head)}. "
                "Producer should not set timestamp type to LogAppendTime."
            )
        self._index += 1

    def _check_bounds(self, head: Head) -> None:
        before, after = self._config.timestamp_before_max_ms, self._config.timestamp_after_max_ms
        age = wrapped_int64(self._now_ms - head.timestamp)
        if age > before or wrapped_int64(-age) > after:
            self._timestamps_wrong = True
            self._add(
                f"Timestamp {head.timestamp} of message with offset {self._base_offset + head.offset_delta} is out of "
                f"range. The timestamp should be within [{wrapped_int64(self._now_ms - before)}, "
                f"{wrapped_int64(self._now_ms + after)}]"
            )

    def _described(self, head: Head) -> str:
        offset = self._base_offset + head.offset_delta
        key_size, value_size = head.key_size, head.value_size
        if self._kind == "DefaultRecord":
            key_size, value_size = max(key_size, 0), max(value_size, 0)
        return (
            f"{self._kind}(offset={offset}, timestamp={head.timestamp}, key={key_size} bytes, value={value_size} bytes)"
        )

    def _add(self, message: str) -> None:
        self.found.append(RecordError(self._index, message))

    def raise_any(self) -> None:
        """Raises: RecordsRefused if there was any."""
        if not self.found:
            return
        if self._timestamps_wrong:
            why = "One or more records have been rejected due to invalid timestamp"
            raise RecordsRefused(Code.INVALID_TIMESTAMP, why, tuple(self.found))
        shown = ", ".join(f"RecordError(batchIndex={e.batch_index}, message='{e.message}')" for e in self.found[:3])
        raise RecordsRefused(
            Code.INVALID_RECORD,
            f"One or more records have been rejected due to {len(self.found)} record errors in total, "
            f"and only showing the first three errors at most: [{shown}]",
            tuple(self.found),
        )


def _head(record: Record, base_offset: int) -> Head:
    key_size = -1 if record.key is None else len(record.key)
    value_size = -1 if record.value is None else len(record.value)
    return Head(record.offset - base_offset, record.timestamp, key_size, value_size)


def _invalid(why: str) -> RecordsRefused:
    return RecordsRefused(Code.INVALID_RECORD, why)


def _only_batch(buffer: bytes | bytearray | memoryview) -> memoryview:
    """The one whole batch in `buffer`, without an incomplete one behind it."""
    batches = list(split(buffer))
    if not batches:
        raise _invalid("Record batch has no batches at all")
    if len(batches) > 1:
        raise _invalid("Compressed outer record has more than one batch")
    return memoryview(buffer)[: batches[0][1]]

"""What compaction leaves of a batch: all of it, a part, its header, or nothing. Bytes in, bytes out.

A record stays if it is its key's latest, or lies beyond what the offset map covers. A tombstone (a record without
value) stays too, until its batch's delete horizon: the first pass that meets it sets the horizon, delete.retention.ms
ahead, in the batch's base timestamp, so that slow readers see the deletion (KIP-534). Records of aborted transactions
go; a transaction's marker goes when nothing of the transaction is left and a horizon of its own has passed. A batch
that has lost all records stays as a bare header where it tells its producer's last sequence number or epoch.
"""

from collections.abc import Iterable, Iterator, Mapping

import msgspec

from kpybroker.storage.cleaned_txns import CleanedTxns
from kpybroker.storage.offset_map import OffsetMap
from kpybroker.wire.records import compression
from kpybroker.wire.records.batch import (
    BATCH_OVERHEAD,
    CODEC_MASK,
    DELETE_HORIZON,
    LOG_APPEND_TIME,
    NO_TIMESTAMP,
    BatchHeader,
    build_batch,
    check_crc,
    read_records,
    rebuilt,
)
from kpybroker.wire.records.slices import RecordSlice, record_slices

DECOMPRESSED_BYTES_MAX = 1 << 30


class LastOfProducer(msgspec.Struct, frozen=True, gc=False):
    """The last that a log knows of an active producer."""

    offset: int
    """Of its last record, -1 if it has none in its epoch: then a marker carries the epoch."""
    epoch: int


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """What holds during one pass."""

    now_ms: int
    delete_retention_ms: int
    legacy_horizon_ms: int
    """Tombstones of magic 0 and 1, which have no horizon, go from segments not written since."""
    high_watermark: int
    producers: Mapping[int, LastOfProducer]


class BatchFilter:
    """Goes through a log's batches in order, and says of each what is left."""

    def __init__(self, rules: Rules, offsets: OffsetMap, txns: CleanedTxns) -> None:
        self._rules = rules
        self._offsets = offsets
        self._txns = txns

    def keep(self, header: BatchHeader, batch: memoryview, *, segment_modified_ms: int) -> bytes | memoryview:
        """What is left of a batch, empty if nothing. Raises: CorruptRecords."""
        check_crc(batch, 0, header)
        if header.magic < 2:
            return self._old(header, batch, segment_modified_ms > self._rules.legacy_horizon_ms)
        horizon = header.delete_horizon_ms
        if header.is_control:
            unneeded = self._txns.control(header, batch)
            discard = unneeded and horizon is not None and horizon <= self._rules.now_ms
        else:
            unneeded = False
            discard = self._txns.data(header)
        if discard:
            return self._bare(header)
        keep_tombstones = horizon is None or self._rules.now_ms < horizon
        kept = [
            record
            for record in _slices(header, batch)
            if header.is_control or self._stays(header, record, keep_tombstones)
        ]
        if not kept:
            return self._bare(header)
        if horizon is None and (unneeded or not all(each.has_value for each in kept)):
            horizon = self._rules.now_ms + self._rules.delete_retention_ms
            return _with_horizon(header, kept, horizon)
        if len(kept) == header.count:
            return batch
        return rebuilt(
            header,
            (each.encoded() for each in kept),
            count=len(kept),
            base_timestamp=header.base_timestamp,
            max_timestamp=_max_timestamp(header, kept),
            attributes=header.attributes,
        )

    def _stays(self, header: BatchHeader, record: RecordSlice, keep_tombstones: bool) -> bool:
        offset = header.base_offset + record.offset_delta
        if offset > self._offsets.latest_offset:
            return True
        if record.key is None:  # the topic was not compacted when it came
            return False
        return offset >= self._offsets.get(record.key) and (record.has_value or keep_tombstones)

    def _bare(self, header: BatchHeader) -> bytes:
        """The header alone, if something of it is still needed."""
        last = self._rules.producers.get(header.producer_id) if header.producer_id >= 0 else None
        if last is None:
            is_last = False
        elif last.offset >= 0:
            is_last = header.last_offset == last.offset
        else:
            is_last = header.is_control and header.producer_epoch == last.epoch
        if not is_last and header.next_offset != self._rules.high_watermark:
            return b""
        attributes = header.attributes & ~(CODEC_MASK | DELETE_HORIZON)
        return rebuilt(
            header,
            (),
            count=0,
            base_timestamp=NO_TIMESTAMP,
            max_timestamp=header.max_timestamp,
            attributes=attributes,
        )

    def _old(self, header: BatchHeader, batch: memoryview, keep_tombstones: bool) -> bytes:
        """A batch of magic 0 or 1: what is left of it is written in magic 2."""
        kept = []
        for record in read_records(batch, bytes_max=DECOMPRESSED_BYTES_MAX):
            key = None if record.key is None else bytes(record.key)
            latest = key is not None and record.offset >= self._offsets.get(key)
            wanted = latest and (record.value is not None or keep_tombstones)
            if wanted or record.offset > self._offsets.latest_offset:
                kept.append(record)
        if not kept:
            return b""
        stamped = header.timestamp_type == "LogAppendTime"
        horizon = None
        if any(record.value is None for record in kept):
            horizon = self._rules.now_ms + self._rules.delete_retention_ms
        return build_batch(
            kept,
            base_offset=kept[0].offset,
            codec=header.codec,
            timestamp_type="LogAppendTime" if stamped else "CreateTime",
            log_append_time=header.max_timestamp if stamped else NO_TIMESTAMP,
            delete_horizon_ms=horizon,
        )


def note_keys(header: BatchHeader, batch: memoryview, offsets: OffsetMap, txns: CleanedTxns, start: int) -> bool:
    """Put the keys of a batch, from offset `start` on, into the map; returns False when the map is full.

    Raises: CorruptRecords.
    """
    check_crc(batch, 0, header)
    if header.is_control:
        txns.control(header, batch)
    elif header.magic < 2 or not txns.data(header):
        for offset, key in _keys(header, batch):
            if key is not None and offset >= start:
                if offsets.is_full:
                    return False
                offsets.put(key, offset)
    if header.last_offset >= start:
        offsets.latest_offset = header.last_offset
    return True


def _keys(header: BatchHeader, batch: memoryview) -> Iterator[tuple[int, bytes | None]]:
    if header.magic < 2:
        for record in read_records(batch, bytes_max=DECOMPRESSED_BYTES_MAX):
            yield record.offset, None if record.key is None else bytes(record.key)
    else:
        for each in _slices(header, batch):
            yield header.base_offset + each.offset_delta, each.key


def _slices(header: BatchHeader, batch: memoryview) -> Iterator[RecordSlice]:
    chunks: Iterable[bytes | memoryview] = (batch[BATCH_OVERHEAD:],)
    if header.is_compressed and header.count:
        chunks = compression.limited(
            compression.decompressed(header.codec, batch[BATCH_OVERHEAD:]), DECOMPRESSED_BYTES_MAX
        )
    return record_slices(chunks, header.count)


def _with_horizon(header: BatchHeader, kept: list[RecordSlice], horizon: int) -> bytes:
    """The kept records under a delete horizon, which takes the base timestamp's place."""
    later = horizon - header.base_timestamp
    return rebuilt(
        header,
        (each.moved(later) for each in kept),
        count=len(kept),
        base_timestamp=horizon,
        max_timestamp=_max_timestamp(header, kept),
        attributes=header.attributes | DELETE_HORIZON,
    )


def _max_timestamp(header: BatchHeader, kept: list[RecordSlice]) -> int:
    if header.attributes & LOG_APPEND_TIME:
        return header.max_timestamp
    return header.base_timestamp + max(each.timestamp_delta for each in kept)

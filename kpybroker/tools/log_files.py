"""The files of a log as a row of items, which are dicts that JSON can show; the key "is" says what one is."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from struct import Struct
from typing import Any

import msgspec

from kpybroker.storage.batches import scan
from kpybroker.storage.checkpoints import read_epochs, read_offsets, read_partition_metadata
from kpybroker.storage.data_dir import BOOTSTRAP_CHECKPOINT, CLEAN_SHUTDOWN, META_PROPERTIES, OffsetCheckpoint
from kpybroker.storage.dropped import PREFIX
from kpybroker.storage.errors import CorruptFile, DataDirRefused
from kpybroker.storage.files import Files
from kpybroker.storage.meta_properties import read_meta_properties
from kpybroker.storage.names import (
    CHECKPOINT,
    CLEANED,
    DELETED,
    LEADER_EPOCHS,
    LOG,
    OFFSET_INDEX,
    PARTITION_METADATA,
    SNAPSHOT,
    SWAP,
    TIME_INDEX,
    TXN_INDEX,
    leading_offset,
)
from kpybroker.storage.producer_snapshots import decode
from kpybroker.tools.log_values import METADATA_TOPIC, Form, control, decoded, is_internal, shown_as
from kpybroker.wire.errors import CorruptRecords, MalformedMessage
from kpybroker.wire.records.batch import BatchHeader, check_crc, iter_records
from kpybroker.wire.records.record import Record

Item = dict[str, Any]
Reader = Callable[[Path, bytes], Iterator[Item]]

_QUORUM_STATE = "quorum-state"
_OFFSET, _TIME, _TXN = Struct(">ii"), Struct(">qi"), Struct(">hqqqq")


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be shown of batches, and how."""

    batches: bool
    records: bool
    keys: Form
    values: Form
    from_offset: int
    raw: bool


def files_in(folder: Path) -> list[Path]:
    """The files of a log, or of all logs, in a folder and those below it."""
    return sorted(path for path in folder.rglob("*") if path.is_file() and (_is_batches(path) or small_file_of(path)))


def _plain(path: Path) -> str:
    """A file's name without what says that it is about to come or to go."""
    name = path.name
    for suffix in (DELETED, CLEANED, SWAP):
        name = name.removesuffix(suffix)
    return name


def _is_batches(path: Path) -> bool:
    name = _plain(path)
    return name.endswith((LOG, CHECKPOINT)) or name.startswith(PREFIX)


# ---- batches ----


def batches_of(path: Path, shown: Shown, files: Files) -> Iterator[Item]:
    """The batches of a segment, of a snapshot of the metadata, or of what recovery has set aside.

    A file of another name is taken for a segment. Raises: StorageFailed.
    """
    topic = path.absolute().parent.name.rpartition("-")[0]
    if _plain(path).endswith(CHECKPOINT) or path.name == BOOTSTRAP_CHECKPOINT:
        topic = METADATA_TOPIC
    position = 0
    file = files.open(str(path))
    try:
        for at, header, batch in scan(file, 0, file.size(), whole=True):
            position = at
            if header.last_offset >= shown.from_offset:
                yield from _batch(at, header, batch, topic, shown)
            position = at + header.length
    except CorruptRecords as error:
        rest = file.size() - position
        zeros = not _any_but_zeros(files, str(path), position)
        if zeros:
            yield {"is": "unused", "position": position, "bytes": rest}
        else:
            yield {"is": "flaw", "position": position, "bytes": rest, "what": str(error)}
    finally:
        file.close()


def _any_but_zeros(files: Files, path: str, position: int) -> bool:
    file = files.open(path)
    try:
        while data := file.read_at(position, 1 << 20):
            if data.strip(b"\0"):
                return True
            position += len(data)
    finally:
        file.close()
    return False


def _batch(at: int, header: BatchHeader, batch: memoryview, topic: str, shown: Shown) -> Iterator[Item]:
    sound = True
    try:
        check_crc(batch, 0, header)
    except CorruptRecords as error:
        sound = False
        yield {"is": "flaw", "position": at, "what": str(error)}
    if shown.batches:
        yield _header(at, header, sound)
    if not shown.records:
        return
    try:
        for record in iter_records(batch):
            if record.offset >= shown.from_offset:
                yield _record(record, header, topic, shown)
    except MalformedMessage as error:
        if sound:
            yield {"is": "flaw", "position": at, "what": str(error)}


def _header(at: int, header: BatchHeader, sound: bool) -> Item:
    item: Item = {
        "is": "batch",
        "offset": header.base_offset,
        "last_offset": header.last_offset,
        "count": header.count,
        "position": at,
        "bytes": header.length,
        "leader_epoch": header.partition_leader_epoch,
        "magic": header.magic,
        "crc": header.crc,
        "sound": sound,
        "codec": header.attributes & 7 if header.attributes & 7 > 4 else header.codec,
        "timestamp_type": header.timestamp_type,
        "base_timestamp": header.base_timestamp,
        "max_timestamp": header.max_timestamp,
    }
    if header.producer_id >= 0:
        item |= {
            "producer_id": header.producer_id,
            "producer_epoch": header.producer_epoch,
            "base_sequence": header.base_sequence,
            "last_sequence": header.last_sequence,
            "transactional": header.is_transactional,
        }
    if header.is_control:
        item["control"] = True
    if header.delete_horizon_ms is not None:
        item["delete_horizon"] = header.delete_horizon_ms
    return item


def _record(record: Record, header: BatchHeader, topic: str, shown: Shown) -> Item:
    item: Item = {"is": "record", "offset": record.offset, "timestamp": record.timestamp}
    if header.is_control and not shown.raw:
        return item | control(record)
    if is_internal(topic) and not shown.raw:
        return item | decoded(topic, record)
    item |= {"key": shown_as(shown.keys, record.key), "value": shown_as(shown.values, record.value)}
    if record.headers:
        item["headers"] = [[key, shown_as(Form.TEXT, value)] for key, value in record.headers]
    return item


# ---- everything else ----


def small_file_of(path: Path) -> Reader | None:
    """What shows a file that is not made of batches; None for one that is, or that is none of a log's."""
    name = _plain(path)
    if name in _BY_NAME:
        return _BY_NAME[name]
    return next((read for suffix, read in _BY_SUFFIX.items() if name.endswith(suffix)), None)


def _entries(data: bytes, entry: Struct) -> Iterator[tuple[int, ...]]:
    """The entries of an index without a preallocated tail of zeros. Raises: CorruptFile for a torn last one."""
    used = len(data.rstrip(b"\0"))
    size = min(-(-used // entry.size) * entry.size, len(data))
    whole = size - size % entry.size
    yield from entry.iter_unpack(data[:whole])
    if whole < size:
        raise CorruptFile(f"{size - whole} bytes at the end are no entry")


def _offset_index(path: Path, data: bytes) -> Iterator[Item]:
    base = leading_offset(path.name) or 0
    for relative, position in _entries(data, _OFFSET):
        yield {"is": "offset entry", "offset": base + relative, "position": position}


def _time_index(path: Path, data: bytes) -> Iterator[Item]:
    base = leading_offset(path.name) or 0
    for timestamp, relative in _entries(data, _TIME):
        yield {"is": "time entry", "timestamp": timestamp, "offset": base + relative}


def _txn_index(_: Path, data: bytes) -> Iterator[Item]:
    for version, producer_id, first, last, stable in _entries(data, _TXN):
        yield {
            "is": "aborted transaction",
            "version": version,
            "producer_id": producer_id,
            "first_offset": first,
            "last_offset": last,
            "last_stable_offset": stable,
        }


def _producers(_: Path, data: bytes) -> Iterator[Item]:
    for producer in decode(data):
        yield {
            "is": "producer",
            "producer_id": producer.producer_id,
            "producer_epoch": producer.epoch,
            "last_sequence": producer.last_sequence,
            "last_offset": producer.last_offset,
            "last_timestamp": producer.last_timestamp,
            "coordinator_epoch": producer.coordinator_epoch,
            "transaction_start": producer.transaction_start,
        }


def _epochs(_: Path, data: bytes) -> Iterator[Item]:
    for epoch, start in read_epochs(data):
        yield {"is": "leader epoch", "epoch": epoch, "first_offset": start}


def _offsets(_: Path, data: bytes) -> Iterator[Item]:
    for (topic, partition), offset in read_offsets(data).items():
        yield {"is": "offset", "topic": topic, "partition": partition, "offset": offset}


def _partition_metadata(_: Path, data: bytes) -> Iterator[Item]:
    yield {"is": "partition", "topic_id": read_partition_metadata(data)}


def _meta(path: Path, data: bytes) -> Iterator[Item]:
    try:
        meta = read_meta_properties(data, str(path))
    except DataDirRefused as error:
        raise CorruptFile(str(error)) from error
    yield {"is": "data directory", **msgspec.structs.asdict(meta)}


def _json(_: Path, data: bytes) -> Iterator[Item]:
    said = json.loads(data) if data else {}
    if not isinstance(said, dict):
        raise CorruptFile(f"not a JSON object: {data!r}")
    yield {"is": "state", **said}


_BY_NAME: dict[str, Reader] = {
    LEADER_EPOCHS: _epochs,
    PARTITION_METADATA: _partition_metadata,
    META_PROPERTIES: _meta,
    CLEAN_SHUTDOWN: _json,
    _QUORUM_STATE: _json,
    **{str(checkpoint): _offsets for checkpoint in OffsetCheckpoint},
}
_BY_SUFFIX: dict[str, Reader] = {
    OFFSET_INDEX: _offset_index,
    TIME_INDEX: _time_index,
    TXN_INDEX: _txn_index,
    SNAPSHOT: _producers,
}

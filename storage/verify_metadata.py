"""Verifying the cluster's metadata: what the log says about partitions, and the snapshot files."""

import re

import msgspec

from kpybroker.storage.batches import scan
from kpybroker.storage.data_dir import BOOTSTRAP_CHECKPOINT
from kpybroker.storage.errors import StorageFailed
from kpybroker.storage.files import Files
from kpybroker.storage.names import CHECKPOINT, LOG, offset_of
from kpybroker.storage.verify_records import METADATA_TOPIC, check_records
from kpybroker.storage.verify_report import Report
from kpybroker.wire.errors import CorruptRecords, MalformedMessage
from kpybroker.wire.internal.control_records import SnapshotFooterRecord, SnapshotHeaderRecord
from kpybroker.wire.internal.framing import decode_metadata_record
from kpybroker.wire.internal.metadata_records import ConfigRecord, RegisterBrokerRecord, TopicRecord
from kpybroker.wire.primitives import uuid_text
from kpybroker.wire.records.batch import BatchHeader, check_crc, iter_records
from kpybroker.wire.records.control import read_control

_SNAPSHOT = re.compile(r"(\d{20})-(\d{10})" + re.escape(CHECKPOINT), re.ASCII)
_TOPIC = 2  # ConfigRecord's resource type


class Facts(msgspec.Struct):
    """What the metadata in a data directory says that other files in it repeat or depend on."""

    topic_ids: dict[str, set[str]] = {}
    """By name: all that the topic ever had."""
    compacted: set[str] = set()
    """Topics that are compacted, or once were."""
    nodes: set[int] = set()
    directories: set[str] = set()


def is_snapshot(name: str) -> bool:
    """Whether a file of this name is a snapshot of the metadata."""
    return name == BOOTSTRAP_CHECKPOINT or _SNAPSHOT.fullmatch(name) is not None


def read_facts(folder: str, files: Files) -> Facts:
    """Collect what can be read; flaws are told by those who verify the files."""
    facts = Facts()
    for name in sorted(files.names(folder)):
        if is_snapshot(name) or offset_of(name, LOG) is not None:
            try:
                _read_into(facts, f"{folder}/{name}", files)
            except (MalformedMessage, StorageFailed):
                continue
    return facts


def _read_into(facts: Facts, path: str, files: Files) -> None:
    file = files.open(path)
    try:
        for _, header, batch in scan(file, 0, file.size(), whole=True):
            check_crc(batch, 0, header)
            if header.is_control:
                continue
            for record in iter_records(batch):
                match None if record.value is None else decode_metadata_record(record.value):
                    case TopicRecord() as topic:
                        facts.topic_ids.setdefault(topic.name, set()).add(uuid_text(topic.topic_id))
                    case ConfigRecord(resource_type=2, name="cleanup.policy") as config:
                        if "compact" in (config.value or ""):
                            facts.compacted.add(config.resource_name)
                    case RegisterBrokerRecord() as broker:
                        facts.nodes.add(broker.broker_id)
                        facts.directories.update(map(uuid_text, broker.log_dirs))
    finally:
        file.close()


def verify_snapshot(path: str, files: Files, report: Report) -> None:
    """A snapshot: batches from offset 0 on without a gap, header first, footer last, every record decoded."""
    match = _SNAPSHOT.fullmatch(path.rpartition("/")[2])
    epoch = int(match[2]) if match else None
    file = files.open(path)
    end, position, kinds = 0, 0, []
    try:
        size = file.size()
        for at, header, batch in scan(file, 0, size, whole=True):
            position = at
            check_crc(batch, 0, header)
            if header.base_offset != end:
                report.add(path, at, f"begins with offset {header.base_offset}, {end} was due")
            if epoch is not None and header.partition_leader_epoch != epoch:
                report.add(path, at, f"leader epoch {header.partition_leader_epoch}, but the snapshot is of {epoch}")
            check_records(METADATA_TOPIC, header, batch)
            kinds.append(_kinds(header, batch))
            end = header.last_offset + 1
            position = at + header.length
            report.progress(header.length)
    except CorruptRecords as error:
        report.add(path, position, str(error))
        return
    except MalformedMessage as error:
        report.add(path, position, str(error))
    finally:
        file.close()
    if epoch is not None and not (kinds and SnapshotHeaderRecord in kinds[0] and SnapshotFooterRecord in kinds[-1]):
        report.add(path, None, "is not complete: header or footer are missing")


def _kinds(header: BatchHeader, batch: memoryview) -> set[type]:
    if not header.is_control:
        return set()
    return {type(read_control(record)) for record in iter_records(batch)}

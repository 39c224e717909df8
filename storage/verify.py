"""Verifying data directories and single partitions' folders, without changing anything and without their lock.

What a file may look like depends on how the directory was left. After a clean stop everything must fit together. A
directory that is in use, or whose broker was killed, has checkpoints and indexes that are behind the batches; in one
that is in use a batch may also be half written, and files vanish.
"""

import json
import os
from collections.abc import Callable, Mapping

from kpybroker.storage.checkpoints import TopicPartition, read_offsets, write_offsets
from kpybroker.storage.data_dir import (
    BOOTSTRAP_CHECKPOINT,
    CLEAN_SHUTDOWN,
    LOCK,
    META_PROPERTIES,
    METADATA_TOPIC,
    FolderKind,
    OffsetCheckpoint,
    PartitionFolder,
    parse_folder,
)
from kpybroker.storage.errors import CorruptFile, DataDirRefused, StorageFailed
from kpybroker.storage.files import Files
from kpybroker.storage.meta_properties import read_meta_properties
from kpybroker.storage.names import LEADER_EPOCHS, LOG, PARTITION_METADATA, offset_of
from kpybroker.storage.read_only import is_locked
from kpybroker.storage.verify_metadata import Facts, is_snapshot, read_facts, verify_snapshot
from kpybroker.storage.verify_partition import Known, Verified, verify_partition
from kpybroker.storage.verify_report import Report
from kpybroker.wire.primitives import uuid_from_text, uuid_text

_REMOTE_INDEXES = "remote-log-index-cache"
_INTERNAL_COMPACTED = ("__consumer_offsets", "__transaction_state")
_METADATA_ID = "AAAAAAAAAAAAAAAAAAAAAQ"  # the same in every cluster

FileChecks = Mapping[str, Callable[[bytes], object]]
"""Further files of the metadata log's folder, by name: what reads one. It raises CorruptFile."""


class NothingToVerify(Exception):
    """A path that is neither a data directory nor a partition's folder."""


def is_partition_folder(path: str, files: Files) -> bool:
    """Whether a folder is a partition's. Raises: StorageFailed."""
    try:
        parse_folder(*_split(path))
    except DataDirRefused:
        return False
    names = files.names(path)
    return any(name in (PARTITION_METADATA, LEADER_EPOCHS) or offset_of(name, LOG) is not None for name in names)


def total_bytes(path: str, files: Files) -> int:
    """How much there is to be looked at, about. Raises: StorageFailed."""
    folders = [path, *(f"{path}/{name}" for name in _folders(path, files))]
    total = 0
    for folder in folders:
        for name in files.names(folder):
            if not name.startswith("."):
                try:
                    total += files.size(f"{folder}/{name}")
                except StorageFailed:
                    continue
    return total


def verify(path: str, files: Files, report: Report, *, live: bool | None = None, checks: FileChecks) -> None:
    """Verify a data directory or a partition's folder.

    `live`: whether it is in use; None: find out. Raises: NothingToVerify; StorageFailed when it can't be read.
    """
    path = os.path.abspath(path)
    if is_partition_folder(path, files):
        parent = os.path.dirname(path)
        _Directory(parent, files, report, live, checks).one(parse_folder(*_split(path)))
        return
    names = files.names(path)
    partitions = _folders(path, files)
    if META_PROPERTIES not in names and not partitions and not set(OffsetCheckpoint) & set(names):
        raise NothingToVerify(f"{path} is neither a data directory nor a partition's folder")
    _Directory(path, files, report, live, checks).all()


def _split(path: str) -> tuple[str, str]:
    parent, _, name = path.rpartition("/")
    return parent, name


def _folders(path: str, files: Files) -> list[str]:
    """The names of the folders in it that are partitions'."""
    found = []
    for name in sorted(files.folders(path)):
        try:
            parse_folder(path, name)
        except DataDirRefused:
            continue
        found.append(name)
    return found


class _Directory:
    """A data directory, or what is there of one around a single partition's folder."""

    def __init__(self, path: str, files: Files, report: Report, live: bool | None, checks: FileChecks) -> None:
        self._path = path
        self._files = files
        self._report = report
        self._checks = checks
        self._clean = files.exists(f"{path}/{CLEAN_SHUTDOWN}")
        if live is None:
            live = is_locked(f"{path}/{LOCK}")
        self._live = not self._clean if live is None else live
        self._clean &= not self._live
        metadata = f"{path}/{METADATA_TOPIC}-0"
        self._facts = read_facts(metadata, files) if files.exists(metadata) else Facts()
        self._offsets = {checkpoint: self._read_offsets(checkpoint) for checkpoint in OffsetCheckpoint}
        self._has_checkpoints = files.exists(f"{path}/{OffsetCheckpoint.RECOVERY_POINTS}")

    def _read_offsets(self, checkpoint: OffsetCheckpoint) -> dict[TopicPartition, int]:
        try:
            return read_offsets(self._files.read_whole(f"{self._path}/{checkpoint}") or b"")
        except (CorruptFile, StorageFailed):
            return {}

    def one(self, folder: PartitionFolder) -> Verified:
        """Verify a partition. Raises: StorageFailed when its folder is gone, or can't be read."""
        where = folder.topic, folder.partition
        current = folder.kind is FolderKind.CURRENT
        metadata = folder.topic == METADATA_TOPIC
        points = self._offsets[OffsetCheckpoint.RECOVERY_POINTS]
        starts = self._offsets[OffsetCheckpoint.LOG_STARTS]
        known = Known(
            clean=self._clean and current,
            live=self._live,
            compacted=where in self._offsets[OffsetCheckpoint.CLEANED]
            or folder.topic in self._facts.compacted
            or folder.topic in _INTERNAL_COMPACTED,
            recovery_point=points.get(where, 0),
            log_start_offset=starts.get(where, 0) if current and self._has_checkpoints and not metadata else None,
        )
        verified = verify_partition(folder.path, folder.topic, known, self._files, self._report)
        if verified.topic_id is not None and not metadata:
            ids = self._facts.topic_ids.get(folder.topic)
            if ids is not None and verified.topic_id not in ids and not self._live:
                self._report.add(
                    f"{folder.path}/{PARTITION_METADATA}",
                    None,
                    f"says topic id {verified.topic_id}, but the cluster's metadata {' or '.join(sorted(ids))}",
                )
        if metadata:
            if verified.topic_id not in (None, _METADATA_ID):
                self._report.add(f"{folder.path}/{PARTITION_METADATA}", None, f"says topic id {verified.topic_id}")
            self._metadata_files(folder.path)
        return verified

    def all(self) -> None:
        """Verify all there is. Raises: StorageFailed."""
        verified: dict[TopicPartition, Verified] = {}
        folders = []
        for name in sorted(self._files.folders(self._path)):
            if name == _REMOTE_INDEXES:
                continue
            try:
                folders.append(parse_folder(self._path, name))
            except DataDirRefused as error:
                self._report.add(f"{self._path}/{name}", None, str(error))
        self._own_files()
        for folder in folders:
            if folder.kind in (FolderKind.DELETED, FolderKind.STRAY):
                continue
            try:
                found = self.one(folder)
            except StorageFailed as error:
                if not (self._live and error.missing):
                    self._report.add(error.path, None, f"can't be read: {error.error.strerror}")
                continue
            if folder.kind is FolderKind.CURRENT:
                verified[folder.topic, folder.partition] = found
        for checkpoint in OffsetCheckpoint:
            self._offset_checkpoint(checkpoint, verified)

    def _metadata_files(self, folder: str) -> None:
        for name in sorted(self._files.names(folder)):
            path = f"{folder}/{name}"
            try:
                if is_snapshot(name):
                    verify_snapshot(path, self._files, self._report)
                elif name in self._checks:
                    self._checks[name](self._files.read_whole(path) or b"")
            except CorruptFile as error:
                self._report.add(path, None, str(error))
            except StorageFailed as error:
                if not (self._live and error.missing):
                    raise

    def _own_files(self) -> None:
        bootstrap = f"{self._path}/{BOOTSTRAP_CHECKPOINT}"
        if self._files.exists(bootstrap):
            verify_snapshot(bootstrap, self._files, self._report)
        path = f"{self._path}/{CLEAN_SHUTDOWN}"
        data = self._files.read_whole(path)
        if data:
            try:
                said = json.loads(data)
                if said["version"] != 0 or type(said["brokerEpoch"]) is not int or len(said) != 2:
                    raise ValueError("version 0 and a broker epoch were due")
            except (ValueError, TypeError, KeyError) as error:
                self._report.add(path, None, f"can't be read: {error}")
        self._meta_properties()

    def _meta_properties(self) -> None:
        path = f"{self._path}/{META_PROPERTIES}"
        data = self._files.read_whole(path)
        if data is None:
            self._report.add(path, None, "is missing")
            return
        try:
            meta = read_meta_properties(data, path)
        except DataDirRefused as error:
            self._report.add(path, None, str(error))
            return
        names = {line.partition(b"=")[0] for line in data.splitlines() if line and not line.startswith(b"#")}
        if names - {b"directory.id"} != {b"cluster.id", b"node.id", b"version"}:
            self._report.add(path, None, f"not written as Kafka writes it: {b', '.join(sorted(names))!r}")
        if self._facts.nodes and meta.node_id not in self._facts.nodes:
            self._report.add(path, None, f"says node {meta.node_id}, which the cluster's metadata doesn't know")
        if meta.directory_id is not None:
            try:
                canonical = uuid_text(uuid_from_text(meta.directory_id)) == meta.directory_id
            except ValueError:
                canonical = False
            known = self._facts.directories
            if not canonical or (known and meta.directory_id not in known):
                self._report.add(path, None, f"says directory.id {meta.directory_id}, which is none that is known")

    def _offset_checkpoint(self, checkpoint: OffsetCheckpoint, verified: dict[TopicPartition, Verified]) -> None:
        path = f"{self._path}/{checkpoint}"
        data = self._files.read_whole(path)
        if not data:
            return
        self._report.progress(len(data))
        try:
            offsets = read_offsets(data)
        except CorruptFile as error:
            self._report.add(path, None, str(error))
            return
        if write_offsets(offsets) != data:
            self._report.add(path, None, "not written as Kafka writes it")
        if self._live:
            return
        for where, offset in offsets.items():
            what = self._offset_wrong(checkpoint, offset, verified.get(where))
            if what is not None:
                self._report.add(path, None, f"says offset {offset} for {where[0]}-{where[1]}, {what}")
        if checkpoint is OffsetCheckpoint.RECOVERY_POINTS and self._clean:
            for topic, partition in sorted(verified.keys() - offsets.keys() - {(METADATA_TOPIC, 0)}):
                self._report.add(path, None, f"says nothing about {topic}-{partition}")

    def _offset_wrong(self, checkpoint: OffsetCheckpoint, offset: int, log: Verified | None) -> str | None:
        if log is None:
            return "which has no folder" if self._clean else None
        if offset < 0:
            return "which can't be"
        if offset > log.end_offset and log.end_offset > log.base_offset:
            return f"but its log ends at {log.end_offset}"
        if not self._clean:
            return None
        if checkpoint is OffsetCheckpoint.RECOVERY_POINTS and offset != log.end_offset:
            return f"but its log ends at {log.end_offset}, and all of it was synced"
        if checkpoint is OffsetCheckpoint.LOG_STARTS and offset <= log.base_offset and log.has_segments:
            return f"but its first segment begins at {log.base_offset}"
        return None

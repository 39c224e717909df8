"""A data directory: the folder that holds all partitions' folders and the files about them.

    meta.properties               whose it is (`meta_properties.py`)
    .lock                         held as long as it is in use, against us and against a JVM and its tools
    .kafka_cleanshutdown          left by a clean stop, taken away at start: without it every log is recovered
    recovery-point-, replication-, log-start-offset-, cleaner-offset-checkpoint    an offset for each partition
    bootstrap.checkpoint          metadata records for the first start of a cluster
    <topic>-<n>/                  a partition; __cluster_metadata-0/ is the metadata log's
    <topic>-<n>.<hex>-delete/     a deleted one, removed later; -stray: of an unknown topic, set aside;
                                  -future: a copy being moved here from another data directory

A folder of any other name is an error, as it is for Kafka: the directory is probably something else's.
"""

import json
import logging
import os
from collections.abc import Iterable
from enum import Enum, StrEnum

import msgspec

from kpybroker.storage.checkpoints import (
    TopicPartition,
    read_offsets,
    read_partition_metadata,
    write_offsets,
)
from kpybroker.storage.errors import CorruptFile, DataDirRefused, StorageFailed
from kpybroker.storage.files import Files, FileSystem, Room, StrPath
from kpybroker.storage.meta_properties import MetaProperties, read_meta_properties, write_meta_properties
from kpybroker.storage.names import (
    DELETE_FOLDER,
    FUTURE_FOLDER,
    LOG,
    PARTITION_METADATA,
    STRAY_FOLDER,
    doomed_folder,
    partition_folder,
)
from kpybroker.wire.primitives import uuid_from_text

_log = logging.getLogger(__name__)

META_PROPERTIES = "meta.properties"
LOCK = ".lock"
CLEAN_SHUTDOWN = ".kafka_cleanshutdown"
BOOTSTRAP_CHECKPOINT = "bootstrap.checkpoint"
METADATA_TOPIC = "__cluster_metadata"
_REMOTE_INDEXES = "remote-log-index-cache"  # of tiered storage; not a partition, and Kafka passes over it too


class OffsetCheckpoint(StrEnum):
    """The four files that give an offset for each partition."""

    RECOVERY_POINTS = "recovery-point-offset-checkpoint"
    """Below it everything is synced."""
    HIGH_WATERMARKS = "replication-offset-checkpoint"
    LOG_STARTS = "log-start-offset-checkpoint"
    """Only of logs that start inside their first segment (after DeleteRecords)."""
    CLEANED = "cleaner-offset-checkpoint"
    """Up to where a compacted log was compacted."""


class FolderKind(Enum):
    """What a partition's folder is for."""

    CURRENT = ""
    DELETED = DELETE_FOLDER
    STRAY = STRAY_FOLDER
    FUTURE = FUTURE_FOLDER


class PartitionFolder(msgspec.Struct, frozen=True):
    """A partition's folder in a data directory."""

    topic: str
    partition: int
    kind: FolderKind
    path: str


class CleanStop(msgspec.Struct, frozen=True):
    """What the clean-shutdown marker says."""

    broker_epoch: int
    """The epoch of the registration that ended with the stop, -1 if the file doesn't say."""


class DataDir:
    """A data directory in use by this process."""

    __slots__ = ("_file_system", "_files", "_lock", "meta", "path")

    def __init__(self, path: StrPath, files: Files) -> None:
        """Make the folder if it is missing, lock it, read meta.properties.

        Raises: DataDirRefused when another process has it or meta.properties can't be used; StorageFailed.
        """
        self.path = os.path.abspath(path)
        self._files = files
        _make_folders(files, self.path)
        self._file_system: FileSystem | None = None
        self._lock = files.lock(self._file(LOCK))
        try:
            self._file_system = files.file_system(self.path)
            data = files.read_whole(self._file(META_PROPERTIES))
            self.meta = None if data is None else read_meta_properties(data, self._file(META_PROPERTIES))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let others have it."""
        if self._file_system is not None:
            self._file_system.close()
        self._lock.release()

    # whose it is

    def write_meta(self, meta: MetaProperties) -> None:
        """Write meta.properties, durably. Raises: StorageFailed."""
        self._files.write_whole(self._file(META_PROPERTIES), write_meta_properties(meta))
        self.meta = meta

    def check_owner(self, node_id: int, cluster_id: str | None = None) -> None:
        """Whether it is this node's, and of this cluster if that is known. Raises: DataDirRefused."""
        if self.meta is None:
            raise DataDirRefused(f"{self.path} has no {META_PROPERTIES}: it was never formatted")
        if self.meta.node_id != node_id:
            raise DataDirRefused(f"{self.path} belongs to node {self.meta.node_id}, not to node {node_id}")
        if cluster_id is not None and self.meta.cluster_id != cluster_id:
            raise DataDirRefused(f"{self.path} belongs to cluster {self.meta.cluster_id}, not to {cluster_id}")

    # how it was left

    def take_clean_stop(self) -> CleanStop | None:
        """The clean-shutdown marker, which is gone afterwards, durably; None: every log must be recovered.

        Raises: StorageFailed.
        """
        path = self._file(CLEAN_SHUTDOWN)
        data = self._files.read_whole(path)
        if data is None:
            return None
        self._files.remove(path)
        self._files.sync_folder(self.path)  # it must not be back after a crash of the machine
        try:
            said = json.loads(data)
            return CleanStop(int(said["brokerEpoch"]))
        except (ValueError, TypeError, KeyError):
            return CleanStop(-1)

    def write_clean_stop(self, broker_epoch: int) -> None:
        """Leave the marker: all logs were closed cleanly, and end at a batch. Raises: StorageFailed."""
        text = json.dumps({"version": 0, "brokerEpoch": broker_epoch}, separators=(",", ":"))
        self._files.write_whole(self._file(CLEAN_SHUTDOWN), text.encode())

    # checkpoints

    def read_offsets(self, checkpoint: OffsetCheckpoint) -> dict[TopicPartition, int]:
        """An offset checkpoint; empty when missing or damaged (the offsets only save work). Raises: StorageFailed."""
        data = self._files.read_whole(self._file(checkpoint))
        if data is None:
            return {}
        try:
            return read_offsets(data)
        except CorruptFile as error:
            _log.warning("%s: %s; going on without it", self._file(checkpoint), error)
            return {}

    def write_offsets(self, checkpoint: OffsetCheckpoint, offsets: dict[TopicPartition, int]) -> None:
        """Replace an offset checkpoint, durably; blocks, may run in a worker thread. Raises: StorageFailed."""
        self._files.write_whole(self._file(checkpoint), write_offsets(offsets))

    # partitions

    def folder(self, topic: str, partition: int) -> str:
        """The path of a partition's folder, whether it is there or not."""
        return self._file(partition_folder(topic, partition))

    def future_folder(self, topic: str, partition: int, unique: str) -> str:
        """The path of a copy that is being moved here; `unique`: 32 hex digits."""
        return self._file(f"{partition_folder(topic, partition)}.{unique}{FUTURE_FOLDER}")

    def doomed_folder(self, topic: str, partition: int, unique: str, kind: FolderKind) -> str:
        """The path to which a partition's folder is moved to be deleted or set aside; `unique`: 32 hex digits."""
        return self._file(doomed_folder(topic, partition, unique, kind.value))

    def partitions(self) -> list[PartitionFolder]:
        """All partitions' folders but the metadata log's, sorted by name.

        Raises: DataDirRefused for a folder that is none, and when two folders are the same partition; StorageFailed.
        """
        found = []
        seen: set[tuple[str, int, FolderKind]] = set()
        for name in sorted(self._files.folders(self.path)):
            if name == _REMOTE_INDEXES:
                continue
            folder = parse_folder(self.path, name)
            if folder.topic == METADATA_TOPIC:
                continue
            key = (folder.topic, folder.partition, folder.kind)
            if folder.kind in (FolderKind.CURRENT, FolderKind.FUTURE) and key in seen:
                raise DataDirRefused(f"{self.path} has two folders of partition {folder.topic}-{folder.partition}")
            seen.add(key)
            found.append(folder)
        return found

    def has(self, topic: str, partition: int) -> bool:
        """Whether a partition's folder is there."""
        return self._files.exists(self.folder(topic, partition))

    def log_size(self, topic: str, partition: int) -> int:
        """Bytes of a log that isn't open; 0 if there is none. Blocks. Raises: StorageFailed."""
        folder = self.folder(topic, partition)
        try:
            logs = [name for name in self._files.names(folder) if name.endswith(LOG)]
            return sum(self._files.size(f"{folder}/{name}") for name in logs)
        except StorageFailed as failure:
            if failure.missing:  # never written, or deleted at this moment
                return 0
            raise

    def room(self) -> Room:
        """How large the file system is, and how much of it is free. Blocks. Raises: StorageFailed."""
        return self._files.room(self.path)

    def sync_all(self, folders: Iterable[str]) -> bool:
        """See `FileSystem.sync`. Raises: StorageFailed."""
        return self._file_system is not None and self._file_system.sync(folders)

    def topic_id(self, folder: str) -> bytes | None:
        """The topic id in a folder's partition.metadata; None when there is none that can be read.

        Kafka sets such a partition aside as stray. Raises: StorageFailed.
        """
        data = self._files.read_whole(f"{folder}/{PARTITION_METADATA}")
        if data is None:
            return None
        try:
            return uuid_from_text(read_partition_metadata(data))
        except (CorruptFile, ValueError) as error:
            _log.warning("%s: %s", folder, error)
            return None

    def move(self, folder: str, target: str) -> None:
        """Rename a partition's folder whose log isn't open. Raises: StorageFailed."""
        self._files.rename(folder, target)

    def sync(self) -> None:
        """Make the names of the partitions' folders durable; may run in a worker thread. Raises: StorageFailed."""
        self._files.sync_folder(self.path)

    def remove(self, folder: str) -> None:
        """Remove a partition's folder with all that is in it; may run in a worker thread. Raises: StorageFailed."""
        self._files.remove_folder(folder)

    def _file(self, name: str) -> str:
        return f"{self.path}/{name}"


def parse_folder(parent: str, name: str) -> PartitionFolder:
    """What a folder's name says. Raises: DataDirRefused when it is none that Kafka knows."""
    kind = FolderKind.CURRENT
    plain = name
    for suffix in (FolderKind.DELETED, FolderKind.STRAY, FolderKind.FUTURE):
        if name.endswith(suffix.value):
            kind = suffix
            plain = name.removesuffix(suffix.value).rpartition(".")[0]
    topic, dash, digits = plain.rpartition("-")
    if not dash or not topic or not digits.isascii() or not digits.isdigit():
        raise DataDirRefused(
            f"{parent} has a folder {name!r}, which is not of the form topic-partition or "
            "topic-partition.uniqueId-delete: a data directory must contain nothing but topic data"
        )
    return PartitionFolder(topic, int(digits), kind, f"{parent}/{name}")


def _make_folders(files: Files, path: str) -> None:
    if not files.exists(path):
        parent = os.path.dirname(path)
        if parent != path:
            _make_folders(files, parent)
        files.make_folder(path)
        files.sync_folder(parent)

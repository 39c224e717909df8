"""The snapshot files of a metadata log's folder: finding the newest complete one, writing, deciding when, pruning.

A new snapshot is due after so many bytes of records, or when the oldest record that no snapshot contains has waited for
so long (metadata.log.max.record.bytes.between.snapshots, metadata.log.max.snapshot.interval.ms). Log and old snapshots
go only when both together are too large or the oldest snapshot too old (metadata.max.retention.bytes and .ms), and then
up to the next snapshot: the log always reaches back to one that is complete.
"""

from __future__ import annotations

import logging
from typing import NamedTuple

import msgspec

from kpybroker.cluster.batches import ControlBatch, read_batches
from kpybroker.cluster.errors import IncompleteSnapshot
from kpybroker.cluster.image import ClusterImage
from kpybroker.cluster.machines.raft_events import Quorum, SnapshotId
from kpybroker.cluster.snapshot import (
    BOOTSTRAP,
    Snapshot,
    encode_snapshot,
    image_records,
    parse_file_name,
    read_snapshot,
)
from kpybroker.storage.files import Files
from kpybroker.wire.errors import CorruptRecords
from kpybroker.wire.internal.control_records import SnapshotHeaderRecord

_log = logging.getLogger(__name__)

_UNFINISHED = (".part", ".tmp")
"""Suffixes of a snapshot that was being written: Kafka's and ours."""

_HEADER_BYTES = 4096
"""Enough for the first batch of a snapshot."""

SUPERSEDED_KEPT = 1
"""Snapshots kept besides the newest and the one at which the log begins: a slow follower may be reading one."""


class Loaded(NamedTuple):
    """A complete snapshot."""

    id: SnapshotId
    snapshot: Snapshot


class SnapshotFiles:
    """The snapshots in one folder. Invariant: `ids` are those of complete files, oldest first."""

    def __init__(self, folder: str, files: Files) -> None:
        self.folder = folder
        self.ids: list[SnapshotId] = []
        self._files = files

    @property
    def newest(self) -> SnapshotId | None:
        """The newest complete snapshot that has records; the one that formatting leaves does not count."""
        return self.ids[-1] if self.ids and self.ids[-1] != BOOTSTRAP else None

    def load(self) -> Loaded | None:
        """Find the newest complete snapshot (BOOTSTRAP is one); incomplete ones are left lying and not counted.

        Raises: UnreplayableRecord for a record that can't be read, StorageFailed.
        """
        found = []
        for name in self._files.names(self.folder):
            if name.endswith(_UNFINISHED):
                self._files.remove(f"{self.folder}/{name}")
            elif (id_ := parse_file_name(name)) is not None:
                found.append(id_)
        found.sort()
        while found:
            data = self._files.read_whole(self.path(found[-1])) or b""
            try:
                loaded = Loaded(found[-1], read_snapshot(data))
            except IncompleteSnapshot as error:
                _log.warning("Ignoring %s: %s", self.path(found.pop()), error)
                continue
            self.ids = found
            return loaded
        self.ids = []
        return None

    def path(self, id_: SnapshotId) -> str:
        """Where a snapshot's file is."""
        return f"{self.folder}/{id_.file_name}"

    def size_bytes(self) -> int:
        """Bytes in all snapshots. Raises: StorageFailed."""
        return sum(self._files.size(self.path(id_)) for id_ in self.ids)

    def size_of(self, id_: SnapshotId) -> int | None:
        """The bytes in a complete snapshot, None if there is none such. Raises: StorageFailed."""
        return self._files.size(self.path(id_)) if id_ in self.ids else None

    def read(self, id_: SnapshotId, position: int, bytes_max: int) -> bytes:
        """A slice of a snapshot. Raises: StorageFailed."""
        return self._files.read_part(self.path(id_), position, bytes_max)

    def timestamp(self, id_: SnapshotId) -> int:
        """When a snapshot's last record was appended, in ms; 0 if its header can't be read. Raises: StorageFailed."""
        data = self.read(id_, 0, _HEADER_BYTES)
        try:
            first = next(read_batches(data), None)
        except CorruptRecords:
            return 0
        for record in first.records if isinstance(first, ControlBatch) else ():
            if isinstance(record, SnapshotHeaderRecord):
                return record.last_contained_log_timestamp
        return 0

    def written(self, id_: SnapshotId, log_start_offset: int) -> None:
        """Take note of a snapshot that was written; those that it makes useless are dropped. Raises: StorageFailed.

        Kept are the last ones, and that at which the log begins: the log alone does not say what was before it.
        """
        self.ids = sorted({*self.ids, id_})
        for old in self.ids[: -1 - SUPERSEDED_KEPT]:
            if old != BOOTSTRAP and old.end_offset != log_start_offset:
                self.remove(old)

    def remove(self, id_: SnapshotId) -> None:
        """Delete a snapshot. Raises: StorageFailed."""
        self._files.remove(self.path(id_))
        self.ids = [other for other in self.ids if other != id_]


class SnapshotJob(NamedTuple):
    """A snapshot to be written. `run` is for a worker thread: it touches an image, which never changes, and a file."""

    id: SnapshotId
    path: str
    image: ClusterImage
    quorum: Quorum
    files: Files
    now_ms: int

    def run(self) -> None:
        """Write the file. Raises: StorageFailed, then there is none."""
        data = encode_snapshot(
            list(image_records(self.image)),
            quorum=self.quorum,
            timestamp=self.image.timestamp,
            epoch=self.image.epoch,
            now_ms=self.now_ms,
            metadata_version=self.image.features.metadata_version,
        )
        self.files.write_whole(self.path, data)


class SnapshotPolicy(msgspec.Struct, kw_only=True):
    """When a snapshot is due."""

    record_bytes_max: int
    interval_s: float
    """0: never by time."""
    record_bytes: int = 0
    """Bytes in the log behind the newest snapshot."""
    waiting_since_s: float | None = None
    """When the first of them was committed, as monotonic time; None: there are none."""

    def committed(self, record_bytes: int, now_s: float) -> None:
        """More records were committed."""
        self.record_bytes += record_bytes
        if self.waiting_since_s is None:
            self.waiting_since_s = now_s

    def taken(self) -> tuple[int, float | None]:
        """A snapshot of everything committed is being written. Returns what to put back if it can't be."""
        before = self.record_bytes, self.waiting_since_s
        self.record_bytes = 0
        self.waiting_since_s = None
        return before

    def put_back(self, taken: tuple[int, float | None]) -> None:
        """The snapshot was not written."""
        record_bytes, self.waiting_since_s = taken
        self.record_bytes += record_bytes

    @property
    def deadline_s(self) -> float | None:
        """When a snapshot will be due by time, None: not by time."""
        if self.waiting_since_s is None or self.interval_s <= 0:
            return None
        return self.waiting_since_s + self.interval_s

    def due(self, now_s: float) -> bool:
        """Whether one is due now."""
        deadline_s = self.deadline_s
        return self.record_bytes >= self.record_bytes_max or (deadline_s is not None and now_s >= deadline_s)

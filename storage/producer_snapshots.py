"""Producer snapshots: `<offset>.snapshot` holds the state of all producers below that offset.

The file is Kafka's ProducerSnapshot version 1: version (int16), CRC-32C of what follows it (uint32), a count (int32)
and so many entries of 46 bytes. Only the last batch of a producer is kept in it, so that after a start a retry of an
older one is no longer recognised as a duplicate; so it is in Kafka. One is written when a segment is rolled (at its
base offset, not synced), when the log is closed (at its end) and after recovery.
"""

import logging
import struct
from bisect import bisect_right, insort
from collections.abc import Iterable

from crc32c import crc32c

from kpybroker.storage.errors import CorruptFile
from kpybroker.storage.files import Files
from kpybroker.storage.names import DELETED, SNAPSHOT, file_name, offset_of
from kpybroker.storage.producer_state import BatchSeen, Producer

_log = logging.getLogger(__name__)

_VERSION = 1
_HEAD = struct.Struct(">hIi")
_CRC_END = 6
_ENTRY = struct.Struct(">qhiqiqiq")


def encode(producers: Iterable[Producer]) -> bytes:
    """The file's content."""
    entries = []
    for producer in producers:
        last = producer.batches[-1] if producer.batches else BatchSeen(-1, -1, 0, -1)
        start = producer.transaction_start
        entries.append(
            _ENTRY.pack(
                producer.producer_id,
                producer.epoch,
                last.last_sequence,
                last.last_offset,
                last.offset_delta,
                producer.last_timestamp,
                producer.coordinator_epoch,
                -1 if start is None else start,
            )
        )
    body = struct.pack(">i", len(entries)) + b"".join(entries)
    return struct.pack(">hI", _VERSION, crc32c(body)) + body


def decode(data: bytes) -> list[Producer]:
    """The producers in a file's content. Raises: CorruptFile."""
    if len(data) < _HEAD.size:
        raise CorruptFile(f"a producer snapshot of {len(data)} bytes")
    version, crc, count = _HEAD.unpack_from(data)
    if version != _VERSION:
        raise CorruptFile(f"a producer snapshot of version {version}")
    if crc != crc32c(memoryview(data)[_CRC_END:]):
        raise CorruptFile("a producer snapshot whose checksum is wrong")
    if len(data) != _HEAD.size + count * _ENTRY.size:
        raise CorruptFile(f"a producer snapshot of {count} entries in {len(data)} bytes")
    producers = []
    for fields in _ENTRY.iter_unpack(memoryview(data)[_HEAD.size :]):
        producer_id, epoch, last_sequence, last_offset, delta, timestamp, coordinator_epoch, start = fields
        producer = Producer(producer_id, epoch, coordinator_epoch, timestamp, start if start >= 0 else None)
        if last_offset >= 0:
            producer.batches.append(BatchSeen(last_sequence, last_offset, delta, timestamp))
        producers.append(producer)
    return producers


class ProducerSnapshots:
    """The snapshot files of a partition's folder."""

    __slots__ = ("_directory", "_files", "offsets", "unsynced")

    def __init__(self, files: Files, directory: str, names: Iterable[str]) -> None:
        self._files = files
        self._directory = directory
        found = (offset_of(name, SNAPSHOT) for name in names)
        self.offsets = sorted(offset for offset in found if offset is not None)
        self.unsynced: set[int] = set()  # those that were written and may be lost with the machine's power

    def moved_to(self, directory: str) -> None:
        """The partition's folder was renamed."""
        self._directory = directory

    @property
    def newest(self) -> int | None:
        """The greatest offset that has a snapshot."""
        return self.offsets[-1] if self.offsets else None

    def write(self, offset: int, producers: Iterable[Producer]) -> None:
        """Write the snapshot at `offset`; the next flush of the log syncs it. Raises: StorageFailed."""
        self._files.write_whole(self._path(offset), encode(producers), sync=False)
        self.unsynced.add(offset)
        if offset not in self.offsets:
            insort(self.offsets, offset)

    def take_unsynced(self) -> list[str]:
        """The paths of those that were not synced yet, for the caller to sync."""
        paths = [self._path(offset) for offset in sorted(self.unsynced.intersection(self.offsets))]
        self.unsynced.clear()
        return paths

    def load_newest(self, start: int, end: int) -> tuple[int, list[Producer]] | None:
        """The newest readable snapshot above `start` and not above `end`; those that are damaged are removed.

        Raises: StorageFailed.
        """
        for offset in reversed(self.offsets[: bisect_right(self.offsets, end)]):
            if offset <= start:
                return None
            try:
                data = self._files.read_whole(self._path(offset))
                if data is not None:
                    return offset, decode(data)
            except CorruptFile as error:
                _log.warning("Failed to load producer snapshot from '%s': %s", self._path(offset), error)
            self.remove(offset)
        return None

    def remove(self, offset: int) -> None:
        """Remove the snapshot at `offset`, if there is one. Raises: StorageFailed."""
        if offset in self.offsets:
            self._files.remove(self._path(offset))
            self.offsets.remove(offset)

    def remove_outside(self, start: int, end: int) -> None:
        """Remove the snapshots up to `start` and those above `end`, which the log no longer covers."""
        for offset in [offset for offset in self.offsets if offset <= start or offset > end]:
            self.remove(offset)

    def remove_strays(self, segments: list[int]) -> None:
        """Keep the snapshots that belong to a segment's base offset, and the newest one if it is above them all."""
        bases = set(segments)
        strays = [offset for offset in self.offsets if offset not in bases]
        if strays and (not segments or strays[-1] > segments[-1]):
            strays.pop()
        for offset in strays:
            self.remove(offset)

    def retire(self, offset: int) -> str | None:
        """Rename the snapshot at `offset`, if any, to `.deleted`; returns that path. Raises: StorageFailed."""
        if offset not in self.offsets:
            return None
        path = self._path(offset)
        self._files.rename(path, path + DELETED)
        self.offsets.remove(offset)
        return path + DELETED

    def _path(self, offset: int) -> str:
        return f"{self._directory}/{file_name(offset, SNAPSHOT)}"

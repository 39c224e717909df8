"""A disk that holds a log of any size: its closed segments are made up when they are read, and take no room.

Every segment is 1 GiB of batches of 64 KiB, a record in each, ten milliseconds apart, with whole indexes, as one that
was written and rolled. What is written to it goes to a disk in memory. Whatever is asked of it is counted.
"""

import struct
from functools import lru_cache
from typing import NamedTuple

from kpybroker.storage.names import LOG, OFFSET_INDEX, SNAPSHOT, TIME_INDEX, file_name
from kpybroker.storage.producer_snapshots import encode
from kpybroker.wire.records.batch import build_batch
from kpybroker.wire.records.record import Record

from .faulty_files import FaultyFiles
from .making import NOW

BATCH_BYTES = 64 << 10
SEGMENT_BATCHES = (1 << 30) // BATCH_BYTES
RECORD_MS = 10
FOLDER = "/data/t-0"
_OVERHEAD = len(build_batch([Record(timestamp=0, value=bytes(BATCH_BYTES // 2))])) - BATCH_BYTES // 2


class Cost(NamedTuple):
    """What was asked of the disk."""

    opens: int
    looks: int
    """For a file's size, its age, whether it is there."""
    reads: int
    bytes_read: int
    changes: int


def timestamp_of(offset: int) -> int:
    return NOW + offset * RECORD_MS


@lru_cache(maxsize=64)
def batch_at(offset: int) -> bytes:
    value = bytes(BATCH_BYTES - _OVERHEAD)
    batch = bytes(build_batch([Record(timestamp=timestamp_of(offset), value=value)], base_offset=offset))
    assert len(batch) == BATCH_BYTES
    return batch[:12] + bytes(4) + batch[16:]  # leader epoch 0


class HugeFiles(FaultyFiles):
    """So many closed segments, the last of which begins the active one; clean or not is for whoever opens it."""

    def __init__(self, segments: int) -> None:
        super().__init__()
        self.now_ms = timestamp_of(segments * SEGMENT_BATCHES)
        self.opens = self.looks = 0
        self.end_offset = segments * SEGMENT_BATCHES
        self._made_up = {}
        for base in range(0, self.end_offset, SEGMENT_BATCHES):
            for kind in (LOG, OFFSET_INDEX, TIME_INDEX):
                self._made_up[f"{FOLDER}/{file_name(base, kind)}"] = (base, kind)
        self.make_folder("/data")
        self.make_folder(FOLDER)
        self.put(f"{FOLDER}/leader-epoch-checkpoint", b"0\n1\n0 0\n")
        self.put(f"{FOLDER}/partition.metadata", b"version: 0\ntopic_id: AAECAwQFBgcICQoLDA0ODw")
        self.put(f"{FOLDER}/{file_name(self.end_offset, SNAPSHOT)}", encode([]))
        for kind in (LOG, OFFSET_INDEX, TIME_INDEX):
            self.put(f"{FOLDER}/{file_name(self.end_offset, kind)}", b"")

    def cost(self) -> Cost:
        """What was asked since the last call."""
        cost = Cost(self.opens, self.looks, len(self.reads), sum(size for _, _, size in self.reads), self.operations)
        self.opens = self.looks = self.operations = 0
        self.reads.clear()
        return cost

    # Files

    def names(self, folder):
        made_up = [path.rpartition("/")[2] for path in self._made_up if path.startswith(f"{folder}/")]
        return super().names(folder) + made_up

    def open(self, path, *, create=False):
        self.opens += 1
        known = self._made_up.get(path)
        return super().open(path, create=create) if known is None else MadeUpFile(self, path, *known)

    def read_whole(self, path):
        known = self._made_up.get(path)
        if known is None:
            return super().read_whole(path)
        file = MadeUpFile(self, path, *known)
        return file.read_at(0, file.size())

    def exists(self, path):
        self.looks += 1
        return path in self._made_up or super().exists(path)

    def size(self, path):
        self.looks += 1
        known = self._made_up.get(path)
        return super().size(path) if known is None else MadeUpFile(self, path, *known).size()

    def modified_ms(self, path):
        self.looks += 1
        return super().modified_ms(path)

    def rename(self, source, target):
        known = self._made_up.pop(source, None)
        if known is None:
            super().rename(source, target)
        else:
            self.change("rename", source)
            self._made_up[target] = known

    def remove(self, path):
        if self._made_up.pop(path, None) is None:
            super().remove(path)
        else:
            self.change("remove", path)


class MadeUpFile:
    """A file of a closed segment."""

    def __init__(self, disk: HugeFiles, path: str, base: int, kind: str) -> None:
        self.path = path
        self._disk = disk
        self._base = base
        self._kind = kind

    def fileno(self):
        raise OSError("made up")

    def size(self):
        return {LOG: SEGMENT_BATCHES * BATCH_BYTES, OFFSET_INDEX: (SEGMENT_BATCHES - 1) * 8}.get(
            self._kind, (SEGMENT_BATCHES - 1) * 12
        )

    def read_at(self, position, length):
        end = min(position + length, self.size())
        self._disk.reads.append((self.path, position, max(end - position, 0)))
        if self._kind != LOG:
            content = offset_index() if self._kind == OFFSET_INDEX else time_index(self._base)
            return content[position:end]
        parts = []
        while position < end:
            number, within = divmod(position, BATCH_BYTES)
            part = batch_at(self._base + number)[within : within + end - position]
            parts.append(part)
            position += len(part)
        return b"".join(parts)

    def write_at(self, *_):
        raise AssertionError(f"{self.path} is complete: nobody writes to it")

    truncate = write_at

    def sync(self):
        self._disk.change("sync", self.path)

    def close(self):
        pass


@lru_cache(maxsize=1)
def offset_index() -> bytes:
    """The same in every segment: an entry for each batch but the first."""
    return b"".join(struct.pack(">ii", number, number * BATCH_BYTES) for number in range(1, SEGMENT_BATCHES))


@lru_cache(maxsize=4)
def time_index(base: int) -> bytes:
    return b"".join(struct.pack(">qi", timestamp_of(base + number), number) for number in range(1, SEGMENT_BATCHES))

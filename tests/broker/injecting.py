"""Real files of which one operation fails, for a node that serves clients meanwhile."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from kpybroker.storage.errors import StorageFailed, SyncFailed
from kpybroker.storage.files import Buffer, Held, OpenFile, RealFiles, Room, StrPath


class InjectingFile:
    """An open file whose operations count."""

    def __init__(self, disk: InjectingFiles, file: OpenFile) -> None:
        self._disk = disk
        self._file = file

    @property
    def path(self) -> str:
        return self._file.path

    @path.setter
    def path(self, path: str) -> None:
        self._file.path = path

    def fileno(self) -> int:
        return self._file.fileno()

    def read_at(self, position: int, length: int) -> bytes:
        self._disk.hit("read", self.path)
        return self._file.read_at(position, length)

    def write_at(self, position: int, data: Buffer) -> None:
        try:
            self._disk.hit("write", self.path)
        except StorageFailed:
            self._file.write_at(position, bytes(data)[: len(data) // 2])  # as a disk that fills up does
            raise
        self._file.write_at(position, data)

    def size(self) -> int:
        self._disk.hit("stat", self.path)
        return self._file.size()

    def truncate(self, size: int) -> None:
        self._disk.hit("truncate", self.path)
        self._file.truncate(size)

    def sync(self) -> None:
        self._disk.hit("sync", self.path, SyncFailed)
        self._file.sync()

    def close(self) -> None:
        self._file.close()


class InjectingFiles(RealFiles):
    """`fail_at`: which operation from now on fails, and with which errno."""

    __slots__ = ("_error", "_left", "_lock", "hits")

    def __init__(self) -> None:
        super().__init__(sync=False)
        self._left = 0
        self._error = 0
        self._lock = threading.Lock()  # a node's worker threads use the disk too
        self.hits: list[tuple[str, str]] = []
        """What was made to fail."""

    def fail_at(self, number: int, error: int) -> None:
        with self._lock:
            self._left, self._error = number, error

    @property
    def waits(self) -> bool:
        """Whether what was ordered has not happened yet."""
        return self._left > 0

    def hit(self, what: str, path: StrPath, kind: type[StorageFailed] = StorageFailed) -> None:
        with self._lock:
            if kind is SyncFailed and self._error != errno.EIO:
                return  # of a sync every failure is for good
            self._left -= 1
            if self._left != 0:
                return
            self.hits.append((what, os.fspath(path)))
        raise kind(os.fspath(path), OSError(self._error, os.strerror(self._error)))

    def open(self, path: StrPath, *, create: bool = False) -> OpenFile:
        self.hit("create" if create else "open", path)
        return InjectingFile(self, super().open(path, create=create))

    def read_whole(self, path: StrPath) -> bytes | None:
        self.hit("read", path)
        return super().read_whole(path)

    def read_part(self, path: StrPath, position: int, length: int) -> bytes:
        self.hit("read", path)
        return super().read_part(path, position, length)

    def write_whole(self, path: StrPath, data: Buffer, *, sync: bool = True, temporary: str = ".tmp") -> None:
        self.hit("replace", path)
        super().write_whole(path, data, sync=sync, temporary=temporary)

    def names(self, folder: StrPath) -> list[str]:
        self.hit("list", folder)
        return super().names(folder)

    def folders(self, folder: StrPath) -> list[str]:
        self.hit("list", folder)
        return super().folders(folder)

    def size(self, path: StrPath) -> int:
        self.hit("stat", path)
        return super().size(path)

    def room(self, path: StrPath) -> Room:
        self.hit("stat", path)
        return super().room(path)

    def modified_ms(self, path: StrPath) -> int:
        self.hit("stat", path)
        return super().modified_ms(path)

    def rename(self, source: StrPath, target: StrPath) -> None:
        self.hit("rename", source)
        super().rename(source, target)

    def remove(self, path: StrPath) -> None:
        self.hit("remove", path)
        super().remove(path)

    def make_folder(self, path: StrPath) -> None:
        self.hit("mkdir", path)
        super().make_folder(path)

    def remove_folder(self, path: StrPath) -> None:
        self.hit("rmdir", path)
        super().remove_folder(path)

    def sync_folder(self, path: StrPath) -> None:
        self.hit("sync folder", path, SyncFailed)

    def lock(self, path: StrPath) -> Held:
        self.hit("lock", path)
        return super().lock(path)

    @contextmanager
    def well(self) -> Iterator[None]:
        """Nothing fails meanwhile."""
        left, self._left = self._left, 0
        yield
        self._left = left

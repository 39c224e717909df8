"""The seam to the disk: every file operation of a log directory goes through `Files`.

Real files are `RealFiles`; tests put a disk in their place that tears writes, fills up, fails and crashes. Nothing
here buffers: when a write returns, the page cache has it, so it survives a killed process, and after `sync` it
survives the machine. Every failure is a `StorageFailed`.
"""

import errno
import fcntl
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple, Protocol

from kpybroker.storage.errors import DataDirRefused, StorageFailed, SyncFailed
from kpybroker.storage.file_system import RealFileSystem

Buffer = bytes | bytearray | memoryview
StrPath = str | os.PathLike[str]

_TEMPORARY = ".tmp"
_sync_data = getattr(os, "fdatasync", os.fsync)  # it syncs the length too, and leaves out only the times


class OpenFile(Protocol):
    """A file open for reading and writing at positions; it keeps no position of its own."""

    path: str

    def fileno(self) -> int:
        """The descriptor, for sendfile. Raises: OSError when there is none (a simulated disk)."""

    def read_at(self, position: int, length: int) -> bytes:
        """At most `length` bytes from `position`; fewer only at the end of the file. Raises: StorageFailed."""

    def write_at(self, position: int, data: Buffer) -> None:
        """Write all of `data`. Raises: StorageFailed, then an unknown part of it is in the file."""

    def size(self) -> int:
        """Length in bytes. Raises: StorageFailed."""

    def truncate(self, size: int) -> None:
        """Cut the file to `size` bytes, or extend it with zeros. Raises: StorageFailed."""

    def sync(self) -> None:
        """Make content and length survive a crash of the machine; may run in another thread. Raises: SyncFailed."""

    def close(self) -> None:
        """Give the descriptor back. Closing twice is harmless."""


class Held(Protocol):
    """A lock on a file, held until released."""

    def release(self) -> None:
        """Let others have it."""


class FileSystem(Protocol):
    """A file system, held open."""

    def sync(self, folders: Iterable[str]) -> bool:
        """Make all that was written to it survive a crash of the machine; False if that can't be had in one go.

        So it is when one of `folders` is not on it. Blocks; may run in another thread. Raises: StorageFailed.
        """

    def close(self) -> None:
        """Let go of it."""


class Room(NamedTuple):
    """Bytes of a file system."""

    total: int
    usable: int
    """What a process without privileges may still write."""


class Files(Protocol):
    """A disk. Paths are absolute. Every method raises StorageFailed when the disk does."""

    def open(self, path: StrPath, *, create: bool = False) -> OpenFile:
        """Open for reading and writing; `create`: make it when missing. Raises StorageFailed (`missing`) otherwise."""

    def read_whole(self, path: StrPath) -> bytes | None:
        """All of a file; None when there is none."""

    def read_part(self, path: StrPath, position: int, length: int) -> bytes:
        """At most so many bytes of a file, which need not be writable. Raises StorageFailed (`missing`) without one."""

    def write_whole(self, path: StrPath, data: Buffer, *, sync: bool = True, temporary: str = _TEMPORARY) -> None:
        """Replace a file atomically: written beside it under the suffix `temporary`, synced, renamed, folder synced.

        With `sync` False nothing is synced: a killed process leaves the old or the new file, a crash of the machine
        may leave an empty one.
        """

    def names(self, folder: StrPath) -> list[str]:
        """The names in a folder, in no order."""

    def folders(self, folder: StrPath) -> list[str]:
        """The names of the sub-folders in a folder, in no order."""

    def exists(self, path: StrPath) -> bool:
        """Whether a file or folder is there."""

    def size(self, path: StrPath) -> int:
        """Length of a file in bytes."""

    def room(self, path: StrPath) -> Room:
        """How large the file system is that holds a file or folder, and how much of it is free."""

    def modified_ms(self, path: StrPath) -> int:
        """When the file was last written, in milliseconds of the system's clock."""

    def identity(self, path: StrPath) -> int:
        """A number that another file in its place would not have."""

    def set_modified_ms(self, path: StrPath, modified_ms: int) -> None:
        """Say that a file was last written at that time, in milliseconds of the system's clock."""

    def rename(self, source: StrPath, target: StrPath) -> None:
        """Rename a file or folder, replacing a file that has the new name. Not synced."""

    def remove(self, path: StrPath) -> None:
        """Remove a file; nothing happens when there is none."""

    def make_folder(self, path: StrPath) -> None:
        """Make a folder (its parent exists); nothing happens when it is there."""

    def remove_folder(self, path: StrPath) -> None:
        """Remove a folder and all files in it; nothing happens when there is none."""

    def sync_folder(self, path: StrPath) -> None:
        """Make the names in a folder survive a crash of the machine; may run in another thread. Raises: SyncFailed."""

    def file_system(self, path: StrPath) -> FileSystem:
        """The file system that holds a folder."""

    def lock(self, path: StrPath) -> Held:
        """Take the POSIX lock on a file, made when missing. Raises: DataDirRefused when another process has it."""


class RealFile:
    """A file of the operating system."""

    __slots__ = ("_fd", "_sync", "path")

    def __init__(self, path: str, fd: int, sync: bool) -> None:
        self.path = path
        self._fd = fd
        self._sync = sync

    def fileno(self) -> int:
        """See `OpenFile.fileno`."""
        return self._fd

    def read_at(self, position: int, length: int) -> bytes:
        try:
            data = os.pread(self._fd, length, position)
            if len(data) == length or not data:
                return data
            while more := os.pread(self._fd, length - len(data), position + len(data)):
                data += more
        except OSError as error:
            raise StorageFailed(self.path, error) from error
        return data

    def write_at(self, position: int, data: Buffer) -> None:
        try:
            written = os.pwrite(self._fd, data, position)
            if written == len(data):
                return
            rest = memoryview(data)
            while written < len(rest):  # a disk that filled up says so on the second try
                written += os.pwrite(self._fd, rest[written:], position + written)
        except OSError as error:
            raise StorageFailed(self.path, error) from error

    def size(self) -> int:
        try:
            return os.fstat(self._fd).st_size
        except OSError as error:
            raise StorageFailed(self.path, error) from error

    def truncate(self, size: int) -> None:
        try:
            os.ftruncate(self._fd, size)
        except OSError as error:
            raise StorageFailed(self.path, error) from error

    def sync(self) -> None:
        if not self._sync:
            return
        try:
            _sync_data(self._fd)
        except OSError as error:
            raise SyncFailed(self.path, error) from error

    def close(self) -> None:
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)


class _RealLock:
    __slots__ = ("_fds",)

    def __init__(self, fds: list[int]) -> None:
        self._fds = fds

    def release(self) -> None:
        while self._fds:
            os.close(self._fds.pop())  # which also gives up the lock


class RealFiles:
    """The operating system's files. `sync` False: nothing is ever synced (a temporary folder of a test)."""

    __slots__ = ("_sync",)

    def __init__(self, sync: bool = True) -> None:
        self._sync = sync

    def open(self, path: StrPath, *, create: bool = False) -> OpenFile:
        """See `Files.open`."""
        name = os.fspath(path)
        flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0)
        with _failures_of(name):
            return RealFile(name, os.open(name, flags, 0o644), self._sync)

    def read_whole(self, path: StrPath) -> bytes | None:
        """See `Files.read_whole`."""
        try:
            with open(path, "rb", buffering=0) as file:
                return file.readall()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StorageFailed(os.fspath(path), error) from error

    def read_part(self, path: StrPath, position: int, length: int) -> bytes:
        """See `Files.read_part`."""
        with _failures_of(os.fspath(path)), open(path, "rb", buffering=0) as file:
            file.seek(position)
            return file.read(length)

    def write_whole(self, path: StrPath, data: Buffer, *, sync: bool = True, temporary: str = _TEMPORARY) -> None:
        """See `Files.write_whole`."""
        name = os.fspath(path)
        with _failures_of(name):
            try:
                with open(name + temporary, "wb", buffering=0) as file:
                    _write_all(file.fileno(), data)
                    if sync and self._sync:
                        os.fsync(file.fileno())
                os.replace(name + temporary, name)
            except OSError:
                self.remove(name + temporary)
                raise
        if sync:
            self.sync_folder(os.path.dirname(name))

    def names(self, folder: StrPath) -> list[str]:
        """See `Files.names`."""
        with _failures_of(os.fspath(folder)):
            return os.listdir(folder)

    def folders(self, folder: StrPath) -> list[str]:
        """See `Files.folders`."""
        with _failures_of(os.fspath(folder)), os.scandir(folder) as entries:
            return [entry.name for entry in entries if entry.is_dir()]

    def exists(self, path: StrPath) -> bool:
        """See `Files.exists`."""
        return os.path.lexists(path)

    def size(self, path: StrPath) -> int:
        """See `Files.size`."""
        with _failures_of(os.fspath(path)):
            return os.stat(path).st_size

    def room(self, path: StrPath) -> Room:
        """See `Files.room`."""
        with _failures_of(os.fspath(path)):
            found = os.statvfs(path)
            return Room(found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize)

    def modified_ms(self, path: StrPath) -> int:
        """See `Files.modified_ms`."""
        with _failures_of(os.fspath(path)):
            return os.stat(path).st_mtime_ns // 1_000_000

    def identity(self, path: StrPath) -> int:
        """See `Files.identity`."""
        with _failures_of(os.fspath(path)):
            return os.stat(path).st_ino

    def set_modified_ms(self, path: StrPath, modified_ms: int) -> None:
        """See `Files.set_modified_ms`."""
        with _failures_of(os.fspath(path)):
            os.utime(path, ns=(modified_ms * 1_000_000, modified_ms * 1_000_000))

    def rename(self, source: StrPath, target: StrPath) -> None:
        """See `Files.rename`."""
        with _failures_of(os.fspath(source)):
            os.replace(source, target)

    def remove(self, path: StrPath) -> None:
        """See `Files.remove`."""
        try:
            os.unlink(path)
        except FileNotFoundError:
            return
        except OSError as error:
            raise StorageFailed(os.fspath(path), error) from error

    def make_folder(self, path: StrPath) -> None:
        """See `Files.make_folder`."""
        with _failures_of(os.fspath(path)):
            try:
                os.mkdir(path)
            except FileExistsError:
                if not os.path.isdir(path):
                    raise

    def remove_folder(self, path: StrPath) -> None:
        """See `Files.remove_folder`."""
        name = os.fspath(path)
        with _failures_of(name):
            try:
                with os.scandir(name) as entries:
                    inside = [(entry.path, entry.is_dir(follow_symlinks=False)) for entry in entries]
            except FileNotFoundError:
                return
            for entry, is_folder in inside:
                if is_folder:
                    self.remove_folder(entry)
                else:
                    self.remove(entry)
            os.rmdir(name)

    def sync_folder(self, path: StrPath) -> None:
        """See `Files.sync_folder`."""
        if not self._sync:
            return
        with _failures_of(os.fspath(path)):
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(fd)
            except OSError as error:
                raise SyncFailed(os.fspath(path), error) from error
            finally:
                os.close(fd)

    def file_system(self, path: StrPath) -> FileSystem:
        """See `Files.file_system`."""
        return RealFileSystem(os.fspath(path), self._sync)

    def lock(self, path: StrPath) -> Held:
        """See `Files.lock`.

        The JVM's FileChannel.lock is the same kind of lock. It knows processes only, and is lost when any descriptor of
        the file is closed, so a second node in this process is kept out before by a BSD lock on the folder.
        """
        name = os.fspath(path)
        folder = os.path.dirname(name)
        fds: list[int] = []
        held = _RealLock(fds)
        with _failures_of(name):
            try:
                fds.append(os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
                free = _try_lock(fcntl.flock, fds[0])
                if free:
                    fds.append(os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644))
                    free = _try_lock(fcntl.lockf, fds[1])
            except OSError:
                held.release()
                raise
        if not free:
            held.release()
            raise DataDirRefused(f"{folder} is in use by another process")
        return held


def _try_lock(lock: Callable[[int, int], object], fd: int) -> bool:
    try:
        lock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN):
            return False
        raise
    return True


def _write_all(fd: int, data: Buffer) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]


@contextmanager
def _failures_of(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageFailed(path, error) from error

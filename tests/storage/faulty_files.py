"""A disk in memory that can be hurt: writes that tear, a disk that fills up or fails, a machine that crashes.

It knows what was synced. `crash` gives the disk as it may look after a power failure: of each file what was synced, and
of the rest some prefix; of names in a folder those that were synced, or any later state. `killed` gives it as it looks
after `kill -9`: everything that was written is there.

Every changing operation has a number, counted from 1; a fault happens at the one ordered. `trace` lists them.
"""

import errno
import os
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from kpybroker.storage.errors import DataDirRefused, StorageFailed
from kpybroker.storage.files import Room


@dataclass
class _Content:
    data: bytearray = field(default_factory=bytearray)
    synced: bytes = b""


@dataclass
class _Folder:
    names: dict[str, object] = field(default_factory=dict)
    synced: dict[str, object] = field(default_factory=dict)


Fault = Callable[[str, str], OSError | None]


class FaultyFiles:
    """An implementation of `Files`."""

    def __init__(self) -> None:
        self.root = _Folder()
        self.operations = 0
        self.trace: list[tuple[str, str]] = []
        self.reads: list[tuple[str, int, int]] = []
        self.fail_at: dict[int, int] = {}  # number of the operation -> errno
        self.fail_from: int | None = None  # every operation from this number on fails
        self.torn = 0.5  # how much of a failing write reaches the file
        self.space: int | None = None  # bytes that are left
        self.locked: set[str] = set()
        self.now_ms = 0
        self.modified: dict[str, int] = {}

    # the tree

    def _split(self, path) -> list[str]:
        return [part for part in os.fspath(path).split("/") if part]

    def _folder(self, path) -> _Folder:
        at = self.root
        for part in self._split(path):
            at = at.names.get(part)
            if not isinstance(at, _Folder):
                raise self._error(path, errno.ENOENT)
        return at

    def _parent(self, path) -> tuple[_Folder, str]:
        parts = self._split(path)
        return self._folder("/".join(parts[:-1])), parts[-1]

    def _content(self, path) -> _Content | None:
        folder, name = self._parent(path)
        found = folder.names.get(name)
        return found if isinstance(found, _Content) else None

    def _error(self, path, number: int) -> StorageFailed:
        return StorageFailed(os.fspath(path), OSError(number, os.strerror(number)))

    def change(self, what: str, path) -> None:
        """Count an operation, and fail if that was ordered."""
        self.operations += 1
        self.trace.append((what, os.fspath(path)))
        number = self.fail_at.get(self.operations)
        if number is None and self.fail_from is not None and self.operations >= self.fail_from:
            number = errno.EIO
        if number is not None:
            raise self._error(path, number)

    # Files

    def open(self, path, *, create=False):
        content = self._content(path)
        if content is None:
            if not create:
                raise self._error(path, errno.ENOENT)
            self.change("create", path)
            folder, name = self._parent(path)
            content = folder.names[name] = _Content()
        return FaultyFile(self, os.fspath(path), content)

    def read_whole(self, path):
        content = self._content(path)
        if content is None:
            return None
        self.reads.append((os.fspath(path), 0, len(content.data)))
        return bytes(content.data)

    def write_whole(self, path, data, *, sync=True, temporary=".tmp"):
        name = os.fspath(path)
        file = self.open(name + temporary, create=True)
        try:
            file.truncate(0)
            file.write_at(0, data)
            if sync:
                file.sync()
        except StorageFailed:
            self._drop(name + temporary)
            raise
        self.rename(name + temporary, name)
        if sync:
            self.sync_folder(os.path.dirname(name))

    def names(self, folder):
        return list(self._folder(folder).names)

    def folders(self, folder):
        return [name for name, entry in self._folder(folder).names.items() if isinstance(entry, _Folder)]

    def exists(self, path):
        try:
            folder, name = self._parent(path)
        except (StorageFailed, IndexError):
            return not self._split(path)
        return name in folder.names

    def size(self, path):
        content = self._content(path)
        if content is None:
            raise self._error(path, errno.ENOENT)
        return len(content.data)

    def room(self, path):
        self._content(path)
        return Room(1 << 40, (1 << 40) if self.space is None else self.space)

    def modified_ms(self, path):
        return self.modified.get(os.fspath(path), self.now_ms)

    def identity(self, path):
        content = self._content(path)
        if content is None:
            raise self._error(path, errno.ENOENT)
        return id(content)

    def set_modified_ms(self, path, modified_ms):
        self.change("set time", path)
        self.modified[os.fspath(path)] = modified_ms

    def rename(self, source, target):
        self.change("rename", source)
        folder, name = self._parent(source)
        if name not in folder.names:
            raise self._error(source, errno.ENOENT)
        into, new = self._parent(target)
        into.names[new] = folder.names.pop(name)

    def _drop(self, path):
        folder, name = self._parent(path)
        folder.names.pop(name, None)

    def remove(self, path):
        if self.exists(path):
            self.change("remove", path)
            self._drop(path)

    def make_folder(self, path):
        folder, name = self._parent(path)
        if not isinstance(folder.names.get(name), _Folder):
            self.change("mkdir", path)
            folder.names[name] = _Folder()

    def remove_folder(self, path):
        if self.exists(path):
            self.change("rmdir", path)
            self._drop(path)

    def sync_folder(self, path):
        self.change("sync folder", path)
        folder = self._folder(path)
        folder.synced = dict(folder.names)

    def file_system(self, path):
        return _FileSystem(self, os.fspath(path))

    def lock(self, path):
        name = os.fspath(path)
        if name in self.locked:
            raise DataDirRefused(f"{os.path.dirname(name)} is in use by another process")
        self.locked.add(name)
        return _Lock(self, name)

    def sync_all(self, folder=None):
        """Everything is on the disk."""
        folder = folder or self.root
        folder.synced = dict(folder.names)
        for entry in folder.names.values():
            if isinstance(entry, _Folder):
                self.sync_all(entry)
            else:
                entry.synced = bytes(entry.data)

    # disasters

    def killed(self) -> "FaultyFiles":
        """What another process finds after `kill -9`."""
        return self._copy(lambda content: bytes(content.data), lambda folder: folder.names)

    def crash(self, rng: random.Random) -> "FaultyFiles":
        """What may be found after the power failed."""

        def content_of(content: _Content) -> bytes:
            synced, data = content.synced, bytes(content.data)
            fate = rng.random()
            if fate < 0.3 or synced == data:
                return synced
            if fate < 0.5:
                return data
            if data.startswith(synced):
                return data[: rng.randrange(len(synced), len(data) + 1)]
            return synced

        def names_of(folder: _Folder) -> dict[str, object]:
            return folder.names if rng.random() < 0.5 else folder.synced

        return self._copy(content_of, names_of)

    def _copy(self, content_of, names_of) -> "FaultyFiles":
        copies: dict[int, object] = {}

        def copy(entry):
            if id(entry) not in copies:
                if isinstance(entry, _Content):
                    data = content_of(entry)
                    copies[id(entry)] = _Content(bytearray(data), data)
                else:
                    names = {name: copy(inside) for name, inside in names_of(entry).items()}
                    copies[id(entry)] = _Folder(names, dict(names))
            return copies[id(entry)]

        other = FaultyFiles()
        other.root = copy(self.root)
        other.now_ms = self.now_ms
        return other

    def content(self, path) -> bytes:
        """What is in a file now."""
        found = self._content(path)
        assert found is not None, path
        return bytes(found.data)

    def put(self, path, data: bytes) -> None:
        """Replace a file's content behind everybody's back."""
        folder, name = self._parent(path)
        folder.names[name] = _Content(bytearray(data), data)


class FaultyFile:
    def __init__(self, disk: FaultyFiles, path: str, content: _Content) -> None:
        self._disk = disk
        self.path = path
        self._content = content
        self.closed = False

    def fileno(self):
        raise OSError(errno.EBADF, "a simulated file has no descriptor")

    def read_at(self, position, length):
        assert not self.closed, f"read of {self.path} after close"
        self._disk.reads.append((self.path, position, length))
        return bytes(self._content.data[position : position + length])

    def write_at(self, position, data):
        assert not self.closed, f"write to {self.path} after close"
        try:
            self._disk.change("write", self.path)
        except StorageFailed:
            self._put(position, bytes(data)[: int(len(data) * self._disk.torn)])
            raise
        if self._disk.space is not None:
            more = max(position + len(data) - len(self._content.data), 0)
            if more > self._disk.space:
                self._put(position, bytes(data)[: max(len(data) - more + self._disk.space, 0)])
                self._disk.space = 0
                raise self._disk._error(self.path, errno.ENOSPC)
            self._disk.space -= more
        self._put(position, data)

    def _put(self, position, data):
        missing = position - len(self._content.data)
        if missing > 0:
            self._content.data += bytes(missing)
        self._content.data[position : position + len(data)] = data

    def size(self):
        return len(self._content.data)

    def truncate(self, size):
        self._disk.change("truncate", self.path)
        if size < len(self._content.data):
            if self._disk.space is not None:
                self._disk.space += len(self._content.data) - size
            del self._content.data[size:]
        else:
            self._content.data += bytes(size - len(self._content.data))

    def sync(self):
        self._disk.change("sync", self.path)
        self._content.synced = bytes(self._content.data)

    def close(self):
        self.closed = True


class _FileSystem:
    def __init__(self, disk, path):
        self._disk, self._path = disk, path

    def sync(self, folders):
        assert all(self._disk.exists(folder) for folder in folders)
        self._disk.change("sync all", self._path)
        self._disk.sync_all()
        return True

    def close(self):
        pass


class _Lock:
    def __init__(self, disk, name):
        self._disk, self._name = disk, name

    def release(self):
        self._disk.locked.discard(self._name)

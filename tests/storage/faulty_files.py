"""A disk in memory that can be hurt: writes that tear, a disk that fills up or fails, a machine that crashes.

It knows what was synced. `crash` gives the disk as it may look after a power failure: of each file what was synced, and
of the writes since then any of them, in any order, torn or as zeros; of names in a folder those that were synced, or
any later state. (Names are kept in order because file systems journal them; no content is in order with them.) `killed`
gives it as it looks after `kill -9`: everything that was written is there. A sync that fails drops what it was to make
durable, as Linux does: the next one says that all is well.

Every changing operation has a number, counted from 1, and with `count_reads` every reading one too; a fault happens at
the one ordered. `trace` lists them.

The event loop writes while worker threads sync and read. Each operation is whole: nobody writes between what a sync
makes durable and what it takes for durable, or a record would be lost that no disk loses.
"""

import errno
import os
import random
import threading
from dataclasses import dataclass, field
from functools import wraps

from kpybroker.storage.errors import DataDirRefused, StorageFailed, SyncFailed
from kpybroker.storage.files import Room


@dataclass
class _Content:
    data: bytearray = field(default_factory=bytearray)
    synced: bytes = b""
    pending: list[tuple[int, bytes | None]] = field(default_factory=list)
    """What was done since the last sync: (position, data written), or (length, None) for a truncation."""

    def sync(self) -> None:
        self.synced = bytes(_after(self.synced, self.pending))
        self.pending = []


@dataclass
class _Folder:
    names: dict[str, object] = field(default_factory=dict)
    synced: dict[str, object] = field(default_factory=dict)
    later: list[dict[str, object]] = field(default_factory=list)
    """The names after each change since the last sync."""

    def changed(self) -> None:
        self.later.append(dict(self.names))


SECTOR_BYTES = 64
"""What reaches the disk whole or not at all; small, as the files of tests are."""


def _put(into: bytearray, position: int, data: bytes) -> None:
    into += bytes(max(position - len(into), 0))
    into[position : position + len(data)] = data


def _after(before: bytes, changes: list[tuple[int, bytes | None]]) -> bytearray:
    """A file's content after some changes."""
    data = bytearray(before)
    for position, written in changes:
        if written is not None:
            _put(data, position, written)
        else:
            del data[position:]
            data += bytes(position - len(data))
    return data


def _some(changes: list[tuple[int, bytes | None]], rng: random.Random) -> list[tuple[int, bytes | None]]:
    """Some of the changes, some of them torn at a sector, some as zeros."""
    kept = []
    for position, written in changes:
        fate = rng.random()
        if fate < 0.3:
            continue
        if written is not None and fate < 0.5:
            cut = rng.randrange(len(written) + 1) // SECTOR_BYTES * SECTOR_BYTES
            kept.append((position, written[:cut]) if rng.random() < 0.5 else (position + cut, written[cut:]))
        elif written is not None and fate < 0.6:
            kept.append((position, bytes(len(written))))
        else:
            kept.append((position, written))
    return kept


def whole(operation):
    """Let only one operation on a disk happen at a time."""

    @wraps(operation)
    def alone(self, *args, **named):
        with self.mutex:
            return operation(self, *args, **named)

    return alone


class FaultyFiles:
    """An implementation of `Files`."""

    def __init__(self) -> None:
        self.mutex = threading.RLock()
        self.root = _Folder()
        self.operations = 0
        self.trace: list[tuple[str, str]] = []
        self.reads: list[tuple[str, int, int]] = []
        self.count_reads = False
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

    def _error(self, path, number: int, kind: type[StorageFailed] = StorageFailed) -> StorageFailed:
        return kind(os.fspath(path), OSError(number, os.strerror(number)))

    def change(self, what: str, path) -> None:
        """Count an operation, and fail if that was ordered."""
        self.operations += 1
        self.trace.append((what, os.fspath(path)))
        number = self.fail_at.get(self.operations)
        if number is None and self.fail_from is not None and self.operations >= self.fail_from:
            number = errno.EIO
        if number is not None:
            raise self._error(path, number, SyncFailed if what.startswith("sync") else StorageFailed)

    def look(self, what: str, path) -> None:
        """Count an operation that changes nothing, if that is wanted."""
        if self.count_reads:
            self.change(what, path)

    # Files

    @whole
    def open(self, path, *, create=False):
        content = self._content(path)
        if content is None:
            if not create:
                raise self._error(path, errno.ENOENT)
            self.change("create", path)
            folder, name = self._parent(path)
            content = folder.names[name] = _Content()
            folder.changed()
        else:
            self.look("open", path)
        return FaultyFile(self, os.fspath(path), content)

    @whole
    def read_whole(self, path):
        content = self._content(path)
        if content is None:
            return None
        self.look("read", path)
        self.reads.append((os.fspath(path), 0, len(content.data)))
        return bytes(content.data)

    @whole
    def read_part(self, path, position, length):
        content = self._content(path)
        if content is None:
            raise self._error(path, errno.ENOENT)
        self.look("read", path)
        return bytes(content.data[position : position + length])

    @whole
    def write_whole(self, path, data, *, sync=True, temporary=".tmp"):
        name = os.fspath(path)
        file = self.open(name + temporary, create=True)
        try:
            file.truncate(0)
            file.write_at(0, data)
            if sync:
                self.change("write sync", file.path)
                file.content.sync()
            self.rename(name + temporary, name)
        except StorageFailed:
            self._drop(name + temporary)
            raise
        if sync:
            self.sync_folder(os.path.dirname(name))

    @whole
    def names(self, folder):
        self.look("list", folder)
        return list(self._folder(folder).names)

    @whole
    def folders(self, folder):
        self.look("list", folder)
        return [name for name, entry in self._folder(folder).names.items() if isinstance(entry, _Folder)]

    @whole
    def exists(self, path):
        try:
            folder, name = self._parent(path)
        except (StorageFailed, IndexError):
            return not self._split(path)
        return name in folder.names

    @whole
    def size(self, path):
        content = self._content(path)
        if content is None:
            raise self._error(path, errno.ENOENT)
        self.look("stat", path)
        return len(content.data)

    def room(self, path):
        self._content(path)
        return Room(1 << 40, (1 << 40) if self.space is None else self.space)

    def modified_ms(self, path):
        self.look("stat", path)
        return self.modified.get(os.fspath(path), self.now_ms)

    def identity(self, path):
        content = self._content(path)
        if content is None:
            raise self._error(path, errno.ENOENT)
        return id(content)

    @whole
    def set_modified_ms(self, path, modified_ms):
        self.change("set time", path)
        self.modified[os.fspath(path)] = modified_ms

    @whole
    def rename(self, source, target):
        self.change("rename", source)
        folder, name = self._parent(source)
        if name not in folder.names:
            raise self._error(source, errno.ENOENT)
        into, new = self._parent(target)
        into.names[new] = folder.names.pop(name)
        for changed in {id(folder): folder, id(into): into}.values():
            changed.changed()

    def _drop(self, path):
        folder, name = self._parent(path)
        folder.names.pop(name, None)
        folder.changed()

    @whole
    def remove(self, path):
        if self.exists(path):
            self.change("remove", path)
            self._drop(path)

    @whole
    def make_folder(self, path):
        folder, name = self._parent(path)
        if not isinstance(folder.names.get(name), _Folder):
            self.change("mkdir", path)
            folder.names[name] = _Folder()
            folder.changed()

    @whole
    def remove_folder(self, path):
        if self.exists(path):
            self.change("rmdir", path)
            self._drop(path)

    @whole
    def sync_folder(self, path):
        self.change("sync folder", path)
        folder = self._folder(path)
        folder.synced = dict(folder.names)
        folder.later = []

    def file_system(self, path):
        return _FileSystem(self, os.fspath(path))

    @whole
    def lock(self, path):
        name = os.fspath(path)
        if name in self.locked:
            raise DataDirRefused(f"{os.path.dirname(name)} is in use by another process")
        self.locked.add(name)
        return _Lock(self, name)

    @whole
    def sync_all(self, folder=None):
        """Everything is on the disk."""
        folder = folder or self.root
        folder.synced, folder.later = dict(folder.names), []
        for entry in folder.names.values():
            if isinstance(entry, _Folder):
                self.sync_all(entry)
            else:
                entry.sync()

    # disasters

    def killed(self) -> "FaultyFiles":
        """What another process finds after `kill -9`."""
        return self._copy(lambda content: bytes(content.data), lambda folder: folder.names)

    def crash(self, rng: random.Random) -> "FaultyFiles":
        """What may be found after the power failed."""

        def content_of(content: _Content) -> bytes:
            fate = rng.random()
            if fate < 0.2 or not content.pending:
                return content.synced
            if fate < 0.4:
                return bytes(_after(content.synced, content.pending))
            if fate < 0.6:  # the last one that got through is torn
                some = content.pending[: rng.randrange(len(content.pending)) + 1]
                position, written = some.pop()
                if written is not None:
                    some.append((position, written[: rng.randrange(len(written) + 1)]))
                return bytes(_after(content.synced, some))
            return bytes(_after(content.synced, _some(content.pending, rng)))

        def names_of(folder: _Folder) -> dict[str, object]:
            return rng.choice([folder.synced, folder.names, *folder.later])

        return self._copy(content_of, names_of)

    @whole
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

        other = type(self)()
        other.root = copy(self.root)
        other.now_ms = self.now_ms
        return other

    def content(self, path) -> bytes:
        """What is in a file now."""
        found = self._content(path)
        assert found is not None, path
        return bytes(found.data)

    @whole
    def put(self, path, data: bytes) -> None:
        """Replace a file's content behind everybody's back."""
        folder, name = self._parent(path)
        folder.names[name] = _Content(bytearray(data), data)


class FaultyFile:
    def __init__(self, disk: FaultyFiles, path: str, content: _Content) -> None:
        self._disk = disk
        self.mutex = disk.mutex
        self.path = path
        self.content = content
        self.closed = False

    def fileno(self):
        raise OSError(errno.EBADF, "a simulated file has no descriptor")

    @whole
    def read_at(self, position, length):
        assert not self.closed, f"read of {self.path} after close"
        self._disk.look("read", self.path)
        self._disk.reads.append((self.path, position, length))
        return bytes(self.content.data[position : position + length])

    @whole
    def write_at(self, position, data):
        assert not self.closed, f"write to {self.path} after close"
        try:
            self._disk.change("write", self.path)
        except StorageFailed:
            self._put(position, bytes(data)[: int(len(data) * self._disk.torn)])
            raise
        if self._disk.space is not None:
            more = max(position + len(data) - len(self.content.data), 0)
            if more > self._disk.space:
                self._put(position, bytes(data)[: max(len(data) - more + self._disk.space, 0)])
                self._disk.space = 0
                raise self._disk._error(self.path, errno.ENOSPC)
            self._disk.space -= more
        self._put(position, data)

    def _put(self, position, data):
        _put(self.content.data, position, data)
        self.content.pending.append((position, bytes(data)))

    @whole
    def size(self):
        self._disk.look("stat", self.path)
        return len(self.content.data)

    @whole
    def truncate(self, size):
        self._disk.change("truncate", self.path)
        data = self.content.data
        if size < len(data) and self._disk.space is not None:
            self._disk.space += len(data) - size
        if size != len(data):
            data[:] = _after(data, [(size, None)])
            self.content.pending.append((size, None))

    @whole
    def sync(self):
        try:
            self._disk.change("sync", self.path)
        except StorageFailed:
            self.content.pending = []
            raise
        self.content.sync()

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

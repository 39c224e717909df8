"""Looking at a data directory without touching it: files opened for reading only, and whether somebody uses it."""

import os

from kpybroker.storage.errors import StorageFailed
from kpybroker.storage.files import OpenFile, RealFile, RealFiles, StrPath

_LOCKS = "/proc/locks"


class ReadOnlyFiles(RealFiles):
    """The operating system's files, for those who look only: they can be another's, or on a read-only disk."""

    __slots__ = ()

    def open(self, path: StrPath, *, create: bool = False) -> OpenFile:
        """See `Files.open`; what is written to the file fails."""
        assert not create, "nothing is made here"
        name = os.fspath(path)
        try:
            return RealFile(name, os.open(name, os.O_RDONLY | os.O_CLOEXEC), False)
        except OSError as error:
            raise StorageFailed(name, error) from error


def is_locked(path: StrPath) -> bool | None:
    """Whether a process holds the POSIX lock on a file; None if this system doesn't say.

    The file isn't opened for that: closing it again would give up a lock that this very process has.
    """
    try:
        inode = os.stat(path).st_ino
        with open(_LOCKS, encoding="ascii", errors="replace") as locks:
            lines = locks.read().splitlines()
    except FileNotFoundError as error:
        return None if error.filename == _LOCKS else False
    except OSError:
        return None
    return any("POSIX" in words and words[-3].rpartition(":")[2] == str(inode) for words in map(str.split, lines))

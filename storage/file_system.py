"""A file system as a whole: everything written to it is made durable by one call, syncfs(2) of Linux."""

import errno
import os
import sys
from collections.abc import Callable, Iterable
from typing import cast

from kpybroker.storage.errors import StorageFailed

_NOT_HERE = frozenset({errno.ENOSYS, errno.EPERM, errno.EINVAL})


class RealFileSystem:
    """The file system that holds a folder.

    Kept open from the start: Linux tells an open descriptor of the failures since it was opened (since 5.8; before,
    `sync` is not to be relied on and says so).
    """

    __slots__ = ("_fd", "_path", "_sync")

    def __init__(self, path: str, sync: bool) -> None:
        """`sync` False: nothing is ever synced. Raises: StorageFailed."""
        self._path = path
        self._sync = sync
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise StorageFailed(path, error) from error

    def sync(self, folders: Iterable[str]) -> bool:
        """Make everything written to it durable; False if that can't be had here.

        So it is when one of `folders` is on another file system. Blocks. Raises: StorageFailed.
        """
        if not self._sync:
            return True
        try:
            device = os.fstat(self._fd).st_dev
            if not tells_of_failures() or any(os.stat(folder).st_dev != device for folder in folders):
                return False
            syncfs = _syncfs()
            if syncfs is None:
                return False
            failed = syncfs(self._fd)
            if failed in _NOT_HERE:
                return False
            if failed:
                raise OSError(failed, os.strerror(failed))
        except OSError as error:
            raise StorageFailed(self._path, error) from error
        return True

    def close(self) -> None:
        """Closing twice is harmless."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def tells_of_failures() -> bool:
    """Whether this system's syncfs(2) says when something could not be written."""
    if sys.platform != "linux":
        return False
    major, minor = (int("".join(filter(str.isdigit, part))) for part in os.uname().release.split(".")[:2])
    return (major, minor) >= (5, 8)


def _syncfs() -> Callable[[int], int] | None:
    """The call, which returns an errno, 0 if all went well; None where the C library has none."""
    import ctypes  # not at start: it is needed once, when a node with many logs stops

    libc = ctypes.CDLL(None, use_errno=True)
    found = getattr(libc, "syncfs", None)
    if found is None:
        return None

    def call(fd: int) -> int:
        return 0 if cast(int, found(fd)) == 0 else ctypes.get_errno()

    return call

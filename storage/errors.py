"""Every failure that storage reports, with when it happens.

Two of them are the disk's: `StorageFailed` (an operation on it ended in an error) and `DataDirRefused` (a directory
that must not be used as it is). The others are about one file, and whoever opened it rebuilds it, or about one request.

A `StorageFailed` is one of three things, and nobody but this module tells them apart:

    temporary     no room on the disk (or in a quota, or in the file), or no descriptor or memory left for this process:
                  nothing is wrong with what the disk holds. Clients are told, and it is tried again.
    missing       one file is not there: whoever looked for it knows whether that may be
    of_folder     anything else, and every sync that failed: the folder has failed. It takes no more writes, and nothing
                  of it is read, until a restart has recovered its logs.

Kafka takes the folder offline for all three. Here a full disk goes on when it has room again.
"""

import errno
from collections.abc import Sequence


class StorageError(Exception):
    """The base of what this package raises."""


_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_SHORT_OF_RESOURCES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EAGAIN})


class StorageFailed(StorageError):
    """The disk failed: an operation on `path` ended in `error`, or the log had failed before.

    What a log holds stays as it was before the operation. Clients get KAFKA_STORAGE_ERROR.
    """

    def __init__(self, path: str, error: OSError) -> None:
        super().__init__(f"{path}: {error.strerror or error}")
        self.path = path
        self.error = error

    @property
    def missing(self) -> bool:
        """Whether the file or folder simply isn't there."""
        return self.error.errno == errno.ENOENT

    @property
    def full(self) -> bool:
        """Whether no space is left, on the disk, in a quota or within the greatest length of a file."""
        return self.error.errno in _FULL

    @property
    def out_of_descriptors(self) -> bool:
        """Whether this process, or the system, has as many files open as it may."""
        return self.error.errno in (errno.EMFILE, errno.ENFILE)

    @property
    def temporary(self) -> bool:
        """Whether the same operation may well succeed later, and nothing is lost or unknown meanwhile."""
        return self.full or self.error.errno in _SHORT_OF_RESOURCES

    @property
    def of_folder(self) -> bool:
        """Whether the whole folder has failed: nobody can trust it until a restart."""
        return not self.temporary and not self.missing


class SyncFailed(StorageFailed):
    """A sync failed: what was written before it may never reach the disk, and no later sync would say so.

    The system has dropped the pages or marked them clean, so trying again proves nothing; that holds for a disk that
    was found to be full only then, too.
    """

    @property
    def temporary(self) -> bool:
        """Never: see above."""
        return False


class FolderOffline(StorageFailed):
    """What is asked for is not there, and may be in a folder that is offline."""

    def __init__(self, folders: Sequence[str]) -> None:
        super().__init__(", ".join(folders), OSError("the log directory is offline"))

    @property
    def of_folder(self) -> bool:
        """It is, but that is known."""
        return False


class DataDirRefused(StorageError):
    """A data directory that can't be used: in use by another process, of another node or cluster, or with content
    that Kafka too refuses to start on. One line for the user."""


class MetaRefused(DataDirRefused):
    """A data directory whose meta.properties makes no sense."""


class CorruptFile(StorageError):
    """An index, snapshot or checkpoint that makes no sense. It is rebuilt from the log, never fatal by itself."""


class OffsetOutOfRange(StorageError):
    """A read below the log start or above the log end (OFFSET_OUT_OF_RANGE)."""

    def __init__(self, offset: int, log_start_offset: int, log_end_offset: int) -> None:
        super().__init__(f"offset {offset} is not in [{log_start_offset}, {log_end_offset}]")
        self.offset = offset
        self.log_start_offset = log_start_offset
        self.log_end_offset = log_end_offset


class UnexpectedOffset(StorageError):
    """A follower was handed batches that do not follow its log end, or whose offsets do not grow."""


class InvalidTransactionState(StorageError):
    """A follower was handed a non-transactional batch of a producer whose transaction is open."""

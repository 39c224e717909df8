"""Every failure that storage reports, with when it happens.

Two of them are the disk's: `StorageFailed` (the log directory can no longer be trusted to take writes) and
`DataDirRefused` (a data directory that must not be used as it is). The others are about one file, and whoever opened
it rebuilds it, or about one request.
"""

import errno


class StorageError(Exception):
    """The base of what this package raises."""


class StorageFailed(StorageError):
    """The disk failed: an operation on `path` ended in `error`, or the log had failed before.

    What a log holds stays as it was before the operation. Kafka answers KAFKA_STORAGE_ERROR and takes the log
    directory offline; the caller decides.
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
        """Whether no space (or quota) is left."""
        return self.error.errno in (errno.ENOSPC, errno.EDQUOT)


class DataDirRefused(StorageError):
    """A data directory that can't be used: in use by another process, of another node or cluster, or with content
    that Kafka too refuses to start on. One line for the user."""


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

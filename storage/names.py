"""File and folder names of a log directory, as Kafka writes them."""

LOG = ".log"
OFFSET_INDEX = ".index"
TIME_INDEX = ".timeindex"
TXN_INDEX = ".txnindex"
SNAPSHOT = ".snapshot"
DELETED = ".deleted"
CLEANED = ".cleaned"
SWAP = ".swap"
CHECKPOINT = ".checkpoint"

SEGMENT_FILES = (LOG, OFFSET_INDEX, TIME_INDEX, TXN_INDEX)
"""The files that a segment consists of; its producer snapshot lives and dies with it too."""

PARTITION_METADATA = "partition.metadata"
LEADER_EPOCHS = "leader-epoch-checkpoint"

DELETE_FOLDER = "-delete"
FUTURE_FOLDER = "-future"
STRAY_FOLDER = "-stray"

_FILE_NAME_MAX = 255


def file_name(offset: int, suffix: str) -> str:
    """The name of the file of kind `suffix` whose segment (or snapshot) begins at `offset`: 20 digits, then it."""
    return f"{offset:020d}{suffix}"


def offset_of(name: str, suffix: str) -> int | None:
    """The offset in a file's name, or None when the name is not digits followed by `suffix`."""
    digits = name.removesuffix(suffix)
    if digits == name or not digits.isascii() or not digits.isdigit():
        return None
    return int(digits)


def partition_folder(topic: str, partition: int) -> str:
    """The folder of a partition."""
    return f"{topic}-{partition}"


def doomed_folder(topic: str, partition: int, unique: str, suffix: str) -> str:
    """The name that a partition's folder gets before it is deleted (or set aside as stray).

    `unique` is a UUID in 32 hex digits. The topic's name is cut so that the whole fits a file name, as Kafka does.
    """
    tail = f"-{partition}.{unique}{suffix}"
    return topic[: _FILE_NAME_MAX - len(tail)] + tail


def leading_offset(name: str) -> int | None:
    """The offset before the first dot of a name, whatever comes after; None when there is none."""
    digits = name.partition(".")[0]
    return int(digits) if digits.isascii() and digits.isdigit() else None

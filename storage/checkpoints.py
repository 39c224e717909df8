"""Kafka's small text files: offset checkpoints, the leader epochs', partition.metadata.

A checkpoint is a line with a version (0), a line with the number of entries, then one entry a line. An empty file has
none. It is replaced atomically (written as `.tmp` beside it, synced, renamed), so a reader sees the old or the new one.
"""

from collections.abc import Iterable, Mapping, Sequence

from kpybroker.storage.errors import CorruptFile

_VERSION = "0"

TopicPartition = tuple[str, int]


def write_entries(entries: Sequence[str]) -> bytes:
    """The text of a checkpoint with these lines."""
    return "\n".join([_VERSION, str(len(entries)), *entries, ""]).encode()


def read_entries(data: bytes, *, fields: int) -> list[list[str]]:
    """The entries of a checkpoint, each split into its `fields` words.

    Raises: CorruptFile for another version, a wrong count or an entry with another number of words.
    """
    try:
        lines = data.decode().splitlines()
    except UnicodeDecodeError as error:
        raise CorruptFile(f"a checkpoint that is not text: {error}") from error
    if not lines:
        return []  # Kafka, too, takes an empty file (a crash before the first sync) for no entries
    if lines[0] != _VERSION:
        raise CorruptFile(f"unrecognised version {lines[0]!r} of a checkpoint")
    if len(lines) < 2 or not data.endswith(b"\n"):  # a number may have lost its last digits
        raise CorruptFile("a checkpoint that was cut short")
    entries = [line.split() for line in lines[2:]]
    if not lines[1].isdigit() or int(lines[1]) != len(entries):
        raise CorruptFile(f"a checkpoint says {lines[1]!r} entries and has {len(entries)}")
    for words in entries:
        if len(words) != fields:
            raise CorruptFile(f"malformed line {' '.join(words)!r} in a checkpoint")
    return entries


def write_offsets(offsets: Mapping[TopicPartition, int]) -> bytes:
    """The text of one of the `*-offset-checkpoint` files."""
    return write_entries([f"{topic} {partition} {offset}" for (topic, partition), offset in offsets.items()])


def read_offsets(data: bytes) -> dict[TopicPartition, int]:
    """What one of the `*-offset-checkpoint` files says. Raises: CorruptFile."""
    try:
        return {(topic, int(partition)): int(offset) for topic, partition, offset in read_entries(data, fields=3)}
    except ValueError as error:
        raise CorruptFile(f"an offset checkpoint with a number that is none: {error}") from error


def write_epochs(entries: Iterable[tuple[int, int]]) -> bytes:
    """The text of `leader-epoch-checkpoint`: epoch and its first offset a line."""
    return write_entries([f"{epoch} {offset}" for epoch, offset in entries])


def read_epochs(data: bytes) -> list[tuple[int, int]]:
    """What `leader-epoch-checkpoint` says: (epoch, first offset), both growing. Raises: CorruptFile."""
    try:
        entries = [(int(epoch), int(offset)) for epoch, offset in read_entries(data, fields=2)]
    except ValueError as error:
        raise CorruptFile(f"a leader epoch checkpoint with a number that is none: {error}") from error
    before = (-1, -1)
    for entry in entries:
        if entry[0] <= before[0] or entry[1] < before[1] or entry[1] < 0:
            raise CorruptFile(f"leader epoch {entry[0]} at {entry[1]} cannot follow {before[0]} at {before[1]}")
        before = entry
    return entries


def write_partition_metadata(topic_id: str) -> bytes:
    """The text of `partition.metadata`; `topic_id` is the 22-character form."""
    return f"version: 0\ntopic_id: {topic_id}".encode()


def read_partition_metadata(data: bytes) -> str:
    """The topic id (22 characters) that `partition.metadata` names. Raises: CorruptFile."""
    try:
        lines = data.decode().splitlines()
    except UnicodeDecodeError as error:
        raise CorruptFile(f"partition.metadata is not text: {error}") from error
    if len(lines) < 2 or not lines[0].startswith("version:") or not lines[1].startswith("topic_id:"):
        raise CorruptFile(f"malformed partition.metadata: {data!r}")
    version, topic_id = (line.partition(":")[2].strip() for line in lines[:2])
    if not version.isdigit() or len(topic_id) != 22:
        raise CorruptFile(f"malformed partition.metadata: {data!r}")
    return topic_id

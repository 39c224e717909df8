"""Verifying a partition's folder: every batch of every segment, and all other files against the batches.

The checksum of a batch covers it from its attributes on. What stands before, its offset and leader epoch, is held
against its neighbours, the index, and the leader-epoch checkpoint.
"""

from collections.abc import Callable

import msgspec

from kpybroker.storage.checkpoints import read_epochs, read_partition_metadata, write_epochs, write_partition_metadata
from kpybroker.storage.errors import CorruptFile, StorageError, StorageFailed
from kpybroker.storage.files import Files
from kpybroker.storage.names import LEADER_EPOCHS, LOG, PARTITION_METADATA, SNAPSHOT, file_name, offset_of
from kpybroker.storage.producer_snapshots import decode
from kpybroker.storage.producer_state import Producer
from kpybroker.storage.verify_epochs import EpochEntries
from kpybroker.storage.verify_producers import Txns
from kpybroker.storage.verify_report import Report
from kpybroker.storage.verify_segment import LogState, SegmentCheck
from kpybroker.wire.primitives import uuid_from_text, uuid_text

_RETRIES = 5


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """What is known about a partition from outside of its folder."""

    clean: bool
    """The data directory was left by a clean stop."""
    live: bool
    """It may be in use: torn tails and files that vanish are nothing special."""
    compacted: bool
    """Compaction may have left gaps between its offsets."""
    recovery_point: int = 0
    log_start_offset: int | None = None


class Verified(msgspec.Struct, frozen=True):
    """What a log's folder turned out to hold."""

    base_offset: int
    end_offset: int
    topic_id: str | None
    has_segments: bool = True


def verify_partition(directory: str, topic: str, known: Known, files: Files, report: Report) -> Verified:
    """Check all files in a partition's folder; flaws go to the report. Raises: StorageFailed when it is gone."""
    names = files.names(directory)
    epochs = _epochs(directory, known, files, report)
    topic_id = _topic_id(directory, files, report)
    bases = sorted(base for base in (offset_of(name, LOG) for name in names) if base is not None)
    first = bases[0] if bases else known.log_start_offset or 0
    txns = Txns(_producers_at(directory, first, files), all_known=first == 0)
    state = LogState(topic=topic, epochs=epochs, txns=txns, compacted=known.compacted, end_offset=first)
    gone = False
    for at, base in enumerate(bases):
        last = at + 1 == len(bases)
        check = SegmentCheck(directory, base, last, known.clean, known.live, files, report)
        state, gone_here = _steady(check, state, known.live, report)
        gone |= gone_here
    if not state.compacted:
        for gap in state.gaps:
            report.add(*gap)
    if not gone:
        epochs.end(state.end_offset, known.log_start_offset)
    for name in names:
        offset = offset_of(name, SNAPSHOT)
        if offset is not None:
            _snapshot(directory, offset, None if known.live or gone else state.end_offset, files, report)
    return Verified(first, state.end_offset, topic_id, has_segments=bool(bases))


def _steady(check: SegmentCheck, state: LogState, live: bool, report: Report) -> tuple[LogState, bool]:
    """Check a segment; in a log that is in use until its files stay the same meanwhile.

    Returns the state behind it, and whether it was taken away.
    """
    if not live:
        try:
            return check.run(state), False
        except StorageError as error:
            report.add(check.path(LOG), None, f"can't be read: {error}")
            return state, False
    for _ in range(_RETRIES):
        before = check.identity()
        if before is None:
            return state, True
        report.held = []
        try:
            after = check.run(state.copy())
        except StorageFailed as error:
            report.release(discard=error.missing)
            if error.missing:
                continue
            raise
        if not report.held or check.identity() == before:
            report.release()
            return after, False
        report.release(discard=True)
    return state, True


def _epochs(directory: str, known: Known, files: Files, report: Report) -> EpochEntries:
    path = f"{directory}/{LEADER_EPOCHS}"
    data = files.read_whole(path)
    entries = None
    if data:
        try:
            entries = read_epochs(data)
            if write_epochs(entries) != data:
                report.add(path, None, "not written as Kafka writes it")
        except CorruptFile as error:
            report.add(path, None, str(error))
    return EpochEntries(path, entries, known.clean, known.recovery_point, report)


def _topic_id(directory: str, files: Files, report: Report) -> str | None:
    path = f"{directory}/{PARTITION_METADATA}"
    data = files.read_whole(path)
    if data is None:
        return None
    try:
        topic_id = read_partition_metadata(data)
        if uuid_text(uuid_from_text(topic_id)) != topic_id or data.rstrip(b"\n") != write_partition_metadata(topic_id):
            report.add(path, None, f"not written as Kafka writes it: {data!r}")
            return None
    except (CorruptFile, ValueError) as error:
        report.add(path, None, str(error))
        return None
    return topic_id


def _producers_at(directory: str, offset: int, files: Files) -> list[Producer] | None:
    """The producers at a log's first offset, None if nothing tells of them."""
    try:
        data = files.read_whole(f"{directory}/{file_name(offset, SNAPSHOT)}")
        return None if data is None else decode(data)
    except CorruptFile:
        return None


def _snapshot(directory: str, offset: int, end_offset: int | None, files: Files, report: Report) -> None:
    """A producer snapshot. `end_offset`: the log's, None if it moves."""
    path = f"{directory}/{file_name(offset, SNAPSHOT)}"
    data = files.read_whole(path)
    if data is None:
        return
    report.progress(len(data))
    add: Callable[[str], None] = lambda what: report.add(path, None, what)  # noqa: E731
    if end_offset is not None and offset > end_offset:
        add(f"is of offset {offset}, but the log ends at {end_offset}")
    try:
        producers = decode(data)
    except CorruptFile as error:
        add(str(error))
        return
    if len({producer.producer_id for producer in producers}) < len(producers):
        add("names a producer twice")
    for producer in producers:
        start = producer.transaction_start
        if producer.last_offset >= offset or (start is not None and start >= offset):
            add(f"producer {producer.producer_id} has offsets at or behind that of the snapshot")

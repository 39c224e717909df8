"""Opening a partition's folder.

After a clean stop a log is what its small files say: the end is the offset of the newest producer snapshot, which
equals the recovery point in the data directory's checkpoint. Nothing of a segment is read; the first append looks at
the batches behind the last index entry, and if the log ends in anything else, it is recovered then. Where the two
numbers differ, the active segment's tail is read. Otherwise see `recovery.py`.
"""

import logging
from contextlib import suppress

import msgspec

from kpybroker.storage import leftovers, recovery
from kpybroker.storage.checkpoints import read_epochs, read_partition_metadata, write_partition_metadata
from kpybroker.storage.errors import CorruptFile, StorageFailed
from kpybroker.storage.files import Files
from kpybroker.storage.leader_epochs import LeaderEpochs
from kpybroker.storage.log_config import LogConfig
from kpybroker.storage.names import LEADER_EPOCHS, LOG, OFFSET_INDEX, PARTITION_METADATA, TXN_INDEX, offset_of
from kpybroker.storage.open_segments import OpenSegments
from kpybroker.storage.producer_snapshots import ProducerSnapshots
from kpybroker.storage.producer_state import ProducerStates
from kpybroker.storage.segment import Segment
from kpybroker.storage.segments import Segments
from kpybroker.wire.errors import CorruptRecords
from kpybroker.wire.primitives import uuid_from_text, uuid_text

_log = logging.getLogger(__name__)


class Loaded(msgspec.Struct, kw_only=True):
    """What a log consists of."""

    files: Files
    directory: str
    topic_id: bytes | None
    config: LogConfig
    segments: Segments
    snapshots: ProducerSnapshots
    producers: ProducerStates
    epochs: LeaderEpochs
    log_start_offset: int
    log_end_offset: int
    recovery_point: int
    doomed: list[tuple[int, list[str]]]
    open_segments: OpenSegments | None
    new: bool = False
    """Names in the folder, or its own, may not be durable: it was just made, or its user was killed before a flush."""
    unnamed: bool = False
    """Its topic id may not be durable either."""
    trusted: bool
    """The end was taken from a file's name: the first append must look at the batches."""


def create(
    directory: str, *, topic_id: bytes, config: LogConfig, files: Files, open_segments: OpenSegments | None
) -> Loaded:
    """See `Log.create`."""
    files.make_folder(directory)
    metadata = write_partition_metadata(uuid_text(topic_id))
    try:
        files.write_whole(f"{directory}/{PARTITION_METADATA}", metadata, sync=False)
    except StorageFailed:
        with suppress(StorageFailed):  # without its topic id nobody would know the folder as this partition's
            files.remove_folder(directory)
        raise
    name = directory.rpartition("/")[2]
    return Loaded(
        files=files,
        directory=directory,
        topic_id=topic_id,
        config=config,
        segments=Segments([]),
        snapshots=ProducerSnapshots(files, directory, []),
        producers=ProducerStates(name, config.producer_id_expiration_ms),
        epochs=LeaderEpochs(),
        log_start_offset=0,
        log_end_offset=0,
        recovery_point=0,
        doomed=[],
        open_segments=open_segments,
        new=True,
        unnamed=True,
        trusted=False,
    )


def load(
    directory: str,
    *,
    config: LogConfig,
    files: Files,
    clean: bool,
    recovery_point: int,
    log_start_offset: int,
    now_ms: int,
    on_progress: recovery.OnProgress | None,
    open_segments: OpenSegments | None,
) -> Loaded:
    """See `Log.open`."""
    names = leftovers.tidy(files, directory, files.names(directory))
    with_txns = {offset_of(name, TXN_INDEX) for name in names if name.endswith(TXN_INDEX)}
    with_index = {offset_of(name, OFFSET_INDEX) for name in names if name.endswith(OFFSET_INDEX)}
    segments = Segments(
        [
            Segment(
                files,
                directory,
                base,
                now_ms=now_ms,
                has_txn_index=base in with_txns,
                lost_indexes=base not in with_index,
                open_segments=open_segments,
            )
            for base in (offset_of(name, LOG) for name in names if name.endswith(LOG))
            if base is not None
        ]
    )
    epochs, epochs_known = _read_epochs(files, directory)
    loaded = Loaded(
        files=files,
        directory=directory,
        topic_id=_read_topic_id(files, directory),
        config=config,
        segments=segments,
        snapshots=ProducerSnapshots(files, directory, names),
        producers=ProducerStates(directory.rpartition("/")[2], config.producer_id_expiration_ms),
        epochs=epochs,
        log_start_offset=max(log_start_offset, segments.bases[0] if segments.bases else 0),
        log_end_offset=log_start_offset,
        recovery_point=recovery_point,
        doomed=[],
        open_segments=open_segments,
        unnamed=not clean and recovery_point == 0,  # its user was killed, before the first flush perhaps
        trusted=False,
    )
    if len(segments):
        if not epochs_known:
            below = segments.bases[-1] + _FAR if clean else segments.bases[max(segments.floor(recovery_point), 0)]
            recovery.find_epochs(segments, epochs, below)
        if not (clean and _open_clean(loaded, now_ms)):
            _open_unclean(loaded, now_ms, on_progress)
    _check_start(loaded, log_start_offset, now_ms)
    return loaded


_FAR = 2**62


def _open_clean(loaded: Loaded, now_ms: int) -> bool:
    """Take the end from the snapshot's name, or from the tail; False when the tail is no whole batch."""
    active = loaded.segments.active
    assert active is not None
    newest = loaded.snapshots.newest
    if newest is not None and newest == loaded.recovery_point and newest >= active.base_offset:
        loaded.log_end_offset = newest
        loaded.trusted = True
    else:
        try:
            loaded.log_end_offset = active.next_offset()
        except CorruptRecords as error:
            _log.warning("%s: marked as cleanly shut down, but %s", loaded.directory, error)
            loaded.recovery_point = min(loaded.recovery_point, active.base_offset)
            return False
        loaded.recovery_point = loaded.log_end_offset
    _load_producers(loaded, now_ms)
    return True


def _open_unclean(loaded: Loaded, now_ms: int, on_progress: recovery.OnProgress | None) -> None:
    end = recovery.recover(
        loaded.segments,
        loaded.snapshots,
        loaded.producers,
        loaded.epochs,
        files=loaded.files,
        directory=loaded.directory,
        recovery_point=loaded.recovery_point,
        log_start_offset=loaded.log_start_offset,
        index_interval_bytes=loaded.config.index_interval_bytes,
        now_ms=now_ms,
        on_progress=on_progress,
        drop=lambda dropped: _retire(loaded, dropped, now_ms),
    )
    loaded.log_end_offset = end
    loaded.new = end > loaded.recovery_point
    loaded.recovery_point = min(loaded.recovery_point, end)
    loaded.epochs.truncate_from_end(end)
    loaded.snapshots.remove_outside(loaded.log_start_offset, end)
    if end > loaded.log_start_offset:
        loaded.snapshots.write(end, loaded.producers.active.values())
    loaded.snapshots.remove_strays(loaded.segments.bases)


def _load_producers(loaded: Loaded, now_ms: int) -> None:
    start, end = loaded.log_start_offset, loaded.log_end_offset
    loaded.snapshots.remove_outside(start, end)
    recovery.load_producers(loaded.segments, loaded.snapshots, loaded.producers, start, end, now_ms)
    loaded.snapshots.remove_strays(loaded.segments.bases)


def _check_start(loaded: Loaded, checkpoint: int, now_ms: int) -> None:
    """Bring the start in line with the checkpoint; a log that ends before its start begins anew there."""
    if len(loaded.segments) and loaded.log_end_offset < checkpoint:
        _log.warning(
            "%s: deleting all segments because its end %s is smaller than its start %s, as when segment files are lost",
            loaded.directory,
            loaded.log_end_offset,
            checkpoint,
        )
        _retire(loaded, loaded.segments.remove_from(0), now_ms)
        loaded.epochs.clear()
        loaded.snapshots.remove_outside(_FAR, 0)
        loaded.producers.clear(checkpoint)
        loaded.log_end_offset = checkpoint
        loaded.trusted = False
    if not len(loaded.segments):
        loaded.recovery_point = loaded.log_end_offset
        loaded.producers.clear(loaded.log_end_offset)
    loaded.epochs.truncate_from_end(loaded.log_end_offset)
    loaded.epochs.truncate_from_start(loaded.log_start_offset)


def _retire(loaded: Loaded, dropped: list[Segment], now_ms: int) -> None:
    """Rename dropped segments' files to `.deleted`; the log removes them when they are due."""
    paths = []
    for segment in reversed(dropped):  # a crash in between leaves a log without a gap
        paths += segment.retire()
        snapshot = loaded.snapshots.retire(segment.base_offset)
        if snapshot is not None:
            paths.append(snapshot)
    if paths:
        loaded.doomed.append((now_ms + loaded.config.file_delete_delay_ms, paths))


def _read_topic_id(files: Files, directory: str) -> bytes | None:
    data = files.read_whole(f"{directory}/{PARTITION_METADATA}")
    if data is None:
        return None
    try:
        return uuid_from_text(read_partition_metadata(data))
    except (CorruptFile, ValueError) as error:
        _log.warning("%s: %s", directory, error)
        return None


def _read_epochs(files: Files, directory: str) -> tuple[LeaderEpochs, bool]:
    """The checkpoint's epochs, and whether there was a good one."""
    data = files.read_whole(f"{directory}/{LEADER_EPOCHS}")
    if not data:  # an empty file is what a crash of the machine makes of one that was not synced
        return LeaderEpochs(), False
    try:
        return LeaderEpochs(read_epochs(data)), True
    except CorruptFile as error:
        _log.warning("%s: %s; taking the epochs from the batches", directory, error)
        return LeaderEpochs(), False

"""Reading the folder of `__cluster_metadata-0`: the newest complete snapshot, the log behind it, who votes."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from kpybroker.cluster import quorum_state
from kpybroker.cluster.batches import ControlBatch, read_batches
from kpybroker.cluster.errors import IncompleteSnapshot, NotAlone
from kpybroker.cluster.image import EMPTY, ClusterImage
from kpybroker.cluster.loader import MetadataBatch
from kpybroker.cluster.machines.raft_events import NO_DIRECTORY, Entry, Key, Quorum, SnapshotId, Voter
from kpybroker.cluster.machines.raft_log import LogView
from kpybroker.cluster.quorum_state import QuorumState
from kpybroker.cluster.snapshot import BOOTSTRAP, image_of, quorum_after
from kpybroker.cluster.snapshot_files import Loaded, SnapshotFiles
from kpybroker.storage.checkpoints import write_partition_metadata
from kpybroker.storage.errors import CorruptFile
from kpybroker.storage.files import Files
from kpybroker.storage.log import Log
from kpybroker.storage.log_config import LogConfig
from kpybroker.storage.names import PARTITION_METADATA
from kpybroker.wire.internal.control_records import LeaderChangeMessage
from kpybroker.wire.primitives import uuid_text
from kpybroker.wire.records.batch import iter_headers

_log = logging.getLogger(__name__)

TOPIC_ID = (1).to_bytes(16, "big")
"""The metadata topic's id, the same in every cluster."""

_READ_BYTES = 1 << 20


class MetadataLogConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The node's settings for its metadata log."""

    segment_bytes: int
    segment_ms: int
    retention_bytes: int
    """metadata.max.retention.bytes, -1: without limit."""
    retention_ms: int
    """metadata.max.retention.ms, -1: without limit."""

    def for_storage(self) -> LogConfig:
        """As the log takes them: nothing goes by age or size alone, only what lies below the log start."""
        return LogConfig(
            segment_bytes=self.segment_bytes,
            segment_ms=self.segment_ms,
            segment_jitter_ms=0,
            index_bytes_max=10 << 20,
            index_interval_bytes=4096,
            retention_bytes=-1,
            retention_ms=-1,
            file_delete_delay_ms=60_000,
            flush_messages=2**63 - 1,
            flush_ms=2**63 - 1,
            message_bytes_max=8 << 20,
            compacted=False,
            deletes=False,
            cleanable_ratio_min=1.0,
            compaction_lag_ms_min=0,
            compaction_lag_ms_max=2**63 - 1,
            delete_retention_ms=0,
            codec="producer",
            codec_level=None,
            timestamp_type="CreateTime",
            timestamp_before_max_ms=2**63 - 1,
            timestamp_after_max_ms=2**63 - 1,
            preallocate=False,
            producer_id_expiration_ms=2**31 - 1,
        )


class Read(NamedTuple):
    """A batch as it is in the log: what the machine knows of it, what it says, its size in bytes."""

    entry: Entry
    batch: MetadataBatch
    size: int


class Opened(msgspec.Struct, kw_only=True):
    """What the folder said."""

    log: Log
    snapshots: SnapshotFiles
    image: ClusterImage
    """As the snapshot has it."""
    tail: list[Read]
    """The log behind the snapshot."""
    view: LogView
    quorum_state: QuorumState | None


def read_entries(data: bytes | memoryview, quorum: Quorum) -> list[Read]:
    """The whole batches in `data`, which follow a log in which `quorum` votes. Raises: as `read_batches`."""
    found = []
    positions = [position for position, _ in iter_headers(data)] + [len(data)]
    for at, batch in enumerate(read_batches(data)):
        after: Quorum | None = None
        if isinstance(batch, ControlBatch):
            changed = quorum_after(quorum, batch)
            if changed is not quorum:
                after = quorum = changed
            metadata = MetadataBatch(batch.base_offset, batch.last_offset, batch.epoch, batch.timestamp, [])
        else:
            metadata = batch
        entry = Entry(metadata.base_offset, metadata.last_offset + 1, metadata.epoch, after)
        found.append(Read(entry, metadata, positions[at + 1] - positions[at]))
    return found


def open_folder(
    folder: str,
    *,
    me: Key,
    static_voters: Sequence[Voter],
    alone: bool,
    observes: bool,
    config: LogConfig,
    files: Files,
    now_ms: int,
) -> Opened:
    """Read everything. `alone`: nobody else may vote. `observes`: the node need not know who votes, it will be told.

    Raises: NotAlone if nobody knows who votes; UnreplayableRecord, UnsupportedFeature; IncompleteSnapshot if the log
    does not reach back to a complete snapshot; StorageFailed.
    """
    if not static_voters and not observes and not files.exists(folder):  # not this node's: it would be in the way
        raise _unknown_voters(folder)
    files.make_folder(folder)
    files.sync_folder(os.path.dirname(folder))  # its name has to outlast what is synced in it: votes, and the log
    snapshots = SnapshotFiles(folder, files)
    loaded = snapshots.load()
    log = _open_log(folder, loaded, config, files, now_ms)
    state = _read_quorum_state(folder, files)
    quorum = Quorum() if loaded is None else loaded.snapshot.quorum
    reads = list(_read_log(log, 0 if loaded is None else loaded.id.end_offset, quorum))
    if quorum.kraft_version == 0 and (given := _static_voters(me, static_voters, state, log)):
        quorum = Quorum(0, given)
    elif quorum.kraft_version == 0 and not observes and all(read.entry.quorum is None for read in reads):
        raise _unknown_voters(folder)
    view = _view(log, snapshots, quorum, reads)
    _check_membership(view.quorum, me, alone=alone)
    return Opened(
        log=log,
        snapshots=snapshots,
        image=EMPTY if loaded is None else image_of(loaded.snapshot, loaded.id),
        tail=reads,
        view=view,
        quorum_state=state,
    )


def _open_log(folder: str, loaded: Loaded | None, config: LogConfig, files: Files, now_ms: int) -> Log:
    """The log, beginning where the snapshot ends if it lost what lies behind. Raises: IncompleteSnapshot."""
    if not files.exists(f"{folder}/{PARTITION_METADATA}"):
        files.write_whole(f"{folder}/{PARTITION_METADATA}", write_partition_metadata(uuid_text(TOPIC_ID)), sync=False)
    end = loaded.id.end_offset if loaded is not None else 0
    log = Log.open(folder, config=config, files=files, clean=False, recovery_point=end, now_ms=now_ms)
    if log.log_end_offset < end:
        log.truncate_fully_and_start_at(end, now_ms=now_ms)
    if log.log_start_offset > end:
        raise IncompleteSnapshot(
            f"{folder}: the log begins at offset {log.log_start_offset}, and no complete snapshot reaches that far"
        )
    return log


def _read_log(log: Log, offset: int, quorum: Quorum) -> list[Read]:
    """The batches from `offset` on."""
    found: list[Read] = []
    while offset < log.log_end_offset:
        region = log.read(offset, bytes_max=_READ_BYTES, end_offset=log.log_end_offset).region
        assert region is not None, "offsets below the log's end can be read"
        try:
            data = region.read()
        finally:
            region.release()
        for read in read_entries(data, quorum):
            if read.batch.last_offset >= offset:
                found.append(read)
                offset = read.entry.end
                quorum = quorum if read.entry.quorum is None else read.entry.quorum
    return found


def _view(log: Log, snapshots: SnapshotFiles, quorum: Quorum, reads: Sequence[Read]) -> LogView:
    """The log as the machine sees it: epochs of what no batch was read of come from their checkpoint."""
    epochs = {id_.end_offset: id_.epoch for id_ in snapshots.ids}
    behind = snapshots.ids[-1].end_offset if snapshots.ids else 0
    start = log.log_start_offset
    older = [(epoch, at) for epoch, at in log.epochs.entries if at < behind]
    if start not in epochs or (start < behind and (not older or older[0][1] > start)):
        start = behind  # what is before is left to the snapshot
    view = LogView(quorum, start=start, start_epoch=epochs.get(start, 0))
    if start < behind:
        for at, (epoch, _) in enumerate(older):
            end = older[at + 1][1] if at + 1 < len(older) else behind
            if end > view.end:
                view.append(Entry(view.end, end, max(epoch, view.last_epoch)))
    for read in reads:
        entry = read.entry
        view.append(entry if entry.base >= view.end else entry._replace(base=view.end))
    view.snapshot = snapshots.newest
    view.durable = min(max(log.recovery_point, view.start), view.end)
    return view


def _read_quorum_state(folder: str, files: Files) -> QuorumState | None:
    """The election state; None if there is none, which is safe for the only voter: the log knows the epochs."""
    data = files.read_whole(f"{folder}/{quorum_state.FILE_NAME}")
    if data is None:
        return None
    try:
        return quorum_state.read_quorum_state(data)
    except CorruptFile as error:
        _log.warning("%s: %s; taking the epoch from the log", folder, error)
        return None


def _static_voters(me: Key, configured: Sequence[Voter], state: QuorumState | None, log: Log) -> tuple[Voter, ...]:
    """The voters of a quorum of kraft.version 0: from whoever knows them; none if nobody does."""
    remembered = state.voters if state is not None else ()
    voters = tuple(configured) or tuple(
        Voter(id=id_, directory_id=NO_DIRECTORY, endpoints=()) for id_ in remembered or _last_leader_change(log)
    )
    return tuple(
        msgspec.structs.replace(voter, directory_id=me.directory_id) if voter.id == me.id else voter for voter in voters
    )


def _last_leader_change(log: Log) -> tuple[int, ...]:
    """The voters that the newest LeaderChange record names."""
    epoch = log.epochs.latest
    entries = dict(log.epochs.entries)
    if epoch is None or entries[epoch] >= log.log_end_offset:
        return ()
    region = log.read(entries[epoch], bytes_max=1, end_offset=log.log_end_offset).region
    if region is None:
        return ()
    try:
        data = region.read()
    finally:
        region.release()
    for batch in read_batches(data):
        for record in batch.records if isinstance(batch, ControlBatch) else ():
            if isinstance(record, LeaderChangeMessage):
                return tuple(voter.voter_id for voter in record.voters)
    return ()


def _unknown_voters(folder: str) -> NotAlone:
    return NotAlone(
        f"{folder} does not say who the voters of the metadata quorum are: it was formatted without them, and "
        "controller.quorum.voters is not set"
    )


def start_snapshot(snapshots: SnapshotFiles, log_start: int) -> SnapshotId:
    """The snapshot at which the log begins."""
    return next((id_ for id_ in snapshots.ids if id_.end_offset == log_start), BOOTSTRAP)


def _check_membership(quorum: Quorum, me: Key, *, alone: bool) -> None:
    """Raises: NotAlone for a node that could wait for ever."""
    ids = [voter.id for voter in quorum.voters]
    if alone and ids != [me.id]:
        raise NotAlone(f"the metadata quorum of this folder is {ids}; node {me.id} can lead a quorum of itself only")
    if ids == [me.id] and quorum.voter(me) is None:
        raise NotAlone(
            f"the quorum knows node {me.id} with directory {uuid_text(quorum.voters[0].directory_id)}, but "
            f"meta.properties says {uuid_text(me.directory_id)}: files of two folders were mixed"
        )

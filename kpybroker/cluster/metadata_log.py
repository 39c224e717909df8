"""The log of `__cluster_metadata-0` on disk, and the effects of the raft machine performed on it.

Opening finds the newest complete snapshot and replays the log behind it; a torn tail is cut off, as the log is always
opened as after a crash (from the snapshot on, so that it costs what changed since). `lead` then takes a new epoch. From
there on `append` writes batches and applies them to the image at once (decisions are made from that), while `committed`
follows when they are durable: `begin_flush` and `end_flush` stand around a sync in a worker thread, which covers
everything appended before it (group commit). Kafka's raft leader syncs its log too before it answers.
"""

from __future__ import annotations

import copy
import logging
from collections import deque
from collections.abc import Sequence

import msgspec

from kpybroker.cluster import quorum_state
from kpybroker.cluster.batches import ControlBatch, encode_batch, encode_control_batch, read_batches
from kpybroker.cluster.delta import Delta
from kpybroker.cluster.errors import IncompleteSnapshot, NotAlone
from kpybroker.cluster.image import EMPTY, ClusterImage
from kpybroker.cluster.loader import Loader, MetadataBatch
from kpybroker.cluster.machines.raft import (
    AdvanceHighWatermark,
    Appended,
    Durable,
    Effect,
    ElectionState,
    Lead,
    Persist,
    Raft,
    Started,
    Upgraded,
    Voter,
    WriteQuorum,
)
from kpybroker.cluster.quorum_state import QuorumState
from kpybroker.cluster.replay import MetadataRecord
from kpybroker.cluster.snapshot import BOOTSTRAP, Quorum, SnapshotId, image_of, quorum_after, quorum_records
from kpybroker.cluster.snapshot_files import Loaded, SnapshotFiles, SnapshotJob
from kpybroker.storage.checkpoints import write_partition_metadata
from kpybroker.storage.errors import CorruptFile, StorageFailed
from kpybroker.storage.files import Files
from kpybroker.storage.flush import Flush
from kpybroker.storage.log import Log
from kpybroker.storage.log_config import LogConfig
from kpybroker.storage.names import PARTITION_METADATA
from kpybroker.storage.origin import Origin
from kpybroker.wire.internal.control_records import LeaderChangeMessage, LeaderChangeVoter
from kpybroker.wire.primitives import uuid_text
from kpybroker.wire.records.control import QuorumRecord

_log = logging.getLogger(__name__)

FOLDER = "__cluster_metadata-0"
TOPIC_ID = (1).to_bytes(16, "big")
"""The metadata topic's id, the same in every cluster."""

BATCH_RECORDS_MAX = 10_000
"""Records in one batch; more are written as several. What a user asked for never is."""

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


class Replayed(msgspec.Struct, kw_only=True):
    """What the folder said when it was opened."""

    log: Log
    loader: Loader
    quorum: Quorum
    leader_change_voters: tuple[int, ...]
    """The voters in the last LeaderChange record."""
    quorum_state: QuorumState | None
    log_has_voters: bool


class MetadataLog:
    """The log, its snapshots and its raft state. Made by `open`; `lead` comes next, `close` last."""

    def __init__(
        self, replayed: Replayed, snapshots: SnapshotFiles, raft: Raft, config: MetadataLogConfig, files: Files
    ) -> None:
        self.raft = raft
        self.snapshots = snapshots
        self.committed: ClusterImage = replayed.loader.image
        """The image of what is committed. Before `lead` it is what was found, which may miss a tail's commit."""
        self.quorum = Quorum(raft.kraft_version, raft.voters if raft.kraft_version else ())
        self._replayed = replayed
        self._log = replayed.log
        self._loader = replayed.loader
        self._config = config
        self._files = files
        self._pending: deque[tuple[int, int, Delta]] = deque()
        """Changes that are appended and not committed: end offset of the batch, its size in bytes, delta."""
        self.committed_bytes = 0
        """Bytes of batches that were committed since the log was opened."""

    @classmethod
    def open(
        cls,
        folder: str,
        *,
        node_id: int,
        directory_id: bytes,
        static_voters: Sequence[int],
        config: MetadataLogConfig,
        files: Files,
        now_ms: int,
    ) -> MetadataLog:
        """Read the folder. `static_voters`: of controller.quorum.voters, for quorums of kraft.version 0.

        Raises: NotAlone; UnreplayableRecord, UnsupportedFeature; IncompleteSnapshot if the log does not reach back to a
        complete snapshot; StorageFailed.
        """
        if not static_voters and not files.exists(folder):  # not this node's: made, it would be in the way elsewhere
            raise _unknown_voters(folder)
        files.make_folder(folder)
        snapshots = SnapshotFiles(folder, files)
        loaded = snapshots.load()
        log = _open_log(folder, loaded, config, files, now_ms)
        replayed = _replay(log, loaded, folder, files)
        voters = _voters(replayed, node_id=node_id, directory_id=directory_id, static_voters=static_voters)
        raft = Raft(
            node_id=node_id, directory_id=directory_id, kraft_version=replayed.quorum.kraft_version, voters=voters
        )
        return cls(replayed, snapshots, raft, config, files)

    # What it is

    @property
    def image(self) -> ClusterImage:
        """The image with everything that was appended, committed or not: what decisions are made from."""
        return self._loader.image

    @property
    def transaction_open(self) -> bool:
        """Whether the log ends within a transaction, which nobody will end any more."""
        return self._loader.transaction_start is not None

    @property
    def log_end_offset(self) -> int:
        """The offset that the next record gets."""
        return self._log.log_end_offset

    @property
    def high_watermark(self) -> int:
        """Everything below is committed."""
        return self.raft.high_watermark

    @property
    def size_bytes(self) -> int:
        """Bytes in the log."""
        return self._log.size_bytes

    @property
    def bytes_behind_snapshot(self) -> int:
        """About how many bytes of log no snapshot contains: all of it if there is no snapshot."""
        newest = self.snapshots.newest
        if newest is None:
            return self._log.size_bytes
        records = self._log.log_end_offset - self._log.log_start_offset
        if records <= 0:
            return 0
        return self._log.size_bytes * (self._log.log_end_offset - newest.end_offset) // records

    # Leading

    def lead(self, now_ms: int) -> None:
        """Take a new epoch and begin it. Blocks for a sync of quorum-state. Raises: StorageFailed."""
        state = self._replayed.quorum_state or QuorumState(ElectionState())
        started = Started(
            election=state.election,
            log_end=self._log.log_end_offset,
            log_epoch=self._log.latest_epoch or 0,
            log_has_voters=self._replayed.log_has_voters,
        )
        self._perform(self.raft.step(started), now_ms)

    def _perform(self, effects: Sequence[Effect], now_ms: int) -> list[Delta]:
        committed: list[Delta] = []
        for effect in effects:
            match effect:
                case Persist(election):
                    former = self._replayed.quorum_state
                    state = QuorumState(election, former.voters if former is not None else ())
                    text = quorum_state.write_quorum_state(state, kraft_version=self.raft.kraft_version)
                    self._files.write_whole(f"{self._log.directory}/{quorum_state.FILE_NAME}", text)
                case Lead():
                    self._begin_epoch(effect, now_ms)
                case AdvanceHighWatermark(offset):
                    committed += self._commit_below(offset)
                case WriteQuorum():
                    self.quorum = Quorum(self.raft.kraft_version, self.raft.voters)
                    records = quorum_records(self.quorum)
                    self._write(encode_control_batch(records, timestamp_ms=now_ms), [], len(records), now_ms)
        return committed

    def _begin_epoch(self, lead: Lead, now_ms: int) -> None:
        voters = [LeaderChangeVoter(voter_id=voter) for voter in lead.voters]
        records: list[QuorumRecord] = [
            LeaderChangeMessage(version=0, leader_id=self.raft.node_id, voters=voters, granting_voters=voters)
        ]
        if lead.write_voters:
            records += quorum_records(self.quorum)
        self._write(encode_control_batch(records, timestamp_ms=now_ms), [], len(records), now_ms)

    def upgrade_quorum(self, endpoints: tuple[tuple[str, str, int], ...], now_ms: int) -> None:
        """Take the quorum from kraft.version 0 to 1: its records say from now on who votes, and where (KIP-853).

        Raises: StorageFailed; without room for its records the quorum is what it was.
        """
        former, quorum = copy.copy(self.raft), self.quorum
        try:
            self._perform(self.raft.step(Upgraded(endpoints)), now_ms)
        except StorageFailed as failure:
            if failure.temporary:
                self.raft, self.quorum = former, quorum
            raise

    def append(self, records: Sequence[MetadataRecord], now_ms: int) -> int:
        """Write records and apply them to `image`; returns the offset of the last one. Committed later.

        Raises: StorageFailed, and if that is but temporary and `log_end_offset` still the same, nothing has happened;
        UnreplayableRecord, a bug of whoever decided on the record. Anything else ends the node: the log and the image
        may no longer agree.
        """
        for start in range(0, len(records), BATCH_RECORDS_MAX):
            chunk = records[start : start + BATCH_RECORDS_MAX]
            data = encode_batch(chunk, timestamp_ms=now_ms)
            self._write(data, chunk, len(chunk), now_ms)
        return self._log.log_end_offset - 1

    def _write(self, data: bytes, records: Sequence[MetadataRecord], count: int, now_ms: int) -> None:
        epoch = self.raft.epoch
        self._mend(now_ms)
        appended = self._log.append_as_leader(data, leader_epoch=epoch, now_ms=now_ms, origin=Origin.CONTROLLER)
        assert appended.last_offset - appended.first_offset + 1 == count, "a batch takes an offset for each record"
        self._loader.load(MetadataBatch(appended.first_offset, appended.last_offset, epoch, now_ms, records))
        delta = self._loader.publish()
        self._pending.append((appended.last_offset + 1, len(data), delta))
        self.raft.step(Appended(appended.last_offset + 1))

    def _mend(self, now_ms: int) -> None:
        """A log that stopped half-way for want of room is read again. Raises: StorageFailed."""
        if self._log.failure is not None and self._log.failure.temporary:
            end = self._log.log_end_offset
            self._log.mend(now_ms)
            assert self._log.log_end_offset == end, "all that was appended is in the files"

    # Committing

    def begin_flush(self, now_ms: int) -> Flush | None:
        """What must be synced for everything appended so far to be committed; None: it is durable.

        Raises: StorageFailed.
        """
        self._mend(now_ms)
        return self._log.begin_flush()

    def end_flush(self, flush: Flush, failure: StorageFailed | None = None) -> list[Delta]:
        """A flush ended: what it committed, in order. Raises: StorageFailed if it failed."""
        self._log.end_flush(flush, failure)
        if failure is not None:
            raise failure
        return self._perform(self.raft.step(Durable(self.raft.node_id, flush.offset)), 0)

    def _commit_below(self, offset: int) -> list[Delta]:
        deltas = []
        while self._pending and self._pending[0][0] <= offset:
            _, size, delta = self._pending.popleft()
            self.committed_bytes += size
            self.committed = delta.after
            deltas.append(delta)
        return deltas

    # Snapshots

    def snapshot_job(self, now_ms: int) -> SnapshotJob | None:
        """A snapshot of what is committed, to be written by a worker; None if the newest one contains all of it."""
        image = self.committed
        id_ = SnapshotId(image.offset + 1, image.epoch)
        newest = self.snapshots.newest
        if image.offset < 0 or (newest is not None and newest.end_offset >= id_.end_offset):
            return None
        return SnapshotJob(id_, self.snapshots.path(id_), image, self.quorum, self._files, now_ms)

    def snapshot_written(self, job: SnapshotJob, now_ms: int) -> None:
        """Take note of a snapshot; drop log and snapshots that are too much or too old. Raises: StorageFailed."""
        self.snapshots.written(job.id, self._log.log_start_offset)
        self.prune(now_ms)

    def prune(self, now_ms: int) -> None:
        """Drop the oldest snapshots, and the log below the next one, as retention says. Raises: StorageFailed."""
        ids = self.snapshots.ids
        while len(ids) > 1 and self._breaches_retention(ids[0], now_ms):
            self._log.increment_log_start_offset(ids[1].end_offset)
            self._log.retention(now_ms, self.high_watermark)
            self.snapshots.remove(ids[0])
            ids = self.snapshots.ids
        self._log.purge(now_ms)

    def _breaches_retention(self, oldest: SnapshotId, now_ms: int) -> bool:
        config = self._config
        if 0 <= config.retention_bytes < self._log.size_bytes + self.snapshots.size_bytes():
            return True
        if oldest == BOOTSTRAP or config.retention_ms < 0:
            return False
        return now_ms - self.snapshots.timestamp(oldest) > config.retention_ms

    def close(self, *, clean: bool) -> None:
        """Sync and close the files. Raises: StorageFailed."""
        self._log.close(clean=clean)


def _open_log(folder: str, loaded: Loaded | None, config: MetadataLogConfig, files: Files, now_ms: int) -> Log:
    """The log, beginning where the snapshot ends if it lost what lies behind. Raises: IncompleteSnapshot."""
    if not files.exists(f"{folder}/{PARTITION_METADATA}"):
        files.write_whole(f"{folder}/{PARTITION_METADATA}", write_partition_metadata(uuid_text(TOPIC_ID)), sync=False)
    end = loaded.id.end_offset if loaded is not None else 0
    log = Log.open(folder, config=config.for_storage(), files=files, clean=False, recovery_point=end, now_ms=now_ms)
    if log.log_end_offset < end:
        log.truncate_fully_and_start_at(end, now_ms=now_ms)
    if log.log_start_offset > end:
        raise IncompleteSnapshot(
            f"{folder}: the log begins at offset {log.log_start_offset}, and no complete snapshot reaches that far"
        )
    return log


def _replay(log: Log, loaded: Loaded | None, folder: str, files: Files) -> Replayed:
    """The snapshot and the log behind it, applied; the result is published as one change."""
    replayed = Replayed(
        log=log,
        loader=Loader(EMPTY if loaded is None else image_of(loaded.snapshot, loaded.id)),
        quorum=Quorum() if loaded is None else loaded.snapshot.quorum,
        leader_change_voters=(),
        quorum_state=_read_quorum_state(folder, files),
        log_has_voters=loaded is not None and loaded.id != BOOTSTRAP and bool(loaded.snapshot.quorum.voters),
    )
    offset = 0 if loaded is None else loaded.id.end_offset
    while offset < log.log_end_offset:
        region = log.read(offset, bytes_max=_READ_BYTES, end_offset=log.log_end_offset).region
        assert region is not None, "offsets below the log's end can be read"
        try:
            data = region.read()
        finally:
            region.release()
        for batch in read_batches(data):
            if batch.last_offset >= offset:
                _apply(replayed, batch)
                offset = batch.last_offset + 1
    replayed.loader.publish()
    return replayed


def _apply(replayed: Replayed, batch: MetadataBatch | ControlBatch) -> None:
    if isinstance(batch, MetadataBatch):
        replayed.loader.load(batch)
        return
    replayed.loader.load(MetadataBatch(batch.base_offset, batch.last_offset, batch.epoch, batch.timestamp, []))
    quorum = quorum_after(replayed.quorum, batch)
    replayed.log_has_voters = replayed.log_has_voters or quorum is not replayed.quorum
    replayed.quorum = quorum
    for record in batch.records:
        if isinstance(record, LeaderChangeMessage):
            replayed.leader_change_voters = tuple(voter.voter_id for voter in record.voters)


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


def _voters(
    replayed: Replayed, *, node_id: int, directory_id: bytes, static_voters: Sequence[int]
) -> tuple[Voter, ...]:
    """The voters of the quorum: from its records, or for kraft.version 0 from whoever knows them.

    Raises: NotAlone if nobody does.
    """
    if replayed.quorum.kraft_version > 0:
        return replayed.quorum.voters
    remembered = replayed.quorum_state.voters if replayed.quorum_state is not None else ()
    ids = tuple(static_voters) or remembered or replayed.leader_change_voters
    if not ids:
        raise _unknown_voters(replayed.log.directory)
    own = directory_id if node_id in ids else bytes(16)
    return tuple(Voter(id=id_, directory_id=own, endpoints=()) for id_ in ids)


def _unknown_voters(folder: str) -> NotAlone:
    return NotAlone(
        f"{folder} does not say who the voters of the metadata quorum are: it was formatted without them, and "
        "controller.quorum.voters is not set"
    )

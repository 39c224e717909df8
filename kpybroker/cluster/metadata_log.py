"""The log of `__cluster_metadata-0` on disk, and the effects of the raft machine performed on it.

Opening finds the newest complete snapshot and reads the log behind it; a torn tail is cut off, as the log is always
opened as after a crash (from the snapshot on, so that it costs what changed since). `image` is what decisions are made
from: a leader applies what it appends at once, while `committed` follows when a majority has it. A follower applies
nothing before it is committed; a log that is nobody else's is committed as far as it goes. `begin_flush` and
`end_flush` stand around a sync in a worker thread, which covers everything appended before it (group commit).

Every event for the raft machine goes through `step`: what is to be done to the log is done, in order, what is to be
sent to others is left in `outbox`, and what was committed in `take_committed`.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial

import msgspec

from kpybroker.cluster import quorum_state
from kpybroker.cluster.batches import encode_batch, encode_control_batch
from kpybroker.cluster.delta import Delta, everything
from kpybroker.cluster.errors import BatchTooLarge
from kpybroker.cluster.image import ClusterImage
from kpybroker.cluster.loader import Loader, MetadataBatch
from kpybroker.cluster.machines import raft_events as ev
from kpybroker.cluster.machines.raft import Raft, upgraded
from kpybroker.cluster.machines.raft_events import (
    ElectionState,
    Entry,
    Key,
    Moment,
    Quorum,
    SnapshotId,
    Timing,
    Voter,
)
from kpybroker.cluster.metadata_opening import (
    TOPIC_ID,
    MetadataLogConfig,
    Opened,
    Read,
    open_folder,
    read_entries,
    start_snapshot,
)
from kpybroker.cluster.quorum_state import QuorumState
from kpybroker.cluster.replay import MetadataRecord
from kpybroker.cluster.snapshot import BOOTSTRAP, image_of, quorum_records, read_snapshot
from kpybroker.cluster.snapshot_files import SnapshotJob
from kpybroker.storage.errors import StorageFailed
from kpybroker.storage.files import Files
from kpybroker.storage.flush import Flush
from kpybroker.storage.origin import Origin
from kpybroker.wire.errors import CorruptRecords
from kpybroker.wire.internal.control_records import KRaftVersionRecord, LeaderChangeMessage, LeaderChangeVoter
from kpybroker.wire.records.control import QuorumRecord

__all__ = ["FOLDER", "TOPIC_ID", "MetadataLog", "MetadataLogConfig"]

log = logging.getLogger(__name__)

FOLDER = "__cluster_metadata-0"

BATCH_RECORDS_MAX = 10_000
"""Records in one batch; more are written as several. What a user asked for never is."""

BATCH_BYTES_MAX = 8 << 20
"""Bytes in one batch, as in Kafka's raft, whose nodes have buffers of that size."""


class Pending(msgspec.Struct, gc=False):
    """A batch that is appended and not committed."""

    read: Read
    delta: Delta | None = None
    """What it changes, if it was applied to `image`."""


class MetadataLog:
    """The log, its snapshots and its raft state. Made by `open`; `start` comes next, `close` last."""

    def __init__(self, opened: Opened, me: Key, timing: Timing, config: MetadataLogConfig, files: Files) -> None:
        self.raft = Raft(me=me, log=opened.view, timing=timing)
        self.snapshots = opened.snapshots
        self.outbox: list[ev.Send | ev.LoadSnapshot] = []
        """What others are to be sent; whoever steps takes it."""
        self.on_append: Callable[[], None] = lambda: None
        """Called when the log grew or was cut."""
        self.write_state: Callable[[Callable[[], None]], None] = lambda write: write()
        """Has quorum-state written by calling what it is handed: at once, unless whoever steps knows when."""
        self._log = opened.log
        self._quorum_state = opened.quorum_state
        self._loader = Loader(opened.image)
        self._config = config
        self._files = files
        self._pending = deque(Pending(read) for read in opened.tail)
        self._unsettled: list[MetadataBatch] = []
        """Committed batches that are not in `committed`: those of a transaction that has not ended."""
        self._committed_now: list[Delta] = []
        self._moment = Moment(0.0, 0, 0.0)
        self.committed: ClusterImage = opened.image
        """The image of what is committed. Before `start` it is what was found, which may miss a tail's commit."""
        self.committed_bytes = 0
        """Bytes of batches that were committed since the log was opened."""
        if self.raft.alone:
            for pending in self._pending:
                self._loader.load(_behind(pending.read.batch, opened.image.offset))
            self._pending.clear()
            self.committed = self._loader.publish().after

    @classmethod
    def open(
        cls,
        folder: str,
        *,
        node_id: int,
        directory_id: bytes,
        static_voters: Sequence[Voter],
        config: MetadataLogConfig,
        files: Files,
        now_ms: int,
        alone: bool = False,
        observes: bool = False,
        timing: Timing = Timing(),  # noqa: B008 (it never changes)
    ) -> MetadataLog:
        """Read the folder. `static_voters`: of controller.quorum.voters, for quorums of kraft.version 0.

        `alone`: this node has nobody to talk to. `observes`: it may not be a voter, others tell it who is.
        Raises: NotAlone; UnreplayableRecord, UnsupportedFeature; IncompleteSnapshot if the log does not reach back to a
        complete snapshot; StorageFailed.
        """
        me = Key(node_id, directory_id)
        opened = open_folder(
            folder,
            me=me,
            static_voters=static_voters,
            alone=alone,
            observes=observes,
            config=config.for_storage(),
            files=files,
            now_ms=now_ms,
        )
        return cls(opened, me, timing, config, files)

    # What it is

    @property
    def image(self) -> ClusterImage:
        """The image with everything that was applied, committed or not: what a leader decides from."""
        return self._loader.image

    @property
    def quorum(self) -> Quorum:
        """Who votes, as the log says last."""
        return self.raft.quorum

    @property
    def transaction_open(self) -> bool:
        """Whether the log ends within a transaction, which nobody will end any more."""
        return self._loader.transaction_start is not None

    @property
    def log_end_offset(self) -> int:
        """The offset that the next record gets."""
        return self._log.log_end_offset

    @property
    def log_start_offset(self) -> int:
        """The first offset that is there."""
        return self._log.log_start_offset

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

    def read(self, offset: int, bytes_max: int) -> bytes:
        """Batches from `offset` on, committed or not. Raises: StorageFailed."""
        region = self._log.read(offset, bytes_max=bytes_max, end_offset=self._log.log_end_offset).region
        if region is None:
            return b""
        try:
            return region.read()
        finally:
            region.release()

    # The machine

    def start(self, moment: Moment) -> None:
        """Begin: the only voter leads at once. Blocks for a sync of quorum-state. Raises: StorageFailed."""
        state = self._quorum_state or QuorumState(ElectionState())
        self.step(ev.Started(state.election), moment)

    def step(self, event: ev.Event, moment: Moment, records: bytes = b"") -> ev.Reply | ev.FetchReply | None:
        """Tell the machine and do what it says; returns its reply to a request. `records`: those of a fetch's answer.

        Raises: StorageFailed.
        """
        self._moment = moment
        return self._perform(self.raft.step(event, moment), records)

    def _perform(self, effects: Sequence[ev.Effect], records: bytes = b"") -> ev.Reply | ev.FetchReply | None:
        reply: ev.Reply | ev.FetchReply | None = None
        for effect in effects:
            match effect:
                case ev.Reply() | ev.FetchReply():
                    reply = effect
                case ev.Persist(election):
                    self._persist(election)
                case ev.Lead():
                    self._begin_epoch(effect)
                case ev.AdvanceHighWatermark(offset):
                    self._commit_below(offset)
                case ev.WriteQuorum(quorum):
                    self._write_quorum(quorum)
                case ev.Truncate(offset):
                    self._truncate(offset)
                case ev.TakeRecords():
                    self._append_fetched(records)
                case _:
                    self.outbox.append(effect)
        self._check_leading()
        return reply

    def _persist(self, election: ElectionState) -> None:
        former = self._quorum_state
        self._quorum_state = QuorumState(election, former.voters if former is not None else ())
        text = quorum_state.write_quorum_state(self._quorum_state, kraft_version=self.raft.quorum.kraft_version)
        path = f"{self._log.directory}/{quorum_state.FILE_NAME}"
        self.write_state(partial(self._files.write_whole, path, text))

    def _check_leading(self) -> None:
        """Who does not lead applies nothing that is not committed."""
        if not self.raft.is_leader and self._pending and self._pending[0].delta is not None:
            self._loader = Loader(self.committed)
            for batch in self._unsettled:
                self._loader.load(_behind(batch, self.committed.offset))
            for pending in self._pending:
                pending.delta = None

    # Leading

    def _begin_epoch(self, lead: ev.Lead) -> None:
        self._apply_pending()
        records: list[QuorumRecord] = [
            LeaderChangeMessage(
                version=0,
                leader_id=self.raft.me.id,
                voters=[LeaderChangeVoter(voter_id=voter) for voter in lead.voters],
                granting_voters=[LeaderChangeVoter(voter_id=voter) for voter in lead.granting],
            )
        ]
        quorum = None
        if lead.write_voters:
            quorum = self.raft.quorum
            records += quorum_records(quorum)
        self._write_control(records, quorum)

    def _write_quorum(self, quorum: Quorum) -> None:
        records = quorum_records(quorum)
        if quorum.kraft_version == self.quorum.kraft_version:
            records = [record for record in records if not isinstance(record, KRaftVersionRecord)]
        self._write_control(records, quorum)

    def _write_control(self, records: Sequence[QuorumRecord], quorum: Quorum | None) -> None:
        now_ms = self._moment.wall_ms
        self._write(encode_control_batch(records, timestamp_ms=now_ms), [], len(records), now_ms, quorum)

    def upgraded_quorum(self, endpoints: ev.Endpoints) -> Quorum:
        """The quorum at kraft.version 1. Raises: Refused if it is not known of every voter where it listens."""
        assert self.raft.leadership is not None, "only a leader changes the quorum"
        me = Voter(id=self.raft.me.id, directory_id=self.raft.me.directory_id, endpoints=endpoints)
        return upgraded(self.quorum, self.raft.leadership.told, me)

    def change_quorum(self, quorum: Quorum, now_ms: int) -> None:
        """Write that the quorum is another one: its records say from now on who votes, and where (KIP-853).

        Raises: StorageFailed; without room for its records the quorum is what it was.
        """
        self.step(ev.ChangeQuorum(quorum), self._moment._replace(wall_ms=now_ms))

    def append(self, records: Sequence[MetadataRecord], now_ms: int) -> int:
        """Write records and apply them to `image`; returns the offset of the last one. Committed later.

        Raises: BatchTooLarge; StorageFailed, and if that is but temporary and `log_end_offset` still the same, nothing
        has happened; UnreplayableRecord, a bug of whoever decided on the record. Anything else ends the node: the log
        and the image may no longer agree.
        """
        assert self.raft.is_leader, "only a leader appends"
        for start in range(0, len(records), BATCH_RECORDS_MAX):
            chunk = records[start : start + BATCH_RECORDS_MAX]
            version = self.image.features.metadata_version
            data = encode_batch(chunk, timestamp_ms=now_ms, metadata_version=version)
            if len(data) > BATCH_BYTES_MAX and len(records) <= BATCH_RECORDS_MAX:
                raise BatchTooLarge(f"a batch of {len(records)} records has {len(data)} bytes, of {BATCH_BYTES_MAX}")
            self._write(data, chunk, len(chunk), now_ms)
        return self._log.log_end_offset - 1

    def _write(
        self, data: bytes, records: Sequence[MetadataRecord], count: int, now_ms: int, quorum: Quorum | None = None
    ) -> None:
        epoch = self.raft.epoch
        self._mend(now_ms)
        appended = self._log.append_as_leader(data, leader_epoch=epoch, now_ms=now_ms, origin=Origin.CONTROLLER)
        assert appended.last_offset - appended.first_offset + 1 == count, "a batch takes an offset for each record"
        batch = MetadataBatch(appended.first_offset, appended.last_offset, epoch, now_ms, records)
        self._loader.load(batch)
        entry = Entry(appended.first_offset, appended.last_offset + 1, epoch, quorum)
        self._pending.append(Pending(Read(entry, batch, len(data)), self._loader.publish()))
        self._perform(self.raft.step(ev.Appended((entry,)), self._moment))
        self.on_append()

    def _mend(self, now_ms: int) -> None:
        """A log that stopped half-way for want of room is read again. Raises: StorageFailed."""
        if self._log.failure is not None and self._log.failure.temporary:
            end = self._log.log_end_offset
            self._log.mend(now_ms)
            assert self._log.log_end_offset == end, "all that was appended is in the files"

    # Following

    def _append_fetched(self, data: bytes) -> None:
        """Append what the leader sent, byte for byte; what is no batch of its log is left out, and fetched again."""
        now_ms = self._moment.wall_ms
        try:
            reads = read_entries(data, self.quorum)
        except CorruptRecords as error:
            log.warning("What the leader of the metadata quorum sent is damaged: %s", error)
            return
        end, epoch = self.raft.log.end, self.raft.log.last_epoch
        for read in reads:
            if read.entry.base != end or not epoch <= read.entry.epoch <= self.raft.epoch:
                sent = read.entry.base, read.entry.epoch
                log.warning("The leader of the metadata quorum sent a batch at offset %d of epoch %d", *sent)
                return
            end, epoch = read.entry.end, read.entry.epoch
        if not reads:
            return
        self._mend(now_ms)
        self._log.append_as_follower(data[: sum(read.size for read in reads)], now_ms=now_ms)
        self._pending += [Pending(read) for read in reads]
        self._perform(self.raft.step(ev.Appended(tuple(read.entry for read in reads)), self._moment))
        self.on_append()

    def _truncate(self, offset: int) -> None:
        """Drop what the leader does not have; `raft` has done so."""
        end = self._log.truncate_to(offset, now_ms=self._moment.wall_ms)
        assert end == offset, "epochs begin and end with batches"
        while self._pending and self._pending[-1].read.entry.end > offset:
            self._pending.pop()
        log.info("Truncated the metadata log to offset %d, as the leader of epoch %d has it", offset, self.raft.epoch)
        self.on_append()

    def write_snapshot(self, id_: SnapshotId, data: bytes) -> None:
        """Write the file of a leader's snapshot; for a worker thread. Raises: StorageFailed."""
        self._files.write_whole(self.snapshots.path(id_), data)

    def install_snapshot(self, id_: SnapshotId, data: bytes, moment: Moment) -> None:
        """A leader's snapshot, whose file is written, takes the place of the log. Raises: as `open`."""
        snapshot = read_snapshot(data)
        image = image_of(snapshot, id_)
        quorum = snapshot.quorum if snapshot.quorum.kraft_version > 0 else self.quorum
        self._log.truncate_fully_and_start_at(id_.end_offset, now_ms=moment.wall_ms)
        self._pending.clear()
        self._unsettled.clear()
        self._loader = Loader(image)
        self._committed_now.append(everything(self.committed, image))
        self.committed = image
        for old in self.snapshots.ids:
            self.snapshots.remove(old)
        self.snapshots.written(id_, id_.end_offset)
        self.step(ev.SnapshotLoaded(id_, quorum), moment)
        self.on_append()

    # Committing

    def begin_flush(self, now_ms: int) -> Flush | None:
        """What must be synced for everything appended to be durable; None: it is. Raises: StorageFailed."""
        self._mend(now_ms)
        flush = self._log.begin_flush()
        if flush is None and self.raft.log.durable < self.raft.log.end:
            self._perform(self.raft.step(ev.Durable(self.raft.log.end), self._moment))
        return flush

    def end_flush(
        self, flush: Flush, failure: StorageFailed | None = None, moment: Moment | None = None
    ) -> list[Delta]:
        """A flush ended: what it committed, in order. Raises: StorageFailed if it failed."""
        self._log.end_flush(flush, failure)
        if failure is not None:
            raise failure
        self.step(ev.Durable(min(self._log.recovery_point, self.raft.log.end)), moment or self._moment)
        return self.take_committed()

    def take_committed(self) -> list[Delta]:
        """What was committed since this was asked last, in order."""
        deltas, self._committed_now = self._committed_now, []
        return deltas

    def _apply_pending(self) -> None:
        """Take everything into `image`, committed or not."""
        if any(pending.delta is None for pending in self._pending):
            for pending in self._pending:
                self._loader.load(_behind(pending.read.batch, self._loader.image.offset))
            delta = self._loader.publish()
            for pending in self._pending:
                pending.delta = Delta(before=delta.before, after=delta.before)
            self._pending[-1].delta = delta

    def _commit_below(self, offset: int) -> None:
        unapplied: list[MetadataBatch] = []
        while self._pending and self._pending[0].read.entry.end <= offset:
            pending = self._pending.popleft()
            self.committed_bytes += pending.read.size
            self._unsettled.append(pending.read.batch)
            if pending.delta is None:
                unapplied.append(pending.read.batch)
            else:
                self._take(pending.delta)
        if unapplied:
            for batch in unapplied:
                self._loader.load(_behind(batch, self._loader.image.offset))
            self._take(self._loader.publish())

    def _take(self, delta: Delta) -> None:
        self.committed = delta.after
        self._committed_now.append(delta)
        self._unsettled = [batch for batch in self._unsettled if batch.last_offset > delta.after.offset]

    # Snapshots

    def snapshot_job(self, now_ms: int) -> SnapshotJob | None:
        """A snapshot of what is committed, to be written by a worker; None if the newest one contains all of it."""
        image = self.committed
        id_ = SnapshotId(image.offset + 1, image.epoch)
        newest = self.snapshots.newest
        if image.offset < 0 or (newest is not None and newest.end_offset >= id_.end_offset):
            return None
        quorum = self.raft.log.quorum_below(id_.end_offset)
        return SnapshotJob(id_, self.snapshots.path(id_), image, quorum, self._files, now_ms)

    def snapshot_written(self, job: SnapshotJob, now_ms: int) -> None:
        """Take note of a snapshot; drop log and snapshots that are too much or too old. Raises: StorageFailed."""
        self.snapshots.written(job.id, self._log.log_start_offset)
        self.prune(now_ms)
        start = start_snapshot(self.snapshots, self._log.log_start_offset)
        taken = ev.SnapshotTaken(job.id, self._log.log_start_offset, start.epoch)
        self.step(taken, self._moment._replace(wall_ms=now_ms))

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


def _behind(batch: MetadataBatch, offset: int) -> MetadataBatch:
    """The part of a batch that lies behind `offset`."""
    if batch.base_offset > offset or batch.last_offset <= offset:
        return batch
    records = batch.records[offset + 1 - batch.base_offset :]
    return batch._replace(base_offset=offset + 1, records=records)

"""A partition as this node sees it: its log, who leads it, how far it is replicated, and who waits for it.

Belongs to the event loop. What it promises to a reader is bounded by the high watermark (read_uncommitted) or the last
stable offset (read_committed); followers read to the end of the log.

A partition whose only replica is here has what it has: its high watermark is where its log ends. The leader of several
replicas keeps a `machines.leader.Leader`, which hears of appends and of fetches and says where the high watermark is. A
follower takes it from its leader's answers.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

import trio

from kpybroker.replication.hidden import Hidden
from kpybroker.replication.machines.follower import Diverged, followed_high_watermark, truncation_point
from kpybroker.replication.machines.leader import Decided, Heard, Leader, Proposal
from kpybroker.replication.replica_log import ReplicaLog, append_fetched
from kpybroker.storage.errors import StorageFailed
from kpybroker.storage.origin import Origin
from kpybroker.wire.codes import Code, Refused

_log = logging.getLogger("kpybroker.replication")

if TYPE_CHECKING:
    from kpybroker.cluster.image import PartitionImage
    from kpybroker.replication.surroundings import Surroundings
    from kpybroker.storage.log import Appended, Log
    from kpybroker.storage.verification import Guard


HIGH_WATERMARK = -1
"""In DeleteRecords: the offset up to which everything is deleted that can be."""


class Partition(ReplicaLog):
    """One replica on this node."""

    def __init__(self, topic: str, index: int, topic_id: bytes, around: Surroundings) -> None:
        super().__init__(topic, index, topic_id, around)
        self.leader_epoch = -1
        self.partition_epoch = -1
        self.leader_id = -1
        self.is_leader = False
        self._led_since_epoch = -1
        """From that leader epoch on nobody else has led."""
        self._isr: tuple[int, ...] = ()
        self._leading: Leader | None = None  # while this node leads, and has followers, and the log is open
        self._hidden = Hidden()
        self._gone = False
        self.moving = False
        """A copy of it is being made in another data directory."""
        self._held_back_bytes = 0  # appended, and hidden until they are synced

    def begin(self) -> None:
        """The log was loaded: take up what the metadata says of the partition."""
        if self.is_leader:
            self._begin_epoch()
        if self.flushing:  # a new log's topic id, if nothing else: the first append need not wait for it then
            self._around.flush(self)

    def replace_log(self, log: Log, *, checkpointed: int | None = None) -> None:
        """From now on the replica is this log, which has the same records, in another data directory.

        `checkpointed`: the high watermark that the disk knows of, at a start; None leaves it where it is.
        """
        if checkpointed is not None:
            self._high_watermark = self._trusted(log, checkpointed)
        self._log = log
        log.producers.replicated_to(self._high_watermark)
        if self._leading is None:
            self.begin()
        else:  # what is known of the followers stays true
            self._open_epoch(log)

    def mended(self) -> None:
        """The log, which had failed, was read again."""
        self.log.producers.replicated_to(self._high_watermark)
        if self.is_leader:
            if self._leading is None:
                self._begin_epoch()
            self._flushed_to(self._told_to, 0)

    def lead(self, image: PartitionImage) -> None:
        """The metadata log says who leads, in which epoch, and which replicas there are."""
        if image.partition_epoch < self.partition_epoch and image.leader_epoch <= self.leader_epoch:
            return  # the controller's answer to a proposal was quicker
        changed = (image.leader, image.leader_epoch) != (self.leader_id, self.leader_epoch)
        led, was_alone = self.is_leader, len(self._replicas) == 1
        self.leader_id, self.leader_epoch = image.leader, image.leader_epoch
        self.partition_epoch = image.partition_epoch
        self._replicas, self._isr = image.replicas, image.isr
        self.is_leader = image.leader == self._around.me
        if self._log is not None:
            if changed and was_alone and len(image.replicas) > 1:
                # Opened as the only replica there is, by metadata that was old news.
                self._high_watermark = min(self._high_watermark, self._around.checkpointed_high_watermark(self))
            if self.is_leader:
                self._go_on(changed)
        if self.is_leader and not led:
            self._led_since_epoch = image.leader_epoch
        if led and not self.is_leader:
            self._leading = None
            self._wake_waiters()
        if changed:
            self._upset()

    def _go_on(self, changed: bool) -> None:
        """This node leads, in another epoch perhaps, or with other replicas, or another ISR."""
        leading = self._leading
        if leading is None or len(self._replicas) == 1:
            if changed or leading is not None or len(self._replicas) > 1:
                self._begin_epoch()
            return
        if changed:
            self._open_epoch(self.log)
        decided = Decided(self.leader_epoch, self.partition_epoch, self._isr)
        self._moved(leading.updated(decided, self._replicas, self._around.now_s()))
        self.reconsider()

    def _begin_epoch(self) -> None:
        log, around = self.log, self._around
        self._open_epoch(log)
        if len(self._replicas) == 1:
            self._leading = None
            self._hidden.clear()
            self._reached(self._told_to, 0)
            return
        leading = self._leading = Leader(
            around.me,
            leader_epoch=self.leader_epoch,
            partition_epoch=self.partition_epoch,
            replicas=self._replicas,
            isr=self._isr,
            log_end=log.log_end_offset,
            high_watermark=self._high_watermark,
            min_isr=around.min_insync_replicas(self.topic),
            lag_s_max=around.lag_s_max,
            eligible=around.eligible,
            now_s=around.now_s(),
        )
        self._moved(leading.high_watermark > self._high_watermark)

    def _open_epoch(self, log: Log) -> None:
        """A leader's epoch begins where its log ends, before anything is written in it (KIP-101).

        Not that of a former life: its log may have lost what was written then, and would tell of an epoch that it has
        nothing of. The new leader would find no fault with what comes before that.
        """
        if not self._around.former_life:
            log.epochs.assign(self.leader_epoch, log.log_end_offset)

    def reconfigured(self) -> None:
        """The topic's settings have changed."""
        leading = self._leading
        if leading is not None:
            around = self._around
            self._moved(leading.require(around.min_insync_replicas(self.topic), around.now_s()))

    def check_epoch(self, current_leader_epoch: int) -> None:
        """Raises: Refused unless the client believes in the epoch that this node knows (-1: it does not say)."""
        if current_leader_epoch >= 0 and current_leader_epoch != self.leader_epoch:
            older = current_leader_epoch < self.leader_epoch
            raise Refused(Code.FENCED_LEADER_EPOCH if older else Code.UNKNOWN_LEADER_EPOCH)

    def check_leader(self, current_leader_epoch: int = -1) -> None:
        """Raises: Refused unless this node leads, in the epoch that the client believes in (-1: it does not say)."""
        if not self.is_leader:
            raise Refused(Code.NOT_LEADER_OR_FOLLOWER)
        self.check_epoch(current_leader_epoch)

    def begin_verification(
        self, producer_id: int, producer_epoch: int, sequence: int, *, bumps_epoch: bool, now_ms: int
    ) -> Guard | None:
        """A guard to ask the transaction's coordinator with, for the `append` that follows (KIP-890).

        None: the transaction is open here, nobody need be asked. `bumps_epoch`: transaction version 2. Raises: Refused.
        """
        self.check_leader()
        return self.log.producers.begin_verification(
            producer_id, producer_epoch, sequence, bumps_epoch=bumps_epoch, now_ms=now_ms
        )

    def append(
        self,
        records: bytes | bytearray | memoryview,
        *,
        now_ms: int,
        origin: Origin = Origin.CLIENT,
        guard: Guard | None = None,
        transaction_version: int = 0,
        acks_all: bool = False,
    ) -> Appended:
        """Append a batch; readers may see it when the high watermark has passed it.

        `acks_all`: only if enough replicas are in sync (min.insync.replicas).

        The first batch of a transaction needs the `guard` of a question that the coordinator has answered;
        `transaction_version` is that of a marker. Raises: Refused; RecordsRefused for what is wrong with the records.
        """
        self.check_leader()
        leading = self.leading  # opens the log, if need be
        if acks_all and leading is not None and leading.under_min_isr:
            raise self._not_enough(leading)
        try:
            appended = self.log.append_as_leader(
                records,
                leader_epoch=self.leader_epoch,
                now_ms=now_ms,
                origin=origin,
                guard=guard,
                transaction_version=transaction_version,
            )
        except StorageFailed as failure:
            raise self.failed("append to", failure) from failure
        if not appended.duplicate:
            if self._log is not None and self._log.owes_flush:
                self._held_back_bytes += len(records)
                self._around.flush(self)
            else:
                self._flushed_to(appended.last_offset + 1, len(records))
        return appended

    def _not_enough(self, leading: Leader) -> Refused:
        return Refused(
            Code.NOT_ENOUGH_REPLICAS,
            f"The size of the current ISR : {len(leading.isr)} is insufficient to satisfy the min.isr requirement of "
            f"{leading.min_isr} for partition {self}, live replica(s) broker.id are : "
            f"{', '.join(map(str, leading.isr))}",
        )

    def flushed(self) -> None:
        """The log was flushed, and may owe more by now; or it has failed, and whoever waits finds so."""
        log, held_back = self.log, self._held_back_bytes
        if log.failure is not None:
            self._upset()
            self._wake_waiters()
            return
        if not log.owes_flush:
            self._held_back_bytes = 0
        self._tell_synced(self._told_to)
        if self.is_leader:
            self._flushed_to(self._told_to, held_back)

    def _flushed_to(self, end_offset: int, more_bytes: int) -> None:
        """What this replica has may be told of up to an offset: `more_bytes` more than before."""
        leading = self._leading
        if leading is None:
            self._reached(end_offset, more_bytes)
            return
        self._hidden.hide(end_offset, more_bytes)
        moved = leading.appended(end_offset, self._around.now_s())
        self._tell_followers(more_bytes)
        self._moved(moved)

    def _moved(self, moved: bool) -> None:
        """What is said of the followers may have moved the high watermark."""
        if moved and self._leading is not None:
            self._reached(self._leading.high_watermark, self._hidden.uncover(self._leading.high_watermark))
            self._tell_followers(at_once=self._around.followers_have_readers)

    def _reached(self, reached: int, more_bytes: int) -> None:
        """So much is replicated. Tells readers and whoever waits for acks=all."""
        if reached > self._high_watermark:  # not so when the log was replaced by one that is synced less far
            self._high_watermark = reached
        decided = self.log.producers.replicated_to(self._high_watermark)
        if self._watches or self._high_watermark_waiters:
            # What was held back from readers of committed records may be any number of bytes.
            self._tell_readers(more_bytes, at_once=decided)

    # what followers ask, and what is asked for them

    def fetched(
        self, replica: int, *, offset: int, log_start: int, broker_epoch: int, says_epoch: bool, heard: Heard
    ) -> None:
        """A follower of this leader has everything below `offset`; its log does not depart from this one.

        `says_epoch`: whether it said which epoch it believes in. Raises: Refused if it is no follower here, or
        with OFFSET_OUT_OF_RANGE.
        """
        leading, log = self._followers(replica, says_epoch=says_epoch), self.log
        if not log.log_start_offset <= offset <= log.log_end_offset:
            raise Refused(Code.OFFSET_OUT_OF_RANGE)
        moved = leading.fetched(replica, offset, log_start, broker_epoch, heard, heard.at_s)
        if moved is None:
            raise Refused(Code.NOT_LEADER_OR_FOLLOWER, f"a fetch of broker {replica}'s former incarnation")
        if replica not in leading.isr:
            self._propose(leading.propose_joining(heard.at_s, replica))
        self._moved(moved)
        if self._low_watermark_waiters:
            self._tell_low_watermark(leading.low_watermark)

    def _followers(self, replica: int, *, says_epoch: bool = True) -> Leader:
        leading = self._leading
        if leading is None and self._log is None and self.is_leader:
            _ = self.log  # opens it
            leading = self._leading
        if leading is None or replica not in leading.followers:
            # One that knows of this epoch has heard of a reassignment that has not come here yet.
            raise Refused(Code.UNKNOWN_LEADER_EPOCH if says_epoch else Code.NOT_LEADER_OR_FOLLOWER)
        return leading

    def unheard(self, heard: Heard) -> None:
        """A fetch session goes on without this partition."""
        if self._leading is not None:
            self._leading.unheard(heard)

    def has_news_for(self, replica: int) -> bool:
        """Whether the high watermark has moved since a follower was told of it, whose readers wait for that.

        Any other hears of it with the next records, or when its Fetch has waited for as long as it may.
        """
        leading = self._leading if self._around.followers_have_readers else None
        follower = None if leading is None else leading.followers.get(replica)
        return follower is not None and follower.told_high_watermark < self._high_watermark

    def told(self, replica: int, high_watermark: int) -> None:
        """A follower is told the high watermark."""
        leading = self._leading
        if leading is not None and replica in leading.followers:
            leading.followers[replica].told_high_watermark = high_watermark

    def tick(self, now_s: float) -> None:
        """Time has passed: those who lag for too long are to leave the ISR."""
        leading = self._leading
        if leading is not None:
            self._propose(leading.propose_leaving(now_s))
            self.reconsider()
            self._moved(leading.tick(now_s))

    def reconsider(self) -> None:
        """What kept a follower out of the ISR that has caught up may have gone: its broker was fenced, for example."""
        leading = self._leading
        if leading is not None and len(leading.isr) <= len(leading.followers):
            self._propose(leading.propose_joining(self._around.now_s()))

    def _propose(self, proposal: Proposal | None) -> None:
        if proposal is not None:
            self._around.propose(self, proposal)

    def isr_answered(self, proposal: Proposal, code: Code, decided: Decided) -> bool:
        """The controller has answered a proposal. Returns whether it is to be asked again."""
        leading = self._leading
        if leading is None:
            return False
        again, moved = leading.answered(proposal, code, decided, self._around.now_s())
        self.partition_epoch = max(self.partition_epoch, leading.partition_epoch)
        self._isr = leading.isr
        self._moved(moved)
        if code is Code.NONE:  # another follower may have caught up while this was asked
            self.reconsider()
        return again

    @property
    def follows(self) -> int | None:
        """The broker that this replica fetches from; None if it leads, or nobody does, or it is gone."""
        return None if self.is_leader or self._gone or self.leader_id < 0 else self.leader_id

    @property
    def leading(self) -> Leader | None:
        """What is known of the followers; None where there are none, or this node does not lead."""
        if self._log is None and self.is_leader and len(self._replicas) > 1:
            _ = self.log  # opens it
        return self._leading

    # what a follower does

    def append_replicated(
        self, records: bytes | bytearray | memoryview, *, high_watermark: int, log_start: int, now_ms: int
    ) -> None:
        """Append what the leader sent, as it is, and take over how far the partition is replicated.

        Raises: Refused(KAFKA_STORAGE_ERROR); CorruptRecords, UnexpectedOffset, InvalidTransactionState.
        """
        log = self.log
        try:
            if len(records):
                appended = append_fetched(log, records, now_ms)
                self._hidden.hide(appended.last_offset + 1, len(records))
            moved = followed_high_watermark(self._high_watermark, high_watermark, log.log_end_offset)
            if moved > self._high_watermark:
                self._reached(moved, self._hidden.uncover(moved))
            if log.log_start_offset < log_start <= self._high_watermark:
                log.increment_log_start_offset(log_start)
                self.log_start_moved()
        except StorageFailed as failure:
            raise self.failed("append to", failure) from failure

    def cut_to_leader(self, diverged: Diverged, *, now_ms: int) -> None:
        """Cut what departs from the leader's log, as far as its answer tells. Raises: Refused(KAFKA_STORAGE_ERROR)."""
        log = self.log
        end_offset = log.log_end_offset
        point = truncation_point(diverged, log.epochs, end_offset, self._high_watermark)
        _log.info("%s: truncating from %d to %d, where its leader's log departs from it", self, end_offset, point)
        self.truncate_to(point, now_ms=now_ms)

    def truncate_to(self, offset: int, *, now_ms: int) -> None:
        """Cut what the leader does not have. Raises: Refused(KAFKA_STORAGE_ERROR)."""
        self._cut(lambda log: log.truncate_to(offset, now_ms=now_ms))

    def start_anew_at(self, offset: int, *, now_ms: int) -> None:
        """Drop everything: the leader's log begins later. Raises: Refused(KAFKA_STORAGE_ERROR)."""
        self._cut(lambda log: log.truncate_fully_and_start_at(offset, now_ms=now_ms))

    def _cut(self, cut: Callable[[Log], object]) -> None:
        log = self.log
        try:
            cut(log)
        except StorageFailed as failure:
            raise self.failed("truncate", failure) from failure
        end_offset = log.log_end_offset
        self._high_watermark = max(min(self._high_watermark, end_offset), log.log_start_offset)
        log.producers.replicated_to(self._high_watermark)  # they were read again, as if nobody had the markers yet
        self._hidden.cut(end_offset)
        self._upset()

    def delete_records(self, before: int) -> int:
        """Hide everything below an offset (-1: the high watermark); returns that offset (KIP-107).

        The followers do so when they hear of it: `deleted_everywhere`. Raises: Refused.
        """
        self.check_leader()
        log = self.log
        if log.failure is not None:
            raise self.failed("delete records of", log.failure)
        if log.config.compacted and not log.config.deletes:
            raise Refused(Code.POLICY_VIOLATION)
        offset = self.high_watermark if before == HIGH_WATERMARK else before
        if not 0 <= offset <= self.high_watermark:
            raise Refused(Code.OFFSET_OUT_OF_RANGE)
        if log.increment_log_start_offset(offset):
            self.log_start_moved()
        return offset

    @property
    def low_watermark(self) -> int:
        """The least log start of all replicas that are there."""
        start = self.log.log_start_offset
        return start if self._leading is None else min(start, self._leading.low_watermark)

    def deleted_everywhere(self, offset: int) -> trio.Event | None:
        """An event that happens when every replica's log starts at or after `offset`; None if that is so."""
        if self._leading is None or self.low_watermark >= offset:
            return None
        event = trio.Event()
        self._low_watermark_waiters[event] = offset
        return event

    @property
    def lags_behind_its_epoch(self) -> bool:
        """Whether the high watermark may still be less than what a former leader told: the new one waits to hear."""
        leading = self.leading
        return leading is not None and self._high_watermark < leading.epoch_start

    async def until_replicated(self, offset: int, leader_epoch: int) -> Code:
        """Wait until the high watermark reaches `offset`, or never will in that epoch; the `outcome`."""
        while (event := self.replicated(offset)) is not None:
            await event.wait()
            code = self.outcome(offset - 1, leader_epoch)
            if code is not Code.REQUEST_TIMED_OUT:
                return code
        return Code.NONE

    def outcome(self, last_offset: int, leader_epoch: int, *, acks_all: bool = True) -> Code:
        """What became of an append that waited for acks=all (`replicated`), or to be `synced`; the wait is over."""
        log = self._log
        reached = self._high_watermark if acks_all else self._told_to
        if log is not None and log.failure is not None and reached <= last_offset:
            return Code.KAFKA_STORAGE_ERROR
        if not self.is_leader or leader_epoch < self._led_since_epoch:  # another may have led, and written there
            return Code.NOT_LEADER_OR_FOLLOWER
        if reached <= last_offset:
            return Code.REQUEST_TIMED_OUT
        if acks_all and self._leading is not None and not self._leading.enough_have_it:
            return Code.NOT_ENOUGH_REPLICAS_AFTER_APPEND
        return Code.NONE

    @property
    def doubtful(self) -> bool:
        """Whether another may lead, and this node be cut off from who would tell: see `isolation`."""
        leading, around = self._leading, self._around
        return leading is not None and around.now_s() > around.sure_until_s and leading.misses(around.silent_since_s)

    def doubt(self) -> None:
        """The controller has not been heard for long: whoever waits in vain here finds so."""
        if self._high_watermark_waiters and self.doubtful:
            self._wake_waiters()

    def stop(self) -> None:
        """The replica is gone (its topic was deleted, its data directory has failed): whoever waits for it finds so."""
        self.is_leader = False
        self._gone = True
        self._leading = None
        self._upset()
        self._wake_waiters()

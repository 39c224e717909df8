"""The edge of one shard: performs what its machine decides, in the order that makes replies true.

Append, apply, and only then answer: at once if the high watermark already covers the log's end (with one replica it
always does), else when it gets there. A reply waits in the task that asked for it; nothing is spawned. Actions go to
the coordinator, which sees to it that they wait likewise.
"""

from __future__ import annotations

import enum
import logging
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Generic, TypeAlias, TypeVar

import msgspec
import trio

from kpybroker.clock import Clock
from kpybroker.coordinators.machines.deadlines import NEVER
from kpybroker.coordinators.machines.effects import Effects, Machine, Record, TxnProducer, coordinator_code
from kpybroker.coordinators.shard_log import ShardLog
from kpybroker.wire.codes import Code, Refused
from kpybroker.wire.internal.framing import encode_key, encode_value
from kpybroker.wire.records.batch import BATCH_OVERHEAD, Codec, build_batch
from kpybroker.wire.records.record import Record as LogRecord

logger = logging.getLogger(__name__)

NO_PRODUCER_ID = -1
RECORD_OVERHEAD_MAX = 36
"""What a record takes in a batch beyond its key and value, at the most: attributes, lengths, deltas."""

M = TypeVar("M", bound=Machine)

REFUSED_PAUSE_S = 1.0
"""How long a machine that wants to write of its own accord waits after its log has refused that."""


class ShardState(enum.Enum):
    """Whether a shard can be asked."""

    LOADING = enum.auto()
    ACTIVE = enum.auto()
    LOST = enum.auto()
    """Resigned, or its log could not be read or written: NOT_COORDINATOR."""


class Waiter:
    """The token of one request: where its answer is put, and how much of the log has to be replicated first."""

    __slots__ = ("end_offset", "response", "wake")

    def __init__(self) -> None:
        self.response: Any = None
        self.end_offset = 0
        self.wake: Callable[[], None] | None = None
        """Called when the answer has come. Set by whoever waits for it."""

    @property
    def answered(self) -> bool:
        """Whether the answer has come."""
        return self.response is not None

    def resolve(self, response: object, end_offset: int) -> None:
        """Answer. Only the first answer counts."""
        if self.response is None:
            self.response = response
            self.end_offset = end_offset
            if self.wake is not None:
                self.wake()


Wait: TypeAlias = Callable[[Waiter], Awaitable[None]]
"""How a request waits for its answer: returns when it is there, or raises if nobody wants it any more."""


async def wait_however_long(waiter: Waiter) -> None:
    """Wait without looking whether somebody still wants the answer."""
    event = trio.Event()
    waiter.wake = event.set
    await event.wait()


class ShardTerms(msgspec.Struct, frozen=True, kw_only=True):
    """What all shards of one coordinator share."""

    name: str
    """What it coordinates, for the log: `group`, `transaction`."""
    codec: Codec = "none"
    """How its records are compressed."""
    commit_timeout_s: float
    """How long a reply waits for the high watermark before it becomes an error."""


class Shard(Generic[M]):
    """One partition of an internal topic and what is coordinated by it."""

    def __init__(
        self,
        index: int,
        log: ShardLog,
        machine: M,
        clock: Clock,
        *,
        terms: ShardTerms,
        leader_epoch: int,
        rearm: Callable[[Shard[M]], None],
        lost: Callable[[Shard[M]], None],
        act: Callable[[Shard[M], Any], None],
    ) -> None:
        """Whoever keeps the shard is told of what its machine now waits for, of its end, and of each action."""
        self.index = index
        self.log = log
        self.machine = machine
        self.state = ShardState.LOADING
        self.end_offset = 0
        """The log's end as the shard knows it: what has been applied."""
        self.armed_s = NEVER
        """For when the service's heap has this shard; kept by the service."""
        self.not_before_s = 0.0
        """When it may be ticked at the earliest."""
        self.leader_epoch = leader_epoch
        """The epoch of this node's leadership, as the metadata has it."""
        self._waits: set[trio.CancelScope] = set()
        """Who waits for the followers: that ends when the shard is lost."""
        self._clock = clock
        self._terms = terms
        self._rearm = rearm
        self._lost = lost
        self._act = act

    def __str__(self) -> str:
        return f"{self._terms.name} shard {self.index}"

    def require_active(self) -> None:
        """Raises: Refused COORDINATOR_LOAD_IN_PROGRESS or NOT_COORDINATOR if it can't be asked now."""
        if self.state is not ShardState.ACTIVE:
            loading = self.state is ShardState.LOADING
            raise Refused(Code.COORDINATOR_LOAD_IN_PROGRESS if loading else Code.NOT_COORDINATOR)
        if self.log.doubtful:  # what it knows may have been overtaken: offsets committed elsewhere, sessions ended
            raise Refused(Code.NOT_COORDINATOR)

    async def ask(
        self,
        event: object,
        waiter: Waiter,
        wait: Wait = wait_however_long,
        *,
        commit_timeout_s: Callable[[], float | None] = lambda: None,
    ) -> Any:
        """The answer to an event whose token is `waiter`; `wait` is used only if it is not there at once.

        `commit_timeout_s`: how long that then waits for the high watermark, None for what the shard's terms say.
        Being cancelled ends the wait only: a member goes on joining, a record stays appended. Errors come as responses
        that say so. Raises: Refused as `require_active`.
        """
        self.require_active()
        self.perform(event)
        if waiter.response is None:
            await wait(waiter)
            assert waiter.response is not None
        if waiter.end_offset <= self.log.high_watermark:
            return waiter.response
        patience_s = commit_timeout_s()
        patience_s = self._terms.commit_timeout_s if patience_s is None else patience_s
        return await self._once_replicated(waiter.response, waiter.end_offset, patience_s)

    async def _once_replicated(self, response: Any, end_offset: int, patience_s: float) -> Any:
        """The response once the log is replicated up to `end_offset`; an error in its place if that takes too long.

        Nothing is undone then: what was appended may still become replicated, as with any request that timed out.
        """
        with trio.move_on_after(patience_s):
            try:
                await self.replicated(end_offset)
            except Refused as refusal:
                return self.machine.instead_of(response, coordinator_code(refusal.code))
            return response
        return self.machine.instead_of(response, coordinator_code(Code.REQUEST_TIMED_OUT))

    async def replicated(self, end_offset: int) -> None:
        """Return when the log is replicated up to `end_offset`. The caller limits the time.

        Raises: Refused(NOT_LEADER_OR_FOLLOWER) when the shard is lost first. The high watermark tells nothing any more
        then: another leader may have written something else at the same offsets.
        """
        if self.state is not ShardState.LOST and end_offset > self.log.high_watermark:
            with trio.CancelScope() as wait:
                self._waits.add(wait)
                try:
                    await self.log.wait_high_watermark(end_offset)
                finally:
                    self._waits.discard(wait)
        if self.state is ShardState.LOST:
            raise Refused(Code.NOT_LEADER_OR_FOLLOWER)

    def perform(self, event: object) -> None:
        """Let the machine decide, and carry out what it decides."""
        now = self._clock.now()
        effects = self.machine.step(event, now)
        if effects.records:
            try:
                self._append(effects, now.wall_ms)
            except Refused as refusal:
                told = refusal.code is Code.KAFKA_STORAGE_ERROR  # where it came up, and seldom
                if not told and now.monotonic_s >= self.not_before_s:
                    # For want of replicas it happens again and again, to all shards, and comes to an end by itself.
                    level = logging.INFO if refusal.code is Code.NOT_ENOUGH_REPLICAS else logging.WARNING
                    logger.log(level, "The log of %s refused a decision: %s", self, refusal)
                effects = self.machine.refused(effects, refusal.code, now)
                self.not_before_s = now.monotonic_s + REFUSED_PAUSE_S
                if self._has_lost(refusal):
                    self._finish(effects)
                    self._give_up(refusal)
                    return
        self._finish(effects)

    def _has_lost(self, refusal: Refused) -> bool:
        """Whether the log that said so is not this shard's any more. A full disk is but a refusal."""
        return refusal.code is Code.NOT_LEADER_OR_FOLLOWER or (
            refusal.code is Code.KAFKA_STORAGE_ERROR and self.log.failed
        )

    def _append(self, effects: Effects[Any], wall_ms: int) -> None:
        """Append the records and apply each. Raises: Refused; what had been appended before that is applied."""
        producer = effects.producer
        guard, producer_id = (None, NO_PRODUCER_ID) if producer is None else (producer.guard, producer.id)
        for records, batch in self._batches(effects, wall_ms):
            last_offset = self.log.append(batch, guard=guard)
            apply = self.machine.apply
            for offset, record in enumerate(records, last_offset - len(records) + 1):
                apply(offset, producer_id, record.key, record.value)
            self.end_offset = last_offset + 1

    async def end_transaction(self, batch: bytes, producer_id: int, *, committed: bool, version: int) -> None:
        """Write a transaction marker, let the producer's offsets count or vanish, and return when it is replicated.

        `batch` is the marker, `version` its transaction's. Raises: Refused.
        """
        self.require_active()
        try:
            last_offset = self.log.append(batch, transaction_version=version)
        except Refused as refusal:
            if self._has_lost(refusal):
                self._give_up(refusal)
            raise
        self.machine.end_transaction(producer_id, committed=committed)
        self.end_offset = end_offset = last_offset + 1
        if end_offset > self.log.high_watermark:
            with trio.move_on_after(self._terms.commit_timeout_s):
                await self.replicated(end_offset)
                return
            raise Refused(Code.REQUEST_TIMED_OUT)

    def _batches(self, effects: Effects[Any], wall_ms: int) -> Iterator[tuple[list[Record], bytes]]:
        """One batch, or where each record stands for itself, as many as the largest allowed batch makes necessary."""
        encoded = [_encoded(record, wall_ms) for record in effects.records]
        if not effects.splittable:
            yield effects.records, self._batch(encoded, effects.producer)
            return
        room = self.log.batch_bytes_max - BATCH_OVERHEAD
        begin = taken = 0
        for end, record in enumerate(encoded):
            size = len(record.key or b"") + len(record.value or b"") + RECORD_OVERHEAD_MAX
            if taken + size > room and end > begin:
                yield effects.records[begin:end], build_batch(encoded[begin:end], codec=self._terms.codec)
                begin, taken = end, 0
            taken += size
        yield effects.records[begin:], build_batch(encoded[begin:], codec=self._terms.codec)

    def _batch(self, encoded: list[LogRecord], producer: TxnProducer | None) -> bytes:
        codec = self._terms.codec
        if producer is None:
            return build_batch(encoded, codec=codec)
        return build_batch(
            encoded,
            codec=codec,
            producer_id=producer.id,
            producer_epoch=producer.epoch,
            base_sequence=0,
            transactional=True,
        )

    def _finish(self, effects: Effects[Any]) -> None:
        for token, response in effects.replies:
            assert isinstance(token, Waiter)
            token.resolve(response, self.end_offset)
        for note in effects.notes:
            logger.info("%s", note)
        for action in effects.actions:
            self._act(self, action)
        self._rearm(self)

    # -- loading, unloading

    def activate(self, end_offset: int) -> None:
        """The log has been applied up to `end_offset`, its end: from now on the shard answers."""
        assert self.state is ShardState.LOADING
        self.end_offset = end_offset
        self.state = ShardState.ACTIVE
        self._finish(self.machine.loaded(self._clock.now()))

    def _give_up(self, refusal: Refused) -> None:
        """The log is not to be written by this shard any more. Whether it may be read and led again is seen to.

        One that has another leader comes back, if at all, with the metadata that says so.
        """
        self.resign()
        if refusal.code is not Code.NOT_LEADER_OR_FOLLOWER:
            self._lost(self)

    def resign(self) -> None:
        """Coordinate no longer: everyone who waits is told NOT_COORDINATOR, and the machine is given up."""
        self.state = ShardState.LOST
        for wait in self._waits:
            wait.cancel()
        for token, response in self.machine.unload(Code.NOT_COORDINATOR).replies:
            assert isinstance(token, Waiter)
            token.resolve(response, 0)


def _encoded(record: Record, wall_ms: int) -> LogRecord:
    value = None if record.value is None else encode_value(record.value, record.value_version)
    return LogRecord(timestamp=wall_ms, key=encode_key(record.key), value=value)

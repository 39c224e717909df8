"""All transactional ids of one partition of `__transaction_state`, as one machine (effects.Machine).

Persisted is what the records have: the Transaction of each id. Soft are the last epochs (KIP-360), which partitions of
a prepared transaction have their marker, and the deadlines: all of them begin anew when the shard is loaded.

A prepared transaction is the coordinator's to complete, whatever happens: when it becomes prepared, and when a log is
loaded that has it so, the shard asks for its markers; the last one that is written completes it. Nothing else changes
it meanwhile.

Deadlines: an ongoing transaction's end, and the day an idle id is forgotten. Kafka looks for both at intervals, so each
falls due at the next multiple of its interval; whether it really is due, the wall clock decides, in which records have
their times.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from kpybroker.clock import Now
from kpybroker.coordinators.machines.deadlines import Deadlines
from kpybroker.coordinators.machines.effects import Record, Tick, coordinator_code
from kpybroker.coordinators.machines.settings import TransactionSettings
from kpybroker.coordinators.machines.transaction_events import (
    PRODUCER_ID_NEEDED,
    AbortTimedOut,
    AddPartitions,
    DescribeTransaction,
    Effects,
    EndTransaction,
    Event,
    InitProducerId,
    ListTransactions,
    MarkersWritten,
    NeedProducerId,
    Outcome,
    Response,
    SettingsChanged,
    Verified,
    VerifyPartitions,
    WriteMarkers,
)
from kpybroker.coordinators.machines.transaction_state import (
    EPOCH_BUMPED,
    IDLE,
    NO_TIMEOUT_MS,
    NONE,
    PREPARED,
    NewProducerId,
    State,
    TopicPartition,
    Transaction,
    check_at_rest,
    check_expected,
    check_producer,
    completed,
    ended,
    fenced,
    from_record,
    initialized,
    to_record,
    unused,
    with_partitions,
)
from kpybroker.coordinators.machines.transaction_views import describe, described_error, list_transactions, listed_error
from kpybroker.wire.codes import Code, Refused
from kpybroker.wire.errors import MalformedMessage
from kpybroker.wire.internal.framing import decode_transaction_record
from kpybroker.wire.internal.transaction_records import TransactionLogKey, TransactionLogValue
from kpybroker.wire.messages.describe_transactions import TransactionState
from kpybroker.wire.messages.list_transactions import ListTransactionsResponse
from kpybroker.wire.schema import Message

FORGOTTEN_MAX = 500
"""How many ids are forgotten in one step: some 20 ms of work."""

_WRITTEN = frozenset({Code.NONE, Code.UNSUPPORTED_FOR_MESSAGE_FORMAT, Code.UNSUPPORTED_VERSION})
"""There is a marker in the partition, or it can have no record of a transaction."""
_AGAIN = frozenset(
    {
        Code.UNKNOWN_TOPIC_OR_PARTITION,
        Code.NOT_LEADER_OR_FOLLOWER,
        Code.NOT_ENOUGH_REPLICAS,
        Code.NOT_ENOUGH_REPLICAS_AFTER_APPEND,
        Code.REQUEST_TIMED_OUT,
        Code.KAFKA_STORAGE_ERROR,
    }
)
"""The marker may be written yet."""


class _ProducerIdNeeded(Exception):
    """Nothing was decided for want of a producer id."""


class Markers(msgspec.Struct, frozen=True):
    """The markers that a prepared transaction still needs."""

    producer_id: int
    producer_epoch: int
    committed: bool
    transaction_version: int
    partitions: tuple[TopicPartition, ...]


class _Prepared:
    """A prepared transaction on its way to completion."""

    __slots__ = ("given_up", "missing")

    def __init__(self, partitions: frozenset[TopicPartition]) -> None:
        self.missing = set(partitions)
        """Partitions whose marker is not known to be written."""
        self.given_up = False
        """A partition says that another coordinator or producer has overtaken this one: only a reload tries again."""


class TransactionShard:
    """The machine. Its public fields are read, never assigned, by others."""

    def __init__(self, settings: TransactionSettings) -> None:
        self.settings = settings
        self.deadlines = Deadlines()
        self.transactions: dict[str, Transaction] = {}
        self._prepared: dict[str, _Prepared] = {}
        self._last_epochs: dict[str, int] = {}
        """Between a decision and its record's `apply`: the last epoch, which is not in the record."""
        self._steps: dict[type, Callable[[Any, Now, Effects], None]] = {
            InitProducerId: self._init_producer_id,
            AddPartitions: self._add_partitions,
            VerifyPartitions: self._verify_partitions,
            EndTransaction: self._end_transaction,
            DescribeTransaction: self._describe,
            ListTransactions: self._list,
            MarkersWritten: self._markers_written,
            AbortTimedOut: self._abort_timed_out,
            SettingsChanged: self._settings_changed,
            Tick: self._tick,
        }

    @property
    def deadline_s(self) -> float:
        """When the next Tick is due, in monotonic seconds; infinity if never."""
        return self.deadlines.deadline_s

    def step(self, event: Event, now: Now) -> Effects:
        """Decide what an event leads to."""
        out = Effects()
        self._steps[type(event)](event, now, out)
        return out

    def refused(self, effects: Effects, code: Code, now: Now) -> Effects:
        """What takes the place of a decision whose records the log did not take: everything is as it was before."""
        self._last_epochs.clear()
        for record in effects.records:
            assert isinstance(record.key, TransactionLogKey)
            self._arm(record.key.transactional_id, self.transactions.get(record.key.transactional_id), now)
        out = Effects()
        told = coordinator_code(code)
        out.replies = [(token, self.instead_of(response, told)) for token, response in effects.replies]
        return out

    def loaded(self, now: Now) -> Effects:
        """The log has been read to its end: what is prepared is completed, times run."""
        out = Effects()
        for transactional_id, txn in self.transactions.items():
            self._arm(transactional_id, txn, now)
        out.actions = [WriteMarkers(transactional_id) for transactional_id in self._prepared]
        return out

    def unload(self, code: Code) -> Effects:  # noqa: ARG002
        """Nobody waits for anything but the log."""
        return Effects()

    def instead_of(self, response: Response, code: Code) -> Response:
        """The response of the same kind that says `code`."""
        match response:
            case Outcome():
                return Outcome(code)
            case Verified(codes=codes):
                return Verified(dict.fromkeys(codes, code))
            case TransactionState(transactional_id=transactional_id):
                return described_error(transactional_id, code)
            case ListTransactionsResponse():
                return listed_error(code)
        return response

    # -- records

    def decode(self, key: bytes | memoryview, value: bytes | memoryview | None) -> tuple[Message, Message | None]:
        """A record of `__transaction_state`. Raises: UnknownRecord, MalformedMessage."""
        return decode_transaction_record(key, value)

    def apply(self, record_offset: int, producer_id: int, key: Message, value: Message | None) -> bool:  # noqa: ARG002
        """Take over one record of the log. Raises: MalformedMessage for a state that there is not."""
        assert isinstance(key, TransactionLogKey)
        transactional_id = key.transactional_id
        last_epoch = self._last_epochs.pop(transactional_id, NONE)
        self._prepared.pop(transactional_id, None)
        if value is None:
            self.transactions.pop(transactional_id, None)
            self.deadlines.cancel((transactional_id,))
            return True
        assert isinstance(value, TransactionLogValue)
        try:
            txn = from_record(transactional_id, value, last_epoch)
        except ValueError as unknown:
            raise MalformedMessage(str(unknown), message="TransactionLogValue") from unknown
        self.transactions[transactional_id] = txn
        if txn.state in PREPARED:
            self._prepared[transactional_id] = _Prepared(txn.partitions)
        return True

    def end_transaction(self, producer_id: int, *, committed: bool) -> None:
        """Nobody writes to this log in a transaction."""

    def _decide(self, txn: Transaction, now: Now, out: Effects) -> None:
        """The transaction becomes this, once it is in the log."""
        out.records.append(to_record(txn, self.settings.transaction_version))
        self._last_epochs[txn.transactional_id] = txn.last_producer_epoch
        self._arm(txn.transactional_id, txn, now)
        if txn.state in PREPARED:
            out.actions.append(WriteMarkers(txn.transactional_id))

    # -- producers

    def _init_producer_id(self, event: InitProducerId, now: Now, out: Effects) -> None:
        def decide() -> Outcome:
            fresh = _handing_out(event.new_producer_id)
            txn = self.transactions.get(event.transactional_id)
            if txn is None:
                txn = unused(event.transactional_id, fresh(), event.timeout_ms, now.wall_ms)
            check_at_rest(txn)
            check_expected(txn, event.expected)
            if txn.state is State.ONGOING:
                # The producer asks again and gets its epoch when the transaction is out of the way.
                self._decide(fenced(txn, self.settings.transaction_version, fresh, now.wall_ms), now, out)
                return Outcome(Code.CONCURRENT_TRANSACTIONS)
            txn = initialized(txn, event.expected, event.timeout_ms, fresh, now.wall_ms)
            self._decide(txn, now, out)
            out.notes.append(
                f"Initialized transactionalId {txn.transactional_id} with producerId {txn.producer_id} "
                f"and producer epoch {txn.producer_epoch}"
            )
            return Outcome(Code.NONE, txn.producer_id, txn.producer_epoch)

        out.replies.append((event.token, _outcome(decide)))

    def _add_partitions(self, event: AddPartitions, now: Now, out: Effects) -> None:
        def decide() -> Outcome:
            txn = self._known(event.transactional_id)
            check_at_rest(txn)
            check_producer(txn, event.producer_id, event.producer_epoch)
            after = with_partitions(txn, event.partitions, event.client_version, now.wall_ms)
            if after is not None:
                self._decide(after, now, out)
            return Outcome(Code.NONE)

        out.replies.append((event.token, _outcome(decide)))

    def _verify_partitions(self, event: VerifyPartitions, now: Now, out: Effects) -> None:  # noqa: ARG002
        try:
            txn = self._known(event.transactional_id)
            check_producer(txn, event.producer_id, event.producer_epoch)
            check_at_rest(txn)
        except Refused as refusal:
            codes = dict.fromkeys(event.partitions, refusal.code)
        else:
            codes = {
                each: Code.NONE if each in txn.partitions else Code.TRANSACTION_ABORTABLE for each in event.partitions
            }
        out.replies.append((event.token, Verified(codes)))

    def _end_transaction(self, event: EndTransaction, now: Now, out: Effects) -> None:
        def decide() -> Outcome:
            txn = self._known(event.transactional_id)
            after = ended(txn, event.ending, _handing_out(event.new_producer_id), now.wall_ms)
            if after is not None:
                self._decide(after, now, out)
                txn = completed(after, now.wall_ms)
            if event.ending.client_version < EPOCH_BUMPED:
                return Outcome(Code.NONE)
            return Outcome(Code.NONE, txn.producer_id, txn.producer_epoch)

        out.replies.append((event.token, _outcome(decide)))

    def _known(self, transactional_id: str) -> Transaction:
        txn = self.transactions.get(transactional_id)
        if txn is None:
            raise Refused(Code.INVALID_PRODUCER_ID_MAPPING)
        return txn

    # -- markers

    def markers_due(self, transactional_id: str) -> Markers | None:
        """What a prepared transaction still needs, in one order; None if it is not prepared, or given up."""
        prepared = self._prepared.get(transactional_id)
        if prepared is None or prepared.given_up:
            return None
        txn = self.transactions[transactional_id]
        return Markers(
            producer_id=txn.producer_id,
            producer_epoch=txn.producer_epoch,
            committed=txn.state is State.PREPARE_COMMIT,
            transaction_version=txn.client_version,
            partitions=tuple(sorted(prepared.missing)),
        )

    def _markers_written(self, event: MarkersWritten, now: Now, out: Effects) -> None:
        prepared = self._prepared.get(event.transactional_id)
        if prepared is None:
            return
        for partition, code in event.codes.items():
            if code in _WRITTEN:
                prepared.missing.discard(partition)
            elif code not in _AGAIN:
                prepared.given_up = True
                topic, index = partition
                out.notes.append(
                    f"No more markers are sent for transactionalId {event.transactional_id}: "
                    f"{topic}-{index} says {code.name}"
                )
        if not prepared.missing and not prepared.given_up:
            self._decide(completed(self.transactions[event.transactional_id], now.wall_ms), now, out)

    # -- time

    def _arm(self, transactional_id: str, txn: Transaction | None, now: Now) -> None:
        """See that the id is looked at when it may be due."""
        due = None if txn is None else self._due(txn)
        if due is None:
            self.deadlines.cancel((transactional_id,))
            return
        due_ms, interval_ms = due
        interval_s = interval_ms / 1000
        soonest_s = now.monotonic_s + max(0, due_ms - now.wall_ms) / 1000
        self.deadlines.set((transactional_id,), (soonest_s // interval_s + 1) * interval_s)

    def _due(self, txn: Transaction) -> tuple[int, int] | None:
        """When, by the wall clock, its time has come, and at which interval that is looked at; None: never."""
        if txn.state is State.ONGOING and txn.timeout_ms != NO_TIMEOUT_MS:
            return txn.start_ms + txn.timeout_ms + 1, self.settings.abort_interval_ms
        if txn.state in IDLE:
            return txn.updated_ms + self.settings.id_expiration_ms, self.settings.expiration_interval_ms
        return None

    def _tick(self, event: Tick, now: Now, out: Effects) -> None:  # noqa: ARG002
        """Abort one transaction, or forget ids that are due before the next abort; the rest is the next Tick's."""
        while len(out.records) < FORGOTTEN_MAX and (key := self.deadlines.pop_due(now.monotonic_s)) is not None:
            (transactional_id,) = key
            txn = self.transactions.get(transactional_id)
            due = None if txn is None else self._due(txn)
            if txn is None or due is None:
                continue
            if due[0] > now.wall_ms:
                self._arm(transactional_id, txn, now)
            elif txn.state is State.ONGOING:
                if out.records:
                    self.deadlines.set(key, now.monotonic_s)  # next time
                else:
                    self._abort(txn, None, now, out)
                return
            else:
                out.splittable = True
                out.records.append(Record(TransactionLogKey(transactional_id=transactional_id), None))

    def _abort(self, txn: Transaction, new_producer_id: int | None, now: Now, out: Effects) -> None:
        fresh = _handing_out(new_producer_id)
        try:
            after = fenced(txn, self.settings.transaction_version, fresh, now.wall_ms)
        except _ProducerIdNeeded:
            self._arm(txn.transactional_id, txn, now)
            out.actions.append(NeedProducerId(txn.transactional_id))
            return
        self._decide(after, now, out)
        out.notes.append(f"Rolling back the transaction of transactionalId {txn.transactional_id} due to timeout")

    def _abort_timed_out(self, event: AbortTimedOut, now: Now, out: Effects) -> None:
        txn = self.transactions.get(event.transactional_id)
        if txn is not None and txn.state is State.ONGOING:
            due = self._due(txn)
            if due is not None and due[0] <= now.wall_ms:
                self._abort(txn, event.new_producer_id, now, out)

    def _settings_changed(self, event: SettingsChanged, now: Now, out: Effects) -> None:  # noqa: ARG002
        self.settings = event.settings

    # -- questions

    def _describe(self, event: DescribeTransaction, now: Now, out: Effects) -> None:  # noqa: ARG002
        transactional_id = event.transactional_id
        txn = self.transactions.get(transactional_id)
        prepared = self._prepared.get(transactional_id)
        if txn is None:
            shown = described_error(transactional_id, Code.TRANSACTIONAL_ID_NOT_FOUND)
        else:
            shown = describe(txn, txn.partitions if prepared is None else prepared.missing)
        out.replies.append((event.token, shown))

    def _list(self, event: ListTransactions, now: Now, out: Effects) -> None:
        out.replies.append((event.token, list_transactions(event, self.transactions.values(), now)))


def _handing_out(producer_id: int | None) -> NewProducerId:
    """Gives out `producer_id`. Raises, when it is asked: _ProducerIdNeeded if there is none."""

    def hand_out() -> int:
        if producer_id is None:
            raise _ProducerIdNeeded
        return producer_id

    return hand_out


def _outcome(decide: Callable[[], Outcome]) -> Response:
    try:
        return decide()
    except Refused as refusal:
        return Outcome(refusal.code)
    except _ProducerIdNeeded:
        return PRODUCER_ID_NEEDED

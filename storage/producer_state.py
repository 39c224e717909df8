"""What a log knows of its producers: sequence numbers, epochs, open transactions (KIP-98).

An idempotent producer numbers its records. The log keeps, per producer id, the epoch and the last five batches: a batch
that was seen is answered with the offsets it got then, one that leaves a gap is refused. A transactional batch opens a
transaction of its producer in this log; a marker (a control batch of the transaction coordinator) ends it.

A transaction goes from *ongoing* (no marker yet) to *unreplicated* (marker in the log, above the high watermark) to
gone. Readers of committed records may go up to the first offset of the oldest in either state.

`check_*` decide and change nothing; `apply` is called once the batch is in the log, and also when a log is read again,
so that the state after loading equals the live one.
"""

from collections import deque
from typing import NamedTuple

from kpybroker.storage.errors import InvalidTransactionState
from kpybroker.storage.origin import Origin
from kpybroker.storage.txn_index import AbortedTxn
from kpybroker.storage.verification import Guard, Verifications
from kpybroker.wire.codes import Code, Refused
from kpybroker.wire.records.batch import BatchHeader

BATCHES_KEPT = 5
NO_EPOCH = -1
NO_SEQUENCE = -1
INT16_MAX = 2**15 - 1
INT32_MAX = 2**31 - 1


class BatchSeen(NamedTuple):
    """One of a producer's last batches."""

    last_sequence: int
    last_offset: int
    offset_delta: int
    timestamp: int

    @property
    def first_offset(self) -> int:
        """Offset of its first record."""
        return self.last_offset - self.offset_delta

    @property
    def first_sequence(self) -> int:
        """Sequence number of its first record; before 0 comes 2**31 - 1."""
        first = self.last_sequence - self.offset_delta
        return first if first >= 0 else first + INT32_MAX + 1


class EndMarker(NamedTuple):
    """What the control record of a transaction's end says."""

    commit: bool
    coordinator_epoch: int
    timestamp: int


class EndedTxn(NamedTuple):
    """A transaction that a marker just ended; `last_offset` is the marker's."""

    producer_id: int
    first_offset: int
    last_offset: int
    aborted: bool


class Producer:
    """The state of one producer id. Only ProducerStates changes it."""

    __slots__ = ("batches", "coordinator_epoch", "epoch", "last_timestamp", "producer_id", "transaction_start")

    def __init__(
        self,
        producer_id: int,
        epoch: int = NO_EPOCH,
        coordinator_epoch: int = -1,
        last_timestamp: int = -1,
        transaction_start: int | None = None,
    ) -> None:
        self.producer_id = producer_id
        self.epoch = epoch
        self.coordinator_epoch = coordinator_epoch
        self.last_timestamp = last_timestamp
        self.transaction_start = transaction_start  # first offset of its open transaction in this log
        self.batches: deque[BatchSeen] = deque(maxlen=BATCHES_KEPT)  # all of `epoch`, oldest first

    @property
    def last_sequence(self) -> int:
        """The last sequence number seen, -1 if none in this epoch."""
        return self.batches[-1].last_sequence if self.batches else NO_SEQUENCE

    @property
    def last_offset(self) -> int:
        """Offset of its last record, -1 if none in this epoch."""
        return self.batches[-1].last_offset if self.batches else -1

    def set_epoch(self, epoch: int) -> None:
        """Another epoch starts its numbers anew."""
        if epoch != self.epoch:
            self.batches.clear()
            self.epoch = epoch


class ProducerStates:
    """All producers of one log, up to `end_offset` (excluded)."""

    __slots__ = ("_ongoing", "_unreplicated", "_verifications", "active", "end_offset", "expiration_ms", "name")

    def __init__(self, name: str, expiration_ms: int) -> None:
        self.name = name  # the partition's, for messages
        self.expiration_ms = expiration_ms
        self.active: dict[int, Producer] = {}
        self.end_offset = 0
        self._ongoing: dict[int, int] = {}  # first offset -> producer id, in growing order of offsets
        self._unreplicated: dict[int, int] = {}  # first offset -> the marker's offset
        self._verifications = Verifications()

    # deciding

    def begin_verification(
        self, producer_id: int, epoch: int, sequence: int, *, bumps_epoch: bool, now_ms: int
    ) -> Guard | None:
        """A guard to ask the coordinator with, before a transactional batch is written; None: its transaction is open.

        Raises: Refused(INVALID_PRODUCER_EPOCH) for an older epoch.
        """
        producer = self.active.get(producer_id)
        if producer is not None:
            self._check_stale(producer, epoch)
            if producer.transaction_start is not None and producer.epoch == epoch:
                return None
        return self._verifications.begin(producer_id, epoch, sequence, bumps_epoch=bumps_epoch, now_ms=now_ms)

    def check_verified(self, header: BatchHeader, guard: Guard | None) -> None:
        """Whether a transactional data batch belongs to a transaction that is open here, or that was verified.

        Raises: Refused(INVALID_PRODUCER_EPOCH) for an older epoch, Refused(INVALID_TXN_STATE).
        """
        producer = self.active.get(header.producer_id)
        if producer is not None:
            if producer.transaction_start is not None and producer.epoch == header.producer_epoch:
                return
            self._check_stale(producer, header.producer_epoch)
        if not self._verifications.passes(header.producer_id, guard):
            raise Refused(Code.INVALID_TXN_STATE, "Record was not part of an ongoing transaction")

    @staticmethod
    def _check_stale(producer: Producer, epoch: int) -> None:
        if epoch < producer.epoch:
            raise Refused(
                Code.INVALID_PRODUCER_EPOCH,
                f"Epoch of producer {producer.producer_id} is {epoch}, which is smaller than the last seen epoch "
                f"{producer.epoch}",
            )

    def find_duplicate(self, header: BatchHeader) -> BatchSeen | None:
        """The batch seen before that has this one's producer, epoch and sequence numbers."""
        producer = self.active.get(header.producer_id)
        if producer is None or producer.epoch != header.producer_epoch:
            return None
        last = header.last_sequence
        for seen in producer.batches:
            if seen.last_sequence == last and seen.first_sequence == header.base_sequence:
                return seen
        return None

    def check_data(self, header: BatchHeader, offset: int, origin: Origin) -> None:
        """Whether a leader takes a data batch with a producer id, to be written at `offset`.

        Raises: Refused(INVALID_PRODUCER_EPOCH) for an older epoch, Refused(OUT_OF_ORDER_SEQUENCE_NUMBER) for a gap
        (clients only), Refused(INVALID_TXN_STATE) outside the transaction that is open.
        """
        producer = self.active.get(header.producer_id)
        if producer is not None:
            self._check_epoch(producer, header.producer_epoch, offset)
        if self._verifications.by_producer and origin is Origin.CLIENT:
            known = producer is not None and bool(producer.batches)
            self._verifications.check_sequence(header, offset, self.name, known_producer=known)
        if producer is None:
            return  # nothing known (or all of it deleted by retention): any sequence number starts the count
        if origin is Origin.CLIENT:
            self._check_sequence(producer, header, offset)
        if producer.transaction_start is not None and not header.is_transactional:
            raise Refused(
                Code.INVALID_TXN_STATE,
                f"Expected transactional write from producer {header.producer_id} at offset {offset} "
                f"in partition {self.name}",
            )

    def check_marker(self, header: BatchHeader, marker: EndMarker, offset: int, transaction_version: int) -> None:
        """Whether a leader takes a transaction marker, to be written at `offset`.

        From transaction version 2 on the marker's epoch is greater than the one that wrote the records (KIP-890); the
        same epoch again is let through if the transaction has ended (a retry). Raises: Refused
        (INVALID_PRODUCER_EPOCH, TRANSACTION_COORDINATOR_FENCED).
        """
        producer = self.active.get(header.producer_id)
        if producer is None:
            return
        if transaction_version >= 2 and header.producer_epoch == producer.epoch:
            if producer.transaction_start is not None and header.producer_epoch != INT16_MAX:
                raise self._old_epoch(producer, header.producer_epoch, offset, "which is <= the last seen epoch")
        else:
            self._check_epoch(producer, header.producer_epoch, offset)
        if marker.coordinator_epoch < producer.coordinator_epoch:
            raise Refused(
                Code.TRANSACTION_COORDINATOR_FENCED,
                f"Invalid coordinator epoch for producerId {header.producer_id} at offset {offset} in partition "
                f"{self.name}: {marker.coordinator_epoch} (zombie), {producer.coordinator_epoch} (current)",
            )

    def check_replicated(self, headers: list[BatchHeader]) -> None:
        """Whether a follower takes batches of its leader, which has checked all but makes no mistakes of its own.

        Raises: InvalidTransactionState for a non-transactional batch inside an open transaction.
        """
        open_now: dict[int, bool] = {}
        for header in headers:
            producer_id = header.producer_id
            if producer_id < 0:
                continue
            if header.is_control:
                open_now[producer_id] = False
                continue
            if producer_id not in open_now:
                producer = self.active.get(producer_id)
                open_now[producer_id] = producer is not None and producer.transaction_start is not None
            if header.is_transactional:
                open_now[producer_id] = True
            elif open_now[producer_id]:
                raise InvalidTransactionState(
                    f"{self.name}: producer {producer_id} has an open transaction at offset {header.base_offset}"
                )

    def _check_epoch(self, producer: Producer, epoch: int, offset: int) -> None:
        if epoch < producer.epoch:
            raise self._old_epoch(producer, epoch, offset, "which is < the last seen epoch")

    def _old_epoch(self, producer: Producer, epoch: int, offset: int, comparison: str) -> Refused:
        return Refused(
            Code.INVALID_PRODUCER_EPOCH,
            f"Epoch of producer {producer.producer_id} at offset {offset} in {self.name} is {epoch}, "
            f"{comparison} {producer.epoch}",
        )

    def _check_sequence(self, producer: Producer, header: BatchHeader, offset: int) -> None:
        first = header.base_sequence
        if header.producer_epoch != producer.epoch:
            if first != 0 and producer.epoch != NO_EPOCH:
                raise Refused(
                    Code.OUT_OF_ORDER_SEQUENCE_NUMBER,
                    f"Invalid sequence number for new epoch of producer {producer.producer_id} at offset {offset} in "
                    f"partition {self.name}: {header.producer_epoch} (request epoch), {first} (seq. number), "
                    f"{producer.epoch} (current producer epoch)",
                )
            return
        last = producer.last_sequence
        if first != last + 1 and not (first == 0 and last == INT32_MAX):
            raise Refused(
                Code.OUT_OF_ORDER_SEQUENCE_NUMBER,
                f"Out of order sequence number for producer {producer.producer_id} at offset {offset} in partition "
                f"{self.name}: {first} (incoming seq. number), {last} (current end sequence number)",
            )

    # what is in the log

    def apply_data(self, header: BatchHeader, base_offset: int, max_timestamp: int) -> None:
        """A data batch with a producer id is in the log at `base_offset`."""
        producer_id = header.producer_id
        producer = self.active.get(producer_id)
        if producer is None:
            producer = self.active[producer_id] = Producer(producer_id)
        producer.set_epoch(header.producer_epoch)
        delta = header.last_offset_delta
        producer.batches.append(BatchSeen(header.last_sequence, base_offset + delta, delta, max_timestamp))
        producer.last_timestamp = max_timestamp
        if header.is_transactional:
            self._verifications.written(header)
            if producer.transaction_start is None:
                producer.transaction_start = base_offset
                self._ongoing[base_offset] = producer_id

    def ended_by(self, header: BatchHeader, marker: EndMarker, base_offset: int) -> EndedTxn | None:
        """The transaction that a marker at `base_offset` ends; None when it has no records in this log."""
        producer = self.active.get(header.producer_id)
        if producer is None or producer.transaction_start is None:
            return None
        return EndedTxn(header.producer_id, producer.transaction_start, base_offset, not marker.commit)

    def aborted(self, ended: EndedTxn) -> AbortedTxn:
        """The index entry of an aborted transaction, computed before `apply_marker`."""
        others = (first for first, producer_id in self._ongoing.items() if producer_id != ended.producer_id)
        stable = next(others, ended.last_offset + 1)
        return AbortedTxn(ended.producer_id, ended.first_offset, ended.last_offset, stable)

    def apply_marker(self, header: BatchHeader, marker: EndMarker, base_offset: int) -> None:
        """A transaction marker is in the log at `base_offset`."""
        producer_id = header.producer_id
        producer = self.active.get(producer_id)
        if producer is None:
            producer = self.active[producer_id] = Producer(producer_id)
        if producer.transaction_start is not None:
            del self._ongoing[producer.transaction_start]
            self._unreplicated[producer.transaction_start] = base_offset
        producer.set_epoch(header.producer_epoch)
        producer.coordinator_epoch = marker.coordinator_epoch
        producer.last_timestamp = marker.timestamp
        producer.transaction_start = None
        self._verifications.written(header)

    # transactions

    @property
    def first_undecided_offset(self) -> int | None:
        """First offset of the oldest open transaction."""
        return next(iter(self._ongoing), None)

    @property
    def first_unstable_offset(self) -> int | None:
        """First offset of the oldest transaction that is open, or was decided at or above the high watermark."""
        undecided = next(iter(self._ongoing), None)
        if not self._unreplicated:
            return undecided
        unreplicated = min(self._unreplicated)
        return unreplicated if undecided is None else min(undecided, unreplicated)

    def replicated_to(self, high_watermark: int) -> bool:
        """Markers below `high_watermark` are safe: their transactions hold nobody back any more.

        Returns whether there were any.
        """
        if not self._unreplicated:
            return False
        before = len(self._unreplicated)
        self._unreplicated = {first: last for first, last in self._unreplicated.items() if last >= high_watermark}
        return len(self._unreplicated) < before

    # keeping and forgetting

    def has_expired(self, producer: Producer, now_ms: int) -> bool:
        """Whether a producer without an open transaction was silent for `producer.id.expiration.ms`."""
        return producer.transaction_start is None and now_ms - producer.last_timestamp >= self.expiration_ms

    def expire(self, now_ms: int) -> int:
        """Forget producers that have expired, and questions that led to nothing; returns how many producers."""
        self._verifications.expire(now_ms, self.expiration_ms)
        expired = [producer_id for producer_id, producer in self.active.items() if self.has_expired(producer, now_ms)]
        for producer_id in expired:
            del self.active[producer_id]
        return len(expired)

    def load(self, producers: list[Producer], end_offset: int, now_ms: int) -> None:
        """Take the state of a snapshot at `end_offset`, without those that have expired since."""
        self.clear(end_offset)
        for producer in producers:
            if not self.has_expired(producer, now_ms):
                self.active[producer.producer_id] = producer
        self._ongoing = {
            start: producer.producer_id
            for start, producer in sorted(
                (producer.transaction_start, producer)
                for producer in self.active.values()
                if producer.transaction_start is not None
            )
        }

    def clear(self, end_offset: int) -> None:
        """Know nothing, up to `end_offset`."""
        self.active = {}
        self._ongoing = {}
        self._unreplicated = {}
        self.end_offset = end_offset

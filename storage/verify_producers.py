"""Producers and their transactions in a log that is verified: numbers in sequence, and what an abort ends."""

from kpybroker.storage.producer_state import Producer
from kpybroker.storage.txn_index import AbortedTxn
from kpybroker.wire.records.batch import NO_SEQUENCE, BatchHeader, increment_sequence

PRODUCERS_MAX = 100_000
"""As many are remembered; who was silent for longest is forgotten first."""


class Txns:
    """What is known of producers as of the batch read last."""

    def __init__(self, producers: list[Producer] | None, *, all_known: bool) -> None:
        """`producers`: at the log's start, None if unknown; `all_known`: there can't be any others."""
        self.all_known = all_known or producers is not None
        self._ongoing: dict[int, int] = {}  # producer id -> first offset, in growing order of offsets
        self._seen: dict[int, tuple[int, int]] = {}  # producer id -> epoch, last sequence number
        for producer in producers or ():
            self._seen[producer.producer_id] = producer.epoch, producer.last_sequence
        started = [
            (producer.transaction_start, producer.producer_id)
            for producer in producers or ()
            if producer.transaction_start is not None
        ]
        self._ongoing = {producer_id: start for start, producer_id in sorted(started)}

    def copy(self) -> "Txns":
        """The same, to go on with separately."""
        other = Txns(None, all_known=False)
        other.all_known = self.all_known
        other._ongoing = dict(self._ongoing)
        other._seen = dict(self._seen)
        return other

    def data(self, header: BatchHeader) -> tuple[str | None, str | None]:
        """A data batch with a producer id; returns what is wrong with it, and what is if no batch may be missing."""
        producer_id, epoch, first = header.producer_id, header.producer_epoch, header.base_sequence
        if header.is_transactional and producer_id not in self._ongoing:
            self._ongoing[producer_id] = header.base_offset
        known = self._seen.pop(producer_id, None)
        self._seen[producer_id] = epoch, header.last_sequence
        if len(self._seen) > PRODUCERS_MAX:
            del self._seen[next(iter(self._seen))]
        if known is None:
            return None, None
        if epoch < known[0]:
            return f"producer {producer_id} has epoch {epoch}, after {known[0]}", None
        if epoch > known[0] or NO_SEQUENCE in (first, known[1]):
            return None, None
        due = increment_sequence(known[1], 1)
        return None, None if first == due else f"producer {producer_id} has sequence number {first}, {due} was due"

    def end(self, header: BatchHeader) -> tuple[AbortedTxn, bool]:
        """A marker; returns the transaction that it ends, as if aborted, and whether where that began is known."""
        producer_id = header.producer_id
        known = self._seen.pop(producer_id, None)
        if known is not None:
            last = known[1] if known[0] == header.producer_epoch else NO_SEQUENCE
            self._seen[producer_id] = header.producer_epoch, last
        first = self._ongoing.pop(producer_id, None)
        others = next(iter(self._ongoing.values()), header.base_offset + 1)
        wanted = AbortedTxn(producer_id, -1 if first is None else first, header.base_offset, others)
        return wanted, first is not None

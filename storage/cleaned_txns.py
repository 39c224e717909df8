"""Which transactions the records that compaction goes through belong to, and which markers may go.

A batch of an aborted transaction goes at once. A marker stays as long as a batch of its transaction was there, and is
let go a pass later, when its delete horizon has come; with the marker of an abort goes its entry in the index (KIP-98,
KIP-534).
"""

import heapq
from collections.abc import Iterable

from kpybroker.storage.batches import end_marker
from kpybroker.storage.files import Buffer
from kpybroker.storage.txn_index import AbortedTxn
from kpybroker.wire.records.batch import BatchHeader


class CleanedTxns:
    """The transactions met on one way through a log, in the order of offsets."""

    __slots__ = ("_aborted", "_coming", "_committed", "_seen", "kept")

    def __init__(self, aborted: Iterable[AbortedTxn]) -> None:
        """`aborted`: the aborted transactions of the part of the log that will be gone through."""
        self._coming = [(txn.first_offset, txn) for txn in aborted]
        heapq.heapify(self._coming)
        self._aborted: dict[int, AbortedTxn] = {}  # producer id -> its transaction, which will be aborted
        self._seen: set[int] = set()  # those of them with a batch that is still there
        self._committed: set[int] = set()  # producer ids with a batch that will be committed
        self.kept: list[AbortedTxn] = []  # whose marker was kept: they belong in the index; the caller takes them out

    def data(self, header: BatchHeader) -> bool:
        """A batch of records comes; returns whether its transaction was aborted."""
        self._advance(header.last_offset)
        if not header.is_transactional:
            return False
        if header.producer_id not in self._aborted:
            self._committed.add(header.producer_id)
            return False
        self._seen.add(header.producer_id)
        return True

    def control(self, header: BatchHeader, batch: Buffer) -> bool:
        """A control batch comes; returns whether nothing needs it any more. Raises: CorruptRecords."""
        self._advance(header.last_offset)
        if header.count == 0:
            return True  # emptied by an earlier pass
        if header.producer_id < 0:
            return False  # not a transaction's
        marker = end_marker(batch)
        if marker is None:
            return True
        if marker.commit:
            seen = header.producer_id in self._committed
            self._committed.discard(header.producer_id)
            return not seen
        txn = self._aborted.pop(header.producer_id, None)
        if txn is None or header.producer_id not in self._seen:
            return True
        self._seen.discard(header.producer_id)
        self.kept.append(txn)
        return False

    def _advance(self, offset: int) -> None:
        while self._coming and self._coming[0][0] <= offset:
            txn = heapq.heappop(self._coming)[1]
            self._aborted.setdefault(txn.producer_id, txn)

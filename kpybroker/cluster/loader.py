"""From a stream of committed batches to images: Begin, End and Abort of metadata transactions (KIP-868).

Records between Begin and End count only once End is there, all together; an Abort drops them. A transaction may span
any number of batches. While one is open the image stands at the offset before its Begin.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from kpybroker.cluster.delta import Delta
from kpybroker.cluster.errors import UnreplayableRecord
from kpybroker.cluster.image import ClusterImage
from kpybroker.cluster.image_change import ImageChange
from kpybroker.cluster.replay import MetadataRecord, apply_record
from kpybroker.wire.internal import metadata_records as rec


class MetadataBatch(NamedTuple):
    """One batch of the metadata log. A batch of the quorum's own control records has no `records` but takes offsets."""

    base_offset: int
    last_offset: int
    epoch: int
    timestamp: int
    """When it was appended, milliseconds since the epoch by the leader's clock."""
    records: Sequence[MetadataRecord]


class Loader:
    """Applies batches in order. `load` collects, `publish` turns what was collected into an image.

    Publishing after every batch is what a running node does; at start the whole log is loaded before the first one, so
    that maps are copied once and not once a batch.
    """

    def __init__(self, image: ClusterImage) -> None:
        self.image = image
        """The image that was published last."""
        self.transaction_start: int | None = None
        """Offset of the Begin of the open transaction, None outside one."""
        self._change = ImageChange(image)
        self._ready: Delta | None = None
        self._at = (image.offset, image.epoch, image.timestamp)
        """Offset, epoch and timestamp up to which `_change` is complete."""

    def load(self, batch: MetadataBatch) -> None:
        """Apply the records of a batch that follows the one before it.

        Raises: UnreplayableRecord, UnsupportedFeature. The loader is of no use afterwards.
        """
        for offset, record in enumerate(batch.records, batch.base_offset):
            kind = type(record)
            if kind is rec.BeginTransactionRecord:
                self._begin(offset)
            elif kind is rec.EndTransactionRecord:
                self._end(offset)
            elif kind is rec.AbortTransactionRecord:
                self._abort(offset)
            else:
                apply_record(self._change, record, offset)
            if self.transaction_start is None:
                self._at = (offset, batch.epoch, batch.timestamp)
        if self.transaction_start is None:
            self._at = (batch.last_offset, batch.epoch, batch.timestamp)

    def publish(self) -> Delta:
        """Make everything loaded so far, but an open transaction, the image; returns how it differs from the last."""
        if self.transaction_start is None:
            self._settle()
        delta = self._ready or Delta(before=self.image, after=self.image)
        self._ready = None
        self.image = delta.after
        return delta

    def _settle(self) -> None:
        """Close the change at the point up to which it is complete, and start the next one there."""
        offset, epoch, timestamp = self._at
        done = self._change.finish(offset=offset, epoch=epoch, timestamp=timestamp)
        self._ready = done if self._ready is None else self._ready.then(done)
        self._change = ImageChange(done.after)

    def _begin(self, offset: int) -> None:
        if self.transaction_start is not None:
            raise UnreplayableRecord(offset, "BeginTransactionRecord", "the transaction before it has not ended")
        self._settle()
        self.transaction_start = offset

    def _end(self, offset: int) -> None:
        if self.transaction_start is None:
            raise UnreplayableRecord(offset, "EndTransactionRecord", "no transaction has begun")
        self.transaction_start = None

    def _abort(self, offset: int) -> None:
        if self.transaction_start is None:
            raise UnreplayableRecord(offset, "AbortTransactionRecord", "no transaction has begun")
        self.transaction_start = None
        self._change = ImageChange(self._change.base)

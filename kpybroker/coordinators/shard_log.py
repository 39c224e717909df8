"""What a coordinator needs of the partition behind one of its shards, and nothing more."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from kpybroker.storage.verification import Guard


class ShardLog(Protocol):
    """One partition of an internal topic whose leader this node is, as seen by the shard that lives in it.

    All errors are Refused: NOT_LEADER_OR_FOLLOWER once leadership is lost, KAFKA_STORAGE_ERROR when the disk fails,
    NOT_ENOUGH_REPLICAS below min.insync.replicas, MESSAGE_TOO_LARGE over the topic's max.message.bytes.
    """

    @property
    def high_watermark(self) -> int:
        """The offset below which everything is replicated."""
        ...

    @property
    def leader_epoch(self) -> int:
        """The epoch of this node's leadership: of two coordinators, the later one's is greater."""
        ...

    @property
    def failed(self) -> bool:
        """Whether it takes nothing more: its disk has failed. One that is but full goes on when it has room."""
        ...

    @property
    def doubtful(self) -> bool:
        """Whether another node may lead the partition by now, without this one having heard of it."""
        ...

    @property
    def is_empty(self) -> bool:
        """Whether it has no batch at all: there is nothing to load."""
        ...

    @property
    def batch_bytes_max(self) -> int:
        """The topic's max.message.bytes: no batch may be larger."""
        ...

    def append(self, records: bytes, *, guard: Guard | None = None, transaction_version: int = 0) -> int:
        """Append one batch as leader, with acks of all in-sync replicas in mind; returns its last offset.

        Base offset and leader epoch are the log's to fill in. `guard` is that of a transaction's first batch,
        `transaction_version` a marker's. Raises: Refused, and then nothing was written.
        """
        ...

    async def wait_high_watermark(self, offset: int) -> None:
        """Return when the high watermark has reached `offset`. The caller limits the time.

        Raises: Refused when that can't happen any more, because this node leads the partition no longer.
        """
        ...

    def read_batches(self, from_offset: int) -> Iterator[bytes | memoryview]:
        """The log's batches up to its end, uncommitted ones included, from the one that has `from_offset`; if the log
        starts later, from its start. Each item is one or more whole batches. Raises: Refused while it is iterated.
        """
        ...

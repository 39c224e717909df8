"""A partition of an internal topic, as the coordinator that lives in it sees it: see ShardLog."""

from __future__ import annotations

from collections.abc import Iterator

from kpybroker.clock import Clock
from kpybroker.replication.partition import Partition
from kpybroker.storage.errors import StorageFailed
from kpybroker.storage.origin import Origin
from kpybroker.storage.verification import Guard
from kpybroker.wire.codes import Code, Refused
from kpybroker.wire.records.batch import iter_headers

READ_BYTES = 1024 * 1024
"""Read at once while a shard loads."""


class PartitionLog:
    """Implements ShardLog on a Partition."""

    def __init__(self, partition: Partition, clock: Clock) -> None:
        self._partition = partition
        self._clock = clock

    @property
    def high_watermark(self) -> int:
        """The offset below which everything is replicated."""
        return self._partition.high_watermark

    @property
    def leader_epoch(self) -> int:
        """The epoch of this node's leadership."""
        return self._partition.leader_epoch

    @property
    def failed(self) -> bool:
        """Whether the log has failed for good."""
        opened = self._partition.opened
        return opened is not None and opened.failure is not None and not opened.failure.temporary

    @property
    def doubtful(self) -> bool:
        """Whether another node may lead the partition by now, without this one having heard of it."""
        return self._partition.doubtful

    @property
    def is_empty(self) -> bool:
        """Whether it has no batch at all. A log that can't be opened is not: reading it will say what is wrong."""
        try:
            log = self._partition.log
        except Refused:
            return False
        return log.log_start_offset == log.log_end_offset

    @property
    def batch_bytes_max(self) -> int:
        """The topic's max.message.bytes."""
        return self._partition.log.config.message_bytes_max

    def append(self, records: bytes, *, guard: Guard | None = None, transaction_version: int = 0) -> int:
        """Append one batch; returns its last offset. Raises: Refused, also if it is too large for the topic.

        The log itself asks that of clients' batches only.
        """
        if len(records) > self.batch_bytes_max:
            why = f"a batch of {len(records)} bytes is over the limit of {self.batch_bytes_max}"
            raise Refused(Code.MESSAGE_TOO_LARGE, why=why)
        now_ms = self._clock.wall_ms()
        appended = self._partition.append(
            bytearray(records),
            now_ms=now_ms,
            origin=Origin.COORDINATOR,
            guard=guard,
            transaction_version=transaction_version,
            acks_all=True,
        )
        return appended.last_offset

    async def wait_high_watermark(self, offset: int) -> None:
        """Return when the high watermark has reached `offset`. Raises: Refused once this node no longer leads."""
        code = await self._partition.until_replicated(offset, self._partition.leader_epoch)
        if code not in (Code.NONE, Code.NOT_ENOUGH_REPLICAS_AFTER_APPEND):  # what was replicated stays so
            raise Refused(Code.NOT_LEADER_OR_FOLLOWER)

    def read_batches(self, from_offset: int) -> Iterator[bytes]:
        """Whole batches from the one that has `from_offset` up to the log's end. Raises: Refused."""
        self._partition.check_leader()
        try:
            log = self._partition.log
            offset = max(from_offset, log.log_start_offset)
            while offset < log.log_end_offset:
                data, offset = _whole_batches(self._partition, offset)
                yield data
        except StorageFailed as failure:
            raise self._partition.failed("load groups from", failure) from failure


def _whole_batches(partition: Partition, offset: int) -> tuple[bytes, int]:
    """Batches from `offset` on, and the offset after them. A cut batch at the end is left for the next read."""
    log = partition.log
    region = log.read(offset, bytes_max=READ_BYTES, end_offset=log.log_end_offset).region
    if region is None:  # compaction took all that was there
        return b"", log.log_end_offset
    try:
        data = region.read()
    finally:
        region.release()
    end = 0
    for position, header in iter_headers(data):
        end, offset = position + header.length, header.next_offset
    return data[:end], offset

"""The ends of transactions, written into the logs of their partitions (KIP-98).

A transaction coordinator decides, and has a marker written to every partition of the transaction: a control batch of
the transaction's producer. It comes by WriteTxnMarkers, or from a coordinator in this process; both end up here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

import trio

from kpybroker.cluster.names import CONSUMER_OFFSETS
from kpybroker.storage.origin import Origin
from kpybroker.wire.codes import Code, Refused
from kpybroker.wire.records.control import build_marker_batch

if TYPE_CHECKING:
    from kpybroker.clock import Clock
    from kpybroker.replication.partition import Partition
    from kpybroker.replication.replicas import Replicas
    from kpybroker.wire.messages.write_txn_markers import WritableTxnMarker


class GroupOffsets(Protocol):
    """Who keeps the offsets that transactions commit: the group coordinator."""

    async def end_transaction(self, index: int, marker: WritableTxnMarker) -> Code:
        """Write a marker to a partition of `__consumer_offsets`, and let its pending offsets count or vanish."""
        ...


class TxnMarkers:
    """Writes markers to the partitions that this node leads."""

    def __init__(self, replicas: Replicas, clock: Clock, offsets: GroupOffsets, *, timeout_ms: int) -> None:
        """`timeout_ms`: how long the in-sync replicas may take to have a marker (request.timeout.ms)."""
        self._replicas = replicas
        self._clock = clock
        self._offsets = offsets
        self._timeout_ms = timeout_ms

    async def write(self, marker: WritableTxnMarker) -> dict[tuple[str, int], Code]:
        """Write one marker to all its partitions; returns once it is on their in-sync replicas.

        The codes are those of WriteTxnMarkers, by topic and index: UNKNOWN_TOPIC_OR_PARTITION for what this node does
        not hold, NOT_LEADER_OR_FOLLOWER, INVALID_PRODUCER_EPOCH, TRANSACTION_COORDINATOR_FENCED and the rest of what a
        log may refuse.
        """
        codes: dict[tuple[str, int], Code] = {}
        waits: list[_Wait] = []
        offsets: list[int] = []
        for topic in marker.topics:
            for index in topic.partition_indexes:
                place = (topic.name, index)
                if place in codes:
                    continue
                if marker.producer_epoch < 0:  # Kafka can't even build such a batch
                    codes[place] = Code.UNKNOWN_SERVER_ERROR
                    continue
                try:
                    partition = self._held(place)
                    codes[place] = Code.NONE
                    if topic.name == CONSUMER_OFFSETS:
                        offsets.append(index)
                        continue
                    end_offset = self._append(partition, marker)
                except Refused as refused:
                    codes[place] = refused.code
                    continue
                if partition.high_watermark < end_offset:
                    waits.append(_Wait(place, partition, partition.leader_epoch, end_offset))
        for index in offsets:
            codes[CONSUMER_OFFSETS, index] = await self._offsets.end_transaction(index, marker)
        if waits:
            await self._wait(waits, codes)
        return codes

    def _held(self, place: tuple[str, int]) -> Partition:
        """A partition of this node's, whoever leads it. Raises: Refused(UNKNOWN_TOPIC_OR_PARTITION) for all others."""
        try:
            return self._replicas.get(*place)
        except Refused:
            raise Refused(Code.UNKNOWN_TOPIC_OR_PARTITION) from None

    def _append(self, partition: Partition, marker: WritableTxnMarker) -> int:
        """Write the marker; returns the offset after it. Raises: Refused."""
        now_ms = self._clock.wall_ms()
        batch = marker_batch(marker, now_ms)
        appended = partition.append(
            batch,
            now_ms=now_ms,
            origin=Origin.COORDINATOR,
            transaction_version=marker.transaction_version,
            acks_all=True,
        )
        return appended.last_offset + 1

    async def _wait(self, waits: list[_Wait], codes: dict[tuple[str, int], Code]) -> None:
        """Wait until every marker is on all in-sync replicas; those that are not in time are REQUEST_TIMED_OUT.

        Of one whose partition has got another leader meanwhile nobody knows whether it is still there.
        """
        with trio.move_on_after(self._timeout_ms / 1000):
            for wait in waits:
                await wait.partition.until_replicated(wait.end_offset, wait.leader_epoch)
        for place, partition, leader_epoch, end_offset in waits:
            if not partition.is_leader or partition.leader_epoch != leader_epoch:
                codes[place] = Code.NOT_LEADER_OR_FOLLOWER
            elif partition.high_watermark < end_offset:
                failed = partition.log.failure is not None
                codes[place] = Code.KAFKA_STORAGE_ERROR if failed else Code.REQUEST_TIMED_OUT


class _Wait(NamedTuple):
    """A marker that is not on all in-sync replicas yet."""

    place: tuple[str, int]
    partition: Partition
    leader_epoch: int
    end_offset: int


def marker_batch(marker: WritableTxnMarker, now_ms: int) -> bytes:
    """The control batch that a marker is in a log."""
    return build_marker_batch(
        commit=marker.transaction_result,
        coordinator_epoch=marker.coordinator_epoch,
        producer_id=marker.producer_id,
        producer_epoch=marker.producer_epoch,
        timestamp_ms=now_ms,
    )

"""A transactional copier in simulated time: what is read from one partition is written to another exactly once."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import trio

from kpybroker.wire.codes import Code
from kpybroker.wire.messages.add_offsets_to_txn import AddOffsetsToTxnRequest, AddOffsetsToTxnResponse
from kpybroker.wire.messages.add_partitions_to_txn import (
    AddPartitionsToTxnRequest,
    AddPartitionsToTxnResponse,
    AddPartitionsToTxnTopic,
)
from kpybroker.wire.messages.end_txn import EndTxnRequest, EndTxnResponse
from kpybroker.wire.messages.init_producer_id import InitProducerIdRequest, InitProducerIdResponse
from kpybroker.wire.messages.offset_fetch import (
    OffsetFetchRequest,
    OffsetFetchRequestGroup,
    OffsetFetchRequestTopics,
    OffsetFetchResponse,
)
from kpybroker.wire.messages.txn_offset_commit import (
    TxnOffsetCommitRequest,
    TxnOffsetCommitRequestPartition,
    TxnOffsetCommitRequestTopic,
    TxnOffsetCommitResponse,
)
from kpybroker.wire.records.batch import build_batch
from kpybroker.wire.records.record import Record
from kpybroker.wire.schema import Message

from .clients import AGAIN, COMMITTED, R, records_of
from .coordinated import GROUP, TRANSACTION, Coordinated
from .promises import Place
from .world import BEGIN_MS

if TYPE_CHECKING:
    from .world import World

TRANSACTION_TIMEOUT_MS = 20_000
ATTEMPT = b"~"
"""Between the value that was read and the number of the attempt to write it."""


class BeginAgain(Exception):
    """The transaction can't be ended as it was meant to: the copier starts from what is committed."""


class Copier(Coordinated):
    """Copies a partition in transactions, some of which it aborts."""

    def __init__(self, world: World, name: str, source: Place, target: Place) -> None:
        super().__init__(world, name, key=name)
        self._consumer = Coordinated(world, f"{name}-consumer", key=name)
        """Has connections of its own, and its own opinion of who coordinates the group, as the clients' consumers."""
        self.source = source
        self.target = target
        self.position = 0
        self.transactions = 0
        self._level = self.rng.choice([1, 2])
        """Of transaction.version: 2 is that of KIP-890."""
        self._producer = (-1, -1)
        self._sequence = 0

    async def run(self, stop: trio.Event) -> None:
        """Until `stop` is set and everything is copied."""
        fresh = False
        while True:
            try:
                if not fresh:
                    await self._begin()
                    fresh = True
                data = await self.fetch(self.source, self.position, COMMITTED, max_bytes=600)
                if data is None:
                    await self.rest()
                    continue
                records, end = records_of(data, self.position, COMMITTED)
                if records:
                    await self._transaction([value for _, value in records], end)
                    await trio.sleep(self.rng.uniform(0.0, 0.5))
                elif stop.is_set() and await self.latest(self.source, COMMITTED) == self.position:
                    return
                else:
                    self.position = end
            except BeginAgain as why:
                self.world.trace(self.name, "begins again:", why)
                fresh = False

    async def _begin(self) -> None:
        request = InitProducerIdRequest(transactional_id=self.name, transaction_timeout_ms=TRANSACTION_TIMEOUT_MS)
        response = await self._coordinated(
            TRANSACTION, request, InitProducerIdResponse, 4, lambda each: each.error_code
        )
        self._producer, self._sequence = (response.producer_id, response.producer_epoch), 0
        topic = OffsetFetchRequestTopics(name=self.source.topic, partition_indexes=[self.source.index])
        groups = [OffsetFetchRequestGroup(group_id=self.name, topics=[topic])]
        fetched = await self._coordinated(
            GROUP,
            OffsetFetchRequest(groups=groups, require_stable=True),
            OffsetFetchResponse,
            8,
            lambda each: each.groups[0].error_code or each.groups[0].topics[0].partitions[0].error_code,
            by=self._consumer,
        )
        self.position = max(fetched.groups[0].topics[0].partitions[0].committed_offset, 0)

    async def _transaction(self, values: list[bytes], end: int) -> None:
        self.transactions += 1
        self.world.trace(self.name, "begins", self.transactions)
        written = [b"%s%s%d" % (value, ATTEMPT, self.transactions) for value in values]
        committed = self.rng.random() < 0.7
        promises = self.world.promises
        if not committed:
            promises.aborted |= set(written)
        try:
            await self._write(written)
            await self._commit_offset(end)
        except BeginAgain:
            promises.aborted |= set(written)
            raise
        await self._end(committed)
        if committed:
            promises.acknowledged[self.target] += written
            self.position = end

    async def _write(self, values: list[bytes]) -> None:
        producer_id, epoch = self._producer
        if self._level == 1:
            topics = [AddPartitionsToTxnTopic(name=self.target.topic, partitions=[self.target.index])]
            await self._coordinated(
                TRANSACTION,
                AddPartitionsToTxnRequest(
                    v3_and_below_transactional_id=self.name,
                    v3_and_below_producer_id=producer_id,
                    v3_and_below_producer_epoch=epoch,
                    v3_and_below_topics=topics,
                ),
                AddPartitionsToTxnResponse,
                3,
                lambda each: each.results_by_topic_v3_and_below[0].results_by_partition[0].partition_error_code,
            )
        batch = build_batch(
            [Record(timestamp=BEGIN_MS, value=value) for value in values],
            producer_id=producer_id,
            producer_epoch=epoch,
            base_sequence=self._sequence,
            transactional=True,
        )
        version = 11 if self._level == 1 else 12
        while (answer := await self.produce(self.target, batch, self.name, version)) is None or answer[0] in AGAIN:
            await self.rest()
            self.world.trace(self.name, "Produce", answer)
        if answer[0] is not Code.NONE:
            raise BeginAgain(f"Produce: {answer[0].name}")
        self._sequence += len(values)

    async def _commit_offset(self, offset: int) -> None:
        producer_id, epoch = self._producer
        if self._level == 1:
            request = AddOffsetsToTxnRequest(
                transactional_id=self.name, producer_id=producer_id, producer_epoch=epoch, group_id=self.name
            )
            await self._coordinated(TRANSACTION, request, AddOffsetsToTxnResponse, 3, lambda each: each.error_code)
        partition = TxnOffsetCommitRequestPartition(
            partition_index=self.source.index, committed_offset=offset, committed_metadata=""
        )
        await self._coordinated(
            GROUP,
            TxnOffsetCommitRequest(
                transactional_id=self.name,
                group_id=self.name,
                producer_id=producer_id,
                producer_epoch=epoch,
                topics=[TxnOffsetCommitRequestTopic(name=self.source.topic, partitions=[partition])],
            ),
            TxnOffsetCommitResponse,
            3 if self._level == 1 else 5,
            lambda each: each.topics[0].partitions[0].error_code,
        )

    async def _end(self, committed: bool) -> None:
        producer_id, epoch = self._producer
        request = EndTxnRequest(
            transactional_id=self.name, producer_id=producer_id, producer_epoch=epoch, committed=committed
        )
        version = 3 if self._level == 1 else 5
        response = await self._coordinated(TRANSACTION, request, EndTxnResponse, version, lambda each: each.error_code)
        if self._level == 2:
            self._producer, self._sequence = (response.producer_id, response.producer_epoch), 0

    async def _coordinated(
        self,
        kind: int,
        request: Message,
        response_class: type[R],
        version: int,
        error: Callable[[R], int],
        *,
        by: Coordinated | None = None,
    ) -> R:
        """What the coordinator answers that says yes. Raises: BeginAgain if it says no."""
        code, response = await (by or self).coordinated(kind, request, response_class, version, error)
        if code is not Code.NONE:
            raise BeginAgain(f"{type(request).__name__}: {code.name}")
        return response

"""The transaction coordinator of a node: the operations that handlers call, and the completion of what is prepared.

A prepared transaction is completed by a task of its own: once the record that prepared it is replicated, it has the
markers written, again and again until every partition has one, and tells the machine, which ends the transaction. A
partition that the cluster no longer has needs none. The task ends with the shard's leadership, and whoever loads the
shard begins another.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import trio

from kpybroker.clock import Clock
from kpybroker.coordinators.coordinator import Coordinator
from kpybroker.coordinators.machines import transaction_events as events
from kpybroker.coordinators.machines.patterns import compile_pattern
from kpybroker.coordinators.machines.settings import TransactionSettings
from kpybroker.coordinators.machines.transaction_events import PRODUCER_ID_NEEDED, Outcome, Response
from kpybroker.coordinators.machines.transaction_state import NONE, Ending, Expected, TopicPartition
from kpybroker.coordinators.machines.transaction_views import described_error, listed_error, unknown_states
from kpybroker.coordinators.shards import Shard, ShardState, ShardTerms, Waiter
from kpybroker.wire.codes import Code, Refused
from kpybroker.wire.messages.describe_transactions import TransactionState
from kpybroker.wire.messages.end_txn import EndTxnRequest
from kpybroker.wire.messages.init_producer_id import InitProducerIdRequest
from kpybroker.wire.messages.list_transactions import ListTransactionsRequest, ListTransactionsResponse
from kpybroker.wire.messages.list_transactions import TransactionState as ListedTransaction
from kpybroker.wire.messages.write_txn_markers import WritableTxnMarker, WritableTxnMarkerTopic

if TYPE_CHECKING:
    from kpybroker.coordinators.machines.transaction_shard import Markers, TransactionShard

logger = logging.getLogger(__name__)

EPOCH_BUMPED_SINCE = 5
"""The version of EndTxn that ends transactions of version 2 (KIP-890)."""
TRANSACTION_VERSION_2 = 2

COMMIT_TIMEOUT_S = 30.0
"""How long an answer that is about no transaction waits until what it tells is replicated."""
RETRY_S = 0.1
"""How long the writer of markers rests before it tries again what has failed for the first time."""
RETRY_S_MAX = 1.0
"""The same when it has failed again and again, and the metadata says nothing new."""
PATIENCE_S = 0.01
"""How long the answer to EndTxn waits for the markers. A producer that hears earlier begins its next transaction, is
told CONCURRENT_TRANSACTIONS, and rests for longer than this."""


class MarkerSender(Protocol):
    """Has markers written into partitions, wherever their leaders are."""

    async def write(self, marker: WritableTxnMarker) -> Mapping[TopicPartition, Code]:
        """What became of the marker in each of its partitions. Raises: Refused if it is the same in all."""
        ...


class Transactions(Coordinator["TransactionShard"]):
    """All that this node coordinates of transactions. One per node; `run` must be running."""

    def __init__(
        self,
        settings: TransactionSettings,
        clock: Clock,
        *,
        partitions: int,
        new_producer_id: Callable[[], Awaitable[int]],
        sender: MarkerSender,
        is_known: Callable[[str, int], bool],
    ) -> None:
        """`partitions`: how many `__transaction_state` has, or will have; `is_known`: whether there is a partition."""
        terms = ShardTerms(name="transaction", commit_timeout_s=COMMIT_TIMEOUT_S)
        super().__init__(self._new_machine, clock, terms, partitions=partitions)
        self.settings = settings
        self._new_producer_id = new_producer_id
        self._sender = sender
        self._is_known = is_known
        self._completing: dict[str, trio.Event] = {}
        """Prepared transactions whose markers are being written, and what happens when they are complete."""
        self._news = trio.Event()

    def _new_machine(self) -> TransactionShard:
        from kpybroker.coordinators.machines.transaction_shard import TransactionShard  # not before there is a shard

        return TransactionShard(self.settings)

    def reconfigure(self, settings: TransactionSettings) -> None:
        """Other settings are in force."""
        if settings != self.settings:
            self.settings = settings
            self.tell_all(events.SettingsChanged(settings))

    # -- producers

    async def init_producer_id(self, request: InitProducerIdRequest) -> Outcome:
        """InitProducerId with a transactional id: the id and epoch that the producer goes on with."""
        transactional_id = request.transactional_id
        if not transactional_id:
            return Outcome(Code.INVALID_REQUEST)
        if request.enable2_pc and not self.settings.two_phase_commit:
            return Outcome(Code.TRANSACTIONAL_ID_AUTHORIZATION_FAILED)
        if request.keep_prepared_txn:
            return Outcome(Code.UNSUPPORTED_VERSION)
        timeout_ms = request.transaction_timeout_ms
        if request.enable2_pc:
            timeout_ms = 2**31 - 1
        elif not 0 < timeout_ms <= self.settings.timeout_ms_max:
            return Outcome(Code.INVALID_TRANSACTION_TIMEOUT)
        expected = None
        if request.producer_id != NONE:
            expected = Expected(request.producer_id, request.producer_epoch)

        def event(new_producer_id: int | None, token: Waiter) -> events.Event:
            return events.InitProducerId(transactional_id, timeout_ms, expected, new_producer_id, token)

        return await self._outcome(transactional_id, event)

    async def add(
        self,
        transactional_id: str,
        producer_id: int,
        producer_epoch: int,
        partitions: Iterable[TopicPartition],
        *,
        client_version: int,
    ) -> Code:
        """Take partitions into the producer's transaction: all or none. `client_version`: its transaction version."""
        if not transactional_id:
            return Code.INVALID_REQUEST
        wanted = frozenset(partitions)

        def event(_: int | None, token: Waiter) -> events.Event:
            return events.AddPartitions(transactional_id, producer_id, producer_epoch, wanted, client_version, token)

        return (await self._outcome(transactional_id, event)).code

    async def add_partitions(
        self, transactional_id: str, producer_id: int, producer_epoch: int, partitions: Iterable[TopicPartition]
    ) -> dict[TopicPartition, Code]:
        """As `add`, for a client of transaction version 2, whose leader asks on its behalf (KIP-890)."""
        wanted = list(partitions)
        code = await self.add(
            transactional_id, producer_id, producer_epoch, wanted, client_version=TRANSACTION_VERSION_2
        )
        return dict.fromkeys(wanted, code)

    async def verify(
        self, transactional_id: str, producer_id: int, producer_epoch: int, partitions: Iterable[TopicPartition]
    ) -> dict[TopicPartition, Code]:
        """Of each partition, whether it is in the producer's transaction: NONE, or why not (KIP-890)."""
        wanted = frozenset(partitions)
        if not transactional_id:
            return dict.fromkeys(wanted, Code.INVALID_REQUEST)
        waiter = Waiter()
        event = events.VerifyPartitions(transactional_id, producer_id, producer_epoch, wanted, waiter)
        try:
            verified = await self.shard(transactional_id).ask(event, waiter)
        except Refused as refusal:
            return dict.fromkeys(wanted, refusal.code)
        assert isinstance(verified, events.Verified)
        return verified.codes

    async def end(self, request: EndTxnRequest, *, version: int) -> Outcome:
        """EndTxn: answered when the decision is safe; for the markers it waits a moment only.

        Since version 5 the answer has the next id and epoch.
        """
        client_version = TRANSACTION_VERSION_2 if version >= EPOCH_BUMPED_SINCE else 0
        ending = Ending(request.producer_id, request.producer_epoch, request.committed, client_version)
        if not request.transactional_id:
            return Outcome(Code.INVALID_REQUEST)

        def event(new_producer_id: int | None, token: Waiter) -> events.Event:
            return events.EndTransaction(request.transactional_id, ending, new_producer_id, token)

        outcome = await self._outcome(request.transactional_id, event)
        complete = self._completing.get(request.transactional_id)
        if outcome.code is Code.NONE and complete is not None:
            with trio.move_on_after(PATIENCE_S):
                await complete.wait()
        return outcome

    async def _outcome(self, transactional_id: str, event: Callable[[int | None, Waiter], events.Event]) -> Outcome:
        """Ask; if the decision needs another producer id, get one and ask again."""
        new_producer_id = None
        try:
            while True:
                waiter, shard = Waiter(), self.shard(transactional_id)
                response: Response = await shard.ask(
                    event(new_producer_id, waiter),
                    waiter,
                    commit_timeout_s=partial(_timeout_s, shard, transactional_id),
                )
                if response is not PRODUCER_ID_NEEDED:
                    assert isinstance(response, Outcome)
                    return response
                new_producer_id = await self._new_producer_id()
        except Refused as refusal:
            return Outcome(refusal.code)

    # -- administration

    async def describe(self, transactional_id: str) -> TransactionState:
        """One transactional id of a DescribeTransactions."""
        if not transactional_id:
            return described_error(transactional_id, Code.INVALID_REQUEST)
        waiter = Waiter()
        try:
            response = await self.shard(transactional_id).ask(
                events.DescribeTransaction(transactional_id, waiter), waiter
            )
        except Refused as refusal:
            return described_error(transactional_id, refusal.code)
        assert isinstance(response, TransactionState)
        return response

    async def list_transactions(self, request: ListTransactionsRequest) -> ListTransactionsResponse:
        """ListTransactions: all ids that this node coordinates. Not complete while a shard loads, so an error then.

        Raises: Refused(INVALID_REGULAR_EXPRESSION).
        """
        if request.transactional_id_pattern:
            compile_pattern(request.transactional_id_pattern)
        states, producer_ids = frozenset(request.state_filters), frozenset(request.producer_id_filters)
        listed: list[ListedTransaction] = []
        if any(shard.state is ShardState.LOADING for shard in self.shards):
            return listed_error(Code.COORDINATOR_LOAD_IN_PROGRESS)
        for shard in self.shards:
            if shard.state is not ShardState.ACTIVE:
                continue
            waiter = Waiter()
            event = events.ListTransactions(
                states, producer_ids, request.duration_filter, request.transactional_id_pattern, waiter
            )
            response = await shard.ask(event, waiter)
            assert isinstance(response, ListTransactionsResponse)
            if response.error_code:
                return response
            listed += response.transaction_states
        return ListTransactionsResponse(
            throttle_time_ms=0,
            error_code=Code.NONE,
            unknown_state_filters=unknown_states(states),
            transaction_states=listed,
        )

    # -- what machines want done

    def _act(self, shard: Shard[TransactionShard], action: Any) -> None:
        match action:
            case events.WriteMarkers(transactional_id=transactional_id):
                complete = self._completing[transactional_id] = trio.Event()
                task = partial(self._complete, shard, transactional_id, shard.end_offset, complete)
                self.start(task, f"markers of {transactional_id}")
            case events.NeedProducerId(transactional_id=transactional_id):
                self.start(partial(self._abort, shard, transactional_id), f"abort of {transactional_id}")

    async def _abort(self, shard: Shard[TransactionShard], transactional_id: str) -> None:
        try:
            new_producer_id = await self._new_producer_id()
        except Refused as refusal:
            logger.warning("No producer id to abort the transaction of %s: %s", transactional_id, refusal)
            return  # the shard asks again when it looks at it again
        if shard.state is ShardState.ACTIVE:
            shard.perform(events.AbortTimedOut(transactional_id, new_producer_id))

    async def _complete(
        self, shard: Shard[TransactionShard], transactional_id: str, end_offset: int, complete: trio.Event
    ) -> None:
        """Have the markers of a prepared transaction written until it is complete, or somebody else's."""
        try:
            await self._write_markers(shard, transactional_id, end_offset)
        finally:
            complete.set()
            if self._completing.get(transactional_id) is complete:
                del self._completing[transactional_id]

    async def _write_markers(self, shard: Shard[TransactionShard], transactional_id: str, end_offset: int) -> None:
        try:
            await shard.replicated(end_offset)
        except Refused:
            return
        rest_s = 0.0
        while shard.state is ShardState.ACTIVE:
            news = self._news
            markers = shard.machine.markers_due(transactional_id)
            if markers is None:
                return
            codes = await self._write(markers, shard.log.leader_epoch)
            if shard.state is not ShardState.ACTIVE:
                return
            shard.perform(events.MarkersWritten(transactional_id, codes))
            left = shard.machine.markers_due(transactional_id)
            if left is not None:
                rest_s = RETRY_S if left != markers else min(max(2 * rest_s, RETRY_S), RETRY_S_MAX)
                await trio.sleep(RETRY_S)
                with trio.move_on_after(rest_s - RETRY_S):
                    await news.wait()

    def places_changed(self) -> None:
        """The metadata says something new of partitions or brokers: markers that could not be written may be now."""
        self._news.set()
        self._news = trio.Event()

    async def _write(self, markers: Markers, coordinator_epoch: int) -> dict[TopicPartition, Code]:
        known: dict[str, list[int]] = {}
        codes: dict[TopicPartition, Code] = {}
        for topic, index in markers.partitions:
            if self._is_known(topic, index):
                known.setdefault(topic, []).append(index)
            else:
                codes[topic, index] = Code.NONE  # deleted: there is nothing to mark
        if not known:
            return codes
        marker = WritableTxnMarker(
            producer_id=markers.producer_id,
            producer_epoch=markers.producer_epoch,
            transaction_result=markers.committed,
            topics=[WritableTxnMarkerTopic(name=name, partition_indexes=known[name]) for name in known],
            coordinator_epoch=coordinator_epoch,
            transaction_version=markers.transaction_version,
        )
        try:
            return {**codes, **await self._sender.write(marker)}
        except Refused as refusal:
            asked = [(topic.name, index) for topic in marker.topics for index in topic.partition_indexes]
            return {**codes, **dict.fromkeys(asked, refusal.code)}


def _timeout_s(shard: Shard[TransactionShard], transactional_id: str) -> float | None:
    """How long an answer waits until what was decided of a transaction is replicated: its own timeout, as in Kafka."""
    txn = shard.machine.transactions.get(transactional_id)
    return None if txn is None else txn.timeout_ms / 1000

"""The transaction coordinator while its partitions are lost and won, replicas stand still, and markers are refused.

Leadership may be lost with records that no replica has: they are gone then. Producers of transaction version 2 take up
ids, add partitions, and end; two processes may share an id. However it goes: each request is answered; all partitions
of one transaction get the same marker; a commit that was answered is one, an abort likewise; and in the end no
transaction is left open.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import count
from typing import Any

import pytest
import trio

from kpybroker.clock import SimulatedClock
from kpybroker.coordinators.machines.settings import TransactionSettings
from kpybroker.coordinators.machines.transaction_state import IDLE
from kpybroker.coordinators.shards import ShardState
from kpybroker.coordinators.transactions import COMMIT_TIMEOUT_S, Transactions
from kpybroker.wire.codes import Code, Refused
from kpybroker.wire.messages.end_txn import EndTxnRequest
from kpybroker.wire.messages.init_producer_id import InitProducerIdRequest
from kpybroker.wire.messages.list_transactions import ListTransactionsRequest
from kpybroker.wire.messages.write_txn_markers import WritableTxnMarker

pytestmark = pytest.mark.simulated_time

WALL_MS = 1_700_000_000_000
IDS = ("x", "y", "z")
PLACES = [("t", 0), ("t", 1), ("u", 0)]
PRODUCERS = 6
STORY_S = 300.0
TIMEOUT_S = 20
ANSWER_LIMIT_S = COMMIT_TIMEOUT_S + 1
TOKEN_SEEDS = 4
"""Stories of a second each; a hundred and more under `make campaign`."""
SETTINGS = TransactionSettings(
    timeout_ms_max=900_000,
    id_expiration_ms=3_600_000,
    abort_interval_ms=1_000,
    expiration_interval_ms=600_000,
    two_phase_commit=False,
    transaction_version=2,
)

Name = tuple[int, int]
"""A transaction by its producer's id, and the epoch of its marker."""


class Partitions:
    """Takes markers, sometimes. What it took of each transaction: the results, by partition."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self.well = False
        self.results: dict[Name, dict[tuple[str, int], bool]] = {}

    async def write(self, marker: WritableTxnMarker) -> dict[tuple[str, int], Code]:
        await trio.sleep(0 if self.well else self._chance.choice((0, 0, 0.05, 1)))
        if not self.well and self._chance.random() < 0.1:
            raise Refused(Code.NOT_LEADER_OR_FOLLOWER)
        codes: dict[tuple[str, int], Code] = {}
        for topic in marker.topics:
            for index in topic.partition_indexes:
                place = (topic.name, index)
                codes[place] = Code.NONE
                if not self.well and self._chance.random() < 0.3:
                    codes[place] = self._chance.choice((Code.REQUEST_TIMED_OUT, Code.NOT_LEADER_OR_FOLLOWER))
                    if self._chance.random() < 0.5:
                        continue
                self._take(marker, place)  # it may have, and yet say that it was too late
        return codes

    def _take(self, marker: WritableTxnMarker, place: tuple[str, int]) -> None:
        taken = self.results.setdefault((marker.producer_id, marker.producer_epoch), {})
        before = taken.setdefault(place, marker.transaction_result)
        assert before == marker.transaction_result, f"{place} has two ends of {marker}"
        assert len(set(taken.values())) == 1, f"one transaction has ended both ways: {marker}"


class Producer:
    """One process that uses a transactional id; others may use it too."""

    def __init__(self, transactions: Transactions, chance: random.Random, ended: dict[Name, bool]) -> None:
        self._transactions = transactions
        self._chance = chance
        self._ended = ended
        self._id = chance.choice(IDS)
        self._producer_id = -1
        self._epoch = -1
        self.codes: set[Code] = set()

    async def run(self) -> None:
        acts = [self._init, self._add, self._add, self._add, self._end, self._end, self._look]
        while True:
            await trio.sleep(self._chance.choice((0, 0, 0.02, 0.5, 3)))
            act = self._chance.choice(acts)
            with trio.move_on_after(ANSWER_LIMIT_S) as limit:
                await act()
            assert not limit.cancelled_caught, f"{act.__name__} of {self._id} was not answered"

    async def _init(self) -> None:
        request = InitProducerIdRequest(transactional_id=self._id, transaction_timeout_ms=TIMEOUT_S * 1000)
        outcome = await self._transactions.init_producer_id(request)
        self.codes.add(outcome.code)
        if outcome.code is Code.NONE:
            self._producer_id, self._epoch = outcome.producer_id, outcome.producer_epoch

    async def _add(self) -> None:
        places = self._chance.sample(PLACES, self._chance.choice((1, 3)))
        codes = await self._transactions.add_partitions(self._id, self._producer_id, self._epoch, places)
        self.codes |= set(codes.values())

    async def _end(self) -> None:
        committed = self._chance.random() < 0.7
        request = EndTxnRequest(
            transactional_id=self._id,
            producer_id=self._producer_id,
            producer_epoch=self._epoch,
            committed=committed,
        )
        outcome = await self._transactions.end(request, version=5)
        self.codes.add(outcome.code)
        if outcome.code is Code.NONE:
            self._ended[self._producer_id, self._epoch + 1] = committed
            self._producer_id, self._epoch = outcome.producer_id, outcome.producer_epoch

    async def _look(self) -> None:
        await self._transactions.describe(self._id)
        listed = await self._transactions.list_transactions(
            ListTransactionsRequest(state_filters=[], producer_id_filters=[])
        )
        self.codes.add(Code(listed.error_code))


async def trouble(transactions: Transactions, logs: dict[int, Any], chance: random.Random) -> None:
    """One partition after the other has something happen to it, and gets over it."""
    while True:
        await trio.sleep(chance.choice((0.1, 1, 5)))
        index = chance.choice(list(logs))
        log = logs[index]
        match chance.randrange(4):
            case 0:
                log.refuses = chance.choice((Code.NOT_ENOUGH_REPLICAS, Code.KAFKA_STORAGE_ERROR))
                await trio.sleep(chance.choice((0.1, 4)))
                log.refuses = None
            case 1:
                log.replicas = chance.choice((1, 2))
                await trio.sleep(chance.choice((0, 1)))
                log.lose()
                await trio.sleep(chance.choice((0, 2)))
                transactions.resign(index)
                log.truncate()
                await trio.sleep(chance.choice((0, 2)))
                log.refuses, log.replicas = None, 1
                log.leader_epoch += 1
                transactions.lead(index, log)
            case 2:
                transactions.lead(index, log)
            case 3:
                log.replicas = 2
                await trio.sleep(chance.choice((0.1, 2, 10)))
                log.replicas = 1
                log.replicate()


async def story(make_log: Callable[..., Any], seed: int) -> set[Code]:
    """One story; the error codes that producers were told."""
    chance = random.Random(seed)
    partitions, ids = Partitions(chance), count(1)

    async def new_producer_id() -> int:
        await trio.sleep(chance.choice((0, 0.1)))
        if chance.random() < 0.1:
            raise Refused(Code.COORDINATOR_LOAD_IN_PROGRESS)
        return next(ids)

    transactions = Transactions(
        SETTINGS,
        SimulatedClock(WALL_MS),
        partitions=50,
        new_producer_id=new_producer_id,
        sender=partitions,
        is_known=lambda *_: True,
    )
    logs = {transactions.partition_for(each): make_log() for each in IDS}
    ended: dict[Name, bool] = {}
    producers = [Producer(transactions, chance, ended) for _ in range(PRODUCERS)]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(transactions.run)
        await trio.sleep(0.1)
        for index, log in logs.items():
            transactions.lead(index, log)
        async with trio.open_nursery() as people:
            for producer in producers:
                people.start_soon(producer.run)
            people.start_soon(trouble, transactions, logs, chance)
            await trio.sleep(STORY_S)
            people.cancel_scope.cancel()
        partitions.well = True
        for index, log in logs.items():
            log.refuses, log.replicas = None, 1
            log.replicate()
            transactions.lead(index, log)
        await trio.sleep(2 * TIMEOUT_S)
        for index in logs:
            shard = transactions._shards[index]
            assert shard.state is ShardState.ACTIVE
            assert all(each.state in IDLE for each in shard.machine.transactions.values())
        assert not transactions._completing
        nursery.cancel_scope.cancel()
    for name, committed in ended.items():
        assert set(partitions.results.get(name, {}).values()) <= {committed}, f"{name} was answered, and is otherwise"
    assert sum(len(places) for places in partitions.results.values()) > 20
    return set().union(*(producer.codes for producer in producers))


async def test_no_transaction_is_torn_or_left(make_log: Callable[..., Any], pytestconfig: pytest.Config) -> None:
    seeds = pytestconfig.getoption("--campaign-size") or TOKEN_SEEDS
    first = int(pytestconfig.getoption("--campaign-seed"))
    told: set[Code] = set()
    for seed in range(first, first + seeds):
        told |= await story(make_log, seed)
    assert told >= {Code.NONE, Code.NOT_COORDINATOR, Code.CONCURRENT_TRANSACTIONS, Code.PRODUCER_FENCED}

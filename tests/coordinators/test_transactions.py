"""The transaction coordinator around its machines: waiting, markers, time, failures; in simulated time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

import pytest
import trio
import trio.testing

from kpybroker.clock import SimulatedClock
from kpybroker.coordinators.coordinator import partition_of
from kpybroker.coordinators.machines.settings import TransactionSettings
from kpybroker.coordinators.machines.transaction_events import Outcome
from kpybroker.coordinators.transactions import Transactions
from kpybroker.wire.codes import Code, Refused
from kpybroker.wire.internal.framing import encode_key, encode_value
from kpybroker.wire.internal.transaction_records import TransactionLogKey, TransactionLogValue
from kpybroker.wire.messages.end_txn import EndTxnRequest
from kpybroker.wire.messages.init_producer_id import InitProducerIdRequest
from kpybroker.wire.messages.list_transactions import ListTransactionsRequest
from kpybroker.wire.messages.write_txn_markers import WritableTxnMarker
from kpybroker.wire.records.batch import build_batch
from kpybroker.wire.records.record import Record

pytestmark = pytest.mark.simulated_time

WALL_MS = 1_700_000_000_000
ID = "x"
INDEX = partition_of(ID, 50)
T0, T1 = ("t", 0), ("t", 1)


class Markers:
    """A MarkerSender that does what a test tells it."""

    def __init__(self) -> None:
        self.written: list[WritableTxnMarker] = []
        self.answers: dict[tuple[str, int], Code] = {}
        self.hold: trio.Event | None = None
        self.refuses: Code | None = None

    async def write(self, marker: WritableTxnMarker) -> dict[tuple[str, int], Code]:
        self.written.append(marker)
        if self.refuses is not None:
            raise Refused(self.refuses)
        if self.hold is not None:
            await self.hold.wait()
        places = [(topic.name, index) for topic in marker.topics for index in topic.partition_indexes]
        return {place: self.answers.get(place, Code.NONE) for place in places}


class World:
    """A coordinator, and what surrounds it."""

    def __init__(self, **changes: Any) -> None:
        self.markers = Markers()
        self.gone: set[tuple[str, int]] = set()
        self.ids = count(1)
        self.no_ids: Code | None = None
        defaults: dict[str, Any] = {
            "timeout_ms_max": 900_000,
            "id_expiration_ms": 3_600_000,
            "abort_interval_ms": 10_000,
            "expiration_interval_ms": 600_000,
            "two_phase_commit": False,
            "transaction_version": 2,
        }
        self.settings = TransactionSettings(**{**defaults, **changes})
        self.transactions = Transactions(
            self.settings,
            SimulatedClock(WALL_MS),
            partitions=50,
            new_producer_id=self.new_producer_id,
            sender=self.markers,
            is_known=lambda topic, index: (topic, index) not in self.gone,
        )

    async def new_producer_id(self) -> int:
        await trio.lowlevel.checkpoint()
        if self.no_ids is not None:
            raise Refused(self.no_ids)
        return next(self.ids)

    async def init(self, transactional_id: str = ID, **fields: Any) -> Outcome:
        request = InitProducerIdRequest(
            **{"transactional_id": transactional_id, "transaction_timeout_ms": 60_000, **fields}
        )
        return await self.transactions.init_producer_id(request)

    async def add(self, producer: Outcome, *partitions: tuple[str, int]) -> Code:
        (code,) = set(
            (
                await self.transactions.add_partitions(ID, producer.producer_id, producer.producer_epoch, partitions)
            ).values()
        )
        return code

    async def end(self, producer: Outcome, committed: bool = True) -> Outcome:
        request = EndTxnRequest(
            transactional_id=ID,
            producer_id=producer.producer_id,
            producer_epoch=producer.producer_epoch,
            committed=committed,
        )
        return await self.transactions.end(request, version=5)

    async def state(self, transactional_id: str = ID) -> str:
        described = await self.transactions.describe(transactional_id)
        return described.transaction_state or Code(described.error_code).name


@asynccontextmanager
async def running(log: Any, **changes: Any) -> AsyncIterator[World]:
    world = World(**changes)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.transactions.run)
        await trio.testing.wait_all_tasks_blocked()
        world.transactions.lead(INDEX, log)
        yield world
        nursery.cancel_scope.cancel()


async def settle() -> None:
    """Let everything happen that needs no time."""
    await trio.testing.wait_all_tasks_blocked()


def left(state: int, partitions: Iterable[tuple[str, int]] = (), *, epoch: int = 4, next_id: int = -1) -> bytes:
    """A batch that a former coordinator left: what there is of the id."""
    from kpybroker.wire.internal.transaction_records import PartitionsSchema

    value = TransactionLogValue(
        producer_id=7,
        next_producer_id=next_id,
        producer_epoch=epoch,
        transaction_timeout_ms=60_000,
        transaction_status=state,
        transaction_partitions=[PartitionsSchema(topic=topic, partition_ids=[index]) for topic, index in partitions],
        transaction_last_update_timestamp_ms=WALL_MS,
        transaction_start_timestamp_ms=WALL_MS,
        client_transaction_version=2,
    )
    key = encode_key(TransactionLogKey(transactional_id=ID))
    return build_batch([Record(timestamp=WALL_MS, key=key, value=encode_value(value))])


# -- what is checked before anybody is asked


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        pytest.param({"transactional_id": ""}, Code.INVALID_REQUEST, id="no name"),
        pytest.param({"transaction_timeout_ms": 0}, Code.INVALID_TRANSACTION_TIMEOUT, id="no time"),
        pytest.param({"transaction_timeout_ms": 900_001}, Code.INVALID_TRANSACTION_TIMEOUT, id="too much time"),
        pytest.param({"transaction_timeout_ms": 900_000}, Code.NONE, id="the most time"),
        pytest.param({"enable2_pc": True}, Code.TRANSACTIONAL_ID_AUTHORIZATION_FAILED, id="two-phase commit"),
        pytest.param({"keep_prepared_txn": True}, Code.UNSUPPORTED_VERSION, id="keeping a prepared transaction"),
    ],
)
async def test_init_producer_id(make_log: Callable[..., Any], fields: dict[str, Any], code: Code) -> None:
    async with running(make_log()) as world:
        assert (await world.init(**fields)).code is code


async def test_two_phase_commit_has_no_timeout(make_log: Callable[..., Any]) -> None:
    async with running(make_log(), two_phase_commit=True) as world:
        producer = await world.init(enable2_pc=True, transaction_timeout_ms=0)
        assert await world.add(producer, T0) is Code.NONE
        await trio.sleep(100_000)
        assert await world.state() == "Ongoing"


async def test_nobody_coordinates_it_here(make_log: Callable[..., Any]) -> None:
    async with running(make_log()) as world:
        world.transactions.resign(INDEX)
        stranger = Outcome(Code.NONE, 1, 0)
        assert (await world.init()).code is Code.NOT_COORDINATOR
        assert await world.add(stranger, T0) is Code.NOT_COORDINATOR
        assert (await world.end(stranger)).code is Code.NOT_COORDINATOR
        assert await world.transactions.verify(ID, 1, 0, [T0]) == {T0: Code.NOT_COORDINATOR}
        assert await world.state() == "NOT_COORDINATOR"


async def test_no_producer_id_to_be_had(make_log: Callable[..., Any]) -> None:
    async with running(make_log()) as world:
        world.no_ids = Code.COORDINATOR_LOAD_IN_PROGRESS
        assert (await world.init()).code is Code.COORDINATOR_LOAD_IN_PROGRESS
        world.no_ids = None
        assert await world.init() == Outcome(Code.NONE, 1, 0)
        assert await world.init() == Outcome(Code.NONE, 1, 1)


# -- markers


async def test_a_transaction_is_completed(make_log: Callable[..., Any]) -> None:
    log = make_log()
    log.leader_epoch = 3
    async with running(log) as world:
        producer = await world.init()
        assert await world.add(producer, T0, T1) is Code.NONE
        assert await world.end(producer) == Outcome(Code.NONE, 1, 1)
        await settle()
        (marker,) = world.markers.written
        assert (marker.producer_id, marker.producer_epoch, marker.transaction_result) == (1, 1, True)
        assert (marker.coordinator_epoch, marker.transaction_version) == (3, 2)
        assert [(topic.name, topic.partition_indexes) for topic in marker.topics] == [("t", [0, 1])]
        assert await world.state() == "CompleteCommit"


async def test_no_marker_before_the_decision_is_replicated(make_log: Callable[..., Any]) -> None:
    """A coordinator that took over without it would decide otherwise."""
    log = make_log(replicas=2)
    log.replicate()
    async with running(log) as world:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.init)
            await settle()
            log.replicate()
        producer = Outcome(Code.NONE, 1, 0)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.add, producer, T0)
            await settle()
            log.replicate()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.end, producer)
            await settle()
            assert world.markers.written == []
            log.replicate()
        await settle()
        assert len(world.markers.written) == 1


async def test_a_marker_is_tried_again_until_it_is_written(make_log: Callable[..., Any]) -> None:
    async with running(make_log()) as world:
        producer = await world.init()
        await world.add(producer, T0, T1)
        world.markers.answers = {T1: Code.NOT_LEADER_OR_FOLLOWER}
        await world.end(producer)
        await settle()
        assert await world.state() == "PrepareCommit"
        assert (await world.init()).code is Code.CONCURRENT_TRANSACTIONS
        world.markers.answers = {}
        await trio.sleep(0.2)
        assert await world.state() == "CompleteCommit"
        again = world.markers.written[1]
        assert [(topic.name, topic.partition_indexes) for topic in again.topics] == [("t", [1])], (
            "the other one has its"
        )


async def test_a_marker_that_cannot_be_written_is_tried_less_and_less_often(make_log: Callable[..., Any]) -> None:
    async with running(make_log()) as world:
        producer = await world.init()
        await world.add(producer, T0, T1)
        world.markers.answers = {T0: Code.NOT_ENOUGH_REPLICAS, T1: Code.NOT_LEADER_OR_FOLLOWER}
        await world.end(producer)
        await trio.sleep(60)
        assert 60 <= len(world.markers.written) <= 66
        world.markers.written.clear()
        world.transactions.places_changed()
        await trio.sleep(0.11)
        assert len(world.markers.written) == 1, "a new leader is told at once"
        del world.markers.answers[T1]
        world.transactions.places_changed()
        world.markers.written.clear()
        await trio.sleep(0.51)
        assert len(world.markers.written) >= 2, "progress begins anew"
        world.markers.answers = {}
        await trio.sleep(1)
        assert await world.state() == "CompleteCommit"


async def test_an_answer_waits_for_the_timeout_of_its_transaction(make_log: Callable[..., Any]) -> None:
    log = make_log(replicas=2)
    async with running(log) as world:
        for timeout_s in (5, 300):
            began_s = trio.current_time()
            outcome = await world.init(transaction_timeout_ms=1000 * timeout_s)
            assert (outcome.code, trio.current_time() - began_s) == (Code.COORDINATOR_NOT_AVAILABLE, timeout_s)
        log.replicate()
        began_s = trio.current_time()
        assert await world.add(Outcome(Code.NONE, 1, 1), T0) is Code.COORDINATOR_NOT_AVAILABLE
        assert trio.current_time() - began_s == 300
        began_s = trio.current_time()
        assert (await world.end(Outcome(Code.NONE, 1, 1))).code is Code.COORDINATOR_NOT_AVAILABLE
        assert trio.current_time() - began_s == 300
        began_s = trio.current_time()
        assert await world.state() == "COORDINATOR_NOT_AVAILABLE"
        assert trio.current_time() - began_s == 30


async def test_a_partition_that_is_deleted_needs_none(make_log: Callable[..., Any]) -> None:
    async with running(make_log()) as world:
        producer = await world.init()
        await world.add(producer, T0, T1)
        world.gone = {T1}
        await world.end(producer)
        await settle()
        (marker,) = world.markers.written
        assert marker.topics[0].partition_indexes == [0]
        assert await world.state() == "CompleteCommit"
        after = Outcome(Code.NONE, 1, 1)
        await world.add(after, T1)
        await world.end(after)
        await settle()
        assert len(world.markers.written) == 1, "there is nobody to send one to"
        assert await world.state() == "CompleteCommit"


async def test_the_end_is_written_again_if_the_log_refuses_it(make_log: Callable[..., Any]) -> None:
    log = make_log()
    async with running(log) as world:
        producer = await world.init()
        await world.add(producer, T0)
        world.markers.hold = trio.Event()
        await world.end(producer)
        await settle()
        log.refuses = Code.NOT_ENOUGH_REPLICAS
        world.markers.hold.set()
        await trio.sleep(1)
        assert await world.state() == "PrepareCommit"
        log.refuses = None
        await trio.sleep(1)
        assert await world.state() == "CompleteCommit"
        assert len(world.markers.written) == 1


async def test_leadership_lost_while_markers_are_written(make_log: Callable[..., Any]) -> None:
    """Whoever leads the log now completes the transaction; here that is this node again, later."""
    log = make_log()
    async with running(log) as world:
        producer = await world.init()
        await world.add(producer, T0)
        world.markers.hold = trio.Event()
        await world.end(producer)
        await settle()
        batches = len(log.batches)
        world.transactions.resign(INDEX)
        world.markers.hold.set()
        await trio.sleep(1)
        assert len(log.batches) == batches
        world.transactions.lead(INDEX, log)
        await trio.sleep(1)
        assert await world.state() == "CompleteCommit"
        assert len(world.markers.written) == 2


# -- loading


@pytest.mark.parametrize(("status", "state"), [(2, "CompleteCommit"), (3, "CompleteAbort")])
async def test_what_is_prepared_is_completed_when_it_is_loaded(
    make_log: Callable[..., Any], status: int, state: str
) -> None:
    log = make_log()
    log.append(left(status, [T0, T1]))
    async with running(log) as world:
        await settle()
        (marker,) = world.markers.written
        assert (marker.producer_id, marker.producer_epoch, marker.transaction_result) == (7, 4, status == 2)
        assert await world.state() == state


async def test_an_exhausted_id_is_rotated_when_it_is_loaded(make_log: Callable[..., Any]) -> None:
    log = make_log()
    log.append(left(2, [T0], epoch=32767, next_id=8))
    async with running(log) as world:
        await settle()
        assert await world.add(Outcome(Code.NONE, 8, 0), T0) is Code.NONE


async def test_while_a_shard_loads(make_log: Callable[..., Any]) -> None:
    log = make_log()
    log.append(left(1, [T0]))
    world = World()  # not running: nothing is loaded
    world.transactions.lead(INDEX, log)
    assert (await world.init()).code is Code.COORDINATOR_LOAD_IN_PROGRESS
    assert await world.transactions.verify(ID, 7, 4, [T0]) == {T0: Code.COORDINATOR_LOAD_IN_PROGRESS}
    listed = await world.transactions.list_transactions(
        ListTransactionsRequest(state_filters=[], producer_id_filters=[])
    )
    assert listed.error_code == Code.COORDINATOR_LOAD_IN_PROGRESS


async def test_a_log_that_can_not_be_understood(make_log: Callable[..., Any], caplog: pytest.LogCaptureFixture) -> None:
    log = make_log()
    log.append(left(99))
    async with running(log) as world:
        await settle()
        assert (await world.init()).code is Code.NOT_COORDINATOR
        assert "transaction shard" in caplog.text


# -- time


async def test_a_transaction_that_runs_out_of_time(make_log: Callable[..., Any]) -> None:
    async with running(make_log()) as world:
        producer = await world.init(transaction_timeout_ms=5_000)
        await world.add(producer, T0)
        await trio.sleep(15.1)
        assert await world.state() == "CompleteAbort"
        (marker,) = world.markers.written
        assert (marker.producer_epoch, marker.transaction_result) == (1, False)
        assert await world.add(producer, T0) is Code.PRODUCER_FENCED


async def test_out_of_time_with_an_exhausted_epoch(make_log: Callable[..., Any]) -> None:
    """The abort needs another producer id, which the controller does not give at once."""
    log = make_log()
    log.append(left(1, [T0], epoch=32766))
    async with running(log) as world:
        world.no_ids = Code.NOT_CONTROLLER
        await trio.sleep(75)
        assert await world.state() == "Ongoing"
        world.no_ids = None
        await trio.sleep(10)
        described = await world.transactions.describe(ID)
        assert (described.producer_id, described.producer_epoch) == (1, 0)
        assert described.transaction_state == "CompleteAbort"


async def test_ids_expire_in_as_many_batches_as_it_takes(make_log: Callable[..., Any]) -> None:
    log = make_log()
    async with running(log) as world:
        names = [name for number in range(2000) if partition_of(name := f"id-{number}", 50) == INDEX][:30]
        for name in names:
            await world.init(name)
        log.batch_bytes_max = 300
        await trio.sleep(3_600 + 601)
        assert {await world.state(name) for name in names} == {"TRANSACTIONAL_ID_NOT_FOUND"}
        assert max(len(batch) for batch in log.batches[30:]) <= 300
        assert len(log.batches) > 33


async def test_another_transaction_version(make_log: Callable[..., Any]) -> None:
    log = make_log()
    async with running(log) as world:
        await world.init()
        world.transactions.reconfigure(TransactionSettings(**{**_fields(world.settings), "transaction_version": 0}))
        await world.init()
        assert len(log.batches[1]) < len(log.batches[0])


def _fields(settings: TransactionSettings) -> dict[str, Any]:
    return {name: getattr(settings, name) for name in settings.__struct_fields__}


async def test_a_bad_pattern(make_log: Callable[..., Any]) -> None:
    async with running(make_log()) as world:
        request = ListTransactionsRequest(state_filters=[], producer_id_filters=[], transactional_id_pattern="(")
        with pytest.raises(Refused) as refusal:
            await world.transactions.list_transactions(request)
        assert refusal.value.code is Code.INVALID_REGULAR_EXPRESSION


async def test_a_sender_that_can_send_nothing(make_log: Callable[..., Any]) -> None:
    async with running(make_log()) as world:
        producer = await world.init()
        await world.add(producer, T0)
        world.markers.refuses = Code.KAFKA_STORAGE_ERROR
        await world.end(producer)
        await trio.sleep(1)
        assert await world.state() == "PrepareCommit"
        world.markers.refuses = None
        await trio.sleep(1)
        assert await world.state() == "CompleteCommit"


async def test_an_end_is_answered_when_it_is_complete_but_waits_a_moment_only(make_log: Callable[..., Any]) -> None:
    """A producer that is told CONCURRENT_TRANSACTIONS rests for longer than markers take."""
    async with running(make_log()) as world:
        producer = await world.init()
        await world.add(producer, T0)
        await world.end(producer)
        assert await world.state() == "CompleteCommit"
        producer = Outcome(Code.NONE, 1, 1)
        await world.add(producer, T0)
        world.markers.hold = trio.Event()
        before_s = trio.current_time()
        assert (await world.end(producer)).code is Code.NONE
        assert trio.current_time() - before_s < 0.1
        assert await world.state() == "PrepareCommit"


async def test_others_have_their_turn_while_many_ids_expire(make_log: Callable[..., Any]) -> None:
    log = make_log()
    async with running(log) as world:
        names = [name for number in range(60_000) if partition_of(name := f"id-{number}", 50) == INDEX][:1100]
        for name in names:
            await world.init(name)
        await trio.sleep_until(4_200)
        seen = set()
        for _ in range(100):
            seen.add(len(world.transactions.shards[0].machine.transactions))
            await trio.lowlevel.checkpoint()
        assert 0 in seen
        assert seen & {600, 100}

"""What coordinators have to ask other brokers: markers for their logs, and who coordinates a transaction there.

The brokers are in one process, and a connection to one is an object that a test can hold up, break and read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

import msgspec
import pytest
import trio
import trio.testing

from kpybroker.cluster.image import BrokerImage, ClusterImage, PartitionImage, TopicImage, TopicsImage
from kpybroker.cluster.names import TRANSACTION_STATE
from kpybroker.coordinators.broker_queues import OtherBrokers
from kpybroker.coordinators.coordinator import partition_of
from kpybroker.coordinators.marker_sender import ClusterMarkers
from kpybroker.coordinators.txn_coordinators import TxnCoordinators
from kpybroker.peers.channel import PeerGone, PeerTooOld
from kpybroker.wire.api_keys import ApiKey
from kpybroker.wire.codes import Code, Refused
from kpybroker.wire.messages.add_partitions_to_txn import (
    AddPartitionsToTxnPartitionResult,
    AddPartitionsToTxnRequest,
    AddPartitionsToTxnResponse,
    AddPartitionsToTxnResult,
    AddPartitionsToTxnTopicResult,
    AddPartitionsToTxnTransaction,
)
from kpybroker.wire.messages.write_txn_markers import (
    WritableTxnMarker,
    WritableTxnMarkerPartitionResult,
    WritableTxnMarkerResult,
    WritableTxnMarkerTopic,
    WritableTxnMarkerTopicResult,
    WriteTxnMarkersRequest,
    WriteTxnMarkersResponse,
)
from kpybroker.wire.schema import Message

pytestmark = pytest.mark.simulated_time

ME, SECOND, THIRD, NOBODY = 1, 2, 3, -1
TIMEOUT_S = 30.0
Place = tuple[str, int]
T0, T1, T2, T3 = ("t", 0), ("t", 1), ("t", 2), ("t", 3)


def image_of(leaders: Mapping[Place, int], *, fenced: Iterable[int] = ()) -> ClusterImage:
    """Three brokers, and partitions with these leaders."""
    brokers = {
        broker_id: BrokerImage(
            id=broker_id,
            epoch=1,
            incarnation_id=bytes(16),
            endpoints=(),
            features={},
            rack=None,
            fenced=broker_id in fenced,
            in_controlled_shutdown=False,
            directories=(),
            cordoned_directories=None,
        )
        for broker_id in (ME, SECOND, THIRD)
    }
    topics: dict[str, dict[int, PartitionImage]] = {}
    for (name, index), leader in leaders.items():
        topics.setdefault(name, {})[index] = PartitionImage(
            replicas=(ME, SECOND, THIRD),
            isr=(ME, SECOND, THIRD),
            leader=leader,
            leader_epoch=1,
            partition_epoch=1,
            directories=(bytes(16),) * 3,
        )
    by_name = {name: TopicImage(name, name.encode(), partitions) for name, partitions in topics.items()}
    return msgspec.structs.replace(ClusterImage(), brokers=brokers, topics=TopicsImage(by_name))


class FakePeer:
    """A connection to a broker that answers by `answer`, when `hold` lets it; `fails` is raised instead."""

    def __init__(self, answer: Callable[[Any], Message]) -> None:
        self.requests: list[Any] = []
        self.answer = answer
        self.hold: trio.Event | None = None
        self.fails: Exception | None = None
        self.closed = False
        self.version = 5

    async def version_of(self, key: ApiKey, *, timeout_s: float) -> int:  # noqa: ARG002
        await trio.lowlevel.checkpoint()
        if self.fails is not None:
            raise self.fails
        return self.version

    async def ask(
        self, request: Message, response_class: type[Any], *, version: int | None = None, timeout_s: float
    ) -> Any:
        assert version in (None, self.version), "the version is the best that both know"
        assert timeout_s == TIMEOUT_S
        self.requests.append(request)
        await trio.lowlevel.checkpoint()
        if self.hold is not None:
            await self.hold.wait()
        if self.fails is not None:
            raise self.fails
        response = self.answer(request)
        assert isinstance(response, response_class)
        return response

    def close(self) -> None:
        self.closed = True


class Brokers:
    """The other brokers, and the image that this one has."""

    def __init__(self, leaders: Mapping[Place, int], answer: Callable[[Any], Message]) -> None:
        self.image = image_of(leaders)
        self.answer = answer
        self.peers: dict[int, FakePeer] = {}
        self.as_reached = OtherBrokers(ME, lambda: self.image, self.peer_of, TIMEOUT_S)

    def peer_of(self, broker_id: int) -> FakePeer:
        return self.peers.setdefault(broker_id, FakePeer(self.answer))


# -- markers


def marker(*places: Place, producer_id: int = 7) -> WritableTxnMarker:
    topics: dict[str, list[int]] = {}
    for name, index in places:
        topics.setdefault(name, []).append(index)
    return WritableTxnMarker(
        producer_id=producer_id,
        producer_epoch=3,
        transaction_result=True,
        topics=[WritableTxnMarkerTopic(name=name, partition_indexes=indexes) for name, indexes in topics.items()],
        coordinator_epoch=5,
        transaction_version=2,
    )


def asked_of(request: WriteTxnMarkersRequest) -> list[tuple[int, list[Place]]]:
    return [
        (each.producer_id, [(topic.name, index) for topic in each.topics for index in topic.partition_indexes])
        for each in request.markers
    ]


class World:
    """A sender of markers, and what each partition answers."""

    def __init__(self, leaders: Mapping[Place, int]) -> None:
        self.codes: dict[Place, Code] = {}
        self.here: list[WritableTxnMarker] = []
        self.refuses: Code | None = None
        self.brokers = Brokers(leaders, self.answer)
        self.sender = ClusterMarkers(self, self.brokers.as_reached)

    async def write(self, marker: WritableTxnMarker) -> dict[Place, Code]:
        """What this broker itself writes."""
        self.here.append(marker)
        if self.refuses is not None:
            raise Refused(self.refuses)
        return {place: self.codes.get(place, Code.NONE) for _, places in asked_of_marker(marker) for place in places}

    def answer(self, request: WriteTxnMarkersRequest) -> WriteTxnMarkersResponse:
        def of(topic: WritableTxnMarkerTopic) -> WritableTxnMarkerTopicResult:
            return WritableTxnMarkerTopicResult(
                name=topic.name,
                partitions=[
                    WritableTxnMarkerPartitionResult(
                        partition_index=index, error_code=self.codes.get((topic.name, index), Code.NONE)
                    )
                    for index in topic.partition_indexes
                ],
            )

        return WriteTxnMarkersResponse(
            markers=[
                WritableTxnMarkerResult(producer_id=each.producer_id, topics=[of(topic) for topic in each.topics])
                for each in request.markers
            ]
        )


def asked_of_marker(marker: WritableTxnMarker) -> list[tuple[int, list[Place]]]:
    return asked_of(WriteTxnMarkersRequest(markers=[marker]))


async def test_a_marker_goes_to_every_leader() -> None:
    world = World({T0: ME, T1: SECOND, T2: THIRD, T3: SECOND})
    world.codes = {T3: Code.INVALID_PRODUCER_EPOCH}
    codes = await world.sender.write(marker(T0, T1, T2, T3, ("gone", 0)))
    assert codes == {
        T0: Code.NONE,
        T1: Code.NONE,
        T2: Code.NONE,
        T3: Code.INVALID_PRODUCER_EPOCH,
        ("gone", 0): Code.NOT_LEADER_OR_FOLLOWER,
    }
    assert [asked_of_marker(each) for each in world.here] == [[(7, [T0])]]
    asked = {broker_id: [asked_of(each) for each in peer.requests] for broker_id, peer in world.brokers.peers.items()}
    assert asked == {SECOND: [[(7, [T1, T3])]], THIRD: [[(7, [T2])]]}
    (sent,) = world.brokers.peers[SECOND].requests[0].markers
    assert (sent.producer_epoch, sent.transaction_result, sent.coordinator_epoch, sent.transaction_version) == (
        3,
        True,
        5,
        2,
    )


async def test_nobody_is_asked_for_what_is_here() -> None:
    world = World({T0: ME, T1: ME})
    assert await world.sender.write(marker(T0, T1)) == {T0: Code.NONE, T1: Code.NONE}
    assert world.brokers.peers == {}


async def test_a_refusal_here_says_nothing_of_the_others() -> None:
    world = World({T0: ME, T1: SECOND})
    world.refuses = Code.UNKNOWN_SERVER_ERROR
    assert await world.sender.write(marker(T0, T1)) == {T0: Code.UNKNOWN_SERVER_ERROR, T1: Code.NONE}


async def test_markers_gather_while_a_request_is_under_way() -> None:
    world = World({T1: SECOND, T3: SECOND})
    done: list[int] = []

    async def write(producer_id: int) -> None:
        place = T1 if producer_id % 2 else T3
        assert await world.sender.write(marker(place, producer_id=producer_id)) == {place: Code.NONE}
        done.append(producer_id)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(write, 0)
        await trio.testing.wait_all_tasks_blocked()
        peer = world.brokers.peers[SECOND]
        assert done == [0]
        peer.hold = trio.Event()
        for producer_id in range(1, 6):
            nursery.start_soon(write, producer_id)
            await trio.testing.wait_all_tasks_blocked()
        peer.hold.set()
    assert sorted(done) == list(range(6))
    assert [[producer_id for producer_id, _ in asked_of(each)] for each in peer.requests] == [[0], [1], [2, 3, 4, 5]]


@pytest.mark.parametrize("error", [PeerGone("refused"), PeerTooOld("no such API")])
async def test_a_leader_that_does_not_answer_is_asked_again(error: Exception) -> None:
    """By the coordinator: in its place there may be another leader then."""
    world = World({T0: ME, T1: SECOND})
    peer = world.brokers.peer_of(SECOND)
    peer.fails = error
    assert await world.sender.write(marker(T0, T1)) == {T0: Code.NONE, T1: Code.REQUEST_TIMED_OUT}


async def test_an_answer_that_leaves_a_partition_out() -> None:
    world = World({T1: SECOND})
    world.brokers.answer = lambda _: WriteTxnMarkersResponse(markers=[])
    assert await world.sender.write(marker(T1)) == {T1: Code.REQUEST_TIMED_OUT}


async def test_a_frozen_leader_is_not_waited_for_once_it_is_fenced() -> None:
    world = World({T1: SECOND, T2: SECOND})
    codes: list[Any] = []

    async def write(place: Place) -> None:
        codes.append(await world.sender.write(marker(place)))

    async with trio.open_nursery() as nursery:
        peer = world.brokers.peer_of(SECOND)
        peer.hold = trio.Event()
        nursery.start_soon(write, T1)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(write, T2)
        await trio.testing.wait_all_tasks_blocked()
        world.sender.queues.follow(world.brokers.image)
        await trio.testing.wait_all_tasks_blocked()
        assert codes == []
        world.brokers.image = image_of({T1: THIRD, T2: THIRD}, fenced=[SECOND])
        world.sender.queues.follow(world.brokers.image)
    assert sorted(map(str, codes)) == sorted(map(str, [{T1: Code.REQUEST_TIMED_OUT}, {T2: Code.REQUEST_TIMED_OUT}]))
    assert peer.closed
    assert len(peer.requests) == 1
    assert await world.sender.write(marker(T1)) == {T1: Code.NONE}, "by whoever leads now"


async def test_a_task_that_is_cancelled_does_not_take_the_markers_of_others_with_it() -> None:
    world = World({T1: SECOND})
    peer = world.brokers.peer_of(SECOND)
    codes: list[Any] = []

    async def write(producer_id: int, scope: trio.CancelScope) -> None:
        with scope:
            codes.append(await world.sender.write(marker(T1, producer_id=producer_id)))

    first, others = trio.CancelScope(), trio.CancelScope()
    async with trio.open_nursery() as nursery:
        peer.hold = trio.Event()
        nursery.start_soon(write, 6, trio.CancelScope())
        await trio.testing.wait_all_tasks_blocked()
        for producer_id, scope in ((7, first), (8, others)):
            nursery.start_soon(write, producer_id, scope)
            await trio.testing.wait_all_tasks_blocked()
        peer.hold.set()
        peer.hold = trio.Event()
        await trio.testing.wait_all_tasks_blocked()
        first.cancel()  # while it carries the question of the other
        await trio.testing.wait_all_tasks_blocked()
        peer.hold.set()
    assert codes == [{T1: Code.NONE}] * 2
    assert [[producer_id for producer_id, _ in asked_of(each)] for each in peer.requests] == [[6], [7, 8], [8]]


# -- transactions coordinated elsewhere

ID = "x"
INDEX = partition_of(ID, 50)


class Local:
    """This broker's own transactions."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, list[Place]]] = []

    def partition_for(self, transactional_id: str) -> int:
        return partition_of(transactional_id, 50)

    async def verify(self, _id: str, _producer: int, _epoch: int, places: Iterable[Place]) -> dict[Place, Code]:
        self.asked.append(("verify", list(places)))
        return dict.fromkeys(places, Code.NONE)

    async def add_partitions(self, _id: str, _producer: int, _epoch: int, places: Iterable[Place]) -> dict[Place, Code]:
        self.asked.append(("add", list(places)))
        return dict.fromkeys(places, Code.NONE)


class Askers:
    """A broker that asks coordinators."""

    def __init__(self, leader: int | None, codes: Mapping[Place, Code] | None = None) -> None:
        self.codes = codes or {}
        self.error = Code.NONE
        leaders = {} if leader is None else {(TRANSACTION_STATE, index): leader for index in range(50)}
        self.brokers = Brokers(leaders, self.answer)
        self.local = Local()
        self.coordinators = TxnCoordinators(cast("Any", self.local), self.brokers.as_reached)

    def answer(self, request: AddPartitionsToTxnRequest) -> AddPartitionsToTxnResponse:
        if self.error:
            return AddPartitionsToTxnResponse(throttle_time_ms=0, error_code=self.error)

        def of(transaction: AddPartitionsToTxnTransaction) -> AddPartitionsToTxnResult:
            topics = [
                AddPartitionsToTxnTopicResult(
                    name=topic.name,
                    results_by_partition=[
                        AddPartitionsToTxnPartitionResult(
                            partition_index=index,
                            partition_error_code=self.codes.get((topic.name, index), Code.NONE),
                        )
                        for index in topic.partitions
                    ],
                )
                for topic in transaction.topics
            ]
            return AddPartitionsToTxnResult(transactional_id=transaction.transactional_id, topic_results=topics)

        return AddPartitionsToTxnResponse(
            throttle_time_ms=0, results_by_transaction=[of(t) for t in request.transactions]
        )


async def test_the_coordinator_in_this_process_is_asked_directly() -> None:
    asker = Askers(ME)
    assert await asker.coordinators.verify(ID, 7, 0, [T0]) == {T0: Code.NONE}
    assert await asker.coordinators.add_partitions(ID, 7, 0, [T1]) == {T1: Code.NONE}
    assert asker.local.asked == [("verify", [T0]), ("add", [T1])]
    assert asker.brokers.peers == {}


async def test_a_coordinator_elsewhere() -> None:
    asker = Askers(SECOND, {T1: Code.TRANSACTION_ABORTABLE})
    assert await asker.coordinators.verify(ID, 7, 2, [T0, T1]) == {T0: Code.NONE, T1: Code.TRANSACTION_ABORTABLE}
    assert await asker.coordinators.add_partitions(ID, 7, 2, [T0]) == {T0: Code.NONE}
    asked = [transaction for each in asker.brokers.peers[SECOND].requests for transaction in each.transactions]
    assert [(each.transactional_id, each.producer_id, each.producer_epoch, each.verify_only) for each in asked] == [
        (ID, 7, 2, True),
        (ID, 7, 2, False),
    ]
    assert asker.local.asked == []


@pytest.mark.parametrize("leader", [None, NOBODY])
async def test_no_coordinator(leader: int | None) -> None:
    asker = Askers(leader)
    assert await asker.coordinators.verify(ID, 7, 0, [T0]) == {T0: Code.COORDINATOR_NOT_AVAILABLE}
    assert await asker.coordinators.add_partitions(ID, 7, 0, [T0]) == {T0: Code.COORDINATOR_NOT_AVAILABLE}


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (Code.CLUSTER_AUTHORIZATION_FAILED, Code.INVALID_TXN_STATE),
        (Code.NOT_COORDINATOR, Code.NOT_COORDINATOR),
    ],
)
async def test_an_error_of_the_whole_request(said: Code, told: Code) -> None:
    asker = Askers(SECOND)
    asker.error = said
    assert await asker.coordinators.verify(ID, 7, 0, [T0]) == {T0: told}


@pytest.mark.parametrize(
    ("error", "told"), [(PeerGone("lost"), Code.NETWORK_EXCEPTION), (PeerTooOld("no KIP-890"), Code.NONE)]
)
async def test_a_coordinator_that_does_not_answer(error: Exception, told: Code) -> None:
    asker = Askers(SECOND)
    peer = asker.brokers.peer_of(SECOND)
    peer.fails = error
    assert await asker.coordinators.verify(ID, 7, 0, [T0]) == {T0: told}


async def test_a_coordinator_of_before_kip_890_verifies_nothing() -> None:
    asker = Askers(SECOND)
    asker.brokers.peer_of(SECOND).version = 3
    assert await asker.coordinators.verify(ID, 7, 0, [T0]) == {T0: Code.NONE}
    assert asker.brokers.peers[SECOND].requests == []


async def test_transactions_gather_and_each_is_in_a_request_once() -> None:
    asker = Askers(SECOND)
    await asker.coordinators.verify("first", 1, 0, [T0])
    peer = asker.brokers.peers[SECOND]
    peer.requests.clear()
    peer.hold = trio.Event()
    answers: list[Mapping[Place, Code]] = []

    async def ask(transactional_id: str, place: Place) -> None:
        answers.append(await asker.coordinators.add_partitions(transactional_id, 7, 0, [place]))

    async with trio.open_nursery() as nursery:
        for transactional_id, place in (("a", T0), ("b", T0), ("c", T0), ("b", T1)):
            nursery.start_soon(ask, transactional_id, place)
            await trio.testing.wait_all_tasks_blocked()
        peer.hold.set()
    asked = [[each.transactional_id for each in request.transactions] for request in peer.requests]
    assert asked == [["a"], ["b", "c"], ["b"]]
    assert sorted(map(str, answers)) == sorted(map(str, [{T0: Code.NONE}] * 3 + [{T1: Code.NONE}]))

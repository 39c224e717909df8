"""A transaction whose coordinator moves to another node before all markers are written: two nodes, one log."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

import msgspec
import pytest
import trio
import trio.testing

from kpybroker.clock import SimulatedClock
from kpybroker.cluster.image import BrokerImage, ClusterImage, PartitionImage, TopicImage, TopicsImage
from kpybroker.cluster.names import TRANSACTION_STATE
from kpybroker.coordinators.broker_queues import OtherBrokers
from kpybroker.coordinators.machines.settings import TransactionSettings
from kpybroker.coordinators.machines.transaction_events import Outcome
from kpybroker.coordinators.marker_sender import ClusterMarkers, places_of
from kpybroker.coordinators.transactions import Transactions
from kpybroker.peers.channel import PeerGone
from kpybroker.wire.codes import Code
from kpybroker.wire.messages.end_txn import EndTxnRequest
from kpybroker.wire.messages.init_producer_id import InitProducerIdRequest
from kpybroker.wire.messages.write_txn_markers import (
    WritableTxnMarker,
    WritableTxnMarkerPartitionResult,
    WritableTxnMarkerResult,
    WritableTxnMarkerTopicResult,
    WriteTxnMarkersRequest,
    WriteTxnMarkersResponse,
)

pytestmark = pytest.mark.simulated_time

ID = "x"
T0, T1 = ("t", 0), ("t", 1)
FIRST, SECOND, THIRD, NOBODY = 1, 2, 3, -1


class Partitions:
    """The partitions of a topic, wherever they are: the markers in each, and the rule that fences coordinators."""

    def __init__(self) -> None:
        self.markers: dict[tuple[str, int], list[tuple[int, bool]]] = {T0: [], T1: []}

    def write(self, marker: WritableTxnMarker) -> dict[tuple[str, int], Code]:
        codes: dict[tuple[str, int], Code] = {}
        for place in places_of(marker):
            written = self.markers[place]
            if written and written[-1][0] > marker.coordinator_epoch:
                codes[place] = Code.TRANSACTION_COORDINATOR_FENCED
                continue
            written.append((marker.coordinator_epoch, marker.transaction_result))
            codes[place] = Code.NONE
        return codes


class Line:
    """A connection between two nodes."""

    def __init__(self, partitions: Partitions) -> None:
        self.partitions = partitions
        self.hold: trio.Event | None = None
        self.cut = False
        self.said: list[Code] = []

    async def ask(self, request: Any, _: type[Any], *, version: int | None = None, timeout_s: float) -> Any:  # noqa: ARG002
        assert isinstance(request, WriteTxnMarkersRequest)
        await trio.lowlevel.checkpoint()
        if self.hold is not None:
            await self.hold.wait()
        if self.cut:
            raise PeerGone("cut")
        (marker,) = request.markers
        codes = self.partitions.write(marker)
        self.said += codes.values()
        topics = [
            WritableTxnMarkerTopicResult(
                name=name, partitions=[WritableTxnMarkerPartitionResult(partition_index=index, error_code=code)]
            )
            for (name, index), code in codes.items()
        ]
        return WriteTxnMarkersResponse(markers=[WritableTxnMarkerResult(producer_id=marker.producer_id, topics=topics)])

    async def version_of(self, key: Any, *, timeout_s: float) -> int:
        raise NotImplementedError

    def close(self) -> None:
        pass


class Node:
    """A node's transaction coordinator."""

    def __init__(self, broker_id: int, cluster: Cluster) -> None:
        self.id = broker_id
        self.cluster = cluster
        self.line = Line(cluster.partitions)
        ids = count(broker_id * 1000)
        self.markers = ClusterMarkers(self, OtherBrokers(broker_id, lambda: cluster.image, lambda _: self.line, 30.0))

        async def new_producer_id() -> int:
            await trio.lowlevel.checkpoint()
            return next(ids)

        self.transactions = Transactions(
            TransactionSettings(
                timeout_ms_max=900_000,
                id_expiration_ms=3_600_000,
                abort_interval_ms=10_000,
                expiration_interval_ms=600_000,
                two_phase_commit=False,
                transaction_version=2,
            ),
            SimulatedClock(1_700_000_000_000),
            partitions=50,
            new_producer_id=new_producer_id,
            sender=self.markers,
            is_known=lambda topic, index: index in self.known(topic),
        )

    def known(self, topic: str) -> set[int]:
        found = self.cluster.image.topics.by_name.get(topic)
        return set() if found is None else set(found.partitions)

    async def write(self, marker: WritableTxnMarker) -> dict[tuple[str, int], Code]:
        """What this node leads itself."""
        return self.cluster.partitions.write(marker)

    def follow(self) -> None:
        image = self.cluster.image
        self.transactions.follow(image.topics.by_name.get(TRANSACTION_STATE), self.id, lambda _: self.cluster.log)
        self.markers.queues.follow(image)

    async def begun(self) -> Outcome:
        """A producer whose transaction has both partitions."""
        request = InitProducerIdRequest(transactional_id=ID, transaction_timeout_ms=60_000)
        producer = await self.transactions.init_producer_id(request)
        codes = await self.transactions.add_partitions(ID, producer.producer_id, producer.producer_epoch, [T0, T1])
        assert set(codes.values()) == {Code.NONE}
        return producer

    async def end(self, producer: Outcome) -> Code:
        request = EndTxnRequest(
            transactional_id=ID,
            producer_id=producer.producer_id,
            producer_epoch=producer.producer_epoch,
            committed=True,
        )
        return (await self.transactions.end(request, version=5)).code

    async def state(self) -> str:
        described = await self.transactions.describe(ID)
        return described.transaction_state or Code(described.error_code).name


class Cluster:
    """Two nodes with one log between them, which replication would have carried, and a third that leads T1."""

    def __init__(self, log: Any) -> None:
        self.log = log
        self.partitions = Partitions()
        self.fenced: set[int] = set()
        self.leaders = {(TRANSACTION_STATE, 0): FIRST, T0: FIRST, T1: THIRD}
        self.epochs = dict.fromkeys(self.leaders, 1)
        self.image = ClusterImage()
        self.nodes = {broker_id: Node(broker_id, self) for broker_id in (FIRST, SECOND)}
        self.change()

    def elect(self, place: tuple[str, int], leader: int) -> None:
        self.leaders[place] = leader
        self.epochs[place] += 1
        if place[0] == TRANSACTION_STATE:
            self.log.leader_epoch = self.epochs[place]
        self.change()

    def change(self) -> None:
        """All nodes see the cluster as it is."""
        topics: dict[str, dict[int, PartitionImage]] = {}
        for (name, index), leader in self.leaders.items():
            topics.setdefault(name, {})[index] = PartitionImage(
                replicas=(FIRST, SECOND, THIRD),
                isr=(FIRST, SECOND, THIRD),
                leader=leader,
                leader_epoch=self.epochs[name, index],
                partition_epoch=0,
                directories=(bytes(16),) * 3,
            )
        by_name = {name: TopicImage(name, name.encode(), partitions) for name, partitions in topics.items()}
        brokers = {
            broker_id: BrokerImage(
                id=broker_id,
                epoch=1,
                incarnation_id=bytes(16),
                endpoints=(),
                features={},
                rack=None,
                fenced=broker_id in self.fenced,
                in_controlled_shutdown=False,
                directories=(),
                cordoned_directories=None,
            )
            for broker_id in (FIRST, SECOND, THIRD)
        }
        self.image = msgspec.structs.replace(ClusterImage(), brokers=brokers, topics=TopicsImage(by_name))
        for node in self.nodes.values():
            node.follow()


@asynccontextmanager
async def running(log: Any) -> AsyncIterator[Cluster]:
    log.leader_epoch = 1
    cluster = Cluster(log)
    async with trio.open_nursery() as nursery:
        for node in cluster.nodes.values():
            nursery.start_soon(node.transactions.run)
        await settle()
        yield cluster
        nursery.cancel_scope.cancel()


async def settle() -> None:
    await trio.testing.wait_all_tasks_blocked()


async def test_the_next_coordinator_completes_what_was_decided(make_log: Callable[..., Any]) -> None:
    """The first one's marker, which was under way all the time, comes too late and is fenced."""
    async with running(make_log()) as cluster:
        first, second = cluster.nodes[FIRST], cluster.nodes[SECOND]
        producer = await first.begun()
        first.line.hold = trio.Event()
        assert await first.end(producer) is Code.NONE
        assert await first.state() == "PrepareCommit"
        assert cluster.partitions.markers == {T0: [(1, True)], T1: []}
        cluster.elect((TRANSACTION_STATE, 0), SECOND)
        await settle()
        assert (await first.state(), await second.state()) == ("NOT_COORDINATOR", "CompleteCommit")
        assert cluster.partitions.markers == {T0: [(1, True), (2, True)], T1: [(2, True)]}
        first.line.hold.set()
        await settle()
        assert first.line.said == [Code.TRANSACTION_COORDINATOR_FENCED]
        assert cluster.partitions.markers[T1] == [(2, True)]
        assert await second.state() == "CompleteCommit"


async def test_what_was_not_decided_is_the_producers_to_end(make_log: Callable[..., Any]) -> None:
    async with running(make_log()) as cluster:
        first, second = cluster.nodes[FIRST], cluster.nodes[SECOND]
        producer = await first.begun()
        cluster.elect((TRANSACTION_STATE, 0), SECOND)
        assert await first.end(producer) is Code.NOT_COORDINATOR
        assert await second.end(producer) is Code.COORDINATOR_LOAD_IN_PROGRESS
        await settle()
        assert await second.state() == "Ongoing"
        assert await second.end(producer) is Code.NONE
        await settle()
        assert await second.state() == "CompleteCommit"
        assert cluster.partitions.markers == {T0: [(2, True)], T1: [(2, True)]}


async def test_a_decision_that_is_not_replicated_is_not_acted_on(make_log: Callable[..., Any]) -> None:
    """Another leader may never have heard of it."""
    log = make_log(replicas=2)
    async with running(log) as cluster:
        first = cluster.nodes[FIRST]
        codes: list[Code] = []

        async def begin_and_end() -> None:
            producer = await first.begun()
            codes.append(await first.end(producer))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(begin_and_end)
            for _ in range(2):  # the id, and the partitions
                await settle()
                log.replicate()
            await settle()
            assert cluster.partitions.markers == {T0: [], T1: []}
            cluster.elect((TRANSACTION_STATE, 0), SECOND)
            log.replicate()
        assert codes == [Code.NOT_COORDINATOR]
        assert (1, True) not in cluster.partitions.markers[T0]


async def test_markers_follow_the_leader_of_their_partition(make_log: Callable[..., Any]) -> None:
    async with running(make_log()) as cluster:
        first = cluster.nodes[FIRST]
        producer = await first.begun()
        first.line.cut = True
        assert await first.end(producer) is Code.NONE
        cluster.elect(T1, NOBODY)
        await trio.sleep(1)
        assert await first.state() == "PrepareCommit"
        cluster.elect(T1, FIRST)
        await trio.sleep(1)
        assert await first.state() == "CompleteCommit"
        assert cluster.partitions.markers == {T0: [(1, True)], T1: [(1, True)]}


async def test_a_frozen_leader_does_not_hold_up_a_transaction_for_longer_than_it_is_the_leader(
    make_log: Callable[..., Any],
) -> None:
    async with running(make_log()) as cluster:
        first = cluster.nodes[FIRST]
        producer = await first.begun()
        first.line.hold = trio.Event()
        assert await first.end(producer) is Code.NONE
        await trio.sleep(5)
        assert await first.state() == "PrepareCommit"
        cluster.fenced = {THIRD}
        cluster.elect(T1, FIRST)
        await trio.sleep(1)
        assert await first.state() == "CompleteCommit"


async def test_a_topic_that_is_deleted_needs_no_marker(make_log: Callable[..., Any]) -> None:
    async with running(make_log()) as cluster:
        first = cluster.nodes[FIRST]
        producer = await first.begun()
        first.line.cut = True
        assert await first.end(producer) is Code.NONE
        del cluster.leaders[T0], cluster.leaders[T1]
        cluster.change()
        await trio.sleep(1)
        assert await first.state() == "CompleteCommit"

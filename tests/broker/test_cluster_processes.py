"""A cluster of real nodes: processes on this machine, which are killed and started again under a client's hands."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import pytest

from kpybroker.testing import Cluster
from kpybroker.wire.codes import Code
from kpybroker.wire.messages.create_topics import CreatableTopic, CreateTopicsRequest, CreateTopicsResponse
from kpybroker.wire.messages.describe_quorum import (
    DescribeQuorumRequest,
    DescribeQuorumResponse,
)
from kpybroker.wire.messages.describe_quorum import RequestPartitionData as PartitionData
from kpybroker.wire.messages.describe_quorum import RequestTopicData as TopicData
from kpybroker.wire.messages.end_txn import EndTxnRequest, EndTxnResponse
from kpybroker.wire.messages.fetch import FetchPartition, FetchRequest, FetchResponse, FetchTopic
from kpybroker.wire.messages.find_coordinator import FindCoordinatorRequest, FindCoordinatorResponse
from kpybroker.wire.messages.init_producer_id import InitProducerIdRequest, InitProducerIdResponse
from kpybroker.wire.messages.metadata import MetadataRequest, MetadataRequestTopic, MetadataResponse
from kpybroker.wire.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
    OffsetCommitResponse,
)
from kpybroker.wire.messages.offset_fetch import OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchResponse
from kpybroker.wire.messages.produce import PartitionProduceData, ProduceRequest, ProduceResponse, TopicProduceData
from kpybroker.wire.records.batch import build_batch, iter_headers, read_records
from kpybroker.wire.records.record import Record

T = TypeVar("T")

GROUP, TRANSACTION = 0, 1
LIMIT_S = 60.0
RETRY_S = 0.02
"""Between two questions to processes that there is nothing else to wait on."""


def until(ask: Callable[[], T | None]) -> T:
    """The first answer that is one. A node that is away is none."""
    deadline_s = time.monotonic() + LIMIT_S
    failed: list[str] = []
    while time.monotonic() < deadline_s:
        try:
            answer = ask()
            if answer is not None:
                return answer
            why = "no answer that will do"
        except (OSError, AssertionError) as failure:
            why = repr(failure)
        if why not in failed[-1:]:
            failed.append(why)
        time.sleep(RETRY_S)
    raise TimeoutError(f"not within {LIMIT_S:g} s: {failed[-20:]}")


class Talker:
    """A client of the whole cluster, which asks whoever it has to ask, again and again."""

    def __init__(self, cluster: Cluster, connect_to: Callable[[int], Any]) -> None:
        self.cluster = cluster
        self.connect_to = connect_to
        self.connections: dict[int, Any] = {}

    def ask(self, node: int, request: Any, response_class: type[T], version: int) -> T:
        if node not in self.cluster.running:
            self.connections.pop(node, None)
            raise ConnectionError
        try:
            if node not in self.connections:
                self.connections[node] = self.connect_to(self.cluster.port(node))
            answer: T = self.connections[node].ask(request, response_class, version)
        except (OSError, AssertionError):
            self.connections.pop(node, None)
            raise
        return answer

    def any_node(self) -> int:
        return self.cluster.running[0]

    def create(self, name: str, partitions: int = 3) -> None:
        topic = CreatableTopic(name=name, num_partitions=partitions, replication_factor=3, assignments=[], configs=[])
        request = CreateTopicsRequest(topics=[topic], timeout_ms=10_000)
        (created,) = self.ask(self.any_node(), request, CreateTopicsResponse, 7).topics
        assert created.error_code == Code.NONE, created.error_message

    def metadata(self, topic: str) -> MetadataResponse:
        request = MetadataRequest(topics=[MetadataRequestTopic(name=topic)], allow_auto_topic_creation=False)
        return self.ask(self.any_node(), request, MetadataResponse, 12)

    def leader(self, topic: str, index: int) -> int:
        """The leader of a partition, once it has one that runs."""

        def look() -> int | None:
            partitions = self.metadata(topic).topics[0].partitions
            leaders = {each.partition_index: each.leader_id for each in partitions}
            return leaders[index] if leaders.get(index) in self.cluster.running else None

        return until(look)

    def in_sync(self, topic: str, index: int, count: int) -> bool:
        def look() -> bool | None:
            partitions = self.metadata(topic).topics[0].partitions
            return any(each.partition_index == index and len(each.isr_nodes) == count for each in partitions) or None

        return until(look)

    def standing(self, topic: str) -> tuple[Any, ...]:
        """Who leads what in which epoch, and who is in sync."""
        asked = TopicData(topic_name="__cluster_metadata", partitions=[PartitionData(partition_index=0)])
        quorum = self.ask(self.any_node(), DescribeQuorumRequest(topics=[asked]), DescribeQuorumResponse, 1)
        (metadata,) = quorum.topics[0].partitions
        partitions = sorted(self.metadata(topic).topics[0].partitions, key=lambda each: each.partition_index)
        leaders = [(each.leader_id, each.leader_epoch, sorted(each.isr_nodes)) for each in partitions]
        return metadata.leader_id, metadata.leader_epoch, leaders

    def produce(self, topic: str, index: int, value: bytes, **producer: Any) -> None:
        """With acks=all, however long it takes."""
        records = build_batch([Record(timestamp=int(time.time() * 1000), value=value)], **producer)
        data = TopicProduceData(name=topic, partition_data=[PartitionProduceData(index=index, records=records)])
        transactional_id = TXN if producer.get("transactional") else None
        request = ProduceRequest(acks=-1, timeout_ms=5000, topic_data=[data], transactional_id=transactional_id)

        def send() -> bool | None:
            answer = self.ask(self.leader(topic, index), request, ProduceResponse, 12)
            code = answer.responses[0].partition_responses[0].error_code
            return True if code in (Code.NONE, Code.DUPLICATE_SEQUENCE_NUMBER) else None

        until(send)

    def values(self, topic: str, index: int, *, committed: bool = False) -> list[bytes | None]:
        """Everything in a partition."""
        asked = FetchPartition(partition=index, fetch_offset=0, partition_max_bytes=1 << 20)
        request = FetchRequest(
            topics=[FetchTopic(topic=topic, partitions=[asked])],
            max_wait_ms=0,
            min_bytes=0,
            isolation_level=int(committed),
        )

        def read() -> list[bytes | None] | None:
            answer = self.ask(self.leader(topic, index), request, FetchResponse, 12)
            (partition,) = answer.responses[0].partitions
            if partition.error_code:
                return None
            records = bytes(partition.records or b"")
            batches = [(position, header) for position, header in iter_headers(records) if not header.is_control]
            return [record.value for position, _ in batches for record in read_records(records, position)]

        return until(read)

    def coordinator(self, key: str, kind: int) -> int:
        def find() -> int | None:
            request = FindCoordinatorRequest(key=key, key_type=kind)
            found = self.ask(self.any_node(), request, FindCoordinatorResponse, 3)
            return found.node_id if found.error_code == Code.NONE and found.node_id in self.cluster.running else None

        return until(find)

    def commit(self, group: str, topic: str, offset: int) -> None:
        partition = OffsetCommitRequestPartition(partition_index=0, committed_offset=offset, committed_metadata="")
        topics = [OffsetCommitRequestTopic(name=topic, partitions=[partition])]
        request = OffsetCommitRequest(group_id=group, member_id="", topics=topics)

        def send() -> bool | None:
            answer = self.ask(self.coordinator(group, GROUP), request, OffsetCommitResponse, 9)
            code = answer.topics[0].partitions[0].error_code
            assert code == Code.NONE, Code(code)
            return True

        until(send)

    def committed(self, group: str) -> int:
        request = OffsetFetchRequest(groups=[OffsetFetchRequestGroup(group_id=group, topics=None)])

        def read() -> int | None:
            (found,) = self.ask(self.coordinator(group, GROUP), request, OffsetFetchResponse, 8).groups
            return None if found.error_code else found.topics[0].partitions[0].committed_offset

        return until(read)


TXN = "txn"

TIMEOUTS = ("broker.session.timeout.ms", "controller.quorum.fetch.timeout.ms")
PATIENCE_MS = 30_000
"""So long that a slow machine is not taken for a dead node. What dies is noticed by its connections, mostly."""
PAUSE_S = 1.0
"""For how long a node does nothing and keeps its connections. It is the fault, and nothing is waited for by it."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    settings = {"offsets.topic.num.partitions": 3, "transaction.state.log.num.partitions": 3}
    with Cluster(settings | dict.fromkeys(TIMEOUTS, PATIENCE_MS), nodes=3) as cluster:
        yield cluster


@pytest.fixture
def talk(cluster: Cluster, connect_to: Callable[[int], Any]) -> Iterator[Talker]:
    cluster.start()  # what the test before has ended
    yield Talker(cluster, connect_to)
    for node in cluster.nodes:  # shown when the test has failed
        print(f"node {node}: {cluster.log(node)[-5000:]}")


def written(numbers: Iterable[int]) -> list[bytes]:
    return [b"%d" % number for number in numbers]


def test_a_node_that_is_slow_keeps_what_it_leads(talk: Talker) -> None:
    """The active controller among them, and leaders and followers of partitions: nobody is elected in their place."""
    talk.create("slow")
    for index in range(3):
        assert talk.in_sync("slow", index, 3)
    before = talk.standing("slow")
    for node in talk.cluster.nodes:
        talk.cluster.freeze(node)
        time.sleep(PAUSE_S)
        talk.cluster.thaw(node)
        for index in range(3):
            talk.produce("slow", index, b"%d" % node)
    assert talk.standing("slow") == before


def test_a_partition_outlives_its_leader(talk: Talker) -> None:
    talk.create("t")
    for value in written(range(5)):
        talk.produce("t", 0, value)
    dead = talk.leader("t", 0)
    talk.cluster.kill(dead)
    assert dead not in talk.cluster.running
    for value in written(range(5, 10)):
        talk.produce("t", 0, value)
    assert talk.leader("t", 0) != dead
    assert list(dict.fromkeys(talk.values("t", 0))) == written(range(10))
    talk.cluster.start(dead)
    assert talk.in_sync("t", 0, 3)
    other = talk.leader("t", 0)
    talk.cluster.stop(other)
    talk.produce("t", 0, b"10")
    assert list(dict.fromkeys(talk.values("t", 0))) == written(range(11))


def test_a_group_outlives_its_coordinator(talk: Talker) -> None:
    talk.create("read")
    talk.commit("g", "read", 7)
    dead = talk.coordinator("g", GROUP)
    talk.cluster.kill(dead)
    assert talk.committed("g") == 7
    talk.commit("g", "read", 8)
    talk.cluster.start(dead)
    assert talk.committed("g") == 8


def test_a_transaction_on_every_node_outlives_its_coordinator(talk: Talker) -> None:
    talk.create("u")
    init = InitProducerIdRequest(transactional_id=TXN, transaction_timeout_ms=60_000)

    def begin() -> InitProducerIdResponse | None:
        answer = talk.ask(talk.coordinator(TXN, TRANSACTION), init, InitProducerIdResponse, 4)
        return answer if answer.error_code == Code.NONE else None

    producer = until(begin)
    for index in range(3):
        talk.produce(
            "u",
            index,
            b"in",
            producer_id=producer.producer_id,
            producer_epoch=producer.producer_epoch,
            base_sequence=0,
            transactional=True,
        )
    talk.cluster.kill(talk.coordinator(TXN, TRANSACTION))
    end = EndTxnRequest(
        transactional_id=TXN, producer_id=producer.producer_id, producer_epoch=producer.producer_epoch, committed=True
    )

    def finish() -> bool | None:
        answer = talk.ask(talk.coordinator(TXN, TRANSACTION), end, EndTxnResponse, 5)
        return True if answer.error_code == Code.NONE else None

    until(finish)
    for index in range(3):
        assert until(lambda index=index: talk.values("u", index, committed=True) or None) == [b"in"]

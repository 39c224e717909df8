"""Transactions as a broker's clients see them: who waits for their end, what a restart leaves of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kpybroker.testing import Broker
from kpybroker.wire.codes import Code
from kpybroker.wire.messages.end_txn import EndTxnRequest, EndTxnResponse
from kpybroker.wire.messages.fetch import FetchPartition, FetchRequest, FetchResponse, FetchTopic, PartitionData
from kpybroker.wire.messages.find_coordinator import FindCoordinatorRequest, FindCoordinatorResponse
from kpybroker.wire.messages.init_producer_id import InitProducerIdRequest, InitProducerIdResponse
from kpybroker.wire.messages.list_offsets import (
    ListOffsetsPartition,
    ListOffsetsRequest,
    ListOffsetsResponse,
    ListOffsetsTopic,
)
from kpybroker.wire.messages.offset_fetch import (
    OffsetFetchRequest,
    OffsetFetchRequestGroup,
    OffsetFetchRequestTopics,
    OffsetFetchResponse,
    OffsetFetchResponsePartitions,
)
from kpybroker.wire.messages.produce import PartitionProduceData, ProduceRequest, ProduceResponse, TopicProduceData
from kpybroker.wire.messages.txn_offset_commit import (
    TxnOffsetCommitRequest,
    TxnOffsetCommitRequestPartition,
    TxnOffsetCommitRequestTopic,
    TxnOffsetCommitResponse,
)
from kpybroker.wire.messages.write_txn_markers import (
    WritableTxnMarker,
    WritableTxnMarkerTopic,
    WriteTxnMarkersRequest,
    WriteTxnMarkersResponse,
)
from kpybroker.wire.records.batch import build_batch
from kpybroker.wire.records.record import Record

GROUP = "g"
LONG_MS = 600_000
"""Longer than a test's client waits for an answer."""
TRIES = 2000


class Transactional:
    """A producer of transaction version 2 on one connection."""

    def __init__(self, client: Any, transactional_id: str = "txn") -> None:
        self.client = client
        self.transactional_id = transactional_id
        self.sequence = 0
        init = InitProducerIdRequest(transactional_id=transactional_id, transaction_timeout_ms=60_000)
        for key, key_type in ((GROUP, 0), (transactional_id, 1)):  # this makes their topics
            find = FindCoordinatorRequest(key=key, key_type=key_type)
            self.until_ready(lambda find=find: client.ask(find, FindCoordinatorResponse, 3))
        ready = self.until_ready(lambda: client.ask(init, InitProducerIdResponse, 4))
        self.id, self.epoch = ready.producer_id, ready.producer_epoch

    def until_ready(self, ask: Callable[[], Any]) -> Any:
        """The first answer without an error: coordinators are loaded first."""
        for _ in range(TRIES):
            answer = ask()
            if answer.error_code == Code.NONE:
                return answer
            time.sleep(0.005)  # between two questions: there is nothing else to wait on
        raise AssertionError(Code(answer.error_code))

    def write(self, value: bytes = b"v", *, topic: str = "t", version: int = 12) -> Code:
        records = build_batch(
            [Record(timestamp=int(time.time() * 1000), value=value)],
            producer_id=self.id,
            producer_epoch=self.epoch,
            base_sequence=self.sequence,
            transactional=True,
        )
        data = TopicProduceData(name=topic, partition_data=[PartitionProduceData(index=0, records=records)])
        request = ProduceRequest(transactional_id=self.transactional_id, acks=-1, timeout_ms=5000, topic_data=[data])
        answer = self.client.ask(request, ProduceResponse, version).responses[0].partition_responses[0]
        if answer.error_code == Code.NONE:
            self.sequence += 1
        return Code(answer.error_code)

    def commit_offset(self, offset: int) -> Code:
        partition = TxnOffsetCommitRequestPartition(partition_index=0, committed_offset=offset, committed_metadata=None)
        request = TxnOffsetCommitRequest(
            transactional_id=self.transactional_id,
            group_id=GROUP,
            producer_id=self.id,
            producer_epoch=self.epoch,
            topics=[TxnOffsetCommitRequestTopic(name="t", partitions=[partition])],
        )
        response = self.client.ask(request, TxnOffsetCommitResponse, 5)
        return Code(response.topics[0].partitions[0].error_code)

    def end(self, *, committed: bool) -> None:
        request = EndTxnRequest(
            transactional_id=self.transactional_id,
            producer_id=self.id,
            producer_epoch=self.epoch,
            committed=committed,
        )
        answer = self.client.ask(request, EndTxnResponse, 5)
        assert answer.error_code == Code.NONE
        self.id, self.epoch, self.sequence = answer.producer_id, answer.producer_epoch, 0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def broker(folder: Path) -> Iterator[Broker]:
    with Broker({"log.dirs": folder}) as broker:
        broker.create_topic("t")
        yield broker


def fetch_request(*, committed: bool = True, **more: Any) -> FetchRequest:
    partition = FetchPartition(partition=0, fetch_offset=0, partition_max_bytes=1_000_000)
    defaults = {"max_wait_ms": 0, "min_bytes": 1, "isolation_level": int(committed)}
    return FetchRequest(**{**defaults, **more}, topics=[FetchTopic(topic="t", partitions=[partition])])


def fetched(response: FetchResponse) -> PartitionData:
    return response.responses[0].partitions[0]


def end_offset(client: Any, *, committed: bool) -> int:
    topic = ListOffsetsTopic(name="t", partitions=[ListOffsetsPartition(partition_index=0, timestamp=-1)])
    request = ListOffsetsRequest(replica_id=-1, isolation_level=int(committed), topics=[topic])
    found = client.ask(request, ListOffsetsResponse, 7).topics[0].partitions[0].offset
    assert isinstance(found, int)
    return found


def committed_offset(client: Any) -> OffsetFetchResponsePartitions:
    topics = [OffsetFetchRequestTopics(name="t", partition_indexes=[0])]
    request = OffsetFetchRequest(groups=[OffsetFetchRequestGroup(group_id=GROUP, topics=topics)], require_stable=True)
    for _ in range(TRIES):
        group = client.ask(request, OffsetFetchResponse, 9).groups[0]
        if group.error_code == Code.NONE:
            found = group.topics[0].partitions[0]
            assert isinstance(found, OffsetFetchResponsePartitions)
            return found
        time.sleep(0.005)  # the group's coordinator is being loaded
    raise AssertionError(Code(group.error_code))


def until_stable(client: Any) -> int:
    """The end for readers of committed records once no transaction is open: markers come after EndTxn's answer."""
    for _ in range(TRIES):
        if end_offset(client, committed=True) == end_offset(client, committed=False):
            return end_offset(client, committed=True)
        time.sleep(0.005)
    raise AssertionError("a transaction is not decided")


def test_a_reader_of_committed_records_waits_for_the_end_of_the_transaction(connect: Any) -> None:
    """What it waits for was there before the marker, which alone is less than it waits for."""
    producer, reader = Transactional(connect()), connect()
    assert producer.write(bytes(3000)) is Code.NONE
    reader.send(fetch_request(max_wait_ms=LONG_MS, min_bytes=2000), 12)
    producer.end(committed=True)
    data = fetched(reader.receive(FetchResponse, 12))
    assert (data.high_watermark, data.last_stable_offset, data.aborted_transactions) == (2, 2, [])
    assert len(data.records or b"") > 3000


def test_a_session_hears_of_the_end_of_an_aborted_transaction(connect: Any) -> None:
    producer, reader = Transactional(connect()), connect()
    producer.write()
    first = reader.ask(fetch_request(session_epoch=0), FetchResponse, 12)
    assert fetched(first).last_stable_offset == 0
    later = {"session_id": first.session_id, "max_wait_ms": LONG_MS, "isolation_level": 1, "min_bytes": 1}
    reader.send(FetchRequest(**later, session_epoch=1, topics=[]), 12)
    producer.end(committed=False)
    data = fetched(reader.receive(FetchResponse, 12))
    assert data.last_stable_offset == 2
    assert [each.first_offset for each in data.aborted_transactions or ()] == [0]


def test_a_late_record_opens_no_transaction(connect: Any) -> None:
    """It is from before an abort, which the partition has seen; nobody is held back by it."""
    producer = Transactional(connect())
    producer.write()
    late = Transactional.__new__(Transactional)
    late.__dict__.update(producer.__dict__, client=connect())
    producer.end(committed=False)
    assert until_stable(producer.client) == 2
    assert [late.write(version=version) for version in (10, 11, 12)] == [Code.INVALID_PRODUCER_EPOCH] * 3
    assert end_offset(producer.client, committed=True) == 2


def test_offsets_and_records_survive_a_restart(connect_to: Callable[[int], Any], folder: Path) -> None:
    """What was pending still is; the producer goes on, and its end decides both."""
    with Broker({"log.dirs": folder}) as broker:
        broker.create_topic("t")
        producer = Transactional(connect_to(broker.port))
        producer.write()
        assert producer.commit_offset(5) is Code.NONE
        assert committed_offset(producer.client).error_code == Code.UNSTABLE_OFFSET_COMMIT
    with Broker({"log.dirs": folder}) as broker:
        producer.client = client = connect_to(broker.port)
        assert committed_offset(client).error_code == Code.UNSTABLE_OFFSET_COMMIT
        assert (end_offset(client, committed=True), end_offset(client, committed=False)) == (0, 1)
        assert producer.write() is Code.NONE
        producer.end(committed=True)
        assert until_stable(client) == 3
    with Broker({"log.dirs": folder}) as broker:
        client = connect_to(broker.port)
        offset = committed_offset(client)
        assert (offset.error_code, offset.committed_offset) == (Code.NONE, 5)
        assert fetched(client.ask(fetch_request(), FetchResponse, 12)).last_stable_offset == 3


def test_markers_of_partitions_that_are_not_there(connect: Any) -> None:
    topics = [WritableTxnMarkerTopic(name=name, partition_indexes=[0, 7]) for name in ("t", "nope")]
    marker = WritableTxnMarker(
        producer_id=7, producer_epoch=0, transaction_result=True, topics=topics, coordinator_epoch=0
    )
    response = connect().ask(WriteTxnMarkersRequest(markers=[marker]), WriteTxnMarkersResponse, 1)
    (result,) = response.markers
    codes = {(t.name, p.partition_index): Code(p.error_code) for t in result.topics for p in t.partitions}
    missing = Code.UNKNOWN_TOPIC_OR_PARTITION
    assert codes == {("t", 0): Code.NONE, ("t", 7): missing, ("nope", 0): missing, ("nope", 7): missing}

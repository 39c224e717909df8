"""Produce and Fetch, request by request."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from kpybroker.testing import Broker
from kpybroker.wire.codes import Code
from kpybroker.wire.messages.fetch import (
    FetchPartition,
    FetchRequest,
    FetchResponse,
    FetchTopic,
    ForgottenTopic,
    PartitionData,
)
from kpybroker.wire.messages.find_coordinator import FindCoordinatorRequest, FindCoordinatorResponse
from kpybroker.wire.messages.init_producer_id import InitProducerIdRequest, InitProducerIdResponse
from kpybroker.wire.messages.list_offsets import (
    ListOffsetsPartition,
    ListOffsetsPartitionResponse,
    ListOffsetsRequest,
    ListOffsetsResponse,
    ListOffsetsTopic,
)
from kpybroker.wire.messages.metadata import MetadataRequest, MetadataRequestTopic, MetadataResponse
from kpybroker.wire.messages.offset_for_leader_epoch import (
    OffsetForLeaderEpochRequest,
    OffsetForLeaderEpochResponse,
    OffsetForLeaderPartition,
    OffsetForLeaderTopic,
)
from kpybroker.wire.messages.produce import (
    PartitionProduceData,
    PartitionProduceResponse,
    ProduceRequest,
    ProduceResponse,
    TopicProduceData,
)
from kpybroker.wire.primitives import ZERO_UUID
from kpybroker.wire.records.batch import build_batch, read_records
from kpybroker.wire.records.record import Record

Connect = Callable[[], Any]

NOW_MS = int(time.time() * 1000)


def batch(*values: bytes, key: bytes | None = None, **options: Any) -> bytes:
    records = [Record(timestamp=NOW_MS + index, key=key, value=value) for index, value in enumerate(values)]
    return build_batch(records, **options)


def produce_request(
    records: bytes | None, *, topic: str = "t", index: int = 0, acks: int = -1, **more: Any
) -> ProduceRequest:
    partition = PartitionProduceData(index=index, records=records)
    return ProduceRequest(
        acks=acks, timeout_ms=5000, topic_data=[TopicProduceData(name=topic, partition_data=[partition])], **more
    )


def produce(client: Any, records: bytes | None, *, version: int = 12, **more: Any) -> PartitionProduceResponse:
    response = client.ask(produce_request(records, **more), ProduceResponse, version)
    return response.responses[0].partition_responses[0]


def fetch_request(*partitions: tuple[str, int, int], bytes_max: int = 1_000_000, **more: Any) -> FetchRequest:
    topics: dict[str, list[FetchPartition]] = {}
    for topic, index, offset in partitions:
        topics.setdefault(topic, []).append(
            FetchPartition(partition=index, fetch_offset=offset, partition_max_bytes=bytes_max)
        )
    options = {"max_wait_ms": 0, "min_bytes": 1} | more
    return FetchRequest(topics=[FetchTopic(topic=name, partitions=asked) for name, asked in topics.items()], **options)


def fetch(client: Any, *partitions: tuple[str, int, int], version: int = 12, **more: Any) -> list[PartitionData]:
    response = client.ask(fetch_request(*partitions, **more), FetchResponse, version)
    assert response.error_code == Code.NONE
    return [partition for topic in response.responses for partition in topic.partitions]


def values(data: PartitionData) -> list[bytes | None]:
    from kpybroker.wire.records.batch import split

    records = bytes(data.records or b"")
    return [record.value for position, _ in split(records) for record in read_records(records, position)]


@pytest.fixture
def broker(broker: Broker) -> Broker:
    broker.create_topic("t", partitions=2)
    return broker


def topic_id(client: Any, name: str) -> bytes:
    request = MetadataRequest(topics=[MetadataRequestTopic(name=name, topic_id=ZERO_UUID)])
    found: bytes = client.ask(request, MetadataResponse, 12).topics[0].topic_id
    return found


@pytest.mark.parametrize("version", range(3, 13))
@pytest.mark.parametrize("acks", [-1, 1])
def test_produce_answers_with_the_base_offset(client: Any, version: int, acks: int) -> None:
    assert produce(client, batch(b"a", b"b"), version=version, acks=acks).base_offset == 0
    answer = produce(client, batch(b"c"), version=version, acks=acks)
    assert (answer.error_code, answer.base_offset, answer.log_append_time_ms) == (0, 2, -1)
    assert [values(data) for data in fetch(client, ("t", 0, 0))] == [[b"a", b"b", b"c"]]


def test_topic_ids(client: Any) -> None:
    wanted = topic_id(client, "t")
    request = ProduceRequest(
        acks=1,
        timeout_ms=1000,
        topic_data=[
            TopicProduceData(topic_id=each, partition_data=[PartitionProduceData(index=0, records=batch(b"x"))])
            for each in (wanted, b"\7" * 16)
        ],
    )
    known, unknown = client.ask(request, ProduceResponse, 13).responses
    assert (known.topic_id, known.partition_responses[0].error_code) == (wanted, Code.NONE)
    assert (unknown.topic_id, unknown.partition_responses[0].error_code) == (b"\7" * 16, Code.UNKNOWN_TOPIC_ID)
    asked = FetchRequest(
        max_wait_ms=0,
        min_bytes=1,
        topics=[
            FetchTopic(
                topic_id=each, partitions=[FetchPartition(partition=0, fetch_offset=0, partition_max_bytes=1000)]
            )
            for each in (wanted, b"\7" * 16)
        ],
    )
    response = client.ask(asked, FetchResponse, 18)
    assert [topic.partitions[0].error_code for topic in response.responses] == [Code.NONE, Code.UNKNOWN_TOPIC_ID]
    assert values(response.responses[0].partitions[0]) == [b"x"]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        pytest.param({"topic": "nope"}, Code.UNKNOWN_TOPIC_OR_PARTITION, id="no such topic"),
        pytest.param({"index": 2}, Code.UNKNOWN_TOPIC_OR_PARTITION, id="no such partition"),
        pytest.param({"index": -1}, Code.UNKNOWN_TOPIC_OR_PARTITION, id="a negative partition"),
        pytest.param({"records": batch(b"a")[:30]}, Code.INVALID_RECORD, id="less than a batch"),
        pytest.param({"acks": 2}, Code.INVALID_REQUIRED_ACKS, id="acks=2"),
        pytest.param({"records": None}, Code.INVALID_RECORD, id="no records"),
        pytest.param({"records": batch(b"a") + batch(b"b")}, Code.INVALID_RECORD, id="two batches"),
        pytest.param({"records": batch(b"a")[:-1] + b"b"}, Code.CORRUPT_MESSAGE, id="a wrong checksum"),
        pytest.param(
            {"records": batch(b"a", codec="zstd"), "version": 6}, Code.UNSUPPORTED_COMPRESSION_TYPE, id="zstd"
        ),
        pytest.param({"records": batch(bytes(1_048_600))}, Code.MESSAGE_TOO_LARGE, id="too large"),
        pytest.param(
            {"records": batch(b"a", producer_id=5, producer_epoch=0, base_sequence=0, transactional=True)},
            Code.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
            id="a transaction of nobody",
        ),
        pytest.param(
            {
                "records": batch(b"a", producer_id=5, producer_epoch=0, base_sequence=0, transactional=True),
                "transactional_id": "x",
            },
            Code.NOT_ENOUGH_REPLICAS,
            id="a transaction without a coordinator",
        ),
    ],
)
def test_what_is_refused(client: Any, change: dict[str, Any], code: Code) -> None:
    arguments = {"records": batch(b"a"), **change}
    answer = produce(client, arguments.pop("records"), **arguments)
    assert (Code(answer.error_code), answer.base_offset) == (code, -1)
    assert fetch(client, ("t", 0, 0))[0].high_watermark == 0


def test_internal_topics_are_for_coordinators(client: Any, connect: Connect) -> None:
    client.ask(FindCoordinatorRequest(key="g"), FindCoordinatorResponse, 1)
    assert produce(client, batch(b"a"), topic="__consumer_offsets").error_code == Code.INVALID_TOPIC_EXCEPTION
    admin = connect()
    admin.client_id = "__admin_client"
    assert produce(admin, batch(b"a", key=b"k"), topic="__consumer_offsets").error_code == Code.NONE


def test_single_records_are_named(broker: Broker, client: Any) -> None:
    broker.create_topic("compacted", configs={"cleanup.policy": "compact"})
    answer = produce(client, batch(b"a", b"b"), topic="compacted")
    assert answer.error_code == Code.INVALID_RECORD
    assert [error.batch_index for error in answer.record_errors] == [0, 1]
    assert answer.error_message is not None


def test_acks_0_has_no_answer_and_an_error_closes(connect: Connect) -> None:
    client = connect()
    client.send(produce_request(batch(b"a"), acks=0), 12)
    assert [values(data) for data in fetch(client, ("t", 0, 0))] == [[b"a"]]
    client.send(produce_request(batch(b"a"), acks=0, topic="nope"), 12)
    assert client.receive_frame() == b""


def test_acks_0_is_carried_out_when_the_producer_is_gone(connect: Connect) -> None:
    producer, consumer = connect(), connect()
    for value in (b"a", b"b", b"c"):
        producer.send(produce_request(batch(value), acks=0), 12)
    producer.close()
    seen: list[bytes | None] = []
    while len(seen) < 3:
        (data,) = fetch(consumer, ("t", 0, len(seen)), max_wait_ms=10_000)
        seen += values(data)
    assert seen == [b"a", b"b", b"c"]


def test_idempotence(client: Any) -> None:
    given = client.ask(
        InitProducerIdRequest(transactional_id=None, transaction_timeout_ms=0), InitProducerIdResponse, 5
    )
    assert (given.error_code, given.producer_epoch) == (Code.NONE, 0)

    def sent(sequence: int, epoch: int = 0) -> tuple[int, int]:
        records = batch(b"x", producer_id=given.producer_id, producer_epoch=epoch, base_sequence=sequence)
        answer = produce(client, records)
        return answer.error_code, answer.base_offset

    assert sent(0) == (Code.NONE, 0)
    assert sent(1) == (Code.NONE, 1)
    assert sent(1) == (Code.NONE, 1), "a duplicate is answered as it was the first time"
    assert sent(3) == (Code.OUT_OF_ORDER_SEQUENCE_NUMBER, -1)
    assert sent(0, epoch=1) == (Code.NONE, 2)
    assert sent(2, epoch=0) == (Code.INVALID_PRODUCER_EPOCH, -1)
    assert len(values(fetch(client, ("t", 0, 0))[0])) == 3


def test_producer_ids_are_never_the_same(client: Any, broker: Broker, connect: Connect) -> None:
    request = InitProducerIdRequest(transactional_id=None, transaction_timeout_ms=0)
    first = client.ask(request, InitProducerIdResponse, 0).producer_id
    assert client.ask(request, InitProducerIdResponse, 4).producer_id == first + 1
    broker.restart()
    assert connect().ask(request, InitProducerIdResponse, 4).producer_id >= first + 1000


@pytest.mark.parametrize("version", range(4, 13))
def test_fetch_in_every_version(client: Any, version: int) -> None:
    produce(client, batch(b"a", b"b"))
    (data,) = fetch(client, ("t", 0, 0), version=version)
    assert (data.error_code, data.high_watermark, data.last_stable_offset) == (Code.NONE, 2, 2)
    assert values(data) == [b"a", b"b"]
    assert data.aborted_transactions is None


@pytest.mark.parametrize(
    ("place", "more", "code"),
    [
        pytest.param(("nope", 0, 0), {}, Code.UNKNOWN_TOPIC_OR_PARTITION, id="no such topic"),
        pytest.param(("t", 9, 0), {}, Code.UNKNOWN_TOPIC_OR_PARTITION, id="no such partition"),
        pytest.param(("t", 0, 2), {}, Code.OFFSET_OUT_OF_RANGE, id="above the end"),
        pytest.param(("t", 0, -1), {}, Code.OFFSET_OUT_OF_RANGE, id="below the start"),
    ],
)
def test_fetch_errors_do_not_wait(client: Any, place: tuple[str, int, int], more: dict[str, Any], code: Code) -> None:
    produce(client, batch(b"a"))
    (data,) = fetch(client, place, max_wait_ms=60_000, **more)
    assert Code(data.error_code) is code
    assert (data.high_watermark, bytes(data.records or b"")) == (-1, b"")


@pytest.mark.parametrize(("epoch", "code"), [(0, Code.NONE), (7, Code.UNKNOWN_LEADER_EPOCH)])
def test_leader_epochs_are_checked(client: Any, epoch: int, code: Code) -> None:
    request = fetch_request(("t", 0, 0))
    partition = FetchPartition(partition=0, fetch_offset=0, partition_max_bytes=1, current_leader_epoch=epoch)
    request = FetchRequest(max_wait_ms=0, min_bytes=0, topics=[FetchTopic(topic="t", partitions=[partition])])
    data = client.ask(request, FetchResponse, 12).responses[0].partitions[0]
    assert Code(data.error_code) is code


def test_the_first_batch_is_whole_however_small_the_bounds(client: Any) -> None:
    produce(client, batch(bytes(5000)))
    produce(client, batch(bytes(5000)))
    produce(client, batch(b"other"), index=1)
    first, second = fetch(client, ("t", 0, 0), ("t", 1, 0), bytes_max=1)
    assert len(values(first)) == 1
    assert len(second.records or b"") == 0
    first, second = fetch(client, ("t", 0, 0), ("t", 1, 0), max_bytes=100)
    assert (len(values(first)), len(second.records or b"")) == (1, 0)


def test_a_fetch_waits_for_what_comes(connect: Connect) -> None:
    producer, consumer = connect(), connect()
    consumer.send(fetch_request(("t", 0, 0), ("t", 1, 0), max_wait_ms=60_000, min_bytes=1), 12)
    produce(producer, batch(b"late"), index=1)
    response = consumer.receive(FetchResponse, 12)
    assert [values(data) for data in response.responses[0].partitions] == [[], [b"late"]]


def test_a_fetch_waits_for_enough(connect: Connect) -> None:
    producer, consumer = connect(), connect()
    consumer.send(fetch_request(("t", 0, 0), max_wait_ms=60_000, min_bytes=2000), 12)
    for _ in range(2):
        produce(producer, batch(bytes(1500)))
    response = consumer.receive(FetchResponse, 12)
    assert len(values(response.responses[0].partitions[0])) == 2


def test_a_fetch_ends_when_its_time_is_over(client: Any) -> None:
    (data,) = fetch(client, ("t", 0, 0), max_wait_ms=50)
    assert (data.error_code, data.high_watermark, data.records) == (Code.NONE, 0, b"")


def test_a_waiting_fetch_hears_of_a_deleted_topic(connect: Connect, broker: Broker) -> None:
    from kpybroker.wire.messages.delete_topics import DeleteTopicsRequest, DeleteTopicsResponse, DeleteTopicState

    consumer, admin = connect(), connect()
    consumer.send(fetch_request(("t", 0, 0), max_wait_ms=60_000), 12)
    gone = DeleteTopicsRequest(topics=[DeleteTopicState(name="t", topic_id=ZERO_UUID)], timeout_ms=5000)
    assert admin.ask(gone, DeleteTopicsResponse, 6).responses[0].error_code == Code.NONE
    response = consumer.receive(FetchResponse, 12)
    assert response.responses[0].partitions[0].error_code == Code.UNKNOWN_TOPIC_OR_PARTITION


def test_an_incremental_session(client: Any) -> None:
    first = client.ask(fetch_request(("t", 0, 0), ("t", 1, 0), session_epoch=0), FetchResponse, 12)
    assert first.session_id != 0
    assert len(first.responses[0].partitions) == 2

    def incremental(epoch: int, *partitions: tuple[str, int, int], **more: Any) -> FetchResponse:
        request = fetch_request(*partitions, session_id=first.session_id, session_epoch=epoch, **more)
        response: FetchResponse = client.ask(request, FetchResponse, 12)
        return response

    assert incremental(1).responses == []
    produce(client, batch(b"new"), index=1)
    changed = incremental(2)
    assert [(topic.topic, [data.partition_index for data in topic.partitions]) for topic in changed.responses] == [
        ("t", [1])
    ]
    assert values(incremental(3).responses[0].partitions[0]) == [b"new"], "told again until the fetcher moves on"
    assert incremental(4, ("t", 1, 1)).responses == []
    assert incremental(9).error_code == Code.INVALID_FETCH_SESSION_EPOCH
    forgotten = incremental(5, forgotten_topics_data=[ForgottenTopic(topic="t", partitions=[0, 1])])
    assert (forgotten.error_code, forgotten.session_id) == (Code.NONE, 0)
    assert incremental(6).error_code == Code.FETCH_SESSION_ID_NOT_FOUND


def test_no_partition_starves(broker: Broker, client: Any) -> None:
    broker.create_topic("wide", partitions=8)
    for index in range(8):
        produce(client, batch(bytes(2000)), topic="wide", index=index)
        produce(client, batch(bytes(2000)), topic="wide", index=index)
    places = [("wide", index, 0) for index in range(8)]
    response = client.ask(fetch_request(*places, session_epoch=0, max_bytes=5000, bytes_max=2100), FetchResponse, 12)
    served: set[int] = set()
    for epoch in range(1, 8):
        served |= {
            data.partition_index
            for topic in response.responses
            for data in topic.partitions
            if len(data.records or b"")
        }
        again = fetch_request(session_id=response.session_id, session_epoch=epoch, max_bytes=5000)
        response = client.ask(again, FetchResponse, 12)
    assert served == set(range(8))


def list_offsets(
    client: Any, timestamp: int, version: int = 11, index: int = 0, **more: Any
) -> ListOffsetsPartitionResponse:
    partition = ListOffsetsPartition(partition_index=index, timestamp=timestamp)
    options = {"replica_id": -1, "isolation_level": 0, "timeout_ms": 1000} | more
    request = ListOffsetsRequest(topics=[ListOffsetsTopic(name="t", partitions=[partition])], **options)
    answer: ListOffsetsPartitionResponse = client.ask(request, ListOffsetsResponse, version).topics[0].partitions[0]
    return answer


@pytest.mark.parametrize(
    ("timestamp", "offset", "of_record"),
    [
        pytest.param(-1, 4, None, id="latest"),
        pytest.param(-2, 0, None, id="earliest"),
        pytest.param(-3, 1, 1, id="max timestamp: the first record that has it"),
        pytest.param(-4, 0, None, id="earliest local"),
        pytest.param(-5, -1, None, id="latest tiered: nothing is"),
        pytest.param(-6, -1, None, id="earliest pending upload: nothing is"),
        pytest.param(NOW_MS, 0, 0, id="a timestamp"),
        pytest.param(NOW_MS + 1, 1, 1, id="the next"),
        pytest.param(NOW_MS + 100, -1, None, id="later than all"),
        pytest.param(0, 0, 0, id="earlier than all"),
    ],
)
def test_list_offsets(client: Any, timestamp: int, offset: int, of_record: int | None) -> None:
    produce(client, batch(b"a", b"b"))
    produce(client, batch(b"c", b"d"))
    answer = list_offsets(client, timestamp)
    assert (answer.error_code, answer.offset) == (Code.NONE, offset)
    if timestamp != -3:
        assert answer.timestamp == (-1 if of_record is None else NOW_MS + of_record)
    assert answer.leader_epoch == (-1 if offset < 0 else 0)


@pytest.mark.parametrize("version", range(1, 12))
def test_list_offsets_in_every_version(client: Any, version: int) -> None:
    produce(client, batch(b"a"))
    for timestamp, offset in ((-1, 1), (-2, 0), (0, 0)):
        answer = list_offsets(client, timestamp, version)
        assert (answer.error_code, answer.offset, answer.leader_epoch) == (Code.NONE, offset, 0 if version >= 4 else -1)


@pytest.mark.parametrize(("timestamp", "version"), [(-3, 6), (-4, 7), (-5, 8), (-6, 10)])
def test_special_timestamps_have_their_versions(client: Any, timestamp: int, version: int) -> None:
    assert list_offsets(client, timestamp, version).error_code == Code.UNSUPPORTED_VERSION
    assert list_offsets(client, timestamp, version + 1).error_code == Code.NONE


def test_list_offsets_errors(client: Any) -> None:
    assert list_offsets(client, -1, index=5).error_code == Code.UNKNOWN_TOPIC_OR_PARTITION
    partition = ListOffsetsPartition(partition_index=0, timestamp=-1)
    request = ListOffsetsRequest(
        replica_id=-1,
        topics=[ListOffsetsTopic(name="t", partitions=[partition, partition])],
        timeout_ms=1,
        isolation_level=0,
    )
    answers = client.ask(request, ListOffsetsResponse, 10).topics[0].partitions
    assert [answer.error_code for answer in answers] == [Code.INVALID_REQUEST]


def test_offset_for_leader_epoch(client: Any) -> None:
    produce(client, batch(b"a", b"b"))

    def ask(leader_epoch: int, current: int = -1, index: int = 0) -> tuple[int, int, int]:
        partition = OffsetForLeaderPartition(partition=index, leader_epoch=leader_epoch, current_leader_epoch=current)
        request = OffsetForLeaderEpochRequest(topics=[OffsetForLeaderTopic(topic="t", partitions=[partition])])
        answer = client.ask(request, OffsetForLeaderEpochResponse, 4).topics[0].partitions[0]
        return answer.error_code, answer.leader_epoch, answer.end_offset

    assert ask(0) == (Code.NONE, 0, 2)
    assert ask(5)[0] == Code.NONE
    assert ask(0, current=9) == (Code.UNKNOWN_LEADER_EPOCH, -1, -1)
    assert ask(0, index=7) == (Code.UNKNOWN_TOPIC_OR_PARTITION, -1, -1)


def test_everything_is_there_after_a_restart(broker: Broker, connect: Connect) -> None:
    client = connect()
    for number in range(20):
        produce(client, batch(b"%d" % number, codec="lz4" if number % 2 else "none"), index=number % 2)
    broker.restart()
    client = connect()
    seen = {data.partition_index: values(data) for data in fetch(client, ("t", 0, 0), ("t", 1, 0))}
    assert seen == {index: [b"%d" % number for number in range(index, 20, 2)] for index in (0, 1)}
    assert produce(client, batch(b"more")).base_offset == 10


def test_many_fetchers_wait_on_one_partition(connect: Connect) -> None:
    consumers = [connect() for _ in range(20)]
    for consumer in consumers:
        consumer.send(fetch_request(("t", 0, 0), max_wait_ms=60_000), 12)
    done: list[list[bytes | None]] = []
    readers = [
        threading.Thread(
            target=lambda consumer=consumer: done.append(
                values(consumer.receive(FetchResponse, 12).responses[0].partitions[0])
            )
        )
        for consumer in consumers
    ]
    for reader in readers:
        reader.start()
    produce(connect(), batch(b"for all"))
    for reader in readers:
        reader.join()
    assert done == [[b"for all"]] * 20

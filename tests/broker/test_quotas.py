"""Quotas as clients meet them: what they are told, and what is left in the log."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable
from typing import Any

import pytest

from kpybroker.testing import Broker
from kpybroker.wire.codes import Code
from kpybroker.wire.messages.alter_client_quotas import (
    AlterClientQuotasRequest,
    AlterClientQuotasResponse,
    EntityData,
    OpData,
    RequestEntryData,
)
from kpybroker.wire.messages.create_topics import CreatableTopic, CreateTopicsRequest, CreateTopicsResponse
from kpybroker.wire.messages.fetch import FetchPartition, FetchRequest, FetchResponse, FetchTopic
from kpybroker.wire.messages.find_coordinator import FindCoordinatorRequest, FindCoordinatorResponse
from kpybroker.wire.messages.metadata import MetadataRequest, MetadataResponse
from kpybroker.wire.messages.produce import PartitionProduceData, ProduceRequest, ProduceResponse, TopicProduceData
from kpybroker.wire.records.batch import build_batch
from kpybroker.wire.records.record import Record

Connect = Callable[[], Any]

BYTES = 50_000
TINY = 1.0
"""A limit that one request exceeds for a day."""


@pytest.fixture
def broker(broker: Broker) -> Broker:
    broker.create_topic("t")
    return broker


@pytest.fixture
def limit(connect: Connect) -> Callable[..., None]:
    """Sets a quota of all client ids, and waits until it is in force."""
    admin = connect()
    admin.client_id = None

    def limit(key: str, value: float) -> None:
        entity = [EntityData(entity_type="client-id", entity_name=None)]
        entry = RequestEntryData(entity=entity, ops=[OpData(key=key, value=value, remove=False)])
        request = AlterClientQuotasRequest(entries=[entry], validate_only=False)
        (answer,) = admin.ask(request, AlterClientQuotasResponse, 1).entries
        assert answer.error_code == Code.NONE

    return limit


def produce_request(acks: int = 1) -> ProduceRequest:
    batch = build_batch([Record(timestamp=int(time.time() * 1000), key=None, value=bytes(BYTES))])
    partition = PartitionProduceData(index=0, records=batch)
    return ProduceRequest(
        acks=acks, timeout_ms=5000, topic_data=[TopicProduceData(name="t", partition_data=[partition])]
    )


def fetch_request(session_id: int = 0, session_epoch: int = -1, bytes_max: int = 1_000_000) -> FetchRequest:
    wanted = FetchPartition(partition=0, fetch_offset=0, partition_max_bytes=bytes_max)
    return FetchRequest(
        max_wait_ms=0,
        min_bytes=1,
        topics=[FetchTopic(topic="t", partitions=[wanted])],
        session_id=session_id,
        session_epoch=session_epoch,
    )


def fetch(client: Any, **fields: Any) -> FetchResponse:
    response: FetchResponse = client.ask(fetch_request(**fields), FetchResponse, 12)
    return response


def size_of(response: FetchResponse) -> int:
    return sum(len(data.records or b"") for topic in response.responses for data in topic.partitions)


def test_without_a_quota_nobody_is_throttled(client: Any) -> None:
    assert client.ask(produce_request(), ProduceResponse, 12).throttle_time_ms == 0
    assert fetch(client).throttle_time_ms == 0


def test_produce(connect: Connect, limit: Callable[..., None]) -> None:
    """The records are appended; the answer says how long its connection is not read now. Others are."""
    limit("producer_byte_rate", TINY)
    throttled, other, reader = connect(), connect(), connect()
    other.client_id = "other"
    answer = throttled.ask(produce_request(), ProduceResponse, 12)
    assert answer.responses[0].partition_responses[0].error_code == Code.NONE
    assert answer.throttle_time_ms > 3_600_000
    throttled.send(MetadataRequest(topics=[]), 12)
    assert other.ask(MetadataRequest(topics=[]), MetadataResponse, 12).throttle_time_ms == 0
    assert size_of(fetch(reader)) > BYTES
    throttled.socket.settimeout(0.05)
    with pytest.raises(TimeoutError):
        throttled.socket.recv(1)


def test_produce_without_an_answer_is_throttled_all_the_same(connect: Connect, limit: Callable[..., None]) -> None:
    limit("producer_byte_rate", TINY)
    throttled, after = connect(), connect()
    throttled.send(produce_request(acks=0), 12)
    throttled.send(MetadataRequest(topics=[]), 12)
    deadline = time.monotonic() + 20
    while size_of(fetch(after)) < BYTES:
        assert time.monotonic() < deadline
    assert after.ask(produce_request(), ProduceResponse, 12).throttle_time_ms > 3_600_000
    throttled.socket.settimeout(0.05)
    with pytest.raises(TimeoutError):
        throttled.socket.recv(1)


def test_a_throttled_fetch_is_empty_and_costs_nothing(connect: Connect, limit: Callable[..., None]) -> None:
    connect().ask(produce_request(), ProduceResponse, 12)
    limit("consumer_byte_rate", 1000.0)
    answer = fetch(connect())
    assert (answer.error_code, answer.responses) == (Code.NONE, [])
    assert 30_000 < answer.throttle_time_ms < 50_000  # 50,000 bytes where 10,000 may be had at once
    assert fetch(connect()).throttle_time_ms == pytest.approx(answer.throttle_time_ms, abs=3000), "it was not counted"


def test_a_throttled_fetch_leaves_its_session_as_it_was(
    broker: Broker, connect: Connect, limit: Callable[..., None]
) -> None:
    """The next fetch of the session is told what this one was not; a session that nobody was told of is none."""
    client = connect()
    client.ask(produce_request(), ProduceResponse, 12)
    opened = fetch(client, session_epoch=0, bytes_max=1)
    assert size_of(opened) > BYTES
    limit("consumer_byte_rate", 1000.0)
    throttled = fetch(client, session_id=opened.session_id, session_epoch=1)
    assert (throttled.session_id, throttled.responses) == (opened.session_id, [])
    limit("consumer_byte_rate", 1e9)
    again = fetch(connect(), session_id=opened.session_id, session_epoch=2)
    assert size_of(again) > BYTES
    limit("consumer_byte_rate", 1000.0)
    assert fetch(connect(), session_epoch=0).session_id == 0


def test_no_more_is_fetched_than_may_be_had_at_once(connect: Connect, limit: Callable[..., None]) -> None:
    """Or a fetcher that asks for much would be throttled for ever."""
    client = connect()
    for _ in range(5):
        client.ask(produce_request(), ProduceResponse, 12)
    limit("consumer_byte_rate", 10_100.0)
    deadline = time.monotonic() + 20
    while (answer := fetch(client)).throttle_time_ms:  # what is around the records counts, too: a few milliseconds
        assert answer.throttle_time_ms < 100
        assert time.monotonic() < deadline
    assert size_of(answer) // BYTES == 2


def test_request_percentage(connect: Connect, limit: Callable[..., None]) -> None:
    """A pause is never longer than one sample, and every API is throttled."""
    limit("request_percentage", 1e-9)
    assert connect().ask(MetadataRequest(topics=[]), MetadataResponse, 12).throttle_time_ms == 1000
    answer = fetch(connect())
    assert (answer.throttle_time_ms, answer.responses) == (1000, [])
    assert connect().ask(produce_request(), ProduceResponse, 12).throttle_time_ms == 1000


def create(client: Any, name: str, version: int) -> CreateTopicsResponse:
    topic = CreatableTopic(name=name, num_partitions=2, replication_factor=1, assignments=[], configs=[])
    response: CreateTopicsResponse = client.ask(
        CreateTopicsRequest(topics=[topic], timeout_ms=5000), CreateTopicsResponse, version
    )
    return response


def test_changes_of_topics(connect: Connect, limit: Callable[..., None]) -> None:
    """KIP-599: clients that know the error get it, older ones are carried out, and pause."""
    limit("controller_mutation_rate", 0.0001)
    assert create(connect(), "a", 7).topics[0].error_code == Code.NONE
    refused = create(connect(), "b", 6)
    assert refused.topics[0].error_code == Code.THROTTLING_QUOTA_EXCEEDED
    assert 3_600_000 < refused.throttle_time_ms < 20_000_000
    permitted = create(connect(), "c", 5)
    assert permitted.topics[0].error_code == Code.NONE
    assert permitted.throttle_time_ms > refused.throttle_time_ms


def test_an_internal_topic_is_no_change_of_the_client_that_needs_it(
    connect: Connect, limit: Callable[..., None]
) -> None:
    limit("controller_mutation_rate", 0.0001)
    create(connect(), "a", 5)  # all that may be changed for a long time
    request = FindCoordinatorRequest(coordinator_keys=["g"], key_type=0)
    deadline = time.monotonic() + 30
    code: int = Code.COORDINATOR_NOT_AVAILABLE
    while code == Code.COORDINATOR_NOT_AVAILABLE and time.monotonic() < deadline:
        (found,) = connect().ask(request, FindCoordinatorResponse, 4).coordinators
        code = found.error_code
    assert code == Code.NONE


def test_pipelined_requests_wait_for_the_pause(connect: Connect, limit: Callable[..., None]) -> None:
    limit("request_percentage", 1e-9)
    client = connect()
    began = time.monotonic()
    for _ in range(2):
        client.send(MetadataRequest(topics=[]), 12)
    frames = [client.receive_frame() for _ in range(2)]
    assert time.monotonic() - began >= 0.9, "the second answer came before the pause was over"
    throttle_ms = [struct.unpack(">i", frame[5:9])[0] for frame in frames]
    assert throttle_ms == [1000, 1000]


def test_quotas_outlive_a_restart(broker: Broker, connect_to: Callable[[int], Any], limit: Callable[..., None]) -> None:
    limit("request_percentage", 1e-9)
    broker.restart()
    assert connect_to(broker.port).ask(MetadataRequest(topics=[]), MetadataResponse, 12).throttle_time_ms == 1000

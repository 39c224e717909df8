"""Apache Kafka's Java producer and consumer: every codec and every acks, by assignment, by time, across a restart."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from harness.admin import create_topic, end_offsets
from harness.brokers import BrokerUnderTest, ChildBroker
from harness.clients import CODECS
from harness.java_clients import JavaClients, plain, refusal

PARTITIONS = 3
PROMISES = [
    pytest.param({"acks": "all", "enable.idempotence": "true"}, id="idempotent"),
    pytest.param({"acks": "all", "enable.idempotence": "false"}, id="all"),
    pytest.param({"acks": "1", "enable.idempotence": "false"}, id="one"),
    pytest.param({"acks": "0", "enable.idempotence": "false"}, id="none"),
]


@pytest.fixture
def topic(broker: BrokerUnderTest) -> str:
    name = f"java-{uuid.uuid4().hex[:8]}"
    create_topic(broker.address, name, PARTITIONS)
    end_offsets(broker.address, name, PARTITIONS)  # led: a producer with acks=0 is not told that it came too early
    return name


def assigned(clients: JavaClients, consumer: Any, topic: str) -> Any:
    """Give a consumer all of the topic's partitions, without a group."""
    consumer.assign([clients.partition(topic, number) for number in range(PARTITIONS)])
    return consumer


@pytest.mark.parametrize("promise", PROMISES)
@pytest.mark.parametrize("codec", CODECS)
def test_what_goes_in_comes_out(
    java_clients: JavaClients,
    broker: BrokerUnderTest,
    topic: str,
    lines: list[bytes],
    codec: str,
    promise: dict[str, str],
) -> None:
    text = lines[:1200]
    with java_clients.producer(broker.address, compression_type=codec, **promise) as producer:
        offsets = java_clients.send(producer, topic, PARTITIONS, text)
    if promise["acks"] == "0":
        assert set(offsets) == {-1}  # nobody has told it
    else:
        assert offsets == [number // PARTITIONS for number in range(len(text))]
    with java_clients.consumer(broker.address) as consumer:
        read = java_clients.read(assigned(java_clients, consumer, topic), len(text))
    assert sorted(read) == sorted(text)


def test_what_a_record_carries(java_clients: JavaClients, broker: BrokerUnderTest, topic: str) -> None:
    """Key, value, headers and timestamp; no key, no value; where the producer was told that it went."""
    record_of = java_clients.producer_api.ProducerRecord
    with java_clients.producer(broker.address) as producer:
        full = record_of(topic, 1, 1_600_000_000_123, b"key", b"value")
        full.headers().add("trace", b"\x00\x01").add("empty", None)
        told = producer.send(full).get()
        assert (told.topic(), told.partition(), told.offset()) == (topic, 1, 0)
        assert told.timestamp() == 1_600_000_000_123
        assert (told.serializedKeySize(), told.serializedValueSize()) == (3, 5)
        producer.send(record_of(topic, 1, None, None)).get()
    with java_clients.consumer(broker.address) as consumer:
        consumer.assign([java_clients.partition(topic, 1)])
        records: list[Any] = []
        while len(records) < 2:  # a fetch ends with a segment, and times so far apart are not in one
            records.extend(consumer.poll(java_clients.seconds(30)).records(java_clients.partition(topic, 1)))
        first, second = records
    assert (first.key(), first.value(), first.timestamp()) == (b"key", b"value", 1_600_000_000_123)
    assert first.timestampType().toString() == "CreateTime"
    headers = [(each.key(), each.value()) for each in first.headers().toArray()]
    assert headers == [("trace", b"\x00\x01"), ("empty", None)]
    assert (second.key(), second.value(), second.offset()) == (None, None, 1)
    assert first.leaderEpoch().get() == 0


def test_seeking(java_clients: JavaClients, broker: BrokerUnderTest, topic: str) -> None:
    """By offset, to both ends, by time; beginnings, ends and lag."""
    record_of = java_clients.producer_api.ProducerRecord
    zero = java_clients.partition(topic, 0)
    with java_clients.producer(broker.address) as producer:
        for number in range(10):
            producer.send(record_of(topic, 0, 1_000 + number * 1_000, None, f"{number}".encode())).get()
    with java_clients.consumer(broker.address) as consumer:
        consumer.assign([zero])
        consumer.seek(zero, 7)
        assert java_clients.read(consumer, 3) == [b"7", b"8", b"9"]
        consumer.seekToBeginning([zero])
        assert java_clients.read(consumer, 10)[0] == b"0"
        consumer.seekToEnd([zero])
        assert consumer.position(zero) == 10
        assert plain(consumer.beginningOffsets([zero])) == {zero: 0}
        assert plain(consumer.endOffsets([zero])) == {zero: 10}
        found = consumer.offsetsForTimes(java_clients.longs({zero: 4_500}))[zero]
        assert (found.offset(), found.timestamp()) == (4, 5_000)
        late = consumer.offsetsForTimes(java_clients.longs({zero: 11_000}))
        assert late[zero] is None
        consumer.seek(zero, 0)
        consumer.pause([zero])
        assert java_clients.poll(consumer, 0.2) == []
        consumer.resume([zero])
        assert len(java_clients.read(consumer, 10)) == 10
        assert consumer.currentLag(zero).getAsLong() == 0


def test_a_position_that_is_not_there(java_clients: JavaClients, broker: BrokerUnderTest, topic: str) -> None:
    """Beyond the end there is nothing to go on with, unless the consumer is told where to begin."""
    with java_clients.producer(broker.address) as producer:
        java_clients.send(producer, topic, 1, [b"one", b"two"])
    zero = java_clients.partition(topic, 0)
    with java_clients.consumer(broker.address, auto_offset_reset="none") as consumer:
        consumer.assign([zero])
        consumer.seek(zero, 100)
        kind, message = refusal(lambda: java_clients.poll(consumer, 30))
        assert kind == "OffsetOutOfRangeException"
        assert f"{topic}-0" in message
    with java_clients.consumer(broker.address) as consumer:
        consumer.assign([zero])
        consumer.seek(zero, 100)
        assert java_clients.read(consumer, 2) == [b"one", b"two"]


def test_a_position_with_its_epoch(java_clients: JavaClients, broker: BrokerUnderTest, topic: str) -> None:
    """KIP-320: before it goes on from a place, the consumer asks whether the leader's log has that epoch there."""
    zero = java_clients.partition(topic, 0)
    place_of = java_clients.consumer_api.OffsetAndMetadata
    with java_clients.producer(broker.address) as producer:
        java_clients.send(producer, topic, 1, [b"one", b"two", b"three"])
    with java_clients.consumer(broker.address, auto_offset_reset="none") as consumer:
        consumer.assign([zero])
        consumer.seek(zero, place_of(2, java_clients.optional(0), ""))
        assert java_clients.read(consumer, 1) == [b"three"]
        consumer.seek(zero, place_of(7, java_clients.optional(0), ""))
        kind, _ = refusal(lambda: java_clients.poll(consumer, 30))
        assert kind == "LogTruncationException"


def test_read_committed(java_clients: JavaClients, broker: BrokerUnderTest, topic: str) -> None:
    with java_clients.producer(broker.address) as producer:
        java_clients.send(producer, topic, PARTITIONS, [b"value"] * 30)
    with java_clients.consumer(broker.address, isolation_level="read_committed") as consumer:
        assert len(java_clients.read(assigned(java_clients, consumer, topic), 30)) == 30


def test_what_a_producer_is_refused(java_clients: JavaClients, broker: BrokerUnderTest, topic: str) -> None:
    record_of = java_clients.producer_api.ProducerRecord
    settings = {"max.request.size": 4_000_000, "max.block.ms": 10_000}
    with java_clients.producer(broker.address, **settings) as producer:
        large = record_of(topic, 0, None, bytes(2_000_000))
        kind, _ = refusal(lambda: producer.send(large).get())
        assert kind == "RecordTooLargeException"
        nowhere = record_of("not a name", 0, None, b"value")
        kind, message = refusal(lambda: producer.send(nowhere).get())
        assert (kind, message) == ("InvalidTopicException", "Invalid topics: [not a name]")
        assert producer.send(record_of(topic, 0, None, b"value")).get().offset() == 0


def test_partitions_for_and_list_topics(java_clients: JavaClients, broker: BrokerUnderTest, topic: str) -> None:
    with java_clients.consumer(broker.address) as consumer:
        found = consumer.partitionsFor(topic)
        assert sorted(each.partition() for each in found) == [0, 1, 2]
        assert all(each.leader().id() == each.replicas()[0].id() for each in found)
        assert topic in plain(consumer.listTopics())


def test_one_producer_over_a_restart(java_clients: JavaClients, restartable: ChildBroker, topic: str) -> None:
    """An idempotent producer and an assigned consumer, both open while the broker goes away and comes back."""
    address = restartable.address
    with java_clients.producer(address) as producer, java_clients.consumer(address) as consumer:
        assigned(java_clients, consumer, topic)
        java_clients.send(producer, topic, PARTITIONS, [b"before"] * 30)
        assert java_clients.read(consumer, 30) == [b"before"] * 30
        restartable.stop()
        restartable.start()
        offsets = java_clients.send(producer, topic, PARTITIONS, [b"after"] * 30)
        assert offsets == [10 + number // PARTITIONS for number in range(30)]
        assert java_clients.read(consumer, 30) == [b"after"] * 30

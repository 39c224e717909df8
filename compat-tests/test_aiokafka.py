"""aiokafka: produce, consume alone and in a group, commit and go on."""

from __future__ import annotations

import asyncio
import uuid

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from harness.admin import create_topic
from harness.brokers import BrokerUnderTest

PARTITIONS = 2
LIMIT_S = 90.0


@pytest.fixture
def topic(broker: BrokerUnderTest) -> str:
    name = f"aiokafka-{uuid.uuid4().hex[:8]}"
    create_topic(broker.address, name, PARTITIONS)
    return name


async def write(address: str, topic: str, values: list[bytes], codec: str | None = None) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=address, acks="all", compression_type=codec, enable_idempotence=True)
    async with producer:
        sent = [await producer.send(topic, value, partition=i % PARTITIONS) for i, value in enumerate(values)]
        await asyncio.gather(*sent)


async def read(consumer: AIOKafkaConsumer, count: int) -> list[bytes]:
    values: list[bytes] = []
    async with asyncio.timeout(LIMIT_S):
        while len(values) < count:
            polled = await consumer.getmany(timeout_ms=200)
            values += [record.value for records in polled.values() for record in records]
    return values


def numbered(start: int, end: int) -> list[bytes]:
    return [f"value {number}".encode() for number in range(start, end)]


@pytest.mark.parametrize("codec", [None, "gzip", "snappy", "lz4", "zstd"])
def test_what_went_in_comes_out(broker: BrokerUnderTest, topic: str, codec: str | None) -> None:
    async def scenario() -> list[bytes]:
        await write(broker.address, topic, numbered(0, 1000), codec)
        consumer = AIOKafkaConsumer(bootstrap_servers=broker.address, auto_offset_reset="earliest")
        async with consumer:
            partitions = [TopicPartition(topic, number) for number in range(PARTITIONS)]
            consumer.assign(partitions)
            assert await consumer.end_offsets(partitions) == dict.fromkeys(partitions, 500)
            return await read(consumer, 1000)

    assert sorted(asyncio.run(scenario())) == sorted(numbered(0, 1000))


def test_a_group_goes_on_after_what_it_has_committed(broker: BrokerUnderTest, topic: str) -> None:
    group = {"group_id": f"group-{topic}", "auto_offset_reset": "earliest", "enable_auto_commit": False}

    async def one_round(values: list[bytes]) -> list[bytes]:
        await write(broker.address, topic, values)
        consumer = AIOKafkaConsumer(topic, bootstrap_servers=broker.address, **group)
        async with consumer:
            found = await read(consumer, len(values))
            await consumer.commit()
            return found

    for start in (0, 100, 200):
        expected = numbered(start, start + 100)
        assert sorted(asyncio.run(one_round(expected))) == sorted(expected)


def test_two_members_share_the_partitions(broker: BrokerUnderTest, topic: str) -> None:
    async def scenario() -> None:
        settings = {"group_id": f"group-{topic}", "heartbeat_interval_ms": 300, "auto_offset_reset": "earliest"}
        first = AIOKafkaConsumer(topic, bootstrap_servers=broker.address, **settings)
        second = AIOKafkaConsumer(topic, bootstrap_servers=broker.address, **settings)
        async with first, asyncio.timeout(LIMIT_S):
            assert len(first.assignment()) == PARTITIONS
            async with second:
                while not (len(first.assignment()) == len(second.assignment()) == 1):
                    await asyncio.gather(first.getmany(timeout_ms=50), second.getmany(timeout_ms=50))
                assert first.assignment() != second.assignment()
            while len(first.assignment()) != PARTITIONS:
                await first.getmany(timeout_ms=50)

    asyncio.run(scenario())

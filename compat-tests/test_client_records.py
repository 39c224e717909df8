"""Every stock client writes with each codec that it has, with and without idempotence, and reads what others wrote."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from harness.admin import create_topic
from harness.brokers import BrokerUnderTest
from harness.clients import CODECS
from harness.driver import Driver, Drivers
from harness.stock_clients import CLIENTS, having

PARTITIONS = 3

WRITES = [
    pytest.param(name, codec, idempotent, id=f"{name}-{codec}-{'idempotent' if idempotent else 'plain'}")
    for name, client in CLIENTS.items()
    for codec in client.codecs
    for idempotent in ((False, True) if client.idempotence else (False,))
]


def records_of(writer: str, count: int) -> list[dict[str, Any]]:
    """Alike enough to be compressed, each with a key and a header, beyond ASCII."""
    return [
        {
            "key": f"key {number}",
            "value": f"{writer}: значение {number} " + "x" * (number % 200),
            "headers": {"n": str(number)},
        }
        for number in range(count)
    ]


def expected(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The records as they are read, by partition and offset."""
    places = [divmod(number, PARTITIONS) for number in range(len(records))]
    placed = [
        {**record, "partition": partition, "offset": offset}
        for record, (offset, partition) in zip(records, places, strict=True)
    ]
    return sorted(placed, key=place)


def place(record: dict[str, Any]) -> tuple[int, int]:
    return record["partition"], record["offset"]


def produce(driver: Driver, topic: str, codec: str, idempotent: bool, records: list[dict[str, Any]]) -> None:
    driver.ask("produce", topic=topic, codec=codec, idempotent=idempotent, partitions=PARTITIONS, records=records)


@pytest.mark.parametrize(("driver", "codec", "idempotent"), WRITES, indirect=["driver"])
def test_records_come_out_as_they_went_in(driver: Driver, codec: str, idempotent: bool) -> None:
    if codec not in driver.codecs:
        pytest.skip(f"{driver.client.name} is built without {codec} here")
    topic = f"records-{uuid.uuid4().hex[:8]}"
    driver.ask("create_topic", topic=topic, partitions=PARTITIONS)
    records = records_of(driver.client.name, 300)
    produce(driver, topic, codec, idempotent, records)
    found = driver.ask("read", topic=topic, partitions=PARTITIONS, count=len(records))
    assert sorted(found, key=place) == expected(records)


@pytest.fixture(scope="module")
def written_by_all(_session_broker: BrokerUnderTest, drivers: Drivers) -> dict[str, tuple[str, list[str]]]:
    """For each codec a topic that each client has written to that has the codec, and all the values in it."""
    topics: dict[str, tuple[str, list[str]]] = {}
    for codec in CODECS:
        topic, values = f"all-{codec}-{uuid.uuid4().hex[:8]}", []
        create_topic(_session_broker.address, topic, PARTITIONS)
        for driver in drivers.all():
            if codec in driver.codecs:
                records = records_of(f"{driver.client.name} with {codec}", 30)
                produce(driver, topic, codec, False, records)
                values += [record["value"] for record in records]
        topics[codec] = topic, values
    return topics


@pytest.mark.parametrize("driver", having("read"), indirect=True)
def test_each_client_reads_what_all_wrote(driver: Driver, written_by_all: dict[str, tuple[str, list[str]]]) -> None:
    for codec in driver.codecs:
        topic, values = written_by_all[codec]
        found = driver.ask("read", topic=topic, partitions=PARTITIONS, count=len(values))
        assert sorted(record["value"] for record in found) == sorted(values), codec

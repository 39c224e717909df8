"""Every stock client writes with each codec that it has, with and without idempotence, and reads what others wrote."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from harness.driver import Driver, Drivers
from harness.stock_clients import CLIENTS, ClientMissing, having

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
        {"key": f"key {number}", "value": f"{writer}: значение {number} " + "x" * (number % 200), "headers": {"n": str(number)}}
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


def write(driver: Driver, topic: str, codec: str, idempotent: bool, records: list[dict[str, Any]]) -> None:
    if codec not in driver.codecs:
        pytest.skip(f"{driver.client.name} is built without {codec} here")
    driver.ask(
        "produce", topic=topic, codec=codec, idempotent=idempotent, partitions=PARTITIONS, records=records
    )


@pytest.mark.parametrize(("driver", "codec", "idempotent"), WRITES, indirect=["driver"])
def test_records_come_out_as_they_went_in(driver: Driver, codec: str, idempotent: bool) -> None:
    topic = f"records-{uuid.uuid4().hex[:8]}"
    driver.ask("create_topic", topic=topic, partitions=PARTITIONS)
    records = records_of(driver.client.name, 300)
    write(driver, topic, codec, idempotent, records)
    found = driver.ask("read", topic=topic, partitions=PARTITIONS, count=len(records))
    assert sorted(found, key=place) == expected(records)


@pytest.fixture(scope="module")
def shared_topic(drivers: Drivers) -> tuple[str, list[str]]:
    """A topic that each client has written to with each codec that it has; and all the values in it."""
    topic, values = f"shared-{uuid.uuid4().hex[:8]}", []
    for name in CLIENTS:
        try:
            driver = drivers.get(name)
        except ClientMissing:
            continue
        if not values:
            driver.ask("create_topic", topic=topic, partitions=PARTITIONS)
        for codec in driver.codecs:
            records = records_of(f"{name} with {codec}", 30)
            driver.ask("produce", topic=topic, codec=codec, idempotent=False, partitions=PARTITIONS, records=records)
            values += [record["value"] for record in records]
    return topic, values


@pytest.mark.parametrize("driver", having("read"), indirect=True)
def test_each_client_reads_what_all_wrote(driver: Driver, shared_topic: tuple[str, list[str]]) -> None:
    topic, values = shared_topic
    if "zstd" not in driver.codecs:
        pytest.skip(f"{driver.client.name} is built without zstd here")
    found = driver.ask("read", topic=topic, partitions=PARTITIONS, count=len(values))
    assert sorted(record["value"] for record in found) == sorted(values)

"""Stock clients' transactions: committed, aborted, fenced by a second instance, with the offsets of a group."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition
from harness.admin import create_topic, end_offsets, until_ready
from harness.brokers import BrokerUnderTest
from harness.committed import values, wait_until_decided
from harness.driver import ClientError, Driver
from harness.stock_clients import having

PARTITIONS = 3
COUNT = 30


@pytest.fixture
def topic(broker: BrokerUnderTest) -> str:
    name = f"transactions-{uuid.uuid4().hex[:8]}"
    create_topic(broker.address, name, PARTITIONS)
    end_offsets(broker.address, name, PARTITIONS)
    return name


def records(what: str, count: int = COUNT) -> list[dict[str, Any]]:
    return [{"key": f"{number}", "value": f"{what} {number:03}", "headers": {}} for number in range(count)]


def texts(*whats: str) -> list[str]:
    return sorted(f"{what} {number:03}" for what in whats for number in range(COUNT))


def begin(driver: Driver, topic: str, transactional_id: str, what: str) -> None:
    driver.ask(
        "begin",
        producer=what,
        transactional_id=transactional_id,
        topic=topic,
        partitions=PARTITIONS,
        records=records(what),
    )


@pytest.mark.parametrize("driver", having("begin"), indirect=True)
def test_only_what_is_committed_is_shown(driver: Driver, broker: BrokerUnderTest, topic: str) -> None:
    """To readers of committed records; the others see it as it comes."""
    address = broker.address

    def seen(*, committed: bool) -> list[str]:
        return values(address, topic, PARTITIONS, committed=committed)

    begin(driver, topic, topic, "one")
    assert (seen(committed=True), seen(committed=False)) == ([], texts("one"))
    driver.ask("end", producer="one", committed=True)
    wait_until_decided(address, topic, PARTITIONS)
    assert seen(committed=True) == texts("one")
    begin(driver, topic, topic, "two")
    begin(driver, topic, f"{topic}-other", "three")
    driver.ask("end", producer="two", committed=False)
    driver.ask("end", producer="three", committed=True)
    wait_until_decided(address, topic, PARTITIONS)
    assert seen(committed=True) == texts("one", "three")
    assert seen(committed=False) == texts("one", "two", "three")


@pytest.mark.parametrize("driver", having("begin"), indirect=True)
def test_a_second_instance_fences_the_first(driver: Driver, broker: BrokerUnderTest, topic: str) -> None:
    begin(driver, topic, topic, "first")
    begin(driver, topic, topic, "second")
    with pytest.raises(ClientError):
        driver.ask("end", producer="first", committed=True)
    driver.ask("end", producer="second", committed=True)
    wait_until_decided(broker.address, topic, PARTITIONS)
    assert values(broker.address, topic, PARTITIONS, committed=True) == texts("second")


@pytest.mark.parametrize("driver", having("begin"), indirect=True)
def test_offsets_are_committed_with_the_transaction(driver: Driver, broker: BrokerUnderTest, topic: str) -> None:
    group = f"group-{topic}"
    for committed, offset, then in ((False, 5, -1001), (True, 7, 7), (False, 9, 7)):
        what = f"up to {offset}"
        begin(driver, topic, topic, what)
        offsets = {str(index): offset for index in range(PARTITIONS)}
        driver.ask("end", producer=what, committed=committed, group=group, topic=topic, offsets=offsets)
        assert offsets_of(broker.address, group, topic) == [then] * PARTITIONS


def offsets_of(address: str, group: str, topic: str) -> list[int]:
    """A group's committed offsets once none is pending; -1001 is librdkafka's word for none."""
    consumer = Consumer({"bootstrap.servers": address, "group.id": group, "isolation.level": "read_committed"})
    asked = [TopicPartition(topic, index) for index in range(PARTITIONS)]
    found = until_ready(lambda: consumer.committed(asked, 60))
    consumer.close()
    return [each.offset for each in found]

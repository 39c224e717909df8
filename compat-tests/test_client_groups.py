"""Every stock client's consumer groups: members come and go, commit, and go on after the broker was restarted."""

from __future__ import annotations

import uuid

import pytest
from harness.admin import committed, create_topic, wait_led
from harness.brokers import BrokerUnderTest, ChildBroker
from harness.driver import Driver, Drivers
from harness.stock_clients import GROUPS, ClientMissing, having
from harness.watch import Group, until, wait_shares, wait_values

PARTITIONS = 6

every_client = pytest.mark.parametrize("driver", having(*GROUPS), indirect=True)


@pytest.fixture
def group(broker: BrokerUnderTest) -> Group:
    """A group of nobody yet, on a topic of six partitions."""
    unique = uuid.uuid4().hex[:8]
    create_topic(broker.address, f"groups-{unique}", PARTITIONS)
    wait_led(broker.address, f"groups-{unique}", PARTITIONS)
    return Group(f"groups-{unique}", f"group-{unique}")


def write(driver: Driver, topic: str, start: int, end: int) -> list[str]:
    """Numbered values over all partitions."""
    values = [f"value {number}" for number in range(start, end)]
    records = [{"key": "", "value": value, "headers": {}} for value in values]
    idempotent = driver.client.idempotence  # so that a busy machine does not make it write anything twice
    driver.ask("produce", topic=topic, codec="none", idempotent=idempotent, partitions=PARTITIONS, records=records)
    return values


def wait_committed(broker: BrokerUnderTest, group: Group, offset: int) -> None:
    """Some libraries commit in the background."""
    wanted = dict.fromkeys(range(PARTITIONS), offset)
    until(lambda: committed(broker.address, group.group_id, group.topic, PARTITIONS), lambda found: found == wanted)


@every_client
def test_members_come_and_go(driver: Driver, group: Group) -> None:
    with group:
        first = group.join(driver)
        wait_shares([first], [6])
        second = group.join(driver)
        wait_shares([first, second], [3, 3])
        third = group.join(driver)
        wait_shares([first, second, third], [2, 2, 2])

        values = write(driver, group.topic, 0, 60)
        wait_values([first, second, third], values)

        group.leave(first)
        wait_shares([second, third], [3, 3])
        group.leave(second)
        wait_shares([third], [6])


@every_client
def test_a_new_member_goes_on_after_what_was_committed(driver: Driver, group: Group, broker: BrokerUnderTest) -> None:
    values = write(driver, group.topic, 0, 60)
    with group:
        reader = group.join(driver)
        wait_values([reader], values)
        reader.commit()
        wait_committed(broker, group, 10)
    values = write(driver, group.topic, 60, 120)
    with group:
        reader = group.join(driver)
        wait_values([reader], values)
        assert sorted(reader.values) == sorted(values)


@every_client
def test_a_group_resumes_after_a_restart(driver: Driver, restartable: ChildBroker, group: Group) -> None:
    """Stopped cleanly and killed: what was committed stays committed, and the group goes on behind it."""
    written = 0
    for bring_down in (restartable.stop, restartable.kill, None):
        values = write(driver, group.topic, written, written + 60)
        written += 60
        with group:
            reader = group.join(driver)
            wait_values([reader], values)
            assert set(reader.values) == set(values)  # a rebalance may bring some twice, but none from before
            reader.commit()
            wait_committed(restartable, group, written // PARTITIONS)
        if bring_down is not None:
            bring_down()
            restartable.start()
            wait_led(restartable.address, group.topic, PARTITIONS)


@every_client
def test_members_live_through_a_restart(driver: Driver, restartable: ChildBroker, group: Group) -> None:
    """Members that were there when the broker was killed find their group again without doing anything."""
    with group:
        first, second = group.join(driver), group.join(driver)
        wait_shares([first, second], [3, 3])
        values = write(driver, group.topic, 0, 60)
        wait_values([first, second], values)
        first.commit()
        second.commit()
        wait_committed(restartable, group, 10)

        restartable.kill()
        restartable.start()
        wait_led(restartable.address, group.topic, PARTITIONS)

        values = write(driver, group.topic, 60, 120)
        wait_values([first, second], values)
        wait_committed(restartable, group, 10)


def test_members_of_several_libraries(broker: BrokerUnderTest, drivers: Drivers, group: Group) -> None:
    """One member of each library that assigns by range: whoever leads, they agree."""
    try:
        libraries = [drivers.get(name) for name in ("kafka-python", "confluent-kafka", "sarama")]
    except ClientMissing as missing:
        pytest.skip(str(missing))
    with group:
        members = [group.join(driver) for driver in libraries]
        wait_shares(members, [2, 2, 2])
        values = write(libraries[0], group.topic, 0, 60)
        wait_values(members, values)
        for member in members:
            member.commit()
        wait_committed(broker, group, 10)

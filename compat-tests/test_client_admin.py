"""Every stock client's administration: topics, settings, groups, offsets, and what its admin client has besides."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import pytest
from harness.admin import create_topic, wait_led
from harness.brokers import BrokerUnderTest
from harness.driver import ClientError, Driver
from harness.stock_clients import CLIENTS, GROUPS, TOPICS, having
from harness.watch import Group, until, wait_shares, wait_values

PARTITIONS = 3

UNKNOWN_TOPIC_OR_PARTITION = 3
TOPIC_ALREADY_EXISTS = 36
INVALID_PARTITIONS = 37
INVALID_REPLICATION_FACTOR = 38
INVALID_TOPIC = 17
INVALID_CONFIG = 40
NON_EMPTY_GROUP = 68
GROUP_ID_NOT_FOUND = 69
ELECTION_NOT_NEEDED = 84


def clients(*requests: str) -> pytest.MarkDecorator:
    """Run by each client that can carry out all of these."""
    return pytest.mark.parametrize("driver", [_parameter(name, requests) for name in having(*requests)], indirect=True)


def _parameter(name: str, requests: tuple[str, ...]) -> object:
    takes = [api for request, api in CLIENTS[name].takes.items() if request in requests]
    return pytest.param(name, marks=[pytest.mark.needs(*takes)])


@pytest.fixture
def topic() -> str:
    """A topic that is not there yet."""
    return f"admin-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def made(broker: BrokerUnderTest, topic: str) -> str:
    """A topic of three partitions."""
    create_topic(broker.address, topic, PARTITIONS)
    wait_led(broker.address, topic, PARTITIONS)
    return topic


@pytest.fixture
def broker_id(broker: BrokerUnderTest) -> str:
    from confluent_kafka.admin import AdminClient  # not before pytest's filters for warnings are in force

    admin = AdminClient({"bootstrap.servers": broker.address})
    (node,) = admin.describe_cluster().result(60).nodes
    return str(node.id)


def refused(code: int, ask: Callable[[], Any]) -> None:
    """Raises: AssertionError when the library reports another code, or success."""
    with pytest.raises(ClientError) as error:
        ask()
    assert error.value.code == code, error.value


def write(driver: Driver, topic: str, count: int, *, idempotent: bool = False) -> list[str]:
    values = [f"value {number}" for number in range(count)]
    records = [{"key": "k", "value": value, "headers": {}} for value in values]
    driver.ask("produce", topic=topic, codec="none", idempotent=idempotent, partitions=PARTITIONS, records=records)
    return values


def by_partition(answer: dict[str, int]) -> dict[int, int]:
    """JSON has texts for keys."""
    return {int(partition): value for partition, value in answer.items()}


@clients(*TOPICS)
def test_a_topic_from_its_creation_to_its_deletion(driver: Driver, topic: str) -> None:
    driver.ask("create_topic", topic=topic, partitions=PARTITIONS)
    until(lambda: driver.ask("list_topics"), lambda names: topic in names)
    assert driver.ask("describe_topic", topic=topic)["partitions"] == PARTITIONS
    driver.ask("delete_topic", topic=topic)
    until(lambda: driver.ask("list_topics"), lambda names: topic not in names)


@clients("create_topic", "delete_topic")
def test_topics_refused(driver: Driver, made: str, topic: str) -> None:
    refused(TOPIC_ALREADY_EXISTS, lambda: driver.ask("create_topic", topic=made, partitions=1))
    refused(INVALID_PARTITIONS, lambda: driver.ask("create_topic", topic=f"{topic}-2", partitions=0))
    refused(
        INVALID_REPLICATION_FACTOR,
        lambda: driver.ask("create_topic", topic=f"{topic}-3", partitions=1, replicas=3),
    )
    refused(INVALID_TOPIC, lambda: driver.ask("create_topic", topic="a bad name", partitions=1))
    refused(UNKNOWN_TOPIC_OR_PARTITION, lambda: driver.ask("delete_topic", topic=f"{topic}-4"))


@clients("create_partitions", "describe_topic")
def test_partitions_are_added(driver: Driver, made: str) -> None:
    driver.ask("create_partitions", topic=made, partitions=5)
    until(lambda: driver.ask("describe_topic", topic=made), lambda described: described["partitions"] == 5)
    refused(INVALID_PARTITIONS, lambda: driver.ask("create_partitions", topic=made, partitions=4))


@clients("describe_cluster")
def test_the_cluster(driver: Driver, broker_id: str) -> None:
    assert driver.ask("describe_cluster") == {"brokers": [int(broker_id)], "controller": int(broker_id)}


@pytest.mark.needs("DescribeConfigs")
@clients("create_topic", "describe_configs")
def test_settings_of_a_topic(driver: Driver, topic: str) -> None:
    configs = {"retention.ms": "123456", "cleanup.policy": "compact"}
    driver.ask("create_topic", topic=topic, partitions=1, configs=configs)
    found = until(lambda: driver.ask("describe_configs", kind="topic", name=topic), bool)
    assert {name: found[name] for name in configs} == configs
    assert found["min.insync.replicas"] == "1"


@pytest.mark.needs("DescribeConfigs")
@clients("describe_configs")
def test_settings_of_a_broker(driver: Driver, broker_id: str) -> None:
    found = driver.ask("describe_configs", kind="broker", name=broker_id)
    assert found["num.partitions"] == "1"
    assert found["log.segment.bytes"] == "1073741824"


@pytest.mark.needs("IncrementalAlterConfigs", "DescribeConfigs")
@clients("describe_configs", "alter_configs")
def test_settings_are_changed(driver: Driver, made: str) -> None:
    for configs in ({"retention.ms": "1000000"}, {"max.message.bytes": "2000000"}):
        driver.ask("alter_configs", kind="topic", name=made, configs=configs)
    wanted = {"retention.ms": "1000000", "max.message.bytes": "2000000"}
    until(
        lambda: driver.ask("describe_configs", kind="topic", name=made),
        lambda found: {name: found[name] for name in wanted} == wanted,
    )


@pytest.mark.needs("AlterConfigs", "DescribeConfigs")
@clients("describe_configs", "replace_configs")
def test_settings_are_replaced(driver: Driver, made: str) -> None:
    """The older AlterConfigs: what is not named goes back to its default."""
    for configs in ({"retention.ms": "1000000"}, {"max.message.bytes": "2000000"}):
        driver.ask("replace_configs", kind="topic", name=made, configs=configs)
    wanted = {"retention.ms": "604800000", "max.message.bytes": "2000000"}
    until(
        lambda: driver.ask("describe_configs", kind="topic", name=made),
        lambda found: {name: found[name] for name in wanted} == wanted,
    )


@pytest.mark.needs("IncrementalAlterConfigs")
@clients("alter_configs")
def test_bad_settings_are_refused(driver: Driver, made: str) -> None:
    with pytest.raises(ClientError) as error:
        driver.ask("alter_configs", kind="topic", name=made, configs={"retention.ms": "soon"})
    assert error.value.code in (INVALID_CONFIG, None), error.value
    assert "Invalid value soon for configuration retention.ms" in str(error.value) or error.value.code


@clients(*GROUPS, "list_groups", "describe_group")
def test_a_group_is_listed_and_described(driver: Driver, made: str) -> None:
    with Group(made, f"group-{made}") as group:
        first, second = group.join(driver), group.join(driver)
        wait_shares([first, second], [1, 2])
        assert group.group_id in driver.ask("list_groups")
        assert driver.ask("describe_group", group=group.group_id) == {"state": "Stable", "members": 2}
        group.leave(first)
        group.leave(second)
        until(
            lambda: driver.ask("describe_group", group=group.group_id),
            lambda described: described == {"state": "Empty", "members": 0},
        )


@clients(*GROUPS, "group_offsets", "list_offsets")
def test_offsets_of_a_group(driver: Driver, made: str) -> None:
    values = write(driver, made, 30)
    with Group(made, f"group-{made}") as group:
        reader = group.join(driver)
        wait_values([reader], values)
        reader.commit()
    ends = by_partition(driver.ask("list_offsets", topic=made, partitions=PARTITIONS, spec="latest"))
    assert ends == {0: 10, 1: 10, 2: 10}
    ask = {"group": f"group-{made}", "topic": made, "partitions": PARTITIONS}
    until(lambda: by_partition(driver.ask("group_offsets", **ask)), lambda found: found == ends)


@clients("alter_group_offsets", "group_offsets")
def test_offsets_of_a_group_are_changed(driver: Driver, made: str) -> None:
    write(driver, made, 30)
    group_id = f"group-{made}"
    driver.ask("alter_group_offsets", group=group_id, topic=made, offsets={0: 3, 1: 4})
    found = driver.ask("group_offsets", group=group_id, topic=made, partitions=PARTITIONS)
    assert by_partition(found) == {0: 3, 1: 4}


@clients("alter_group_offsets", "delete_group_offsets", "group_offsets")
def test_offsets_of_a_group_are_deleted(driver: Driver, made: str) -> None:
    write(driver, made, 30)
    group_id = f"group-{made}"
    driver.ask("alter_group_offsets", group=group_id, topic=made, offsets={0: 3, 1: 4, 2: 5})
    driver.ask("delete_group_offsets", group=group_id, topic=made, partitions=2)
    found = driver.ask("group_offsets", group=group_id, topic=made, partitions=PARTITIONS)
    assert by_partition(found) == {2: 5}


@clients(*GROUPS, "delete_group", "list_groups")
def test_a_group_is_deleted(driver: Driver, made: str) -> None:
    with Group(made, f"group-{made}") as group:
        wait_shares([group.join(driver)], [3])
        refused(NON_EMPTY_GROUP, lambda: driver.ask("delete_group", group=group.group_id))
    driver.ask("delete_group", group=group.group_id)
    assert group.group_id not in driver.ask("list_groups")
    refused(GROUP_ID_NOT_FOUND, lambda: driver.ask("delete_group", group=group.group_id))


@pytest.mark.needs("DeleteRecords")
@clients("delete_records", "list_offsets")
def test_records_are_deleted(driver: Driver, made: str) -> None:
    write(driver, made, 30)
    driver.ask("delete_records", topic=made, offsets={0: 4, 1: 10})
    starts = driver.ask("list_offsets", topic=made, partitions=PARTITIONS, spec="earliest")
    assert by_partition(starts) == {0: 4, 1: 10, 2: 0}


@pytest.mark.needs("DescribeLogDirs")
@clients("describe_log_dirs")
def test_sizes_on_disk(driver: Driver, made: str, broker_id: str) -> None:
    write(driver, made, 30)
    sizes = by_partition(driver.ask("describe_log_dirs", topic=made, partitions=PARTITIONS, name=broker_id))
    assert sizes.keys() == {0, 1, 2}
    assert min(sizes.values()) > 0


@pytest.mark.needs("AlterReplicaLogDirs")
@clients("alter_replica_log_dirs")
def test_a_replica_is_moved_to_where_it_is(driver: Driver, made: str, broker_id: str) -> None:
    driver.ask("alter_replica_log_dirs", topic=made, name=broker_id)


@pytest.mark.needs("ElectLeaders")
@clients("elect_leaders")
def test_leaders_are_where_they_should_be(driver: Driver, made: str) -> None:
    codes = by_partition(driver.ask("elect_leaders", topic=made, partitions=PARTITIONS))
    assert codes == dict.fromkeys(range(PARTITIONS), ELECTION_NOT_NEEDED)


@pytest.mark.needs("AlterPartitionReassignments", "ListPartitionReassignments")
@clients("list_reassignments")
def test_nothing_is_being_reassigned(driver: Driver, made: str) -> None:
    assert driver.ask("list_reassignments", topic=made, partitions=PARTITIONS) == 0


@pytest.mark.needs("AlterPartitionReassignments", "ListPartitionReassignments")
@clients("alter_reassignments", "list_reassignments")
def test_a_partition_is_reassigned_to_its_broker(driver: Driver, made: str, broker_id: str) -> None:
    driver.ask("alter_reassignments", topic=made, name=broker_id)
    assert driver.ask("list_reassignments", topic=made, partitions=PARTITIONS) == 0


@pytest.mark.needs("DescribeProducers")
@clients("describe_producers")
def test_producers_are_known(driver: Driver, made: str) -> None:
    write(driver, made, 30, idempotent=True)
    counts = by_partition(driver.ask("describe_producers", topic=made, partitions=PARTITIONS))
    assert counts == {0: 1, 1: 1, 2: 1}


@pytest.mark.needs("AlterClientQuotas", "DescribeClientQuotas")
@clients("alter_quotas", "describe_quotas")
def test_quotas(driver: Driver, topic: str) -> None:
    entity = {"client-id": topic}
    driver.ask("alter_quotas", entity=entity, limits={"producer_byte_rate": 1e6, "consumer_byte_rate": 2e6})
    until(
        lambda: driver.ask("describe_quotas", entity=entity),
        lambda limits: limits == {"producer_byte_rate": 1e6, "consumer_byte_rate": 2e6},
    )
    driver.ask("alter_quotas", entity=entity, limits={"producer_byte_rate": None, "consumer_byte_rate": None})
    until(lambda: driver.ask("describe_quotas", entity=entity), lambda limits: limits == {})


@pytest.mark.needs("ListConfigResources")
@clients("list_config_resources")
def test_resources_with_settings(driver: Driver, made: str, broker_id: str) -> None:
    names = driver.ask("list_config_resources")
    assert made in names
    assert broker_id in names


@pytest.mark.needs("UpdateFeatures")
@clients("update_features")
def test_a_feature_at_the_level_that_it_has(driver: Driver) -> None:
    driver.ask("update_features", name="metadata.version", level=30)


@pytest.mark.needs("DescribeQuorum")
@clients("describe_quorum")
def test_the_quorum_has_a_leader(driver: Driver, broker_id: str) -> None:
    assert driver.ask("describe_quorum") == int(broker_id)


@clients("end_offset_of_epoch")
def test_where_an_epoch_ends(driver: Driver, made: str) -> None:
    write(driver, made, 30)
    assert driver.ask("end_offset_of_epoch", topic=made) == 10

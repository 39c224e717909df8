"""A broker that is unregistered while it runs: the same happens to Apache Kafka's and to ours."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from harness.brokers import ChildBroker
from harness.versions.log_cases import batch, produce
from harness.versions.world import Answer, World

from kpybroker.wire.api_keys import ApiKey

NOT_LEADER_OR_FOLLOWER, LEADER_NOT_AVAILABLE = 6, 5
INVALID_REPLICATION_FACTOR, ELIGIBLE_LEADERS_NOT_AVAILABLE, PREFERRED_LEADER_NOT_AVAILABLE = 38, 83, 80
BROKER_ID_NOT_REGISTERED = 102


@pytest.fixture
def world(restartable: ChildBroker) -> Iterator[World]:
    world = World(restartable.address)
    yield world
    world.close()


def described(world: World, topic: str) -> tuple[list[int], Answer]:
    """The brokers; error, leader, replicas, ISR and offline replicas of partition 0."""
    response = world.raw(ApiKey.METADATA, 12, topics=[{"name": topic}], allow_auto_topic_creation=False)
    (partition,) = response.topics[0].partitions
    brokers = [each.node_id for each in response.brokers]
    fields = ("error_code", "leader_id", "replica_nodes", "isr_nodes", "offline_replicas")
    return brokers, [getattr(partition, field) for field in fields]


def produced(world: World, topic: str) -> int:
    code: int = produce(world, 9, topic, (0, batch(1)))["responses"][0]["partitionResponses"][0]["errorCode"]
    return code


def elected(world: World, topic: str, kind: int) -> int:
    asked: dict[str, Any] = {"topic_partitions": [{"topic": topic, "partitions": [0]}], "timeout_ms": 30_000}
    response = world.raw(ApiKey.ELECT_LEADERS, 2, election_type=kind, **asked)
    code: int = response.replica_election_results[0].partition_result[0].error_code
    return code


def test_it_leads_nothing_until_it_starts_anew(world: World, restartable: ChildBroker) -> None:
    topic = world.topic("orphan")
    assert produced(world, topic) == 0
    answer = world.ask(ApiKey.UNREGISTER_BROKER, 0, broker_id=1)
    assert answer == {"throttleTimeMs": 0, "errorCode": 0, "errorMessage": ""}
    world.until(lambda: produced(world, topic) == NOT_LEADER_OR_FOLLOWER)
    assert described(world, topic) == ([], [LEADER_NOT_AVAILABLE, -1, [1], [], [1]])
    assert world.raw(ApiKey.UNREGISTER_BROKER, 0, broker_id=1).error_code == BROKER_ID_NOT_REGISTERED
    assert elected(world, topic, 0) == PREFERRED_LEADER_NOT_AVAILABLE
    assert elected(world, topic, 1) == ELIGIBLE_LEADERS_NOT_AVAILABLE
    new = {"name": world.name("nowhere"), "num_partitions": 1, "replication_factor": 1}
    (made,) = world.raw(ApiKey.CREATE_TOPICS, 7, topics=[new], timeout_ms=30_000).topics
    assert made.error_code == INVALID_REPLICATION_FACTOR
    restartable.kill()
    world.close()
    restartable.start()
    world.until(lambda: produced(world, topic) == 0)
    assert described(world, topic) == ([1], [0, 1, [1], [1], []])

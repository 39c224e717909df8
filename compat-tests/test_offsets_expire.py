"""Committed offsets that expire, and groups that go with them (KIP-211), as both brokers do it.

A commit before version 5 brings its own time to live; so a test need not wait for offsets.retention.minutes.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.brokers import ApacheKafka, ChildBroker, Kpybroker
from harness.kafka_jars import JavaMissing
from harness.versions.group_cases import fetch_offsets
from harness.versions.offset_cases import records_of
from harness.versions.party import Party, subscription
from harness.versions.world import World

from kpybroker.wire.api_keys import ApiKey

KINDS = {"kpybroker": Kpybroker, "kafka": ApacheKafka}
SETTINGS = {"offsets.retention.check.interval.ms": "300"}
SOON_MS = 1000
GROUP, OFFSET = 2, 1
"""The types of the records' keys."""


@pytest.fixture
def own_broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ChildBroker]:
    kind = request.config.getoption("--broker")
    if kind not in KINDS:
        pytest.skip("needs a broker with settings of its own")
    try:
        broker = KINDS[kind](tmp_path, settings=SETTINGS)
    except JavaMissing as missing:
        pytest.skip(f"needs Apache Kafka: {missing}")
    broker.start()
    yield broker
    broker.stop()


def commit_for_a_while(world: World, group_id: str, topic: str, *partitions: int, retention_ms: int) -> None:
    asked = [{"partition_index": index, "committed_offset": 7, "committed_metadata": ""} for index in partitions]
    answer = world.ask(
        ApiKey.OFFSET_COMMIT,
        4,
        group_id=group_id,
        generation_id_or_member_epoch=-1,
        retention_time_ms=retention_ms,
        topics=[{"name": topic, "partitions": asked}],
    )
    assert {each["errorCode"] for each in answer["topics"][0]["partitions"]} == {0}


def committed(world: World, group_id: str) -> dict[str, list[int]]:
    """Topic -> partitions that the group has an offset for."""
    answer = fetch_offsets(world, 8, group_id, None)
    return {
        topic["name"]: sorted(each["partitionIndex"] for each in topic["partitions"])
        for topic in answer["groups"][0]["topics"]
    }


def listed(world: World) -> set[str]:
    return {group.group_id.removeprefix(world.prefix) for group in world.raw(ApiKey.LIST_GROUPS, 4).groups}


def test_offsets_expire_and_empty_groups_go_with_them(own_broker: ChildBroker) -> None:
    world = World(own_broker.address)
    read, other = world.topic("read", partitions=2), world.topic("other", partitions=2)
    simple = Party(world, 9, "simple").group_id
    members = Party(world, 9, "members")
    member = members.member("member")
    member.joined(protocols=[{"name": "range", "metadata": subscription(read)}])
    member.sync(member)

    commit_for_a_while(world, simple, other, 0, retention_ms=SOON_MS)
    commit_for_a_while(world, simple, other, 1, retention_ms=3_600_000)
    for topic in (read, other):
        member.ask(
            ApiKey.OFFSET_COMMIT,
            4,
            generation_id_or_member_epoch=member.generation,
            member_id=member.member_id,
            retention_time_ms=SOON_MS,
            topics=[{"name": topic, "partitions": [{"partition_index": 0, "committed_offset": 1}]}],
        )
    world.until(lambda: committed(world, members.group_id) == {"read": [0]})
    world.until(lambda: committed(world, simple) == {"other": [1]})
    assert listed(world) >= {"simple-9", "members-9"}

    member.leave()  # nothing is read any more
    world.until(lambda: "members-9" not in listed(world))
    commit_for_a_while(world, simple, other, 1, retention_ms=0)
    world.until(lambda: "simple-9" not in listed(world))
    tombstones = [
        [(record["type"], record["key"].get("topic")) for record in records_of(world, group) if record["value"] is None]
        for group in (simple, members.group_id)
    ]
    assert tombstones == [
        [(OFFSET, "other"), (OFFSET, "other"), (GROUP, None)],
        [(OFFSET, "other"), (OFFSET, "read"), (GROUP, None)],
    ]
    members.end()
    world.close()

    own_broker.stop()
    own_broker.start()
    world.address = own_broker.address
    world.until(lambda: world.raw(ApiKey.LIST_GROUPS, 4).error_code == 0)
    assert listed(world) == set()
    world.close()

"""Cases of the APIs that describe, make and delete topics."""

from __future__ import annotations

from typing import Any

from harness.versions.log_cases import UNKNOWN_ID, batch, produce
from harness.versions.world import Answer, World
from kpybroker.wire.api_keys import ApiKey
from kpybroker.wire.json_form import to_json


def metadata(world: World, version: int) -> Answer:
    topic = world.topic(f"metadata-{version}", partitions=2)
    missing = world.name(f"missing-{version}")

    def ask(*topics: dict[str, Any], **request: Any) -> Answer:
        defaults = {"allow_auto_topic_creation": False}
        return world.ask(ApiKey.METADATA, version, topics=list(topics), **{**defaults, **request})

    answers = {"one": ask({"name": topic}), "twice": ask({"name": topic}, {"name": topic})}
    if version >= 1:
        answers["none"] = ask()
    if version >= 4:
        answers["missing"] = ask({"name": missing}, {"name": topic})
        answers["bad name"] = ask({"name": "a b"})
    if version >= 8:
        answers["operations"] = ask({"name": topic}, include_topic_authorized_operations=True)
    if 8 <= version <= 10:
        answers["cluster operations"] = ask(include_cluster_authorized_operations=True)
    if version >= 10:
        answers["by id"] = ask({"name": None, "topic_id": world.ids[topic]})
        answers["unknown id"] = ask({"name": None, "topic_id": UNKNOWN_ID})
    return answers


def create_topics(world: World, version: int) -> Answer:
    def ask(what: str, validate_only: bool = False, **topic: Any) -> Answer:
        name = world.name(f"{what}-{version}")
        asked = {"name": name, "num_partitions": 1, "replication_factor": 1, **topic}
        response = world.raw(
            ApiKey.CREATE_TOPICS, version, topics=[asked], timeout_ms=60_000, validate_only=validate_only
        )
        if version >= 7 and any(response.topics[0].topic_id):
            world.know(name, response.topics[0].topic_id)
        return world.normal(to_json(response, version))

    def settings(**values: str | None) -> list[dict[str, str | None]]:
        return [{"name": name.replace("_", "."), "value": value} for name, value in values.items()]

    answers = {
        "made": ask("made"),
        "there already": ask("made"),
        "with settings": ask(
            "settings", num_partitions=3, configs=settings(retention_ms="1000", segment_bytes="1048576")
        ),
        "validated": ask("validated", validate_only=True),
        "assigned": ask("assigned", num_partitions=-1, replication_factor=-1, assignments=_assigned([1], [1])),
        "too many replicas": ask("replicas", replication_factor=3),
        "no replicas": ask("replicas", replication_factor=0),
        "no partitions": ask("partitions", num_partitions=0),
        "unknown broker": ask("broker", num_partitions=-1, replication_factor=-1, assignments=_assigned([9])),
        "broker twice": ask("broker", num_partitions=-1, replication_factor=-1, assignments=_assigned([1, 1])),
        "gap in assignment": ask("gap", num_partitions=-1, replication_factor=-1, assignments=_assigned([1], [1])[1:]),
        "assigned and counted": ask("both", num_partitions=2, assignments=_assigned([1], [1])),
        "unknown setting": ask("setting", configs=settings(no_such="1")),
        "bad setting": ask("setting", configs=settings(retention_ms="soon")),
        "null setting": ask("setting", configs=settings(retention_ms=None)),
        "bad name": ask("a b"),
        "long name": ask("x" * 250),
    }
    if version >= 4:
        answers["defaults"] = ask("defaults", num_partitions=-1, replication_factor=-1)
    return answers


def _assigned(*replicas: list[int]) -> list[dict[str, Any]]:
    return [{"partition_index": index, "broker_ids": ids} for index, ids in enumerate(replicas)]


def create_topics_by_one_name(world: World, version: int) -> Answer:
    """The same name twice in one request: neither is made."""
    asked = {"name": world.name(f"double-{version}"), "num_partitions": 1, "replication_factor": 1}
    return world.ask(ApiKey.CREATE_TOPICS, version, topics=[asked, asked], timeout_ms=60_000)


def delete_topics(world: World, version: int) -> Answer:
    topic, other = (world.topic(f"deleted-{version}-{number}") for number in range(2))
    missing = world.name("not-there")

    def ask(*names: str) -> Answer:
        request: dict[str, Any] = {"topic_names": list(names)}
        if version >= 6:
            request = {"topics": [{"name": name} for name in names]}
        return world.ask(ApiKey.DELETE_TOPICS, version, timeout_ms=60_000, **request)

    answers = {"deleted": ask(topic), "again": ask(topic), "missing": ask(missing), "twice": ask(other, other)}
    if version >= 6:
        by_id = {"name": None, "topic_id": world.ids[other]}
        unknown = {"name": None, "topic_id": UNKNOWN_ID}
        answers["by id"] = world.ask(ApiKey.DELETE_TOPICS, version, timeout_ms=60_000, topics=[by_id])
        answers["unknown id"] = world.ask(ApiKey.DELETE_TOPICS, version, timeout_ms=60_000, topics=[unknown])
    return answers


def create_partitions(world: World, version: int) -> Answer:
    topic = world.topic(f"grown-{version}", partitions=2)

    def ask(name: str, count: int, assignments: Any = None, validate_only: bool = False) -> Answer:
        asked = {"name": name, "count": count, "assignments": assignments}
        return world.ask(
            ApiKey.CREATE_PARTITIONS, version, topics=[asked], timeout_ms=60_000, validate_only=validate_only
        )

    return {
        "validated": ask(topic, 4, validate_only=True),
        "grown": ask(topic, 4),
        "the same": ask(topic, 4),
        "fewer": ask(topic, 1),
        "assigned": ask(topic, 5, [{"broker_ids": [1]}]),
        "wrongly assigned": ask(topic, 7, [{"broker_ids": [1]}]),
        "unknown broker": ask(topic, 6, [{"broker_ids": [9]}]),
        "missing": ask(world.name("not-there"), 2),
    }


def describe_topic_partitions(world: World, version: int) -> Answer:
    first = world.topic(f"described-{version}-a", partitions=2)
    second = world.topic(f"described-{version}-b", partitions=3)
    both = [{"name": first}, {"name": second}]

    def ask(**request: Any) -> Answer:
        return world.ask(ApiKey.DESCRIBE_TOPIC_PARTITIONS, version, **{"cursor": None, **request})

    return {
        "both": ask(topics=both, response_partition_limit=2000),
        "four": ask(topics=both, response_partition_limit=4),
        "from the cursor": ask(
            topics=both, response_partition_limit=2000, cursor={"topic_name": second, "partition_index": 1}
        ),
        "missing": ask(topics=[{"name": world.name("not-there")}], response_partition_limit=2000),
    }


def describe_cluster(world: World, version: int) -> Answer:
    return {
        "plain": world.ask(ApiKey.DESCRIBE_CLUSTER, version, endpoint_type=1),
        "operations": world.ask(
            ApiKey.DESCRIBE_CLUSTER, version, endpoint_type=1, include_cluster_authorized_operations=True
        ),
        "controllers": world.ask(ApiKey.DESCRIBE_CLUSTER, version, endpoint_type=2) if version >= 1 else None,
    }


def auto_creation(world: World, version: int) -> Answer:
    """Asking for a topic makes it; records can go in as soon as Metadata has its leader.

    Kafka answers the first question with UNKNOWN_TOPIC_OR_PARTITION and does not wait for the controller:
    a broker that answers it with the topic is as good to every client, so that answer is not compared.
    """
    name = world.name(f"auto-{version}")
    world.ask(ApiKey.METADATA, version, topics=[{"name": name}], allow_auto_topic_creation=True)
    made: list[Any] = []

    def there() -> bool:
        response = world.raw(ApiKey.METADATA, 12, topics=[{"name": name}], allow_auto_topic_creation=False)
        made[:] = response.topics
        return bool(made[0].error_code == 0)

    world.until(there)
    world.know(name, made[0].topic_id)
    world.wait_until_led(name, len(made[0].partitions))
    return [len(made[0].partitions), produce(world, 13, name, (0, batch(1)))]

"""A picture of a broker: all that a stock client (librdkafka) can be told of its topics, records, groups and settings.

Two pictures are equal when nothing of that differs, whichever broker they were taken of.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple, TypeAlias

from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    ConsumerGroupTopicPartitions,
    IsolationLevel,
    KafkaError,
    KafkaException,
    Message,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, ConfigResource, OffsetSpec

from harness.admin import REQUEST_LIMIT_S, until_ready

SET_ON_THE_TOPIC, SET_ON_THE_BROKER, SET_ON_ALL_BROKERS = 1, 2, 3
"""Sources of a setting, as DescribeConfigs tells them."""
END: Final = KafkaError._PARTITION_EOF

Place: TypeAlias = tuple[str, int]
Record: TypeAlias = tuple[Any, ...]


class PictureOfTopic(NamedTuple):
    """One topic. Records are those of a reader that sees all, and of one that sees what is committed."""

    id: str
    settings: dict[str, str]
    starts: dict[int, int]
    ends: dict[int, int]
    stable_ends: dict[int, int]
    records: dict[int, list[Record]]
    committed_records: dict[int, list[Record]]


class Picture(NamedTuple):
    """Everything. Of the broker's own topics the records are left out: what they say is in the rest."""

    topics: dict[str, PictureOfTopic]
    groups: dict[str, dict[Place, tuple[int, str]]]
    """Group -> what it has committed: offset and metadata."""
    settings: dict[str, dict[str, str]]
    """Broker ("" for all of them) -> dynamic settings."""


def take(address: str) -> Picture:
    """Take a picture of a broker. Raises: KafkaException."""
    admin = AdminClient({"bootstrap.servers": address})
    partitions = {name: sorted(each.partitions) for name, each in _topics(admin).items()}
    plain = [name for name in partitions if not name.startswith("__")]
    places = [(name, number) for name in plain for number in partitions[name]]
    every, committed = (_read(address, places, isolation) for isolation in ("read_uncommitted", "read_committed"))
    topics = {}
    for name, numbers in partitions.items():
        topics[name] = PictureOfTopic(
            id=_topic_id(admin, name),
            settings=_settings(admin, ConfigResource.Type.TOPIC, name, SET_ON_THE_TOPIC),
            starts=_offsets(admin, name, numbers, OffsetSpec.earliest()),
            ends=_offsets(admin, name, numbers, OffsetSpec.latest()) if name in plain else {},
            stable_ends=_offsets(admin, name, numbers, OffsetSpec.latest(), committed=True) if name in plain else {},
            records={number: every[name, number] for number in numbers} if name in plain else {},
            committed_records={number: committed[name, number] for number in numbers} if name in plain else {},
        )
    return Picture(topics, _groups(admin), _broker_settings(admin))


def differences(expected: Picture, found: Picture) -> list[str]:
    """How two pictures differ, a line for each place; nothing when they are equal."""
    lines = []
    for name in sorted(expected.topics.keys() | found.topics.keys()):
        one, other = expected.topics.get(name), found.topics.get(name)
        if one is None or other is None:
            lines.append(f"topic {name} is in one of them only")
            continue
        lines += [
            f"{name}: {field}: {_first_difference(getattr(one, field), getattr(other, field))}"
            for field in PictureOfTopic._fields
            if getattr(one, field) != getattr(other, field)
        ]
    lines += [
        f"group {group}: {expected.groups.get(group)} became {found.groups.get(group)}"
        for group in sorted(expected.groups.keys() | found.groups.keys())
        if expected.groups.get(group) != found.groups.get(group)
    ]
    if expected.settings != found.settings:
        lines.append(f"broker settings: {expected.settings} became {found.settings}")
    return lines


def _first_difference(was: Any, now: Any) -> str:
    if isinstance(was, dict) and isinstance(now, dict):
        key = next(key for key in [*was, *now] if was.get(key) != now.get(key))
        return f"{key}: {_first_difference(was.get(key), now.get(key))}"
    if isinstance(was, list) and isinstance(now, list):
        at = next((at for at, pair in enumerate(zip(was, now, strict=False)) if pair[0] != pair[1]), -1)
        pair = f"{was[at]} became {now[at]}, " if at >= 0 else ""
        return f"{pair}{len(was)} became {len(now)}"
    return f"{was} became {now}"


def _topics(admin: AdminClient) -> dict[str, Any]:
    """All topics, once each partition of them is led."""

    def ask() -> dict[str, Any]:
        topics: dict[str, Any] = admin.list_topics(timeout=REQUEST_LIMIT_S).topics
        if any(each.leader < 0 for topic in topics.values() for each in topic.partitions.values()):
            raise KafkaException(KafkaError(KafkaError.LEADER_NOT_AVAILABLE))
        return topics

    return until_ready(ask)


def _topic_id(admin: AdminClient, name: str) -> str:
    return str(admin.describe_topics(TopicCollection([name]))[name].result(REQUEST_LIMIT_S).topic_id)


def _settings(admin: AdminClient, kind: Any, name: str, source: int) -> dict[str, str]:
    resource = ConfigResource(kind, name)
    entries = admin.describe_configs([resource])[resource].result(REQUEST_LIMIT_S).values()
    return {each.name: each.value for each in entries if each.source == source}


def _broker_settings(admin: AdminClient) -> dict[str, dict[str, str]]:
    (broker,) = admin.list_topics(timeout=REQUEST_LIMIT_S).brokers
    return {
        "1": _settings(admin, ConfigResource.Type.BROKER, str(broker), SET_ON_THE_BROKER),
        "": _settings(admin, ConfigResource.Type.BROKER, str(broker), SET_ON_ALL_BROKERS),
    }


def _offsets(
    admin: AdminClient, topic: str, numbers: list[int], spec: OffsetSpec, *, committed: bool = False
) -> dict[int, int]:
    isolation = IsolationLevel.READ_COMMITTED if committed else IsolationLevel.READ_UNCOMMITTED

    def ask() -> dict[int, int]:
        asked = {TopicPartition(topic, number): spec for number in numbers}
        futures = admin.list_offsets(asked, isolation_level=isolation)
        return {place.partition: future.result(REQUEST_LIMIT_S).offset for place, future in futures.items()}

    return until_ready(ask)


def _groups(admin: AdminClient) -> dict[str, dict[Place, tuple[int, str]]]:
    """Groups that have offsets; share groups, whose offsets are their coordinator's own, are in no picture."""

    def ask() -> dict[str, dict[Place, tuple[int, str]]]:
        listed = admin.list_consumer_groups().result(REQUEST_LIMIT_S)
        if listed.errors:
            raise listed.errors[0]
        found = {}
        for group in listed.valid:
            asked = [ConsumerGroupTopicPartitions(group.group_id)]
            told = admin.list_consumer_group_offsets(asked)[group.group_id].result(REQUEST_LIMIT_S)
            found[group.group_id] = {
                (each.topic, each.partition): (each.offset, each.metadata or "") for each in told.topic_partitions
            }
        return found

    return until_ready(ask)


def _read(address: str, places: list[Place], isolation: str) -> dict[Place, list[Record]]:
    """Every record of these partitions, from the beginning to the end."""
    consumer = Consumer(
        {
            "bootstrap.servers": address,
            "group.id": "picture",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "isolation.level": isolation,
            "check.crcs": True,
            "fetch.wait.max.ms": 10,
        }
    )
    found: dict[Place, list[Record]] = {place: [] for place in places}
    waiting = set(places)
    consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for topic, number in places])
    try:
        while waiting:
            message = consumer.poll(REQUEST_LIMIT_S)
            assert message is not None, f"nothing more came of {sorted(waiting)[:5]}"
            place = (message.topic(), message.partition())
            error = message.error()
            if error is None:
                found[place].append(_record(message))
            elif error.code() == END:
                waiting.discard(place)
            elif not error.retriable():
                raise KafkaException(error)
    finally:
        consumer.close()
    return found


def _record(message: Message) -> Record:
    return (
        message.offset(),
        message.timestamp(),
        message.key(),
        message.value(),
        tuple(message.headers() or ()),
        message.leader_epoch(),
    )

"""confluent-kafka: records, members and administration."""

from __future__ import annotations

from functools import partial
from typing import Any

import confluent_kafka
from confluent_kafka import (
    Consumer,
    ConsumerGroupTopicPartitions,
    ElectionType,
    KafkaError,
    KafkaException,
    Producer,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    OffsetSpec,
)
from harness.members import ConfluentPolled
from kafka_python_client import member_operations

LIMIT_S = 60.0


def operations(address: str) -> dict[str, Any]:
    return {
        "hello": lambda: {
            "version": confluent_kafka.version(),
            "codecs": ["none", "gzip", "snappy", "lz4", "zstd"],
        },
        "produce": partial(produce, address),
        "read": partial(read, address),
        **Transactions(address).operations(),
        **member_operations(partial(ConfluentPolled, address)),
        **Administration(address).operations(),
    }


def partitions_of(topic: str, count: int) -> list[TopicPartition]:
    return [TopicPartition(topic, number) for number in range(count)]


def produce(address: str, *, topic: str, codec: str, idempotent: bool, partitions: int, records: list[Any]) -> None:
    settings = {"compression.type": codec, "acks": "all", "enable.idempotence": idempotent}
    producer = Producer({"bootstrap.servers": address, **settings})
    failures: list[KafkaError] = []

    def delivered(error: KafkaError | None, _message: object) -> None:
        if error is not None:
            failures.append(error)

    for number, record in enumerate(records):
        producer.produce(
            topic,
            key=record["key"],
            value=record["value"],
            headers=record["headers"],
            partition=number % partitions,
            on_delivery=delivered,
        )
    left = producer.flush(LIMIT_S)
    if failures:
        raise KafkaException(failures[0])
    if left:
        raise TimeoutError(f"{left} records are not acknowledged")


def read(address: str, *, topic: str, partitions: int, count: int) -> list[Any]:
    settings = {"auto.offset.reset": "earliest", "group.id": "none", "enable.auto.commit": False}
    consumer = Consumer({"bootstrap.servers": address, **settings})
    records: list[Any] = []
    try:
        consumer.assign([TopicPartition(topic, number, 0) for number in range(partitions)])
        while len(records) < count:
            for message in consumer.consume(500, timeout=0.2):
                if message.error() is not None:
                    raise KafkaException(message.error())
                records.append(
                    {
                        "partition": message.partition(),
                        "offset": message.offset(),
                        "key": message.key().decode(),
                        "value": message.value().decode(),
                        "headers": {name: value.decode() for name, value in message.headers() or []},
                    }
                )
    finally:
        consumer.close()
    return records


class Transactions:
    """Producers with an open transaction, by the test's names for them."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._producers: dict[str, Producer] = {}

    def operations(self) -> dict[str, Any]:
        return {"begin": self.begin, "end": self.end}

    def begin(self, *, producer: str, transactional_id: str, topic: str, partitions: int, records: list[Any]) -> None:
        made = Producer({"bootstrap.servers": self._address, "transactional.id": transactional_id})
        made.init_transactions(LIMIT_S)
        made.begin_transaction()
        for number, record in enumerate(records):
            made.produce(topic, key=record["key"], value=record["value"], partition=number % partitions)
        if made.flush(LIMIT_S):
            raise TimeoutError("records are not acknowledged")
        self._producers[producer] = made

    def end(
        self, *, producer: str, committed: bool, group: str = "", topic: str = "", offsets: dict[str, int] | None = None
    ) -> None:
        made = self._producers.pop(producer)
        if offsets is not None:
            places = [TopicPartition(topic, int(partition), offset) for partition, offset in offsets.items()]
            consumer = Consumer({"bootstrap.servers": self._address, "group.id": group})
            made.send_offsets_to_transaction(places, consumer.consumer_group_metadata(), LIMIT_S)
            consumer.close()
        if committed:
            made.commit_transaction(LIMIT_S)
        else:
            made.abort_transaction(LIMIT_S)


class Administration:
    """AdminClient."""

    def __init__(self, address: str) -> None:
        self._admin = AdminClient({"bootstrap.servers": address})

    def operations(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in dir(self) if not name.startswith("_") and name != "operations"}

    def create_topic(
        self, *, topic: str, partitions: int, replicas: int = 1, configs: dict[str, str] | None = None
    ) -> None:
        wanted = NewTopic(topic, partitions, replicas, config=configs or {})
        self._admin.create_topics([wanted], operation_timeout=LIMIT_S)[topic].result(LIMIT_S)

    def delete_topic(self, *, topic: str) -> None:
        self._admin.delete_topics([topic], operation_timeout=LIMIT_S)[topic].result(LIMIT_S)

    def list_topics(self) -> list[str]:
        return list(self._admin.list_topics(timeout=LIMIT_S).topics)

    def describe_topic(self, *, topic: str) -> dict[str, Any]:
        described = self._admin.describe_topics(TopicCollection([topic]))[topic].result(LIMIT_S)
        return {"partitions": len(described.partitions)}

    def create_partitions(self, *, topic: str, partitions: int) -> None:
        self._admin.create_partitions([NewPartitions(topic, partitions)])[topic].result(LIMIT_S)

    def describe_cluster(self) -> dict[str, Any]:
        cluster = self._admin.describe_cluster().result(LIMIT_S)
        return {"brokers": [node.id for node in cluster.nodes], "controller": cluster.controller.id}

    def describe_configs(self, *, kind: str, name: str) -> dict[str, Any]:
        asked = ConfigResource(ConfigResource.Type[kind.upper()], name)
        described = self._admin.describe_configs([asked])[asked].result(LIMIT_S)
        return {key: entry.value for key, entry in described.items()}

    def alter_configs(self, *, kind: str, name: str, configs: dict[str, str]) -> None:
        entries = [
            ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET) for key, value in configs.items()
        ]
        asked = ConfigResource(ConfigResource.Type[kind.upper()], name, incremental_configs=entries)
        self._admin.incremental_alter_configs([asked])[asked].result(LIMIT_S)

    def replace_configs(self, *, kind: str, name: str, configs: dict[str, str]) -> None:
        asked = ConfigResource(ConfigResource.Type[kind.upper()], name, set_config=configs)
        self._admin.alter_configs([asked])[asked].result(LIMIT_S)

    def list_groups(self) -> list[str]:
        listed = self._admin.list_consumer_groups().result(LIMIT_S)
        for error in listed.errors:
            raise error
        return [group.group_id for group in listed.valid]

    def describe_group(self, *, group: str) -> dict[str, Any]:
        described = self._admin.describe_consumer_groups([group])[group].result(LIMIT_S)
        return {"state": described.state.name.title().replace("_", ""), "members": len(described.members)}

    def delete_group(self, *, group: str) -> None:
        self._admin.delete_consumer_groups([group])[group].result(LIMIT_S)

    def group_offsets(self, *, group: str, topic: str, partitions: int) -> dict[int, int]:
        asked = ConsumerGroupTopicPartitions(group, partitions_of(topic, partitions))
        listed = self._admin.list_consumer_group_offsets([asked])[group].result(LIMIT_S)
        return {each.partition: each.offset for each in _checked(listed) if each.offset >= 0}

    def alter_group_offsets(self, *, group: str, topic: str, offsets: dict[str, int]) -> None:
        wanted = [TopicPartition(topic, int(partition), offset) for partition, offset in offsets.items()]
        asked = ConsumerGroupTopicPartitions(group, wanted)
        _checked(self._admin.alter_consumer_group_offsets([asked])[group].result(LIMIT_S))

    def list_offsets(self, *, topic: str, partitions: int, spec: str) -> dict[int, int]:
        at = OffsetSpec.earliest() if spec == "earliest" else OffsetSpec.latest()
        listed = self._admin.list_offsets(dict.fromkeys(partitions_of(topic, partitions), at))
        return {each.partition: future.result(LIMIT_S).offset for each, future in listed.items()}

    def delete_records(self, *, topic: str, offsets: dict[str, int]) -> None:
        asked = [TopicPartition(topic, int(partition), offset) for partition, offset in offsets.items()]
        for future in self._admin.delete_records(asked).values():
            future.result(LIMIT_S)

    def elect_leaders(self, *, topic: str, partitions: int) -> dict[int, int]:
        asked = partitions_of(topic, partitions)
        elected = self._admin.elect_leaders(ElectionType.PREFERRED, asked).result(LIMIT_S)
        return {each.partition: 0 if error is None else error.code() for each, error in elected.items()}


def _checked(answered: ConsumerGroupTopicPartitions) -> list[TopicPartition]:
    for each in answered.topic_partitions:
        if each.error is not None:
            raise KafkaException(each.error)
    return list(answered.topic_partitions)

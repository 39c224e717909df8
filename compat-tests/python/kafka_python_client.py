"""kafka-python: records, members and administration."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import kafka
from harness.members import KafkaPythonPolled, MemberThread
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, OffsetAndMetadata, TopicPartition
from kafka.admin import ConfigResource
from kafka.admin import OffsetSpec as At
from kafka.errors import NoError, for_code

LIMIT_S = 60.0


def operations(address: str) -> dict[str, Any]:
    return {
        "hello": lambda: {"version": kafka.__version__, "codecs": ["none", "gzip", "snappy", "lz4", "zstd"]},
        "produce": partial(produce, address),
        "read": partial(read, address),
        **Transactions(address).operations(),
        **member_operations(partial(KafkaPythonPolled, address)),
        **administration(address),
    }


def partitions_of(topic: str, count: int) -> list[TopicPartition]:
    return [TopicPartition(topic, number) for number in range(count)]


def produce(address: str, *, topic: str, codec: str, idempotent: bool, partitions: int, records: list[Any]) -> None:
    producer = KafkaProducer(
        bootstrap_servers=address,
        compression_type=None if codec == "none" else codec,
        acks="all",
        enable_idempotence=idempotent,
        linger_ms=5,
    )
    try:
        sent = [
            producer.send(
                topic,
                key=record["key"].encode(),
                value=record["value"].encode(),
                headers=[(name, value.encode()) for name, value in record["headers"].items()],
                partition=number % partitions,
            )
            for number, record in enumerate(records)
        ]
        producer.flush(timeout=LIMIT_S)
        for future in sent:
            future.get(timeout=LIMIT_S)
    finally:
        producer.close()


class Transactions:
    """Producers with an open transaction, by the test's names for them."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._producers: dict[str, KafkaProducer] = {}

    def operations(self) -> dict[str, Any]:
        return {"begin": self.begin, "end": self.end}

    def begin(self, *, producer: str, transactional_id: str, topic: str, partitions: int, records: list[Any]) -> None:
        made = KafkaProducer(bootstrap_servers=self._address, transactional_id=transactional_id)
        made.init_transactions()
        made.begin_transaction()
        for number, record in enumerate(records):
            made.send(topic, key=record["key"].encode(), value=record["value"].encode(), partition=number % partitions)
        made.flush(timeout=LIMIT_S)
        self._producers[producer] = made

    def end(
        self, *, producer: str, committed: bool, group: str = "", topic: str = "", offsets: dict[str, int] | None = None
    ) -> None:
        made = self._producers.pop(producer)
        try:
            if offsets is not None:
                places = {
                    TopicPartition(topic, int(partition)): OffsetAndMetadata(offset, "", -1)
                    for partition, offset in offsets.items()
                }
                made.send_offsets_to_transaction(places, group)
            if committed:
                made.commit_transaction()
            else:
                made.abort_transaction()
        finally:
            made.close(timeout=5)


def read(address: str, *, topic: str, partitions: int, count: int) -> list[Any]:
    consumer = KafkaConsumer(bootstrap_servers=address, auto_offset_reset="earliest", group_id=None)
    records: list[Any] = []
    try:
        consumer.assign(partitions_of(topic, partitions))
        while len(records) < count:
            for polled in consumer.poll(timeout_ms=1000).values():
                records += [
                    {
                        "partition": each.partition,
                        "offset": each.offset,
                        "key": each.key.decode(),
                        "value": each.value.decode(),
                        "headers": {name: value.decode() for name, value in each.headers},
                    }
                    for each in polled
                ]
    finally:
        consumer.close()
    return records


def member_operations(make: Any) -> dict[str, Any]:
    """Join, look, commit and leave, for a library that harness/members.py can poll in a thread."""
    members: dict[str, MemberThread] = {}

    def look(*, member: str) -> dict[str, Any]:
        found = members[member]
        if found.failure is not None:
            raise found.failure
        return {"partitions": sorted(found.share), "values": [value.decode() for value in found.values]}

    return {
        "join": lambda *, member, topic, group: members.update({member: MemberThread(partial(make, topic, group))}),
        "look": look,
        "commit": lambda *, member: members[member].commit(),
        "leave": lambda *, member: members.pop(member).leave(),
    }


def administration(address: str) -> dict[str, Any]:
    """Each with an admin client of its own: one that was made before a restart of the broker stays cut off."""

    def with_admin(call: Callable[..., Any]) -> Callable[..., Any]:
        def carry_out(**request: Any) -> Any:
            admin = KafkaAdminClient(bootstrap_servers=address)
            try:
                return call(Administration(admin), **request)
            finally:
                admin.close()

        return carry_out

    return {name: with_admin(call) for name, call in vars(Administration).items() if not name.startswith("_")}


class Administration:
    """What KafkaAdminClient can do."""

    def __init__(self, admin: KafkaAdminClient) -> None:
        self._admin = admin

    def create_topic(
        self, *, topic: str, partitions: int, replicas: int = 1, configs: dict[str, str] | None = None
    ) -> None:
        wanted = {"num_partitions": partitions, "replication_factor": replicas, "configs": configs or {}}
        self._admin.create_topics({topic: wanted})

    def delete_topic(self, *, topic: str) -> None:
        self._admin.delete_topics([topic])

    def list_topics(self) -> list[str]:
        return list(self._admin.list_topics())

    def describe_topic(self, *, topic: str) -> dict[str, Any]:
        (described,) = self._admin.describe_topics([topic])
        _raise(for_code(described["error_code"]))
        return {"partitions": len(described["partitions"])}

    def create_partitions(self, *, topic: str, partitions: int) -> None:
        self._admin.create_partitions({topic: partitions})

    def describe_cluster(self) -> dict[str, Any]:
        cluster = self._admin.describe_cluster()
        brokers = [each["broker_id"] for each in cluster["brokers"]]
        return {"brokers": brokers, "controller": cluster["controller_id"]}

    def describe_configs(self, *, kind: str, name: str) -> dict[str, Any]:
        described = self._admin.describe_configs([ConfigResource(kind, name)], config_filter="all")
        return {key: entry["value"] for key, entry in described[kind][name].items()}

    def alter_configs(self, *, kind: str, name: str, configs: dict[str, str]) -> None:
        altered = self._admin.alter_configs([ConfigResource(kind, name, configs)])
        result = altered[kind][name]
        if result != "OK":
            raise RuntimeError(result)

    def list_config_resources(self) -> list[str]:
        return [name for names in self._admin.list_config_resources().values() for name in names]

    def list_groups(self) -> list[str]:
        return [group["group_id"] for group in self._admin.list_groups()]

    def describe_group(self, *, group: str) -> dict[str, Any]:
        described = self._admin.describe_groups([group])[group]
        return {"state": described["group_state"], "members": len(described["members"])}

    def delete_group(self, *, group: str) -> None:
        result = self._admin.delete_groups([group])[group]
        if result != "OK":
            _raise(getattr(kafka.errors, result))

    def group_offsets(self, *, group: str, topic: str, partitions: int) -> dict[int, int]:
        fetched = self._admin.list_group_offsets({group: partitions_of(topic, partitions)})[group]
        return {each.partition: found.offset for each, found in fetched.items() if found.offset >= 0}

    def alter_group_offsets(self, *, group: str, topic: str, offsets: dict[str, int]) -> None:
        wanted = {TopicPartition(topic, int(p)): OffsetAndMetadata(offset, "", -1) for p, offset in offsets.items()}
        for result in self._admin.alter_group_offsets(group, wanted).values():
            _raise(result)

    def delete_group_offsets(self, *, group: str, topic: str, partitions: int) -> None:
        for result in self._admin.delete_group_offsets(group, partitions_of(topic, partitions)).values():
            _raise(result)

    def list_offsets(self, *, topic: str, partitions: int, spec: str) -> dict[int, int]:
        at = At.EARLIEST if spec == "earliest" else At.LATEST
        listed = self._admin.list_partition_offsets(dict.fromkeys(partitions_of(topic, partitions), at))
        return {each.partition: found.offset for each, found in listed.items()}

    def delete_records(self, *, topic: str, offsets: dict[str, int]) -> None:
        self._admin.delete_records({TopicPartition(topic, int(p)): offset for p, offset in offsets.items()})

    def describe_log_dirs(self, *, topic: str, partitions: int, name: str) -> dict[int, int]:
        described = self._admin.describe_log_dirs({topic: list(range(partitions))}, brokers=[int(name)])
        topics = [each for broker in described for log_dir in broker["log_dirs"] for each in log_dir["topics"]]
        return {found["partition_index"]: found["partition_size"] for each in topics for found in each["partitions"]}

    def elect_leaders(self, *, topic: str, partitions: int) -> dict[int, int]:
        response = self._admin.elect_leaders(0, {topic: list(range(partitions))}, raise_errors=False)
        (result,) = response.replica_election_results
        return {each.partition_id: each.error_code for each in result.partition_result}

    def list_reassignments(self, *, topic: str, partitions: int) -> int:
        return len(self._admin.list_partition_reassignments({topic: list(range(partitions))}))

    def alter_reassignments(self, *, topic: str, name: str) -> None:
        """Move partition 0 to the broker that has it, which is nothing to do."""
        for result in self._admin.alter_partition_reassignments({TopicPartition(topic, 0): [int(name)]}).values():
            _raise(result)

    def describe_producers(self, *, topic: str, partitions: int) -> dict[int, int]:
        described = self._admin.describe_producers(partitions_of(topic, partitions))
        return {each.partition: len(found.active_producers) for each, found in described.items()}

    def update_features(self, *, name: str, level: int) -> None:
        self._admin.update_features({name: level}, validate_only=True)

    def describe_quorum(self) -> int:
        (topic,) = self._admin.describe_metadata_quorum()["topics"]
        return int(topic["partitions"][0]["leader_id"])

    def alter_replica_log_dirs(self, *, topic: str, name: str) -> None:
        """Move partition 0 to the folder that it is in, which is nothing to do."""
        (broker,) = self._admin.describe_log_dirs({topic: [0]}, brokers=[int(name)])
        asked = {(topic, 0, int(name)): broker["log_dirs"][0]["log_dir"]}
        for result in self._admin.alter_replica_log_dirs(asked).values():
            _raise(result)


def _raise(error: Any) -> None:
    """Raise an error class of kafka-python, unless it is that of success."""
    if error is not None and error is not NoError:
        raise error()

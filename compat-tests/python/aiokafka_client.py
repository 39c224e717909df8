"""aiokafka: records, members and administration, each call on one event loop in a thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import aiokafka
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import CommitFailedError, for_code

LIMIT_S = 60.0


def operations(address: str) -> dict[str, Any]:
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()

    def blocking(operation: Callable[..., Coroutine[Any, Any, Any]]) -> Callable[..., Any]:
        return lambda **request: asyncio.run_coroutine_threadsafe(operation(**request), loop).result(LIMIT_S)

    client = Client(address)
    found = {name: blocking(getattr(client, name)) for name in dir(client) if not name.startswith("_")}
    return {"hello": lambda: {"version": aiokafka.__version__, "codecs": CODECS}, **found}


CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]


def partitions_of(topic: str, count: int) -> list[TopicPartition]:
    return [TopicPartition(topic, number) for number in range(count)]


class Member:
    """One consumer of a group, polled by a task until it leaves."""

    def __init__(self, address: str, topic: str, group: str) -> None:
        self.values: list[str] = []
        self.failure: BaseException | None = None
        self.consumer = AIOKafkaConsumer(
            topic,
            bootstrap_servers=address,
            group_id=group,
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            heartbeat_interval_ms=300,
            fetch_max_wait_ms=100,
        )
        self.task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        try:
            await self.consumer.start()
            while True:
                polled = await self.consumer.getmany(timeout_ms=100)
                self.values += [record.value.decode() for records in polled.values() for record in records]
        except BaseException as error:  # told by the next look
            self.failure = error
            raise
        finally:
            await self.consumer.stop()


class Client:
    """The operations, by their names."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._members: dict[str, Member] = {}
        self._producers: dict[str, AIOKafkaProducer] = {}
        """Those with an open transaction, by the test's names for them."""
        self._made: AIOKafkaAdminClient | None = None

    async def produce(self, *, topic: str, codec: str, idempotent: bool, partitions: int, records: list[Any]) -> None:
        producer = AIOKafkaProducer(
            bootstrap_servers=self._address,
            acks="all",
            compression_type=None if codec == "none" else codec,
            enable_idempotence=idempotent,
        )
        async with producer:
            sent = [
                await producer.send(
                    topic,
                    key=record["key"].encode(),
                    value=record["value"].encode(),
                    headers=[(name, value.encode()) for name, value in record["headers"].items()],
                    partition=number % partitions,
                )
                for number, record in enumerate(records)
            ]
            await asyncio.gather(*sent)

    async def begin(
        self, *, producer: str, transactional_id: str, topic: str, partitions: int, records: list[Any]
    ) -> None:
        made = AIOKafkaProducer(bootstrap_servers=self._address, transactional_id=transactional_id)
        await made.start()
        await made.begin_transaction()
        sent = [
            await made.send(
                topic, key=record["key"].encode(), value=record["value"].encode(), partition=number % partitions
            )
            for number, record in enumerate(records)
        ]
        await asyncio.gather(*sent)
        self._producers[producer] = made

    async def end(
        self, *, producer: str, committed: bool, group: str = "", topic: str = "", offsets: dict[str, int] | None = None
    ) -> None:
        made = self._producers.pop(producer)
        try:
            if offsets is not None:
                places = {TopicPartition(topic, int(partition)): offset for partition, offset in offsets.items()}
                await made.send_offsets_to_transaction(places, group)
            await (made.commit_transaction() if committed else made.abort_transaction())
        finally:
            await made.stop()

    async def read(self, *, topic: str, partitions: int, count: int) -> list[Any]:
        consumer = AIOKafkaConsumer(bootstrap_servers=self._address, auto_offset_reset="earliest")
        records: list[Any] = []
        async with consumer, asyncio.timeout(LIMIT_S):
            consumer.assign(partitions_of(topic, partitions))
            while len(records) < count:
                polled = await consumer.getmany(timeout_ms=200)
                records += [
                    {
                        "partition": each.partition,
                        "offset": each.offset,
                        "key": each.key.decode(),
                        "value": each.value.decode(),
                        "headers": {name: value.decode() for name, value in each.headers},
                    }
                    for found in polled.values()
                    for each in found
                ]
        return records

    async def join(self, *, member: str, topic: str, group: str) -> None:
        self._members[member] = Member(self._address, topic, group)

    async def look(self, *, member: str) -> dict[str, Any]:
        found = self._members[member]
        if found.failure is not None:
            raise found.failure
        partitions = sorted(each.partition for each in found.consumer.assignment())
        return {"partitions": partitions, "values": found.values}

    async def commit(self, *, member: str) -> None:
        try:
            await self._members[member].consumer.commit()
        except CommitFailedError as error:
            raise RuntimeError(f"a rebalance is under way: {error}") from error

    async def leave(self, *, member: str) -> None:
        task = self._members.pop(member).task
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def _admin(self) -> AIOKafkaAdminClient:
        if self._made is None:
            self._made = AIOKafkaAdminClient(bootstrap_servers=self._address)
            await self._made.start()
        return self._made

    async def create_topic(
        self, *, topic: str, partitions: int, replicas: int = 1, configs: dict[str, str] | None = None
    ) -> None:
        admin = await self._admin()
        made = await admin.create_topics([NewTopic(topic, partitions, replicas, topic_configs=configs or {})])
        _raise(made.topic_errors[0][1])

    async def delete_topic(self, *, topic: str) -> None:
        deleted = await (await self._admin()).delete_topics([topic])
        _raise(deleted.topic_error_codes[0][1])

    async def list_topics(self) -> list[str]:
        return list(await (await self._admin()).list_topics())

    async def describe_topic(self, *, topic: str) -> dict[str, Any]:
        (described,) = await (await self._admin()).describe_topics([topic])
        _raise(described["error_code"])
        return {"partitions": len(described["partitions"])}

    async def create_partitions(self, *, topic: str, partitions: int) -> None:
        await (await self._admin()).create_partitions({topic: NewPartitions(partitions)})

    async def describe_cluster(self) -> dict[str, Any]:
        cluster = await (await self._admin()).describe_cluster()
        brokers = [each["node_id"] for each in cluster["brokers"]]
        return {"brokers": brokers, "controller": cluster["controller_id"]}

    async def describe_configs(self, *, kind: str, name: str) -> dict[str, Any]:
        asked = ConfigResource(ConfigResourceType[kind.upper()], name)
        responses = await (await self._admin()).describe_configs([asked])
        (resource,) = [each for response in responses for each in response.resources]
        _raise(resource[0])
        return {entry[0]: entry[1] for entry in resource[4]}

    async def replace_configs(self, *, kind: str, name: str, configs: dict[str, str]) -> None:
        asked = ConfigResource(ConfigResourceType[kind.upper()], name, configs=configs)
        for response in await (await self._admin()).alter_configs([asked]):
            for resource in response.resources:
                _raise(resource[0])

    async def list_groups(self) -> list[str]:
        return [group[0] for group in await (await self._admin()).list_consumer_groups()]

    async def describe_group(self, *, group: str) -> dict[str, Any]:
        (response,) = await (await self._admin()).describe_consumer_groups([group])
        code, _, state, _, _, members, *_ = response.groups[0]
        _raise(code)
        return {"state": state, "members": len(members)}

    async def group_offsets(self, *, group: str, topic: str, partitions: int) -> dict[int, int]:
        admin = await self._admin()
        fetched = await admin.list_consumer_group_offsets(group, partitions=partitions_of(topic, partitions))
        return {each.partition: found.offset for each, found in fetched.items() if found.offset >= 0}

    async def delete_records(self, *, topic: str, offsets: dict[str, int]) -> None:
        asked = {TopicPartition(topic, int(p)): RecordsToDelete(offset) for p, offset in offsets.items()}
        await (await self._admin()).delete_records(asked)


def _raise(code: int) -> None:
    if code:
        raise for_code(code)()

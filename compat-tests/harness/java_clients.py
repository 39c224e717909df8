"""Apache Kafka's Java clients, unchanged, called from Python: Py4J in the JVM that has the tools.

clients = JavaClients(tool_host)
with clients.admin(address) as admin:
    admin.createTopics([clients.admin_api.NewTopic("topic", 3, 1)]).all().get()

Every method of a Java object can be called; lists, sets, dicts and numbers are converted on their way in, and by
`plain` and `items` on their way out.
"""

from __future__ import annotations

import secrets
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar

from py4j.java_collections import JavaList, JavaMap, JavaSet
from py4j.java_gateway import GatewayParameters, JavaGateway, JavaObject
from py4j.protocol import Py4JJavaError

from harness.java_tools import ToolHost

BYTES_OUT: Final = "org.apache.kafka.common.serialization.ByteArraySerializer"
BYTES_IN: Final = "org.apache.kafka.common.serialization.ByteArrayDeserializer"
CLOSE_LIMIT_S: Final = 30
PARTITIONS: Final = 3

T = TypeVar("T")


class JavaClients:
    """The gateway, and what most tests make: an Admin, a Producer, a Consumer."""

    def __init__(self, host: ToolHost) -> None:
        token = secrets.token_hex()
        port = int(host.ask("gateway", token).removeprefix("port "))
        parameters = GatewayParameters(port=port, auth_token=token, auto_convert=True)
        self._gateway = JavaGateway(gateway_parameters=parameters)
        self.jvm = self._gateway.jvm
        self.common = self.jvm.org.apache.kafka.common
        self.admin_api = self.jvm.org.apache.kafka.clients.admin
        self.consumer_api = self.jvm.org.apache.kafka.clients.consumer
        self.producer_api = self.jvm.org.apache.kafka.clients.producer

    def close(self) -> None:
        """Shut the gateway down, so that no object which is collected later asks for it; the JVM stays."""
        self._gateway.shutdown()

    @contextmanager
    def admin(self, address: str, **settings: object) -> Iterator[Any]:
        """An Admin, closed at the end."""
        defaults = {"bootstrap.servers": address, "client.id": "java-admin"}
        admin = self.admin_api.Admin.create({**defaults, **dotted(settings)})
        try:
            yield admin
        finally:
            admin.close(self.seconds(CLOSE_LIMIT_S))

    @contextmanager
    def producer(self, address: str, **settings: object) -> Iterator[Any]:
        """A KafkaProducer of bytes, closed at the end; the settings' names are written with underscores."""
        producer = self.open_producer(address, **settings)
        try:
            yield producer
        finally:
            producer.close()

    def open_producer(self, address: str, **settings: object) -> Any:
        """A KafkaProducer of bytes; the settings' names are written with underscores."""
        defaults = {"bootstrap.servers": address, "client.id": "java-producer"}
        serializers = {"key.serializer": BYTES_OUT, "value.serializer": BYTES_OUT}
        return self.producer_api.KafkaProducer({**defaults, **serializers, **dotted(settings)})

    @contextmanager
    def consumer(self, address: str, **settings: object) -> Iterator[Any]:
        """A consumer as `open_consumer` makes it, closed at the end."""
        consumer = self.open_consumer(address, **settings)
        try:
            yield consumer
        finally:
            consumer.close()

    def open_consumer(self, address: str, **settings: object) -> Any:
        """A KafkaConsumer of bytes, which begins at the beginning and commits when told to."""
        defaults = {"bootstrap.servers": address, "client.id": "java-consumer", "auto.offset.reset": "earliest"}
        deserializers = {"key.deserializer": BYTES_IN, "value.deserializer": BYTES_IN, "enable.auto.commit": False}
        given = {**defaults, **deserializers, **dotted(settings)}
        return self.consumer_api.KafkaConsumer(given)

    def partition(self, topic: str, number: int) -> Any:
        return self.common.TopicPartition(topic, number)

    def seconds(self, count: float) -> Any:
        return self.jvm.java.time.Duration.ofMillis(int(count * 1000))

    def optional(self, value: object) -> Any:
        return self.jvm.java.util.Optional.ofNullable(value)

    def longs(self, numbers: dict[Any, int]) -> Any:
        """A Map with values of the type Long: a small number by itself arrives as Integer."""
        return self.jvm.ForPython.longs(numbers)

    def send(self, producer: Any, topic: str, partitions: int, values: Iterable[bytes]) -> list[int]:
        """Send values without line feeds to the partitions in turn; their offsets. Raises: Py4JJavaError."""
        ended = b"".join(value + b"\n" for value in values)
        return list(self.jvm.ForPython.send(producer, topic, partitions, ended))

    def read(self, consumer: Any, count: int, limit_s: float = 60) -> list[bytes]:
        """Poll until at least so many values have come. Raises: AssertionError after `limit_s`."""
        values: list[bytes] = []
        deadline = time.monotonic() + limit_s
        while len(values) < count:
            assert time.monotonic() < deadline, f"only {len(values)} of {count} values in {limit_s} s"
            values += self.poll(consumer, 1)
        return values

    def poll(self, consumer: Any, limit_s: float) -> list[bytes]:
        """The values of one poll."""
        return self.jvm.ForPython.poll(consumer, int(limit_s * 1000)).split(b"\n")[:-1]


class Admin:
    """An Admin whose own methods are called as its own, and a name for a topic of the test's."""

    def __init__(self, clients: JavaClients, address: str, admin: Any) -> None:
        self.clients = clients
        self.address = address
        self.api = clients.admin_api
        self.topic = f"java-admin-{uuid.uuid4().hex[:8]}"
        self.zero = clients.partition(self.topic, 0)
        self._admin = admin

    def __getattr__(self, name: str) -> Any:
        return getattr(self._admin, name)

    def create(self) -> Any:
        """Make the test's topic, and wait until it is led; the result of createTopics."""
        result = self.createTopics([self.api.NewTopic(self.topic, PARTITIONS, 1)])
        result.all().get()
        ends = {
            self.clients.partition(self.topic, number): self.api.OffsetSpec.latest() for number in range(PARTITIONS)
        }
        self.listOffsets(ends).all().get()
        return result

    def describe(self) -> Any:
        """The TopicDescription of the test's topic."""
        return self.describeTopics([self.topic]).allTopicNames().get()[self.topic]

    def write(self, count: int) -> None:
        """Values to all partitions of the test's topic in turn."""
        with self.clients.producer(self.address) as producer:
            self.clients.send(producer, self.topic, PARTITIONS, [b"value"] * count)

    def offset(self, spec: Any) -> tuple[int, int]:
        """Offset and timestamp that ListOffsets gives for partition 0."""
        found = self.listOffsets({self.zero: spec}).partitionResult(self.zero).get()
        return found.offset(), found.timestamp()

    @property
    def broker_id(self) -> int:
        return int(self.describeCluster().controller().get().id())


class JavaPolled:
    """A KafkaConsumer in a group, polled as those of the other libraries are (harness/members.py)."""

    def __init__(self, clients: JavaClients, address: str, topic: str, group_id: str, **settings: object) -> None:
        quick = {"heartbeat.interval.ms": 300, "group.id": group_id}
        self._clients = clients
        self._consumer = clients.open_consumer(address, **quick, **settings)
        self._consumer.subscribe([topic])

    def poll(self) -> list[bytes]:
        return self._clients.poll(self._consumer, 0.1)

    def partitions(self) -> frozenset[int]:
        return frozenset(each.partition() for each in self._consumer.assignment())

    def commit(self) -> None:
        self._consumer.commitSync()

    def close(self) -> None:
        self._consumer.close()


def dotted(settings: dict[str, object]) -> dict[str, object]:
    """Settings by Kafka's names: bootstrap_servers is bootstrap.servers."""
    return {name.replace("_", "."): value for name, value in settings.items()}


def plain(value: Any) -> Any:
    """Java's maps, lists, sets and enums as Python's dict, list, set and str; anything else as it is."""
    match value:
        case JavaMap():
            return {plain(key): plain(each) for key, each in value.items()}
        case JavaList():
            return [plain(each) for each in value]
        case JavaSet():
            return {plain(each) for each in value}
        case JavaObject():
            return value.toString() if value.getClass().isEnum() else value
    return value


def items(collection: Any) -> list[Any]:
    """The items of a Collection of Java's that is neither List nor Set."""
    return list(collection.toArray())


def eventually(ask: Callable[[], T], expected: T, limit_s: float = 30) -> None:
    """Ask until this is the answer: a broker hears of a change after the controller has answered for it."""
    deadline = time.monotonic() + limit_s
    while (answer := ask()) != expected and time.monotonic() < deadline:
        time.sleep(0.02)
    assert answer == expected


def refusal(call: Callable[[], object]) -> tuple[str, str]:
    """The class and the message of what a call is refused with. Raises: AssertionError when it is not refused."""
    try:
        done = call()
    except Py4JJavaError as error:
        cause = error.java_exception
        while cause.getCause() is not None:
            cause = cause.getCause()
        return cause.getClass().getSimpleName(), cause.getMessage()
    raise AssertionError(f"not refused: {done}")

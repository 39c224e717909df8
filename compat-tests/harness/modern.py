"""Groups of the consumer protocol (KIP-848), and what makes their members by the libraries that run in this process."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from functools import partial
from typing import ClassVar, Final

from confluent_kafka import KafkaError, KafkaException

from harness.admin import create_topic, wait_led
from harness.java_clients import JavaClients, JavaPolled
from harness.members import ConfluentPolled, Polled
from harness.versions.world import World
from kpybroker.wire.api_keys import ApiKey

QUICK: Final = {
    "group.consumer.min.heartbeat.interval.ms": "100",
    "group.consumer.heartbeat.interval.ms": "200",
    "group.consumer.min.session.timeout.ms": "1000",
    "group.consumer.session.timeout.ms": "3000",
    "group.consumer.assignment.interval.ms": "100",
}
"""Settings of a broker whose consumer groups are in a hurry: heartbeats come as often as the broker says."""
PARTITIONS: Final = 6


class Modern:
    """A topic, and a group that does not exist yet."""

    def __init__(self, address: str, partitions: int = PARTITIONS) -> None:
        unique = uuid.uuid4().hex[:8]
        self.address = address
        self.partitions = partitions
        self.topic = f"modern-{unique}"
        self.group_id = f"modern-group-{unique}"
        create_topic(address, self.topic, partitions)
        wait_led(address, self.topic, partitions)

    def java(self, clients: JavaClients, **settings: object) -> Callable[[], Polled]:
        """What makes one more member by Java; of the classic protocol, unless the settings say otherwise."""
        return partial(JavaMember, clients, self.address, self.topic, self.group_id, **settings)

    def rdkafka(self, **settings: object) -> Callable[[], Polled]:
        """What makes one more member by librdkafka."""
        return partial(RdKafkaMember, self.address, self.topic, self.group_id, **settings)

    def type(self) -> str:
        """The group's type as ListGroups tells it."""
        world = World(self.address)
        groups = world.raw(ApiKey.LIST_GROUPS, 5, states_filter=[], types_filter=[]).groups
        world.close()
        (found,) = [group for group in groups if group.group_id == self.group_id]
        return str(found.group_type)


class JavaMember(JavaPolled):
    """A KafkaConsumer without settings of its own: heartbeat.interval.ms is refused in this protocol."""

    def __init__(self, clients: JavaClients, address: str, topic: str, group_id: str, **settings: object) -> None:
        self._clients = clients
        self._consumer = clients.open_consumer(address, group_id=group_id, **settings)
        self._consumer.subscribe([topic])


class RdKafkaMember(ConfluentPolled):
    """librdkafka refuses heartbeat.interval.ms, which the broker decides on in this protocol."""

    DEFAULTS: ClassVar[dict[str, object]] = {
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
        "group.protocol": "consumer",
    }

    def commit(self) -> None:
        """Where nothing has been read since the last commit, librdkafka calls that an error."""
        try:
            super().commit()
        except KafkaException as refused:
            if refused.args[0].code() != KafkaError._NO_OFFSET:
                raise

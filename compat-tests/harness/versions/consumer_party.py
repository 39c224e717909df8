"""Consumers of the newer protocol (KIP-848) and the group that they are in: for stories told to two brokers."""

from __future__ import annotations

import struct
from itertools import count
from typing import Any

from harness.versions.party import Party, PartyMember
from harness.versions.world import Answer, World
from kpybroker.coordinators.coordinator import partition_of
from kpybroker.wire.api_keys import ApiKey
from kpybroker.wire.codec import encode
from kpybroker.wire.codes import Code
from kpybroker.wire.internal.consumer_protocol import ConsumerProtocolSubscription, SubscriptionTopicPartition
from kpybroker.wire.primitives import uuid_text

GROUP = 32
"""The code of groups among the resources that have configs."""
DESCRIBE = 1
OFFSETS_PARTITIONS = 50
LEAVE, LEAVE_FOR_A_WHILE = -1, -2
REBALANCE_MS = 60_000
CLASSIC_VERSION = 9
"""The version of JoinGroup that classic members of these groups speak."""

Owned = list[dict[str, Any]]


class ConsumerParty:
    """A group, and the consumers in it. It is assigned anew whenever there is reason to, unless told otherwise."""

    def __init__(self, world: World, version: int, what: str, **configs: str) -> None:
        self.world = world
        self.version = version
        self.classic = Party(world, CLASSIC_VERSION, f"{what}-{version}")
        self.group_id = self.classic.group_id
        self._known: set[str] = set()
        self.configure(**{"consumer_assignment_interval_ms": "0", **configs})

    def configure(self, **configs: str) -> None:
        """Give the group settings of its own, and wait until the broker goes by them."""
        wanted = {name.replace("_", "."): value for name, value in configs.items()}
        resource = {"resource_type": GROUP, "resource_name": self.group_id}
        changes = [{"name": name, "config_operation": 0, "value": value} for name, value in wanted.items()]
        asked = [{**resource, "configs": changes}]
        answer = self.world.raw(ApiKey.INCREMENTAL_ALTER_CONFIGS, 1, resources=asked, validate_only=False)
        assert answer.responses[0].error_code == Code.NONE, answer

        def known() -> bool:
            described = self.world.raw(ApiKey.DESCRIBE_CONFIGS, 4, resources=[{**resource, "configuration_keys": None}])
            found = {config.name: config.value for config in described.results[0].configs}
            return all(found.get(name) == value for name, value in wanted.items())

        self.world.until(known)

    def wait_for_topics(self, names: list[str] | None) -> None:
        """Wait until the group's coordinator knows those of the topics that are there: it follows the metadata, too.

        Another group in the same partition of __consumer_offsets tries it, one member after the other.
        """
        new = {name for name in names or () if name in self.world.ids} - self._known
        if not new:
            return
        self._known |= new
        here = partition_of(self.group_id, OFFSETS_PARTITIONS)
        tries = (f"{self.group_id}-try-{number}" for number in count())
        same = (name for name in tries if partition_of(name, OFFSETS_PARTITIONS) == here)

        def known() -> bool:
            asked = {
                "group_id": next(same),
                "member_id": "try",
                "rebalance_timeout_ms": 1000,
                "subscribed_topic_names": sorted(new),
                "topic_partitions": [],
            }
            response = self.world.raw(ApiKey.CONSUMER_GROUP_HEARTBEAT, 0, **asked)
            self.world.raw(ApiKey.CONSUMER_GROUP_HEARTBEAT, 0, **{**asked, "member_epoch": LEAVE})
            self.world.raw(ApiKey.DELETE_GROUPS, 2, groups_names=[asked["group_id"]])
            return len(response.assignment.topic_partitions) == len(new)

        self.world.until(known)

    def consumer(self, member_id: str, *topics: str, **identity: Any) -> Consumer:
        """Somebody who has not joined yet."""
        return Consumer(self, member_id, list(topics), identity)

    def classic_member(self, name: str, **identity: Any) -> PartyMember:
        """A member of the classic protocol."""
        return self.classic.member(name, **identity)

    def describe(self) -> Answer:
        """The group as ConsumerGroupDescribe shows it."""
        answer = self.world.ask(ApiKey.CONSUMER_GROUP_DESCRIBE, DESCRIBE, group_ids=[self.group_id])
        return answer["groups"][0]

    def end(self) -> None:
        self.classic.end()


class Consumer:
    """One member. It owns what it was given last, and says so when it is told to."""

    def __init__(self, party: ConsumerParty, member_id: str, topics: list[str], identity: dict[str, Any]) -> None:
        self.party = party
        self.member_id = member_id
        self.topics = topics
        self.identity = identity
        self.epoch = 0
        self.owned: Owned = []

    def beat(self, **request: Any) -> Answer:
        """A heartbeat that says no more than it must."""
        asked = {
            "group_id": self.party.group_id,
            "member_id": self.member_id,
            "member_epoch": self.epoch,
            "rebalance_timeout_ms": -1,
            "subscribed_topic_names": None,
            "subscribed_topic_regex": None,
            "topic_partitions": None,
            **{name: value for name, value in self.identity.items() if name == "instance_id"},
            **request,
        }
        response = self.party.world.raw(ApiKey.CONSUMER_GROUP_HEARTBEAT, self.party.version, **asked)
        if response.error_code == Code.NONE:
            if not asked["member_id"]:
                self.party.world.mask(response.member_id, "<member>")
            self._note(response)
        return self.party.world.normal(_json(response, self.party.version))

    def _note(self, response: Any) -> None:
        if not self.member_id:
            self.member_id = response.member_id
        self.epoch = response.member_epoch
        if response.assignment is not None:
            self.owned = [
                {"topic_id": topic.topic_id, "partitions": list(topic.partitions)}
                for topic in response.assignment.topic_partitions
            ]

    def join(self, **request: Any) -> Answer:
        """The first heartbeat."""
        self.epoch, self.owned = 0, []
        self.party.wait_for_topics(request.get("subscribed_topic_names", self.topics))
        return self.full(**request)

    def full(self, **request: Any) -> Answer:
        """A heartbeat that says everything."""
        said = {
            "rebalance_timeout_ms": REBALANCE_MS,
            "subscribed_topic_names": self.topics,
            "topic_partitions": self.owned,
            **self.identity,
        }
        return self.beat(**{**said, **request})

    def tell(self) -> Answer:
        """A heartbeat that says what it owns."""
        return self.beat(topic_partitions=self.owned)

    def leave(self, epoch: int = LEAVE, **request: Any) -> Answer:
        return self.beat(member_epoch=epoch, **request)

    def commit(self, topic: str, *partitions: int, version: int = 9, **request: Any) -> Answer:
        """Commit offsets of a topic, all alike."""
        asked = [{"partition_index": each, "committed_offset": 3, "committed_metadata": "m"} for each in partitions]
        said = {
            "group_id": self.party.group_id,
            "member_id": self.member_id,
            "generation_id_or_member_epoch": self.epoch,
            "retention_time_ms": -1,
            "topics": [{"name": topic, "topic_id": self.party.world.ids.get(topic), "partitions": asked}],
        }
        return self.party.world.ask(ApiKey.OFFSET_COMMIT, version, **{**said, **request})

    def committed(self, topic: str, *partitions: int, version: int = 9, **request: Any) -> Answer:
        """The offsets committed for a topic."""
        asked = {"name": topic, "topic_id": self.party.world.ids.get(topic), "partition_indexes": list(partitions)}
        group = {
            "group_id": self.party.group_id,
            "member_id": self.member_id,
            "member_epoch": self.epoch,
            "topics": [asked],
        }
        return self.party.world.ask(ApiKey.OFFSET_FETCH, version, groups=[{**group, **request}])


def _json(response: Any, version: int) -> Any:
    from kpybroker.wire.json_form import to_json

    return to_json(response, version)


def subscription(*topics: str, owned: dict[str, list[int]] | None = None, version: int = 1) -> bytes:
    """The metadata of a classic consumer of these topics."""
    partitions = [SubscriptionTopicPartition(topic=name, partitions=some) for name, some in (owned or {}).items()]
    message = ConsumerProtocolSubscription(topics=list(topics), owned_partitions=partitions)
    return struct.pack(">h", version) + encode(message, version)


def id_text(world: World, topic: str) -> str:
    """A topic's id as answers would show it."""
    return uuid_text(world.ids[topic])

"""A node that is nothing but a controller, and brokers that are scripts: what it answers them, and what it writes.

The scripts register, send heartbeats and change in-sync replicas as brokers do, at addresses where nobody listens. What
the controller decides is read from the metadata log as an observer reads it, so that two controllers are compared by
every record that they write, at its version. Ids that differ from run to run become placeholders, as in world.py.
"""

from __future__ import annotations

import json
import re
from itertools import groupby
from typing import Any, Final

from harness.cluster.cluster import Cluster
from harness.versions.world import Answer, Wire, World
from kpybroker.wire.api_keys import ApiKey
from kpybroker.wire.internal.framing import decode_metadata_record
from kpybroker.wire.json_form import to_json
from kpybroker.wire.primitives import ZERO_UUID, read_uvarint, uuid_text
from kpybroker.wire.records.batch import iter_headers, iter_records

SETTINGS: Final = {
    "broker.session.timeout.ms": "3600000",
    "leader.imbalance.check.interval.seconds": "3600",
    "unclean.leader.election.interval.ms": "3600000",
}
"""Nothing happens by itself: no session runs out, no election is due."""

METADATA_TOPIC_ID: Final = (1).to_bytes(16, "big")
OBSERVER: Final = 99
FAR: Final = 2**40
"""How far a script says that it has read the metadata: far enough."""
CREATED_MS: Final = 30_000

FEATURES: Final = {
    "metadata.version": (7, 30),
    "kraft.version": (0, 1),
    "transaction.version": (0, 2),
    "group.version": (0, 1),
    "eligible.leader.replicas.version": (0, 1),
    "share.version": (0, 1),
    "streams.version": (0, 1),
}
"""What Apache Kafka 4.3.1's nodes say they support."""

EPOCHS: Final = {"brokerEpoch", "previousBrokerEpoch"}
EPOCH_IN_TEXT: Final = re.compile(r"(epoch )(\d+)")
SETS: Final = {"eligibleLeaderReplicas", "lastKnownElr", "isr"}
"""Fields with broker ids in no order."""


def uuid(number: int) -> bytes:
    """An id of our own: not one of those that Kafka reserves."""
    return (1000 + number).to_bytes(16, "big")


def listeners(broker_id: int) -> list[dict[str, Any]]:
    """Where nobody listens."""
    return [{"name": "PLAINTEXT", "host": "127.0.0.1", "port": broker_id % 1000 + 1, "security_protocol": 0}]


def features(**changed: tuple[int, int] | None) -> list[dict[str, Any]]:
    """What a node supports: as Kafka's do, but for those named (with _ for .); None leaves one out."""
    levels = {**FEATURES, **{name.replace("_", "."): levels for name, levels in changed.items()}}
    return [
        {"name": name, "min_supported_version": levels[0], "max_supported_version": levels[1]}
        for name, levels in levels.items()
        if levels is not None
    ]


class ControllerWorld(World):
    """The controller of a cluster that has one, and the brokers that are scripts."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(cluster.controller_address)
        self.cluster_id = cluster.cluster_id
        self.epochs: dict[int, int] = {}
        """The broker epochs of the scripts, by their ids."""
        self._known_epochs: dict[int, str] = {}
        self._incarnations = 0
        self._topics: list[str] = []
        self._cases = 0
        self._masked: dict[str, str] = {self.cluster_id: "<cluster>"}
        """Texts within texts, and what stands for them."""
        self._log = Wire(self.address)
        self._heartbeats = Wire(self.address)
        self._position, self._epoch = 0, 0
        self.until(lambda: self.raw(ApiKey.DESCRIBE_CLUSTER, 1, endpoint_type=2).error_code == 0)
        self.until(lambda: self._fetch().error_code == 0)
        self.until(lambda: any(line[0].startswith("RegisterController") for line in self.written()))

    def close(self) -> None:
        super().close()
        self._log.close()
        self._heartbeats.close()

    def begin(self, name: str) -> None:
        """A case begins: nobody is registered, there is no topic, and its names are its own."""
        for topic in self._topics:
            self.raw(ApiKey.DELETE_TOPICS, 5, topic_names=[topic], timeout_ms=CREATED_MS)
        for broker_id in self.epochs:
            self.raw(ApiKey.UNREGISTER_BROKER, 0, broker_id=broker_id)
        self._topics.clear()
        self.epochs.clear()
        self._known_epochs.clear()
        self._cases += 1
        self._incarnations = 0
        self.prefix = f"{name}-"
        self.written()

    # What was written

    def written(self) -> Answer:
        """Every record since the last time, by its kind and version; those of one kind that stand together, sorted."""
        found: list[list[Any]] = []
        while batch := self._fetched():
            for position, header in iter_headers(batch):
                self._position, self._epoch = header.last_offset + 1, header.partition_leader_epoch
                if not header.is_control:
                    found += [_record(each.value) for each in iter_records(batch, position)]
        lines = [[kind, self.normal(record)] for kind, record in found if not kind.startswith("NoOp")]
        return [line for _, group in groupby(lines, key=lambda line: line[0]) for line in sorted(group, key=json.dumps)]

    def _fetched(self) -> bytes:
        answer = self._fetch()
        assert answer.error_code == 0, answer
        return bytes(answer.records or b"")

    def _fetch(self) -> Any:
        partition = {
            "partition": 0,
            "current_leader_epoch": self._epoch or 1,
            "fetch_offset": self._position,
            "last_fetched_epoch": self._epoch,
            "partition_max_bytes": 1 << 20,
            "replica_directory_id": uuid(OBSERVER),
        }
        request = {
            "cluster_id": self.cluster_id,
            "replica_state": {"replica_id": OBSERVER, "replica_epoch": -1},
            "max_wait_ms": 0,
            "min_bytes": 0,
            "max_bytes": 1 << 20,
            "session_epoch": -1,
            "topics": [{"topic_id": METADATA_TOPIC_ID, "partitions": [partition]}],
        }
        response: Any = self._log.ask(ApiKey.FETCH, 17, request)
        return response.responses[0].partitions[0]

    def hide(self, text: str, placeholder: str) -> None:
        """A text that differs from run to run, wherever it stands."""
        self._masked[text] = placeholder

    def done(self, answer: Answer) -> Answer:
        """An answer, and what was written for it."""
        return {"answer": answer, "written": self.written()}

    def normal(self, value: Any, field: str = "") -> Answer:
        """As in World; broker epochs are said by whose they are, and the how manieth."""
        if field in EPOCHS:
            return self._known_epochs.get(value, value)
        if field in SETS and isinstance(value, list) and value and isinstance(value[0], int):
            return sorted(value)
        if isinstance(value, str):
            value = EPOCH_IN_TEXT.sub(lambda found: found[1] + self._known_epochs.get(int(found[2]), found[2]), value)
            for id_, name in self._masked.items():
                value = value.replace(id_, name)
        return super().normal(value, field)

    # What scripts do

    def directory(self, broker_id: int, index: int = 0) -> bytes:
        """The id of a data folder of a scripted broker: another one in each case."""
        id_ = uuid(self._cases * 100_000 + broker_id * 10 + index)
        self._masked[uuid_text(id_)] = f"<folder {index} of {broker_id}>"
        return id_

    def register(self, broker_id: int, version: int = 4, **request: Any) -> Answer:
        """BrokerRegistration of a new incarnation, unless `incarnation_id` says otherwise."""
        self._incarnations += 1
        asked = {
            "broker_id": broker_id,
            "cluster_id": self.cluster_id,
            "incarnation_id": uuid(10_000 + self._incarnations),
            "listeners": listeners(broker_id),
            "features": features(),
            "rack": None,
            "log_dirs": [self.directory(broker_id)],
            "previous_broker_epoch": -1,
        }
        response = self.raw(ApiKey.BROKER_REGISTRATION, version, **{**asked, **request})
        if response is None:
            return self.done("closed")
        if response.error_code == 0:
            epoch = response.broker_epoch
            self.epochs[broker_id] = epoch
            self._known_epochs.setdefault(epoch, f"<epoch {len(self._known_epochs)}, of {broker_id}>")
        return self.done(self.normal(to_json(response, version)))

    def heartbeat(self, broker_id: int, version: int = 2, **request: Any) -> Answer:
        """BrokerHeartbeat: caught up, and content to be in service."""
        asked = {
            "broker_id": broker_id,
            "broker_epoch": self.epochs.get(broker_id, -1),
            "current_metadata_offset": FAR,
            "want_fence": False,
            "want_shut_down": False,
            "offline_log_dirs": [],
            "cordoned_log_dirs": None,
        }
        response = self._heartbeats.ask(ApiKey.BROKER_HEARTBEAT, version, {**asked, **request})
        assert response is not None
        return self.done(self.normal(to_json(response, version)))

    def serve(self, *broker_ids: int, **request: Any) -> None:
        """Brokers register and are taken into service."""
        for broker_id in broker_ids:
            self.register(broker_id, **request)
            self.unfence(broker_id)

    def fence(self, *broker_ids: int) -> Answer:
        """Brokers want to be fenced, one after the other."""
        return [self.heartbeat(broker_id, want_fence=True)["written"] for broker_id in broker_ids]

    def unfence(self, *broker_ids: int) -> Answer:
        """The same ones want to be in service again, and say so twice.

        To Kafka's controller a broker that was just unfenced has read nothing of the metadata until it says so again.
        """
        return [[self.heartbeat(broker_id)["written"] for _ in range(2)] for broker_id in broker_ids]

    def place(self, what: str, *replicas: list[int], **configs: str) -> str:
        """A topic with its replicas where they are said to be; its name."""
        name = self.name(what)
        asked = {
            "name": name,
            "num_partitions": -1,
            "replication_factor": -1,
            "assignments": [{"partition_index": index, "broker_ids": ids} for index, ids in enumerate(replicas)],
            "configs": [{"name": key.replace("_", "."), "value": value} for key, value in configs.items()],
        }
        (made,) = self.raw(ApiKey.CREATE_TOPICS, 7, topics=[asked], timeout_ms=CREATED_MS).topics
        assert made.error_code == 0, made
        self.created(name, made.topic_id)
        return name

    def created(self, name: str, topic_id: bytes) -> None:
        """A topic was made: it is taken down when the next case begins."""
        if topic_id != ZERO_UUID:
            self.know(name, topic_id)
            self._topics.append(name)
        self.written()

    def alter(self, topic: str, leader: int, isr: list[int], version: int = 3, **request: Any) -> Answer:
        """AlterPartition of partition 0, with the leader's epochs of `request` (leader_epoch, partition_epoch)."""
        member_epochs = request.pop("epochs", {})
        partition = {
            "partition_index": 0,
            "new_isr": isr,
            "new_isr_with_epochs": [
                {"broker_id": each, "broker_epoch": member_epochs.get(each, self.epochs.get(each, -1))} for each in isr
            ],
            "leader_recovery_state": 0,
            **request,
        }
        topics = [{"topic_id": self.ids[topic], "partitions": [partition]}]
        asked = {"broker_id": leader, "broker_epoch": self.epochs[leader], "topics": topics}
        return self.done(self.ask(ApiKey.ALTER_PARTITION, version, **asked))

    def elect(self, topic: str, kind: int = 0, partitions: tuple[int, ...] = (0,)) -> Answer:
        """ElectLeaders: 0 for the preferred ones, 1 unclean."""
        asked = [{"topic": topic, "partitions": list(partitions)}]
        return self.done(
            self.ask(ApiKey.ELECT_LEADERS, 2, election_type=kind, topic_partitions=asked, timeout_ms=CREATED_MS)
        )

    def move(self, topic: str, replicas: list[int] | None, index: int = 0, version: int = 1, **request: Any) -> Answer:
        """AlterPartitionReassignments of one partition; None cancels."""
        partitions = [{"partition_index": index, "replicas": replicas}]
        asked = {"allow_replication_factor_change": True, "timeout_ms": CREATED_MS, **request}
        topics = [{"name": topic, "partitions": partitions}]
        return self.done(self.ask(ApiKey.ALTER_PARTITION_REASSIGNMENTS, version, topics=topics, **asked))

    def configure(self, resource_type: int, resource: str, **values: str | None) -> Answer:
        """IncrementalAlterConfigs: set, or with None delete."""
        configs = [
            {"name": key.replace("_", "."), "config_operation": 1 if value is None else 0, "value": value}
            for key, value in values.items()
        ]
        resources = [{"resource_type": resource_type, "resource_name": resource, "configs": configs}]
        return self.done(self.ask(ApiKey.INCREMENTAL_ALTER_CONFIGS, 1, resources=resources, validate_only=False))


def _record(value: bytes | memoryview | None) -> list[Any]:
    """A metadata record's kind with its version, and its JSON."""
    assert value is not None
    data = memoryview(value)
    _, position = read_uvarint(data, 0)
    _, position = read_uvarint(data, position)
    version, _ = read_uvarint(data, position)
    record = decode_metadata_record(value)
    kind = type(record).__name__
    if kind == "BrokerRegistrationChangeRecord":  # its version says no more than what is in it
        return [kind, to_json(record, 3)]
    return [f"{kind} v{version}", to_json(record, version)]

"""A node on the data directories that Apache Kafka 4.3.1 left: what it tells its clients is what their manifests say.

The manifests hold what Kafka's own broker answered, before it was stopped or killed, and for the directories that were
killed or damaged what it answered when it had started again. Here a node of ours is asked the same over the wire, then
used on, then stopped, and its directory looked through.
"""

from __future__ import annotations

import gzip
import hashlib
import hmac
import json
import tarfile
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from kpybroker.clock import Clock
from kpybroker.cluster.image import ClusterImage, ScramImage, ScramUser
from kpybroker.cluster.quorum_state import read_quorum_state
from kpybroker.cluster.snapshot import image_of, parse_file_name, read_snapshot
from kpybroker.config import BrokerConfig
from kpybroker.config.sources import listening_on
from kpybroker.node import Node
from kpybroker.storage.files import RealFiles
from kpybroker.storage.read_only import ReadOnlyFiles
from kpybroker.storage.verify import verify
from kpybroker.storage.verify_report import Report
from kpybroker.wire.codes import Code
from kpybroker.wire.internal.framing import decode_share_record, decode_transaction_record
from kpybroker.wire.internal.share_records import (
    ShareSnapshotKey,
    ShareSnapshotValue,
    ShareUpdateKey,
    ShareUpdateValue,
)
from kpybroker.wire.messages.api_versions import ApiVersionsRequest, ApiVersionsResponse
from kpybroker.wire.messages.create_topics import CreatableTopic, CreateTopicsRequest, CreateTopicsResponse
from kpybroker.wire.messages.delete_topics import DeleteTopicsRequest, DeleteTopicsResponse, DeleteTopicState
from kpybroker.wire.messages.describe_client_quotas import DescribeClientQuotasRequest, DescribeClientQuotasResponse
from kpybroker.wire.messages.describe_configs import (
    DescribeConfigsRequest,
    DescribeConfigsResource,
    DescribeConfigsResponse,
)
from kpybroker.wire.messages.describe_producers import DescribeProducersRequest, DescribeProducersResponse, TopicRequest
from kpybroker.wire.messages.fetch import FetchPartition, FetchRequest, FetchResponse, FetchTopic
from kpybroker.wire.messages.init_producer_id import InitProducerIdRequest, InitProducerIdResponse
from kpybroker.wire.messages.list_groups import ListGroupsRequest, ListGroupsResponse
from kpybroker.wire.messages.list_offsets import (
    ListOffsetsPartition,
    ListOffsetsRequest,
    ListOffsetsResponse,
    ListOffsetsTopic,
)
from kpybroker.wire.messages.metadata import MetadataRequest, MetadataResponse
from kpybroker.wire.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
    OffsetCommitResponse,
)
from kpybroker.wire.messages.offset_fetch import OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchResponse
from kpybroker.wire.messages.produce import PartitionProduceData, ProduceRequest, ProduceResponse, TopicProduceData
from kpybroker.wire.primitives import ZERO_UUID, uuid_text
from kpybroker.wire.records.batch import BatchHeader, build_batch, iter_headers, iter_records
from kpybroker.wire.records.record import Record

DATA = Path(__file__).parents[1] / "data" / "datadirs"
TOPIC, BROKER = 2, 4
EARLIEST, LATEST, GREATEST = -2, -1, -3
UNCOMMITTED, COMMITTED = 0, 1
TOPIC_CONFIG, BROKER_CONFIG, DEFAULT_BROKER_CONFIG = 1, 2, 3
SCRAM = {"SCRAM-SHA-256": 1, "SCRAM-SHA-512": 2}
TRANSACTION_STATES = ("Empty", "Ongoing", "PrepareCommit", "PrepareAbort", "CompleteCommit", "CompleteAbort")


class Then(Clock):
    """The wall clock of the day on which the directory was written: later, retention would have its way."""

    def __init__(self, wall_ms: int) -> None:
        self._ahead_ms = wall_ms - super().wall_ms()

    def wall_ms(self) -> int:
        return super().wall_ms() + self._ahead_ms


class Left:
    """One of the directories, unpacked, and what its manifest says."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.folder = folder
        with tarfile.open(DATA / f"{name}.tar.gz") as archive:
            archive.extractall(folder, filter="data")
        self.manifest = json.loads(gzip.decompress((DATA / f"{name}.manifest.json.gz").read_bytes()))
        self.live = self.manifest.get("live_after_recovery") or self.manifest["live"]
        self.now_ms = 1 + max(
            partition["max_timestamp"][0] for topic in self.live["topics"] for partition in topic["partitions"]
        )

    def partitions(self) -> Iterator[tuple[str, dict[str, Any]]]:
        for topic in self.live["topics"]:
            for partition in topic["partitions"]:
                yield topic["name"], partition

    @asynccontextmanager
    async def served(self, **settings: str) -> AsyncIterator[int]:
        """A node on the folder; its port."""
        given = {name: str(value) for name, value in self.manifest["broker_config"].items()}
        given |= {name.replace("_", "."): value for name, value in settings.items()}
        config = BrokerConfig.load(None, listening_on("localhost", 0) | {"log.dirs": str(self.folder)} | given)
        node = Node(config, files=RealFiles(sync=False), clock=Then(self.now_ms))
        stop = trio.Event()
        async with trio.open_nursery() as nursery:
            await nursery.start(node.run, stop)
            try:
                yield node.ports[0]
            finally:
                stop.set()


@pytest.fixture(params=["clean", "killed", "torn", "snapshot"])
def left(request: pytest.FixtureRequest, tmp_path: Path) -> Left:
    return Left(request.param, tmp_path / "data")


class Asking:
    """The questions that the manifests answer."""

    def __init__(self, client: Any) -> None:
        self.client = client

    def topics(self) -> dict[str, dict[str, Any]]:
        answer = self.client.ask(MetadataRequest(topics=None), MetadataResponse, 12)
        return {
            topic.name: {
                "name": topic.name,
                "id": uuid_text(topic.topic_id),
                "internal": topic.is_internal,
                "leaders": {each.partition_index: each.leader_id for each in topic.partitions},
                "epochs": {each.partition_index: each.leader_epoch for each in topic.partitions},
            }
            for topic in answer.topics
        }

    def cluster_id(self) -> str | None:
        found: str | None = self.client.ask(MetadataRequest(topics=[]), MetadataResponse, 12).cluster_id
        return found

    def features(self) -> dict[str, int]:
        request = ApiVersionsRequest(client_software_name="test", client_software_version="1")
        answer = self.client.ask(request, ApiVersionsResponse, 4)
        return {each.name: each.max_version_level for each in answer.finalized_features}

    def overrides(self, kind: int, name: str, source: int) -> dict[str, str]:
        resource = DescribeConfigsResource(resource_type=kind, resource_name=name, configuration_keys=None)
        answer = self.client.ask(DescribeConfigsRequest(resources=[resource]), DescribeConfigsResponse, 4)
        return {each.name: each.value for each in answer.results[0].configs if each.config_source == source}

    def offset(self, topic: str, index: int, timestamp: int, isolation: int = UNCOMMITTED) -> tuple[int, int]:
        """Offset and timestamp."""
        partition = ListOffsetsPartition(partition_index=index, timestamp=timestamp)
        topics = [ListOffsetsTopic(name=topic, partitions=[partition])]
        request = ListOffsetsRequest(replica_id=-1, isolation_level=isolation, topics=topics)
        found = self.client.ask(request, ListOffsetsResponse, 8).topics[0].partitions[0]
        assert found.error_code == Code.NONE, (topic, index, found)
        return found.offset, found.timestamp

    def producers(self, topic: str, index: int) -> list[dict[str, Any]]:
        request = DescribeProducersRequest(topics=[TopicRequest(name=topic, partition_indexes=[index])])
        found = self.client.ask(request, DescribeProducersResponse, 0).topics[0].partitions[0]
        return [
            {
                "producer_id": each.producer_id,
                "epoch": each.producer_epoch,
                "last_sequence": each.last_sequence,
                "last_timestamp": each.last_timestamp,
                "coordinator_epoch": each.coordinator_epoch,
                "txn_start": None if each.current_txn_start_offset < 0 else each.current_txn_start_offset,
            }
            for each in sorted(found.active_producers, key=lambda each: int(each.producer_id))
        ]

    def fetch(self, topic: str, index: int, offset: int, isolation: int) -> Any:
        partition = FetchPartition(partition=index, fetch_offset=offset, partition_max_bytes=2000)
        request = FetchRequest(
            max_wait_ms=0,
            min_bytes=0,
            isolation_level=isolation,
            topics=[FetchTopic(topic=topic, partitions=[partition])],
        )
        found = self.client.ask(request, FetchResponse, 12).responses[0].partitions[0]
        assert found.error_code == Code.NONE, (topic, index, offset, found)
        return found

    def batches(self, topic: str, index: int, start: int, isolation: int = UNCOMMITTED) -> Iterator[tuple[Any, ...]]:
        """Header, bytes, records, and whether a reader of committed records leaves the batch out."""
        while True:
            found = self.fetch(topic, index, start, isolation)
            data = bytes(found.records or b"")
            if not data:
                return
            coming = sorted((each.first_offset, each.producer_id) for each in found.aborted_transactions or ())
            aborting: set[int] = set()
            for position, header in iter_headers(data):
                while coming and coming[0][0] <= header.last_offset:
                    aborting.add(coming.pop(0)[1])
                hidden = header.is_transactional and header.producer_id in aborting
                yield header, data[position : position + header.length], list(iter_records(data, position)), hidden
                if header.is_control:
                    aborting.discard(header.producer_id)
                start = header.last_offset + 1

    def records(self, topic: str, index: int, start: int) -> list[dict[str, Any]]:
        return [
            described(record, header)
            for header, _, records, _ in self.batches(topic, index, start)
            for record in records
            if not header.is_control and record.offset >= start
        ]

    def seen_committed(self, topic: str, index: int, start: int) -> list[int]:
        """The offsets that a reader of committed records is given, with what it needs to leave out the aborted."""
        return [
            record.offset
            for header, _, records, hidden in self.batches(topic, index, start, COMMITTED)
            for record in records
            if not header.is_control and not hidden and record.offset >= start
        ]

    def groups(self) -> dict[str, tuple[str, str, str]]:
        answer = self.client.ask(ListGroupsRequest(states_filter=[], types_filter=[]), ListGroupsResponse, 5)
        return {each.group_id: (each.group_type, each.protocol_type, each.group_state) for each in answer.groups}

    def committed(self, group_id: str) -> list[dict[str, Any]]:
        request = OffsetFetchRequest(groups=[OffsetFetchRequestGroup(group_id=group_id, topics=None)])
        (group,) = self.client.ask(request, OffsetFetchResponse, 8).groups
        return sorted(
            (
                {
                    "topic": topic.name,
                    "partition": each.partition_index,
                    "offset": each.committed_offset,
                    "leader_epoch": each.committed_leader_epoch,
                    "metadata": each.metadata,
                }
                for topic in group.topics
                for each in topic.partitions
            ),
            key=lambda found: (found["topic"], found["partition"]),
        )

    def quotas(self) -> list[dict[str, Any]]:
        answer = self.client.ask(
            DescribeClientQuotasRequest(components=[], strict=False), DescribeClientQuotasResponse, 1
        )
        return [
            {
                "entity": {part.entity_type: part.entity_name for part in entry.entity},
                "values": {value.key: value.value for value in entry.values},
            }
            for entry in answer.entries
        ]

    def produce(self, topic: str, index: int, batch: bytes) -> tuple[int, int]:
        """Error code and base offset."""
        data = TopicProduceData(name=topic, partition_data=[PartitionProduceData(index=index, records=batch)])
        answer = self.client.ask(ProduceRequest(acks=-1, timeout_ms=5000, topic_data=[data]), ProduceResponse, 12)
        found = answer.responses[0].partition_responses[0]
        return found.error_code, found.base_offset


def described(record: Record, header: BatchHeader) -> dict[str, Any]:
    value = record.value
    return {
        "offset": record.offset,
        "timestamp": record.timestamp,
        "timestamp_type": header.timestamp_type,
        "leader_epoch": header.partition_leader_epoch,
        "key": None if record.key is None else bytes(record.key).hex(),
        "value_sha256": None if value is None else hashlib.sha256(value).hexdigest(),
        "value_size": -1 if value is None else len(value),
        "headers": [[key, None if text is None else text.hex()] for key, text in record.headers],
    }


# ---- what the manifests say ----


async def test_a_node_says_what_the_manifest_says(left: Left, connect_to: Callable[[int], Any]) -> None:
    counts: Counter[str] = Counter()

    def ask(port: int) -> None:
        asking = Asking(connect_to(port))
        assert asking.cluster_id() == left.live["cluster_id"]
        assert asking.features() == left.live["features"]
        counts["features"] += len(left.live["features"])
        _check_topics(asking, left, counts)
        for topic, partition in left.partitions():
            _check_offsets(asking, topic, partition, counts)
            _check_records(asking, topic, partition, counts)
        _check_groups(asking, left.live["groups"], counts)
        _check_share_groups(asking, left, counts)
        _check_transactions(asking, left, counts)
        _check_settings(asking, left.live, counts)

    async with left.served(log_cleaner_enable="false") as port:
        await trio.to_thread.run_sync(ask, port)
    _check_image(_snapshot(left.folder), left, counts)
    assert dict(counts) == COUNTS[left.name]


def _check_topics(asking: Asking, left: Left, counts: Counter[str]) -> None:
    topics = asking.topics()
    assert set(topics) == {topic["name"] for topic in left.live["topics"]}
    for topic in left.live["topics"]:
        found, partitions = topics[topic["name"]], topic["partitions"]
        assert {key: found[key] for key in ("name", "id", "internal")} == {
            key: topic[key] for key in ("name", "id", "internal")
        }
        assert found["leaders"] == {each["partition"]: each["leader"] for each in partitions}
        # The directories that were killed were asked after the start that follows it; here the stop and the start
        # that come after the question have taken an epoch each.
        more = 0 if "live_after_recovery" in left.manifest else 2
        assert found["epochs"] == {each["partition"]: each["leader_epoch"] + more for each in partitions}, topic["name"]
        assert asking.overrides(TOPIC, topic["name"], TOPIC_CONFIG) == topic["config_overrides"]
        counts["topics"] += 1
        counts["topic configs"] += len(topic["config_overrides"])


def _check_offsets(asking: Asking, topic: str, said: dict[str, Any], counts: Counter[str]) -> None:
    index = said["partition"]
    where = (topic, index)
    assert asking.offset(topic, index, EARLIEST)[0] == said["log_start_offset"], where
    assert asking.offset(topic, index, LATEST)[0] == said["high_watermark"], where
    assert asking.offset(topic, index, LATEST, COMMITTED)[0] == said["last_stable_offset"], where
    found = asking.fetch(topic, index, said["log_start_offset"], UNCOMMITTED)
    assert (found.high_watermark, found.last_stable_offset, found.log_start_offset) == (
        said["high_watermark"],
        said["last_stable_offset"],
        said["log_start_offset"],
    ), where
    greatest = asking.offset(topic, index, GREATEST)
    assert [greatest[1], greatest[0]] == said["max_timestamp"], where
    for timestamp, offset, found_timestamp in said["offset_for_timestamp"]:
        expected = (-1, -1) if offset is None or offset < 0 else (offset, found_timestamp)
        assert asking.offset(topic, index, timestamp) == expected, (*where, timestamp)
        counts["offsets by time"] += 1
    expected_producers = sorted(said["producers"], key=lambda each: each["producer_id"])
    assert asking.producers(topic, index) == expected_producers, where
    counts["producers"] += len(said["producers"])
    counts["partitions"] += 1


def _check_records(asking: Asking, topic: str, said: dict[str, Any], counts: Counter[str]) -> None:
    index, start = said["partition"], said["log_start_offset"]
    if "records" in said:
        found = asking.records(topic, index, start)
        assert found == said["records"], (topic, index)
        counts["records"] += len(found)
    if "offsets_hidden_from_read_committed" in said:
        hidden = said["offsets_hidden_from_read_committed"]
        every = [record["offset"] for record in said["records"]]
        seen = asking.seen_committed(topic, index, start)
        assert seen == [offset for offset in every if offset not in set(hidden)], (topic, index)
        counts["records hidden from read_committed"] += len(hidden)


def _check_groups(asking: Asking, groups: list[dict[str, Any]], counts: Counter[str]) -> None:
    assert asking.groups() == {
        group["id"]: (group["type"].lower(), group["protocol"], group["state"]) for group in groups
    }
    for group in groups:
        counts["groups"] += 1
        expected = [each for each in group["offsets"] if "offset" in each]  # a share group's are elsewhere
        assert asking.committed(group["id"]) == sorted(expected, key=lambda each: (each["topic"], each["partition"]))
        counts["committed offsets"] += len(expected)


def _check_transactions(asking: Asking, left: Left, counts: Counter[str]) -> None:
    """The coordinator's records, the latest of each transactional id."""
    latest: dict[str, Any] = {}
    for topic, partition in left.partitions():
        if topic == "__transaction_state":
            for _, _, records, _ in asking.batches(topic, partition["partition"], 0):
                for record in records:
                    key, value = decode_transaction_record(record.key, record.value)
                    latest[key.transactional_id] = value  # type: ignore[attr-defined]
    assert set(latest) == {said["transactional_id"] for said in left.live["transactions"]}
    for said in left.live["transactions"]:
        value = latest[said["transactional_id"]]
        partitions = [
            f"{each.topic}-{index}" for each in value.transaction_partitions or () for index in each.partition_ids
        ]
        assert TRANSACTION_STATES[value.transaction_status] == said["state"]
        assert (value.producer_id, value.producer_epoch) == (said["producer_id"], said["producer_epoch"])
        assert value.transaction_timeout_ms == said["timeout_ms"]
        assert sorted(partitions) == sorted(said["partitions"])
        counts["transactions"] += 1


def _check_share_groups(asking: Asking, left: Left, counts: Counter[str]) -> None:
    """Where share groups begin: the share coordinator's records, the latest of each partition."""
    names = {topic["id"]: topic["name"] for topic in left.live["topics"]}
    starts: dict[tuple[str, str, int], int] = {}
    for topic, partition in left.partitions():
        if topic == "__share_group_state":
            for _, _, records, _ in asking.batches(topic, partition["partition"], 0):
                for record in records:
                    key, value = decode_share_record(record.key, record.value)
                    assert isinstance(key, ShareSnapshotKey | ShareUpdateKey)
                    assert isinstance(value, ShareSnapshotValue | ShareUpdateValue)
                    starts[key.group_id, names[uuid_text(key.topic_id)], key.partition] = value.start_offset
    expected = {
        (group["id"], each["topic"], each["partition"]): each["start_offset"]
        for group in left.live["groups"]
        for each in group["offsets"]
        if "start_offset" in each
    }
    assert starts == expected
    counts["share-partition start offsets"] += len(starts)


def _check_settings(asking: Asking, live: dict[str, Any], counts: Counter[str]) -> None:
    for broker, expected in live["broker_config_overrides"].items():
        source = DEFAULT_BROKER_CONFIG if broker == "default" else BROKER_CONFIG
        assert asking.overrides(BROKER, "" if broker == "default" else broker, source) == expected
        counts["broker configs"] += len(expected)
    found = sorted(asking.quotas(), key=str)
    assert found == sorted(live["client_quotas"], key=str)
    counts["quotas"] += len(found)


def _snapshot(folder: Path) -> ClusterImage:
    """The newest snapshot of the cluster's metadata."""
    found = [(parse_file_name(path.name), path) for path in (folder / "__cluster_metadata-0").glob("*.checkpoint")]
    id_, path = max((id_, path) for id_, path in found if id_ is not None)
    return image_of(read_snapshot(path.read_bytes()), id_)


def _check_image(image: ClusterImage, left: Left, counts: Counter[str]) -> None:
    """What nothing asks for yet, in the snapshot that our node has written."""
    live, passwords = left.live, left.manifest["scram_passwords"]
    expected = {
        ScramUser(user["user"], SCRAM[credential["mechanism"]]): credential["iterations"]
        for user in live["scram_users"]
        for credential in user["credentials"]
    }
    assert {user: credential.iterations for user, credential in image.scram.items()} == expected
    for user, credential in image.scram.items():
        assert keys_of(passwords[user.name], user.mechanism, credential) == (
            credential.stored_key,
            credential.server_key,
        )
    counts["SCRAM credentials"] += len(expected)
    assert image.features.levels == live["features"]
    assert {topic.name: uuid_text(topic.id) for topic in image.topics.by_name.values()} == {
        topic["name"]: topic["id"] for topic in live["topics"]
    }


def keys_of(password: str, mechanism: int, credential: ScramImage) -> tuple[bytes, bytes]:
    """StoredKey and ServerKey of RFC 5802."""
    kind = {1: "sha256", 2: "sha512"}[mechanism]
    salted = hashlib.pbkdf2_hmac(kind, password.encode(), credential.salt, credential.iterations)
    client_key = hmac.digest(salted, b"Client Key", kind)
    return hashlib.new(kind, client_key).digest(), hmac.digest(salted, b"Server Key", kind)


STOPPED = {
    "topics": 20,
    "topic configs": 35,
    "partitions": 37,
    "records": 951,
    "records hidden from read_committed": 23,
    "offsets by time": 185,
    "producers": 8,
    "transactions": 3,
    "groups": 5,
    "committed offsets": 11,
    "share-partition start offsets": 2,
    "features": 6,
    "broker configs": 3,
    "quotas": 2,
    "SCRAM credentials": 3,
}
KILLED = STOPPED | {
    "topics": 21,
    "partitions": 38,
    "records": 1165,
    "records hidden from read_committed": 35,
    "offsets by time": 190,
    "producers": 11,
    "transactions": 4,
}
COUNTS = {"clean": STOPPED, "snapshot": STOPPED, "killed": KILLED, "torn": KILLED | {"records": 1157}}
"""So that nothing is left out unnoticed."""


# ---- going on from there ----


async def test_a_node_goes_on_where_kafka_was(left: Left, connect_to: Callable[[int], Any]) -> None:
    written: dict[tuple[str, int], list[dict[str, Any]]] = {}

    def go_on(port: int) -> None:
        asking = Asking(connect_to(port))
        _retry_and_continue(asking, left)
        _write_more(asking, left, written)
        _make_and_delete(asking)
        _commit(asking)

    def look_again(port: int) -> None:
        asking = Asking(connect_to(port))
        for (topic, index), records in written.items():
            assert asking.records(topic, index, records[0]["offset"]) == records
        topics = asking.topics()
        assert "plain-gzip" not in topics
        assert list(topics["made-by-us"]["leaders"]) == [0, 1]
        (offset, *_) = asking.committed("group-by-admin")
        assert (offset["topic"], offset["offset"], offset["metadata"]) == ("plain-lz4", 7, "by us")

    async with left.served(log_cleaner_enable="false") as port:
        await trio.to_thread.run_sync(go_on, port)
    async with left.served(log_cleaner_enable="false") as port:
        await trio.to_thread.run_sync(look_again, port)
    assert flaws(left.folder) == []


def flaws(folder: Path) -> list[str]:
    found: list[str] = []
    report = Report(lambda flaw: found.append(str(flaw)), lambda _: None)
    verify(str(folder), ReadOnlyFiles(), report, live=False, checks={"quorum-state": read_quorum_state})
    return found


def _retry_and_continue(asking: Asking, left: Left) -> None:
    """An idempotent producer sends its last batch again, goes on with the next, and is told of a gap."""
    continued = 0
    for topic, partition in left.partitions():
        index = partition["partition"]
        last = {
            header.producer_id: (header, data)
            for header, data, _, _ in asking.batches(topic, index, partition["log_start_offset"])
            if not header.is_control
        }
        for producer in partition["producers"]:
            if producer["last_sequence"] < 0 or producer["txn_start"] is not None:
                continue
            header, data = last[producer["producer_id"]]
            as_sent = bytes(8) + data[8:]  # the broker has put the offset there
            assert asking.produce(topic, index, as_sent) == (Code.NONE, header.base_offset)
            end, _ = asking.offset(topic, index, LATEST)
            assert asking.produce(topic, index, sequenced(producer, 1)) == (Code.NONE, end)
            assert asking.produce(topic, index, sequenced(producer, 1)) == (Code.NONE, end)
            assert asking.produce(topic, index, sequenced(producer, 5)) == (Code.OUT_OF_ORDER_SEQUENCE_NUMBER, -1)
            continued += 1
    assert continued == CONTINUED[left.name]


CONTINUED = {"clean": 2, "killed": 3, "torn": 3, "snapshot": 2}
"""How many idempotent producers there are to go on."""


def sequenced(producer: dict[str, Any], ahead: int) -> bytes:
    record = Record(timestamp=producer["last_timestamp"], key=b"k", value=b"next")
    return bytes(
        build_batch(
            [record],
            producer_id=producer["producer_id"],
            producer_epoch=producer["epoch"],
            base_sequence=producer["last_sequence"] + ahead,
        )
    )


def _write_more(asking: Asking, left: Left, written: dict[tuple[str, int], list[dict[str, Any]]]) -> None:
    for topic, partition in left.partitions():
        if topic.startswith("__") or topic == "plain-gzip":
            continue
        index = partition["partition"]
        end, _ = asking.offset(topic, index, LATEST)
        records = [Record(timestamp=left.now_ms, key=b"more-%d" % number, value=b"v" * 50) for number in range(3)]
        assert asking.produce(topic, index, bytes(build_batch(records))) == (Code.NONE, end), topic
        found = asking.records(topic, index, end)
        assert [record["offset"] for record in found] == [end, end + 1, end + 2]
        written[topic, index] = found


def _make_and_delete(asking: Asking) -> None:
    topic = CreatableTopic(name="made-by-us", num_partitions=2, replication_factor=1, assignments=[], configs=[])
    made = asking.client.ask(CreateTopicsRequest(topics=[topic], timeout_ms=5000), CreateTopicsResponse, 7)
    assert made.topics[0].error_code == Code.NONE
    request = DeleteTopicsRequest(topics=[DeleteTopicState(name="plain-gzip", topic_id=ZERO_UUID)], timeout_ms=5000)
    assert asking.client.ask(request, DeleteTopicsResponse, 6).responses[0].error_code == Code.NONE
    known = {each["producer_id"] for name in asking.topics() for each in asking.producers(name, 0)}
    fresh = asking.client.ask(
        InitProducerIdRequest(transactional_id=None, transaction_timeout_ms=1000), InitProducerIdResponse, 4
    )
    assert fresh.error_code == Code.NONE
    assert fresh.producer_id > max(known)


def _commit(asking: Asking) -> None:
    partition = OffsetCommitRequestPartition(
        partition_index=0, committed_offset=7, committed_leader_epoch=0, committed_metadata="by us"
    )
    request = OffsetCommitRequest(
        group_id="group-by-admin",
        generation_id_or_member_epoch=-1,
        member_id="",
        topics=[OffsetCommitRequestTopic(name="plain-lz4", partitions=[partition])],
    )
    assert asking.client.ask(request, OffsetCommitResponse, 8).topics[0].partitions[0].error_code == Code.NONE

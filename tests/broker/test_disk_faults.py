"""A node whose disk fails at one operation, while clients produce, fetch, commit, delete and create.

`make campaign ARGS='tests/broker/test_disk_faults.py --campaign-size 1'` lets every operation of a round fail in turn;
as a test some have theirs.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from typing import Any

import pytest

from kpybroker.endings import NodeFailed
from kpybroker.node import StartupFailed
from kpybroker.storage.files import RealFiles
from kpybroker.storage.verify import verify
from kpybroker.storage.verify_report import Finding, Report
from kpybroker.testing import Broker
from kpybroker.testing import broker as testing_broker
from kpybroker.wire.codes import Code, code_of
from kpybroker.wire.messages.create_topics import (
    CreatableTopic,
    CreatableTopicConfig,
    CreateTopicsRequest,
    CreateTopicsResponse,
)
from kpybroker.wire.messages.delete_records import (
    DeleteRecordsPartition,
    DeleteRecordsRequest,
    DeleteRecordsResponse,
    DeleteRecordsTopic,
)
from kpybroker.wire.messages.delete_topics import DeleteTopicsRequest, DeleteTopicsResponse, DeleteTopicState
from kpybroker.wire.messages.fetch import FetchPartition, FetchRequest, FetchResponse, FetchTopic
from kpybroker.wire.messages.find_coordinator import FindCoordinatorRequest, FindCoordinatorResponse
from kpybroker.wire.messages.list_offsets import (
    ListOffsetsPartition,
    ListOffsetsRequest,
    ListOffsetsResponse,
    ListOffsetsTopic,
)
from kpybroker.wire.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
    OffsetCommitResponse,
)
from kpybroker.wire.messages.produce import PartitionProduceData, ProduceRequest, ProduceResponse, TopicProduceData
from kpybroker.wire.primitives import ZERO_UUID
from kpybroker.wire.records.batch import build_batch, read_records
from kpybroker.wire.records.record import Record

from .injecting import InjectingFiles

STEP = 3
"""One operation of so many, where nobody asks for all of them."""
LIMIT_S = 30.0
SETTINGS = {
    "offsets.topic.num.partitions": 1,
    "log.flush.offset.checkpoint.interval.ms": 100,
    "replica.high.watermark.checkpoint.interval.ms": 100,
    "log.retention.check.interval.ms": 100,
    "metadata.log.max.record.bytes.between.snapshots": 2000,
}
RETRIED = {
    Code.KAFKA_STORAGE_ERROR,
    Code.NOT_COORDINATOR,
    Code.COORDINATOR_NOT_AVAILABLE,
    Code.COORDINATOR_LOAD_IN_PROGRESS,
    Code.REQUEST_TIMED_OUT,
    Code.UNKNOWN_TOPIC_OR_PARTITION,
}
"""What a client takes for a passing trouble."""


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> InjectingFiles:
    disk = InjectingFiles()
    monkeypatch.setattr(testing_broker, "RealFiles", lambda sync: disk)  # noqa: ARG005 - as RealFiles is called
    return disk


class Clients:
    """Everything that is asked of a node in a round, and what was promised in all of them."""

    def __init__(self, connect_to: Callable[[int], Any], broker: Broker) -> None:
        self._connect_to = connect_to
        self._broker = broker
        self._client = connect_to(broker.port)
        self.acknowledged: dict[str, dict[int, bytes]] = {}
        self.committed: dict[str, int] = {}
        self.codes: set[Code] = set()

    def ask(self, request: Any, response_class: type, version: int, code: Callable[[Any], int]) -> Any:
        """The answer, asked for until there is one without an error."""
        deadline_s = time.monotonic() + LIMIT_S
        while True:
            try:
                answer = self._client.ask(request, response_class, version)
            except (AssertionError, ConnectionError):  # the connection was broken off, in the middle of an answer maybe
                self._client = self._connect_to(self._broker.port)
                assert time.monotonic() < deadline_s, "no answer"
                continue
            found = code_of(code(answer))
            if found is Code.NONE:
                return answer
            self.codes.add(found)
            assert found in RETRIED, f"{type(request).__name__}: {found.name}"
            assert time.monotonic() < deadline_s, f"{type(request).__name__}: {found.name} for too long"

    def round(self, number: int) -> None:
        """A topic is made, used and deleted; another one, and a group, are there all the time."""
        topic = f"round-{number}"
        configs = [CreatableTopicConfig(name="flush.messages", value="1")]
        wanted = CreatableTopic(name=topic, num_partitions=1, replication_factor=1, assignments=[], configs=configs)
        creating = CreateTopicsRequest(topics=[wanted], timeout_ms=5000)
        made = Code.TOPIC_ALREADY_EXISTS
        self.ask(
            creating,
            CreateTopicsResponse,
            7,
            lambda answer: 0 if answer.topics[0].error_code == made else answer.topics[0].error_code,
        )
        self.produce(topic, b"%d" % number * 3)
        self.produce("kept", b"%d" % number * 70_000)
        self.fetch("kept")
        self.commit("g", number)
        self.list_offsets("kept")
        if number % 3 == 2:
            self.delete_records("kept", max(max(self.acknowledged["kept"]) - 4, 0))
        deleting = DeleteTopicsRequest(topics=[DeleteTopicState(name=topic, topic_id=ZERO_UUID)], timeout_ms=5000)
        gone = (Code.NONE, Code.UNKNOWN_TOPIC_OR_PARTITION)
        self.ask(
            deleting,
            DeleteTopicsResponse,
            6,
            lambda answer: 0 if answer.responses[0].error_code in gone else answer.responses[0].error_code,
        )
        del self.acknowledged[topic]

    def produce(self, topic: str, value: bytes) -> None:
        records = build_batch([Record(timestamp=int(time.time() * 1000), value=value)])
        data = TopicProduceData(name=topic, partition_data=[PartitionProduceData(index=0, records=records)])
        request = ProduceRequest(acks=-1, timeout_ms=5000, topic_data=[data])
        answer = self.ask(
            request, ProduceResponse, 11, lambda answer: answer.responses[0].partition_responses[0].error_code
        )
        offset = answer.responses[0].partition_responses[0].base_offset
        self.acknowledged.setdefault(topic, {})[offset] = value

    def fetch(self, topic: str) -> None:
        """All that was acknowledged is there."""
        offset = min(self.acknowledged[topic])
        there: dict[int, bytes] = {}
        while offset <= max(self.acknowledged[topic]):
            partition = FetchPartition(partition=0, fetch_offset=offset, partition_max_bytes=1_000_000)
            request = FetchRequest(
                max_wait_ms=500, min_bytes=1, topics=[FetchTopic(topic=topic, partitions=[partition])]
            )
            answer = self.ask(request, FetchResponse, 12, lambda answer: answer.responses[0].partitions[0].error_code)
            for record in read_records(answer.responses[0].partitions[0].records):
                there[record.offset] = bytes(record.value or b"")
                offset = record.offset + 1
        for offset, value in self.acknowledged[topic].items():
            assert there.get(offset) == value, f"offset {offset} of {topic} is lost"

    def commit(self, group: str, offset: int) -> None:
        finding = FindCoordinatorRequest(coordinator_keys=[group])
        self.ask(finding, FindCoordinatorResponse, 6, lambda answer: answer.coordinators[0].error_code)
        partition = OffsetCommitRequestPartition(partition_index=0, committed_offset=offset, committed_metadata="")
        topic = OffsetCommitRequestTopic(name="kept", partitions=[partition])
        request = OffsetCommitRequest(group_id=group, generation_id_or_member_epoch=-1, member_id="", topics=[topic])
        self.ask(request, OffsetCommitResponse, 8, lambda answer: answer.topics[0].partitions[0].error_code)
        self.committed[group] = offset

    def list_offsets(self, topic: str) -> None:
        partition = ListOffsetsPartition(partition_index=0, timestamp=1)
        request = ListOffsetsRequest(replica_id=-1, topics=[ListOffsetsTopic(name=topic, partitions=[partition])])
        self.ask(request, ListOffsetsResponse, 7, lambda answer: answer.topics[0].partitions[0].error_code)

    def delete_records(self, topic: str, offset: int) -> None:
        partition = DeleteRecordsPartition(partition_index=0, offset=offset)
        request = DeleteRecordsRequest(topics=[DeleteRecordsTopic(name=topic, partitions=[partition])], timeout_ms=5000)
        kept = {at: value for at, value in self.acknowledged[topic].items() if at >= offset}
        self.acknowledged[topic] = kept  # from now on nobody may rely on the others
        self.ask(request, DeleteRecordsResponse, 2, lambda answer: answer.topics[0].partitions[0].error_code)


@pytest.fixture
def steps(pytestconfig: pytest.Config) -> int:
    """From operation to operation."""
    return 1 if pytestconfig.getoption("--campaign-size") else STEP


def prepared(broker: Broker) -> None:
    configs = {"segment.bytes": 1 << 20, "file.delete.delay.ms": 0}
    broker.create_topic("kept", configs=configs)


def verified(path: str) -> list[Finding]:
    found: list[Finding] = []
    verify(path, RealFiles(), Report(found.append, lambda _: None), checks={})
    return found


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EMFILE], ids=errno.errorcode.get)
def test_a_temporary_failure_is_told_and_passes(
    disk: InjectingFiles, connect_to: Callable[[int], Any], steps: int, error: int
) -> None:
    """Whatever it hits: the node goes on, what clients ask is done in the end, and nothing acknowledged is lost."""
    with Broker(SETTINGS) as broker:
        prepared(broker)
        clients = Clients(connect_to, broker)
        clients.round(0)
        number = hit = 1
        while True:
            disk.fail_at(hit, error)
            clients.round(number)
            if disk.waits:
                break
            hit += steps
            number += 1
        disk.fail_at(0, 0)
        clients.fetch("kept")
        broker.restart()
        clients = _again(clients, connect_to, broker)
        clients.fetch("kept")
        print(f"{len(disk.hits)} operations failed, answers: {sorted(code.name for code in clients.codes)}")
        assert not verified(str(broker.data_dir))


def _again(clients: Clients, connect_to: Callable[[int], Any], broker: Broker) -> Clients:
    other = Clients(connect_to, broker)
    other.acknowledged, other.committed, other.codes = clients.acknowledged, clients.committed, clients.codes
    return other


def test_a_disk_that_fails_ends_the_node_and_loses_nothing(
    disk: InjectingFiles, connect_to: Callable[[int], Any], steps: int
) -> None:
    """It is the only one, and holds the metadata: the node stops, as Kafka's. Another start finds everything."""
    broker = Broker(SETTINGS).start()
    prepared(broker)
    clients = Clients(connect_to, broker)
    clients.round(0)
    number, ended = 1, 0
    hit = 1
    while True:
        disk.fail_at(hit, errno.EIO)
        try:
            clients.round(number)
            if disk.waits:
                break
        except (AssertionError, OSError, RuntimeError):  # it has gone
            pass
        hit += steps * 3 if steps > 1 else 1
        number += 1
        with disk.well():
            try:
                broker.restart()
            except NodeFailed:
                ended += 1
                broker.start()
            clients = _again(clients, connect_to, broker)
            clients.acknowledged = {"kept": clients.acknowledged["kept"]}
            clients.fetch("kept")
    disk.fail_at(0, 0)
    print(f"{len(disk.hits)} operations failed, {ended} of them ended the node")
    assert ended
    broker.stop()


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO], ids=errno.errorcode.get)
@pytest.mark.parametrize("when", ["start", "stop"])
def test_a_start_or_a_stop_on_a_disk_that_fails(
    disk: InjectingFiles, connect_to: Callable[[int], Any], steps: int, when: str, error: int
) -> None:
    """The node starts or says in a line why not; it stops in any case, and the next start finds everything."""
    broker = Broker(SETTINGS).start()
    prepared(broker)
    clients = Clients(connect_to, broker)
    clients.round(0)
    hit, refused, over = 1, 0, False
    while not over:
        if when == "stop":
            disk.fail_at(hit, error)
        _stop(broker)
        if when == "start":
            disk.fail_at(hit, error)
            why = _start(broker)
            over = disk.waits
            disk.fail_at(0, 0)
            if why is None:
                _stop(broker)
            else:
                refused += 1
                assert os.strerror(error) in str(why) or "all log dirs" in str(why)
        else:
            over = disk.waits
            disk.fail_at(0, 0)
        assert _start(broker) is None
        clients = _again(clients, connect_to, broker)
        clients.fetch("kept")
        clients.produce("kept", b"%d" % hit * 1000)
        hit += steps if steps == 1 else steps * 3
    print(f"{len(disk.hits)} operations failed, {refused} kept the node from starting")
    _stop(broker)
    assert not verified(str(broker._folder))
    broker._remove_folder()


def _start(broker: Broker) -> StartupFailed | NodeFailed | None:
    """Start it on its data; what kept it from starting."""
    assert broker._folder is not None
    try:
        broker._run_thread(broker._folder)
    except (StartupFailed, NodeFailed) as why:
        return why
    return None


def _stop(broker: Broker) -> None:
    """Stop it, if it has not ended by itself; its data stays."""
    try:
        broker._end(keep_data=True)
    except NodeFailed:
        assert not broker._thread

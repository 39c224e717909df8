"""A node with several data folders: where partitions go, how they move, and what becomes of a folder that fails."""

from __future__ import annotations

import contextlib
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from kpybroker.endings import NodeFailed, StartupFailed
from kpybroker.storage.meta_properties import read_meta_properties
from kpybroker.testing import Broker
from kpybroker.wire.codes import Code
from kpybroker.wire.messages.alter_replica_log_dirs import (
    AlterReplicaLogDir,
    AlterReplicaLogDirsRequest,
    AlterReplicaLogDirsResponse,
    AlterReplicaLogDirTopic,
)
from kpybroker.wire.messages.create_topics import CreatableTopic, CreateTopicsRequest, CreateTopicsResponse
from kpybroker.wire.messages.delete_records import (
    DeleteRecordsPartition,
    DeleteRecordsRequest,
    DeleteRecordsResponse,
    DeleteRecordsTopic,
)
from kpybroker.wire.messages.delete_topics import DeleteTopicsRequest, DeleteTopicsResponse
from kpybroker.wire.messages.describe_log_dirs import DescribeLogDirsRequest, DescribeLogDirsResponse
from kpybroker.wire.messages.fetch import FetchPartition, FetchRequest, FetchResponse, FetchTopic
from kpybroker.wire.messages.metadata import MetadataRequest, MetadataRequestTopic, MetadataResponse
from kpybroker.wire.messages.produce import PartitionProduceData, ProduceRequest, ProduceResponse, TopicProduceData
from kpybroker.wire.primitives import ZERO_UUID
from kpybroker.wire.records.batch import build_batch, iter_headers, read_records
from kpybroker.wire.records.record import Record

from .ports import free_ports

LIMIT_S = 60.0
KILLS = 2


class Node:
    """A broker with three data folders, and a client of it."""

    def __init__(self, root: Path, connect_to: Callable[[int], Any]) -> None:
        self.folders = [root / name for name in ("a", "b", "c")]
        self._connect_to = connect_to
        self.broker = self._made()
        self.client: Any = None

    def _made(self, **settings: object) -> Broker:
        dirs = ",".join(map(str, self.folders))
        named = {name.replace("_", "."): value for name, value in settings.items()}
        return Broker({"log.dirs": dirs, "log.segment.bytes": 1 << 20, **named})

    def start(self, **settings: object) -> None:
        self.broker = self._made(**settings)
        self.broker.start()
        self.client = self._connect_to(self.broker.port)

    def stop(self) -> None:
        self.broker.stop()

    def restart(self, **settings: object) -> None:
        self.stop()
        self.start(**settings)

    def homes(self, topic: str) -> dict[int, list[str]]:
        """The names of the folders that hold each partition."""
        found: dict[int, list[str]] = {}
        for folder in self.folders:
            for each in folder.glob(f"{topic}-[0-9]*"):
                if each.name[len(topic) + 1 :].isdigit():
                    found.setdefault(int(each.name[len(topic) + 1 :]), []).append(folder.name)
        return found

    def described(self, topic: str | None = None) -> dict[str, Any]:
        request = DescribeLogDirsRequest(topics=None)
        results = self.client.ask(request, DescribeLogDirsResponse, 5).results
        for each in results:
            each.topics[:] = [found for found in each.topics if topic in (None, found.name)]
        return {Path(each.log_dir).name: each for each in results}

    def move(self, topic: str, index: int, folder: Path | str) -> Code:
        topics = [AlterReplicaLogDirTopic(name=topic, partitions=[index])]
        request = AlterReplicaLogDirsRequest(dirs=[AlterReplicaLogDir(path=str(folder), topics=topics)])
        response = self.client.ask(request, AlterReplicaLogDirsResponse, 2)
        return Code(response.results[0].partitions[0].error_code)

    def produce(self, topic: str, value: bytes, *, index: int = 0, count: int = 1) -> Code:
        records = build_batch([Record(timestamp=int(time.time() * 1000), value=value) for _ in range(count)])
        data = TopicProduceData(name=topic, partition_data=[PartitionProduceData(index=index, records=records)])
        request = ProduceRequest(acks=-1, timeout_ms=10_000, topic_data=[data])
        response = self.client.ask(request, ProduceResponse, 9)
        return Code(response.responses[0].partition_responses[0].error_code)

    def values(self, topic: str, index: int = 0) -> list[bytes]:
        """All values of a partition."""
        values: list[bytes] = []
        offset = 0
        while True:
            code, records = self.fetch(topic, index, offset)
            assert code in (Code.NONE, Code.OFFSET_OUT_OF_RANGE)
            if not records:
                return values
            values += [bytes(record.value or b"") for record in records]
            offset = records[-1].offset + 1

    def fetch(self, topic: str, index: int, offset: int) -> tuple[Code, list[Any]]:
        partition = FetchPartition(partition=index, fetch_offset=offset, partition_max_bytes=1 << 20)
        request = FetchRequest(
            replica_id=-1, max_wait_ms=0, min_bytes=0, topics=[FetchTopic(topic=topic, partitions=[partition])]
        )
        found = self.client.ask(request, FetchResponse, 11).responses[0].partitions[0]
        return Code(found.error_code), whole(found.records or b"")

    def metadata(self, topic: str) -> dict[int, Any]:
        topics = [MetadataRequestTopic(topic_id=ZERO_UUID, name=topic)]
        found = self.client.ask(MetadataRequest(topics=topics), MetadataResponse, 12).topics[0]
        return {each.partition_index: each for each in found.partitions}

    def directories(self, topic: str) -> dict[int, str]:
        """The folders in which the metadata has the partitions."""
        names = {}
        for folder in self.folders:
            meta = folder / "meta.properties"
            if meta.exists():
                names[read_meta_properties(meta.read_bytes(), "m").directory_id] = folder.name
        cluster = self.broker._node._cluster
        assert cluster is not None
        by_id = {id_: Path(path).name for path, id_ in cluster.directories.items()}
        partitions = cluster.image.topics.by_name[topic].partitions
        return {index: by_id.get(each.directories[0], "?") for index, each in partitions.items()}


def whole(data: bytes | memoryview) -> list[Any]:
    """The records of all batches that are whole."""
    return [record for position, _ in iter_headers(data) for record in read_records(data, position)]


@pytest.fixture
def node(tmp_path: Path, connect_to: Callable[[int], Any]) -> Iterator[Node]:
    node = Node(tmp_path, connect_to)
    node.start()
    yield node
    with contextlib.suppress(NodeFailed, StartupFailed):
        node.stop()


def until(condition: Callable[[], bool]) -> None:
    """Wait for what comes without being announced."""
    deadline = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.01)


def test_each_folder_is_formatted_and_partitions_are_spread(node: Node) -> None:
    metas = [read_meta_properties((each / "meta.properties").read_bytes(), "m") for each in node.folders]
    assert len({meta.directory_id for meta in metas}) == 3
    assert len({(meta.cluster_id, meta.node_id) for meta in metas}) == 1
    assert [(each / "__cluster_metadata-0").exists() for each in node.folders] == [True, False, False]
    node.broker.create_topic("t", 7)
    homes = node.homes("t")
    assert sorted(Counter(home for (home,) in homes.values()).values()) == [2, 2, 3]
    until(lambda: node.directories("t") == {index: home for index, (home,) in homes.items()})
    node.produce("t", b"x", index=3)
    node.restart()
    assert node.homes("t") == homes
    assert node.values("t", 3) == [b"x"]
    assert all((each / ".lock").exists() for each in node.folders)
    node.stop()
    assert all((each / ".kafka_cleanshutdown").exists() for each in node.folders)
    node.start()


def test_a_cordoned_folder_gets_none(node: Node) -> None:
    node.restart(cordoned_log_dirs=str(node.folders[1]))
    node.broker.create_topic("t", 4)
    assert Counter(home for (home,) in node.homes("t").values()) == {"a": 2, "c": 2}
    assert node.described()["b"].is_cordoned
    assert node.move("t", 0, node.folders[1]) is Code.INVALID_REPLICA_ASSIGNMENT


def test_a_folder_that_is_added_later(node: Node) -> None:
    node.broker.create_topic("t", 3)
    node.stop()
    node.folders.append(node.folders[0].parent / "d")
    node.start()
    node.broker.create_topic("u", 1)
    assert node.homes("u") == {0: ["d"]}


def test_a_replica_moves_while_it_is_written_to(node: Node) -> None:
    node.broker.create_topic("t", 1)
    (home,) = node.homes("t")[0]
    target = next(each for each in node.folders if each.name != home)
    for number in range(50):
        assert node.produce("t", b"%d" % number * 100, count=20) is Code.NONE
    assert node.move("t", 0, target) is Code.NONE
    number = 50
    while node.homes("t") != {0: [target.name]}:
        assert node.produce("t", b"%d" % number * 100, count=20) is Code.NONE
        number += 1
        assert number < 10_000
    expected = [b"%d" % each * 100 for each in range(number) for _ in range(20)]
    assert node.values("t") == expected
    until(lambda: node.directories("t") == {0: target.name})
    described = node.described("t")
    assert [name for name, each in described.items() if each.topics] == [target.name]
    node.restart()
    assert node.values("t") == expected


def test_a_move_is_seen_and_can_be_called_off(node: Node) -> None:
    node.restart()
    node.broker.create_topic("t", 1)
    (home,) = node.homes("t")[0]
    first, second = (each for each in node.folders if each.name != home)
    slow(node)
    node.produce("t", b"x" * 1000, count=700)
    node.produce("t", b"x" * 1000, count=700)
    assert node.move("t", 0, first) is Code.NONE
    assert node.move("t", 0, first) is Code.NONE, "again is no news"
    (future,) = node.described("t")[first.name].topics[0].partitions
    assert future.is_future_key
    assert future.offset_lag == 1400
    assert len(list(first.glob("t-0.*-future"))) == 1
    assert node.move("t", 0, second) is Code.NONE, "somewhere else instead"
    assert not node.described("t")[first.name].topics
    assert len(list(second.glob("t-0.*-future"))) == 1
    assert node.move("t", 0, node.folders[0].parent / home) is Code.NONE, "back where it is"
    assert [name for name, each in node.described("t").items() if each.topics] == [home]
    assert not list(second.glob("t-0.*-future"))
    assert node.produce("t", b"y") is Code.NONE


def test_a_move_goes_on_after_a_restart(node: Node) -> None:
    node.broker.create_topic("t", 1)
    (home,) = node.homes("t")[0]
    target = next(each for each in node.folders if each.name != home)
    node.produce("t", b"x" * 1000, count=700)
    slow(node)
    assert node.move("t", 0, target) is Code.NONE
    node.stop()
    assert node.homes("t") == {0: [home]}
    assert len(list(target.glob("t-0.*-future"))) == 1
    node.start()
    until(lambda: node.homes("t") == {0: [target.name]})
    assert node.values("t") == [b"x" * 1000] * 700


def slow(node: Node) -> None:
    """Moves get no further than their beginning."""

    async def at_once(inner: Any) -> None:
        parts = inner._broker
        parts.moves._pace._due_s = parts.common.clock.monotonic_s() + 3600

    node.broker._call(at_once)


def test_deleted_while_it_moves(node: Node) -> None:
    node.restart(log_segment_delete_delay_ms=0)
    node.broker.create_topic("t", 1)
    (home,) = node.homes("t")[0]
    target = next(each for each in node.folders if each.name != home)
    node.produce("t", b"x" * 1000)
    slow(node)
    assert node.move("t", 0, target) is Code.NONE
    request = DeleteTopicsRequest(topic_names=["t"], topics=[], timeout_ms=1000)
    assert node.client.ask(request, DeleteTopicsResponse, 5).responses[0].error_code == Code.NONE
    until(lambda: not any(list(each.glob("t-0*")) for each in node.folders))
    node.restart()


def test_records_that_were_deleted_stay_so(node: Node) -> None:
    node.broker.create_topic("t", 1)
    (home,) = node.homes("t")[0]
    target = next(each for each in node.folders if each.name != home)
    for value in (b"a", b"b", b"c"):
        node.produce("t", value, count=10)
    before = DeleteRecordsPartition(partition_index=0, offset=13)
    request = DeleteRecordsRequest(topics=[DeleteRecordsTopic(name="t", partitions=[before])], timeout_ms=1000)
    node.client.ask(request, DeleteRecordsResponse, 2)
    assert node.move("t", 0, target) is Code.NONE
    until(lambda: node.homes("t") == {0: [target.name]})
    for _ in range(2):
        assert node.fetch("t", 0, 12)[0] is Code.OFFSET_OUT_OF_RANGE
        code, records = node.fetch("t", 0, 13)
        assert code is Code.NONE
        assert [bytes(each.value) for each in records if each.offset >= 13] == [b"b"] * 7 + [b"c"] * 10
        node.restart()


def test_an_empty_one_moves_too(node: Node) -> None:
    node.broker.create_topic("t", 1)
    (home,) = node.homes("t")[0]
    target = next(each for each in node.folders if each.name != home)
    assert node.move("t", 0, target) is Code.NONE
    until(lambda: node.homes("t") == {0: [target.name]})
    assert node.produce("t", b"x") is Code.NONE
    assert node.values("t") == [b"x"]


def test_where_a_partition_shall_be_made(node: Node) -> None:
    assert node.move("t", 1, node.folders[2]) is Code.UNKNOWN_TOPIC_OR_PARTITION
    node.broker.create_topic("t", 3)
    assert node.homes("t")[1] == ["c"]


def lose(folder: Path) -> None:
    """Make a folder fail: a file is in its place."""
    folder.rename(folder.with_name(f"{folder.name}-lost"))
    folder.write_bytes(b"")


def find(folder: Path) -> None:
    folder.unlink()
    folder.with_name(f"{folder.name}-lost").rename(folder)


def test_a_folder_that_fails_takes_its_partitions_with_it(node: Node, caplog: pytest.LogCaptureFixture) -> None:
    node.broker.create_topic("t", 6)
    homes = {index: home for index, (home,) in node.homes("t").items()}
    for index in homes:
        assert node.produce("t", b"kept", index=index) is Code.NONE
    until(lambda: node.directories("t") == homes)
    lose(node.folders[1])
    node.broker._call(checkpoint)
    lost = [index for index, home in homes.items() if home == "b"]
    assert lost
    assert f"Stopping serving logs in dir {node.folders[1]}" in caplog.text
    for index in homes:
        assert node.produce("t", b"more", index=index) is (Code.KAFKA_STORAGE_ERROR if index in lost else Code.NONE)
        assert node.fetch("t", index, 0)[0] is (Code.KAFKA_STORAGE_ERROR if index in lost else Code.NONE)
    until(lambda: {index for index, each in node.metadata("t").items() if each.leader_id == -1} == set(lost))
    for index, each in node.metadata("t").items():
        assert each.offline_replicas == ([1] if index in lost else [])
        assert each.error_code == (Code.LEADER_NOT_AVAILABLE if index in lost else Code.NONE)
    described = node.described("t")
    assert {name: Code(each.error_code) for name, each in described.items()} == {
        "a": Code.NONE,
        "b": Code.KAFKA_STORAGE_ERROR,
        "c": Code.NONE,
    }
    assert node.move("t", lost[0], node.folders[0]) is Code.KAFKA_STORAGE_ERROR
    online = next(index for index in homes if index not in lost)
    assert node.move("t", online, node.folders[1]) is Code.KAFKA_STORAGE_ERROR
    other = next(each for each in node.folders if each.name not in ("b", homes[online]))
    assert node.move("t", online, other) is Code.KAFKA_STORAGE_ERROR, "nothing moves while a folder is offline"
    node.broker.create_topic("u", 2)
    assert Counter(home for (home,) in node.homes("u").values()) == {"a": 1, "c": 1}

    node.restart()  # still lost
    for index in homes:
        assert node.produce("t", b"again", index=index) is (Code.NOT_LEADER_OR_FOLLOWER if index in lost else Code.NONE)
    node.stop()
    find(node.folders[1])
    node.start()
    for index in homes:
        assert node.values("t", index) == ([b"kept"] if index in lost else [b"kept", b"more", b"again"])


def test_what_can_not_be_written_down_is_an_error(node: Node) -> None:
    node.broker.create_topic("t", 3)
    there, *_ = (index for index, (home,) in node.homes("t").items() if home == "b")
    node.produce("t", b"x", index=there)
    (node.folders[1] / "log-start-offset-checkpoint.tmp").mkdir()
    before = DeleteRecordsPartition(partition_index=there, offset=1)
    request = DeleteRecordsRequest(topics=[DeleteRecordsTopic(name="t", partitions=[before])], timeout_ms=1000)
    (result,) = node.client.ask(request, DeleteRecordsResponse, 2).topics[0].partitions
    assert (result.error_code, result.low_watermark) == (Code.KAFKA_STORAGE_ERROR, -1)
    assert node.produce("t", b"y", index=there) is Code.KAFKA_STORAGE_ERROR, "the folder is offline"


async def checkpoint(inner: Any) -> None:
    await inner._broker.logs.checkpoint()


def ends(broker: Broker) -> None:
    """Look at the folders; the node ends, with what `stop` raises."""
    with contextlib.suppress(trio.Cancelled, trio.RunFinishedError):
        broker._call(checkpoint)
    assert broker._thread is not None
    broker._thread.join()
    broker.stop()


def test_without_the_metadata_folder_the_node_ends(node: Node) -> None:
    lose(node.folders[0])
    with pytest.raises(NodeFailed, match=f"the metadata log dir {node.folders[0]} has failed"):
        ends(node.broker)


def test_without_its_last_folder_the_node_ends(tmp_path: Path) -> None:
    broker = Broker({"log.dirs": tmp_path / "data", "metadata.log.dir": tmp_path / "metadata"})
    broker.start()
    assert (tmp_path / "metadata/__cluster_metadata-0").exists()
    assert not (tmp_path / "data/__cluster_metadata-0").exists()
    broker.create_topic("t")
    lose(tmp_path / "data")
    with pytest.raises(NodeFailed, match=f"all log dirs in {tmp_path}/data have failed"):
        ends(broker)


def refused(node: Node, why: str) -> None:
    with pytest.raises(StartupFailed, match=why):
        node.start()


def test_folders_that_do_not_go_together(node: Node) -> None:
    node.broker.create_topic("t", 3)
    homes = {index: home for index, (home,) in node.homes("t").items()}
    node.stop()
    a, b, c = node.folders
    meta = (b / "meta.properties").read_text()

    (b / "meta.properties").write_text(meta.replace("node.id=1", "node.id=2"))
    refused(node, f"{b} belongs to node 2, not to node 1")
    (b / "meta.properties").write_text(meta.replace("cluster.id=", "cluster.id=x"))
    refused(node, f"{b} belongs to cluster x")
    (b / "meta.properties").write_text((c / "meta.properties").read_text())
    refused(node, "Duplicate directory ID")
    (b / "meta.properties").unlink()
    refused(node, f"{b} has data but no meta.properties")
    (b / "meta.properties").write_text(meta)

    (a.parent / "d").symlink_to(a)
    node.folders = [a, b, c, a.parent / "d"]
    refused(node, "Duplicate log directory found")
    node.folders = [b, c]
    refused(node, f"{b}/__cluster_metadata-0")
    node.folders = [b, a, c]
    refused(node, f"Found unexpected metadata location in data directory {a}")
    node.folders = [a, b, c]

    moved = next(index for index, home in homes.items() if home != "c")
    (c / f"t-{moved}").mkdir()
    refused(node, f"Duplicate log directories for t-{moved} are found in both {c}/t-{moved}")
    (c / f"t-{moved}").rmdir()
    node.start()
    assert node.homes("t") == {index: [home] for index, home in homes.items()}


def test_a_folder_that_cannot_be_read_at_the_start_is_offline(node: Node, caplog: pytest.LogCaptureFixture) -> None:
    node.broker.create_topic("t", 3)
    node.stop()
    meta = node.folders[2] / "meta.properties"
    kept = meta.read_bytes()
    meta.write_bytes(b"version=9\n")
    node.start()
    assert f"the log directory {node.folders[2]} is offline" in caplog.text
    assert node.described()["c"].error_code == Code.KAFKA_STORAGE_ERROR
    leaders = [each.leader_id for _, each in sorted(node.metadata("t").items())]
    assert sorted(leaders) == [-1, 1, 1]
    node.stop()
    meta.write_bytes(kept)
    (node.folders[0] / "meta.properties").write_bytes(b"version=9\n")
    refused(node, "version 9")
    (node.folders[0] / "meta.properties").write_bytes(kept)
    with pytest.raises(StartupFailed):  # twice the same id now
        node.start()
    shutil.rmtree(node.folders[0])
    node.folders = node.folders[1:]
    refused(node, f"{node.folders[0]}/__cluster_metadata-0")


class OwnProcess(Node):
    """As `Node`, in a process of its own, which can be killed."""

    def __init__(self, root: Path, connect_to: Callable[[int], Any]) -> None:
        super().__init__(root, connect_to)
        self.process: subprocess.Popen[str] | None = None

    def start(self, **settings: object) -> None:
        (port,) = free_ports(1)
        command = [sys.executable, "-m", "kpybroker", "serve", "--listen", f"localhost:{port}"]
        named = {"log.dirs": ",".join(map(str, self.folders))} | {k.replace("_", "."): v for k, v in settings.items()}
        command += [f"--set={name}={value}" for name, value in named.items()]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        assert self.process.stdout.readline().startswith("kpybroker"), "it did not start"
        self.client = self._connect_to(port)

    def end(self, number: int | None) -> tuple[int, str]:
        """Send a signal, or wait for the end; the exit code and what was said."""
        assert self.process is not None
        if number is not None:
            self.process.send_signal(number)
        _, said = self.process.communicate(timeout=30)
        return self.process.returncode, said


@pytest.fixture
def process(tmp_path: Path, connect_to: Callable[[int], Any]) -> Iterator[OwnProcess]:
    node = OwnProcess(tmp_path, connect_to)
    yield node
    if node.process is not None and node.process.poll() is None:
        node.end(signal.SIGKILL)


def test_killed_while_replicas_move(process: OwnProcess) -> None:
    chance = random.Random(5)
    process.start()
    acknowledged: dict[int, list[bytes]] = {index: [] for index in range(3)}
    topic = CreatableTopic(name="t", num_partitions=3, replication_factor=1, assignments=[], configs=[])
    process.client.ask(CreateTopicsRequest(topics=[topic], timeout_ms=10_000), CreateTopicsResponse, 7)
    for cycle in range(KILLS):
        for step in range(chance.randrange(2, 30)):
            index = chance.randrange(3)
            value = b"%d-%d" % (cycle, step) + bytes(500)
            assert process.produce("t", value, index=index, count=20) is Code.NONE
            acknowledged[index] += [value] * 20
            assert process.move("t", index, chance.choice(process.folders)) in (Code.NONE, Code.REPLICA_NOT_AVAILABLE)
        assert process.end(signal.SIGKILL)[0] == -signal.SIGKILL
        process.start()
        for index, values in acknowledged.items():
            assert process.values("t", index) == values
    process.end(signal.SIGTERM)
    for folder in process.folders:
        verified = subprocess.run([sys.executable, "-m", "kpybroker", "log", "verify", folder], check=False)
        assert verified.returncode == 0


def test_the_last_line_of_a_node_without_folders(process: OwnProcess) -> None:
    process.start(log_flush_offset_checkpoint_interval_ms=50)
    lose(process.folders[0])
    code, said = process.end(None)
    assert code == 1
    assert said.splitlines()[-1] == (
        f"kpybroker: Shutdown broker because the metadata log dir {process.folders[0]} has failed"
    )
    assert "Traceback" not in said

"""`kpybroker cluster` as it is used: started, a node killed and revived, one more, one less, stopped."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio

from kpybroker.testing.cluster import free_ports
from kpybroker.tools.cluster_admin import ClusterAdmin, Seen
from kpybroker.tools.cluster_folder import ClusterFolder
from kpybroker.wire.codes import Code
from kpybroker.wire.messages.create_topics import CreatableTopic, CreateTopicsRequest, CreateTopicsResponse
from kpybroker.wire.messages.produce import PartitionProduceData, ProduceRequest, ProduceResponse, TopicProduceData
from kpybroker.wire.records.batch import build_batch
from kpybroker.wire.records.record import Record

LIMIT_S = 60.0


def kpybroker(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "kpybroker", "cluster", *arguments]


class Running:
    """The command, and the lines that it has printed."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self._lines: list[str] = []
        self._more = threading.Condition()
        assert process.stdout is not None
        self._reader = threading.Thread(target=self._read, args=(process.stdout,), daemon=True)
        self._reader.start()

    def _read(self, lines: Iterator[str]) -> None:
        for line in lines:
            with self._more:
                self._lines.append(line.rstrip("\n"))
                self._more.notify()

    def says(self, part: str) -> str:
        """The first line that has it, and is forgotten with all before it."""
        with self._more:
            while True:
                for number, line in enumerate(self._lines):
                    if part in line:
                        del self._lines[: number + 1]
                        return line
                assert self._more.wait(LIMIT_S), f"{part!r} is not said, but {self._lines}"

    def end(self) -> str:
        """Wait for it to stop; returns what it has said and nobody asked for."""
        assert self.process.wait(LIMIT_S) == 0
        self._reader.join()
        return "\n".join(self._lines)


@contextmanager
def running(*arguments: str) -> Iterator[Running]:
    with subprocess.Popen(
        kpybroker(*arguments), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            yield Running(process)
        finally:
            if process.poll() is None:  # twice: at once, and its nodes with it
                process.send_signal(signal.SIGINT)
                process.send_signal(signal.SIGTERM)


def do(*arguments: str) -> str:
    done = subprocess.run(kpybroker(*arguments), capture_output=True, text=True, check=False, timeout=2 * LIMIT_S)
    assert done.returncode == 0, done.stderr
    return done.stdout


def refused(*arguments: str) -> str:
    done = subprocess.run(kpybroker(*arguments), capture_output=True, text=True, check=False, timeout=LIMIT_S)
    assert done.returncode == 1, done.stdout
    return done.stderr


class Client:
    """What a test asks of the cluster in a folder."""

    def __init__(self, path: Path) -> None:
        self.folder = ClusterFolder(path)

    def run(self, ask: Callable[[ClusterAdmin], object]) -> object:
        async def main() -> object:
            admin = ClusterAdmin([node.address for node in self.folder.nodes()])
            try:
                return await ask(admin)  # type: ignore[misc]
            finally:
                admin.close()

        return trio.run(main)

    def create(self, name: str, partitions: int) -> None:
        async def ask(admin: ClusterAdmin) -> None:
            topic = CreatableTopic(
                name=name, num_partitions=partitions, replication_factor=-1, assignments=[], configs=[]
            )
            response = await admin.ask(CreateTopicsRequest(topics=[topic], timeout_ms=10_000), CreateTopicsResponse)
            assert response.topics[0].error_code == Code.NONE

        self.run(ask)

    def produce(self, topic: str, index: int) -> None:
        """One record with acks=all, however often that has to be tried."""
        records = build_batch([Record(timestamp=1, value=b"v")])
        data = TopicProduceData(name=topic, partition_data=[PartitionProduceData(index=index, records=records)])
        request = ProduceRequest(acks=-1, timeout_ms=5000, topic_data=[data])

        async def ask(admin: ClusterAdmin) -> None:
            with trio.fail_after(LIMIT_S):
                while True:
                    response = await admin.ask(request, ProduceResponse, version=12)
                    if response.responses[0].partition_responses[0].error_code == Code.NONE:
                        return
                    admin.turn()  # another one may lead
                    await trio.sleep(0.01)

        self.run(ask)

    def see(self) -> Seen:
        async def ask(admin: ClusterAdmin) -> Seen:
            return await admin.see()

        seen = self.run(ask)
        assert isinstance(seen, Seen)
        return seen

    def holders(self, topic: str) -> set[int]:
        return {each for (name, _), replicas in self.see().partitions.items() if name == topic for each in replicas}


def pid_of(running: Running, node_id: int, folder: ClusterFolder) -> int:
    """The process of a node: the child of the command that has its settings."""
    threads = Path(f"/proc/{running.process.pid}/task").iterdir()
    children = [each for thread in threads for each in (thread / "children").read_text().split()]
    wanted = str(folder.node(node_id).properties_file)
    (pid,) = [int(each) for each in children if wanted in Path(f"/proc/{each}/cmdline").read_text()]
    return pid


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds the processes of nodes in /proc")
def test_a_cluster_from_its_first_start_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "c"
    data = ["--data", str(path)]
    base = free_ports(10)
    with running(*data, "--base-port", str(base), "--set", "offsets.topic.num.partitions=2") as cluster:
        cluster.says("a cluster of 3 nodes, controllers: 1, 2, 3")
        assert f"localhost:{base},localhost:{base + 2},localhost:{base + 4}" in cluster.says("bootstrap.servers")
        assert "is running already, as process" in refused(*data)
        client = Client(path)
        client.create("t", 4)
        client.produce("t", 0)

        os.kill(pid_of(cluster, 2, client.folder), signal.SIGKILL)
        cluster.says("node 2 has ended: killed by SIGKILL; the others go on")
        for index in range(4):
            client.produce("t", index)
        do("revive", *data)

        assert "all other nodes have a replica of t already" in refused("remove", "3", *data)
        told = do("add", *data)
        assert f"node 4 is a broker of the cluster, at localhost:{base + 6}" in told
        assert client.holders("t") == {1, 2, 3, 4}
        for index in range(4):
            client.produce("t", index)
        assert "node 3 is out of the cluster" in do("remove", "3", *data)
        assert client.holders("t") == {1, 2, 4}
        assert client.see().brokers == {1, 2, 4}
        for index in range(4):
            client.produce("t", index)
        cluster.process.send_signal(signal.SIGINT)
        said = cluster.end()
        assert "not stopped well" not in said
        assert "could not be handed over" not in said

    with running(*data) as cluster:  # what its folder says
        cluster.says("a cluster of 3 nodes, controllers: 1, 2")
        assert client.holders("t") == {1, 2, 4}
        client.produce("t", 0)
        nodes = [os.pidfd_open(pid_of(cluster, node_id, client.folder)) for node_id in (1, 2, 4)]
        cluster.process.kill()
        for node in nodes:  # none outlives the command
            assert select.select([node], [], [], LIMIT_S)[0]
            os.close(node)

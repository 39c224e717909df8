"""Three nodes of a cluster in one event loop, and a client of each: what the tests of clusters begin with."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from kpybroker.config import BrokerConfig
from kpybroker.ids import Ids
from kpybroker.node import Node
from kpybroker.peers.channel import Channel
from kpybroker.storage.files import RealFiles
from kpybroker.tools.format import Wanted, format_node
from kpybroker.wire.codes import Code
from kpybroker.wire.messages.create_topics import CreatableTopic, CreateTopicsRequest, CreateTopicsResponse
from kpybroker.wire.messages.fetch import FetchPartition, FetchRequest, FetchResponse, FetchTopic
from kpybroker.wire.messages.metadata import MetadataRequest, MetadataRequestTopic, MetadataResponse
from kpybroker.wire.messages.metadata import MetadataResponsePartition as Partition
from kpybroker.wire.messages.produce import PartitionProduceData, ProduceRequest, ProduceResponse, TopicProduceData
from kpybroker.wire.records.batch import Record, build_batch, iter_headers, iter_records

from .ports import free_ports

LIMIT_S = 30.0
AGAIN_S = 0.02
RETRIED = {
    Code.NOT_LEADER_OR_FOLLOWER,
    Code.UNKNOWN_TOPIC_OR_PARTITION,
    Code.LEADER_NOT_AVAILABLE,
    Code.NOT_ENOUGH_REPLICAS,
    Code.NOT_ENOUGH_REPLICAS_AFTER_APPEND,
    Code.UNKNOWN_TOPIC_ID,
    Code.FENCED_LEADER_EPOCH,
    Code.KAFKA_STORAGE_ERROR,
}
"""What a client asks again for, after a look at the metadata."""


class Member:
    """One node: its configuration, and while it runs how to stop it."""

    def __init__(self, file: Path) -> None:
        self.config = BrokerConfig.load(file)
        self.node: Node | None = None
        self._stop = trio.Event()
        self._gone = trio.Event()
        self.channel = Channel(self._address, client_id="test")

    @property
    def id(self) -> int:
        return self.config.node_id

    def _address(self) -> tuple[str, int] | None:
        points = self.config.reachable.brokers
        return (points[0].host, points[0].port) if points else None

    @property
    def leads(self) -> bool:
        """Whether it leads the metadata quorum."""
        return self.node is not None and self.node._cluster is not None and self.node._cluster.raft.is_leader

    async def start(self, nursery: trio.Nursery) -> None:
        """Return when it answers."""
        self.node = Node(self.config, files=RealFiles(sync=False))
        self._stop, self._gone = trio.Event(), trio.Event()
        await nursery.start(self._run, self.node)

    async def _run(self, node: Node, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        try:
            async with trio.open_nursery() as nursery:
                await nursery.start(node.run, self._stop)
                task_status.started()
        finally:
            self.node = None
            self.channel.close()
            self._gone.set()

    async def stop(self) -> None:
        """As a node is meant to be stopped."""
        self._stop.set()
        await self._gone.wait()


class Trio:
    """The cluster."""

    def __init__(
        self, members: list[Member], nursery: trio.Nursery, *, elsewhere: Callable[[], list[int]] | None = None
    ) -> None:
        """`elsewhere`: the nodes are processes of their own, and these run."""
        self.members = {member.id: member for member in members}
        self.nursery = nursery
        self._elsewhere = elsewhere

    @property
    def running(self) -> list[Member]:
        if self._elsewhere is not None:
            return [self.members[each] for each in self._elsewhere()]
        return [member for member in self.members.values() if member.node is not None]

    async def create(self, through: Member, name: str, partitions: int = 3, replicas: int = 3) -> None:
        topic = CreatableTopic(
            name=name, num_partitions=partitions, replication_factor=replicas, assignments=[], configs=[]
        )
        request = CreateTopicsRequest(topics=[topic], timeout_ms=10_000)
        (result,) = (await through.channel.ask(request, CreateTopicsResponse, timeout_s=LIMIT_S)).topics
        assert result.error_code == Code.NONE, result

    async def metadata(self, name: str, *, of: Member | None = None) -> dict[int, Partition]:
        """What a node says of a topic's partitions."""
        request = MetadataRequest(topics=[MetadataRequestTopic(name=name)], allow_auto_topic_creation=False)
        asked = of if of is not None else self.running[0]
        (topic,) = (await asked.channel.ask(request, MetadataResponse, version=12, timeout_s=LIMIT_S)).topics
        return {partition.partition_index: partition for partition in topic.partitions}

    async def until(self, name: str, holds: str, *, of: Member | None = None) -> dict[int, Partition]:
        """Wait for what `holds` says of every partition: a condition on `leader`, `isr` and `partition`."""
        while True:
            known = await self.metadata(name, of=of)
            if known and all(
                eval(holds, {"leader": each.leader_id, "isr": set(each.isr_nodes), "partition": each})
                for each in known.values()
            ):
                return known
            await trio.sleep(AGAIN_S)

    async def produce(self, name: str, index: int, value: bytes, *, through: Member | None = None) -> int:
        """With acks=all, to whoever leads; returns the offset, when the record is acknowledged."""
        data = PartitionProduceData(index=index, records=build_batch([Record(timestamp=1, value=value)]))
        request = ProduceRequest(
            acks=-1, timeout_ms=5000, topic_data=[TopicProduceData(name=name, partition_data=[data])]
        )
        while True:
            leader = self.members.get((await self.metadata(name, of=through))[index].leader_id)
            if leader in self.running:
                response = await leader.channel.ask(request, ProduceResponse, version=12, timeout_s=LIMIT_S)
                (partition,) = response.responses[0].partition_responses
                if partition.error_code == Code.NONE:
                    return partition.base_offset
                assert partition.error_code in RETRIED, partition
            await trio.sleep(AGAIN_S)

    async def values(self, name: str, index: int) -> list[bytes]:
        """All committed records of a partition."""
        partition = FetchPartition(partition=index, fetch_offset=0, partition_max_bytes=1 << 20)
        topic = FetchTopic(topic=name, partitions=[partition])
        request = FetchRequest(max_wait_ms=0, min_bytes=0, max_bytes=1 << 20, topics=[topic], forgotten_topics_data=[])
        leader = self.members[(await self.metadata(name))[index].leader_id]
        response = await leader.channel.ask(request, FetchResponse, version=12, timeout_s=LIMIT_S)
        (data,) = response.responses[0].partitions
        assert data.error_code == Code.NONE, data
        records = bytes(data.records or b"")
        return [bytes(r.value or b"") for at, _ in iter_headers(records) for r in iter_records(records, at)]


def folders(path: Path, node_id: int, count: int) -> list[Path]:
    """A node's data folders; the metadata log is in the first."""
    return [path / f"data-{node_id}{letter}" for letter in ("abc"[:count] if count > 1 else [""])]


def written(path: Path, roles: Mapping[int, str], settings: Mapping[str, object], folders_each: int = 1) -> list[Path]:
    """The files of nodes with these roles, whose folders are formatted."""
    ids, ports = Ids(), free_ports(2 * len(roles))
    clients, controllers = dict(zip(roles, ports, strict=False)), dict(zip(roles, ports[len(roles) :], strict=True))
    voters = [node_id for node_id, has in roles.items() if "controller" in has]
    cluster_id = ids.uuid_text()
    initial = ",".join(f"{each}@localhost:{controllers[each]}:{ids.uuid_text()}" for each in voters)
    files = []
    for node_id, has in roles.items():
        listeners = [f"PLAINTEXT://localhost:{clients[node_id]}"] if "broker" in has else []
        listeners += [f"CONTROLLER://localhost:{controllers[node_id]}"] if "controller" in has else []
        own = {
            "process.roles": has,
            "node.id": node_id,
            "listeners": ",".join(listeners),
            "controller.listener.names": "CONTROLLER",
            "controller.quorum.bootstrap.servers": ",".join(f"localhost:{controllers[each]}" for each in voters),
            "log.dirs": ",".join(map(str, folders(path, node_id, folders_each))),
            **settings,
        }
        file = path / f"{node_id}.properties"
        file.write_text("".join(f"{name}={value}\n" for name, value in own.items()))
        wanted = Wanted(cluster_id, False, initial if "controller" in has else None, False, None, {}, False)
        format_node(BrokerConfig.load(file), wanted)
        files.append(file)
    return files


@asynccontextmanager
async def cluster(
    path: Path,
    *,
    roles: Mapping[int, str] | None = None,
    settings: Mapping[str, object] | None = None,
    folders_each: int = 1,
) -> AsyncIterator[Trio]:
    """Nodes that all answer; each that still runs is stopped at the end."""
    files = written(path, roles or dict.fromkeys((1, 2, 3), "broker,controller"), settings or {}, folders_each)
    async with trio.open_nursery() as nursery:
        three = Trio([Member(file) for file in files], nursery)
        with trio.fail_after(LIMIT_S):
            async with trio.open_nursery() as starting:
                for member in three.members.values():
                    starting.start_soon(member.start, nursery)
        yield three
        async with trio.open_nursery() as stopping:
            for member in three.running:
                stopping.start_soon(member.stop)

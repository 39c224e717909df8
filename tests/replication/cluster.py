"""Several brokers' replicas in one process, with their logs on disk: requests go from one to the other as bytes.

What is left out: sockets, the metadata log, and a controller; tests say what the metadata says.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import trio
import trio.testing
from msgspec.structs import replace

from kpybroker.clock import Clock
from kpybroker.cluster.delta import Delta
from kpybroker.cluster.image import (
    BrokerImage,
    ClusterImage,
    ConfigResource,
    PartitionImage,
    ResourceType,
    TopicImage,
    TopicsImage,
)
from kpybroker.config import BrokerConfig
from kpybroker.config.live import LiveConfig
from kpybroker.handlers.broker import fetch, list_offsets
from kpybroker.handlers.context import Context
from kpybroker.ids import Ids
from kpybroker.peers.channel import PeerGone
from kpybroker.replication.fetch_sessions import FetchSessions
from kpybroker.replication.fetchers import ReplicaFetchers
from kpybroker.replication.isr_changes import IsrChanges
from kpybroker.replication.log_dir import LogDir
from kpybroker.replication.logs import Logs
from kpybroker.replication.partition import Partition
from kpybroker.replication.replicas import Replicas
from kpybroker.security.authorizer import AllowAll
from kpybroker.storage.data_dir import DataDir
from kpybroker.storage.files import RealFiles
from kpybroker.storage.open_segments import OpenSegments
from kpybroker.wire.codec import decode, encode, encode_parts
from kpybroker.wire.codes import Code
from kpybroker.wire.messages.alter_partition import (
    AlterPartitionRequest,
    AlterPartitionResponse,
    ResponsePartitionData,
    ResponseTopicData,
)
from kpybroker.wire.messages.fetch import FetchRequest
from kpybroker.wire.messages.list_offsets import ListOffsetsRequest
from kpybroker.wire.schema import Message
from tests.storage.making import NOW, batch

TOPIC = "t"
TOPIC_ID = b"topic-id".ljust(16)
HANDLERS = {FetchRequest: fetch.handle, ListOffsetsRequest: list_offsets.handle}


class Door:
    """A connection whose peer never leaves."""

    async def wait(self, event: trio.Event, limit_s: float) -> bool:
        with trio.move_on_after(limit_s):
            await event.wait()
        return event.is_set()


class Node:
    """One broker."""

    def __init__(self, cluster: Brokers, me: int, path: Path, settings: Mapping[str, str]) -> None:
        self.cluster = cluster
        self.me = me
        self.path = path
        self.settings = settings
        self.requests: list[Message] = []
        self.fetchers: ReplicaFetchers
        self.scope = trio.CancelScope()
        self._open(clean=False)

    def _open(self, *, clean: bool) -> None:
        files = RealFiles(sync=False)
        self.path.mkdir(exist_ok=True)
        home = LogDir(
            DataDir(str(self.path), files), bytes([self.me]) * 16, files, Clock(), OpenSegments(100), clean=clean
        )
        self.logs = Logs([home], files, Clock(), Ids(self.me))
        self.live = LiveConfig(BrokerConfig.load(overrides=self.settings))
        self.replicas = Replicas(self.me, self.live, self.logs, lambda: self.cluster.image)
        services: Any = SimpleNamespace(
            live=self.live,
            config=self.live.current,
            clock=Clock(),
            cluster=self.cluster,
            authorizer=AllowAll(),
            of_broker=SimpleNamespace(replicas=self.replicas, fetch_sessions=FetchSessions(100, Ids(self.me))),
        )
        self.services = services

    def reopen(self) -> None:
        """What a process finds that starts after this one was killed."""
        for home in self.logs.dirs:
            for opened in home.open_logs.values():
                opened.close(clean=False)
            home.data_dir.close()
        self._open(clean=False)

    @property
    def partition(self) -> Partition:
        return self.replicas.get(TOPIC, 0)

    def at(self, index: int) -> Partition:
        return self.replicas.get(TOPIC, index)

    def channel_to(self, broker_id: int, client_id: str) -> Any:
        return SimpleNamespace(
            ask=lambda request, response_class, **how: self.ask(broker_id, request, response_class, **how),
            close=lambda: None,
            client_id=client_id,
        )

    async def ask(self, broker_id: int, request: Any, response_class: Any, *, version: int, timeout_s: float) -> Any:
        """As bytes there and back. Raises: PeerGone."""
        await trio.lowlevel.checkpoint()
        other = self.cluster.nodes[broker_id]
        if broker_id in self.cluster.dead or self.me in self.cluster.dead:
            raise PeerGone(f"broker {broker_id} is dead")
        heard = decode(type(request), version, encode(request, version))
        other.requests.append(heard)
        door: Any = Door()
        client: Any = SimpleNamespace(listener="PLAINTEXT", principal=None, host="")
        context = Context(other.services, door, client, version, 1, f"broker-{self.me}")
        with trio.fail_after(timeout_s):
            response = await HANDLERS[type(request)](context, heard)
        data = bytearray()
        for part in encode_parts(response, version):
            data += part if isinstance(part, bytes | bytearray | memoryview) else part.read()
        if broker_id in self.cluster.dead or self.me in self.cluster.dead:
            raise PeerGone(f"broker {broker_id} is dead")
        return decode(response_class, version, memoryview(bytes(data)))

    async def run(self) -> None:
        with self.scope:
            async with trio.open_nursery() as nursery:
                self.fetchers = ReplicaFetchers(
                    self.replicas,
                    self.live,
                    Clock(),
                    channel_to=self.channel_to,
                    broker_epoch=lambda: self.cluster.image.brokers[self.me].epoch,
                    metadata_version=lambda: 30,
                )
                changes = IsrChanges(
                    self.replicas,
                    Clock(),
                    send=self.cluster.alter_partition,
                    broker_epoch=lambda: self.cluster.image.brokers[self.me].epoch,
                    with_epochs=lambda: True,
                )
                nursery.start_soon(self.fetchers.run)
                nursery.start_soon(changes.run)
                nursery.start_soon(self.replicas.flusher.run)

    def produce(self, *values: bytes, index: int = 0) -> int:
        """Append a batch as the leader; the offset after it."""
        return self.at(index).append(batch(*values), now_ms=NOW, acks_all=True).last_offset + 1


class Brokers:
    """The brokers, and what the metadata says."""

    def __init__(
        self, path: Path, ids: tuple[int, ...], settings: Mapping[str, str], configs: Mapping[str, str]
    ) -> None:
        brokers = {
            each: BrokerImage(
                id=each,
                epoch=100 + each,
                incarnation_id=bytes(16),
                endpoints=(),
                features={},
                rack=f"rack-{each}",
                fenced=False,
                in_controlled_shutdown=False,
                directories=(bytes([each]) * 16,),
                cordoned_directories=None,
            )
            for each in ids
        }
        self.image = ClusterImage(
            brokers=brokers, configs={ConfigResource(ResourceType.TOPIC, TOPIC): configs} if configs else {}
        )
        self.dead: set[int] = set()
        self.asked: list[AlterPartitionRequest] = []
        self.nodes = {each: Node(self, each, path / str(each), settings) for each in ids}

    def say(self, *, index: int = 0, **changes: Any) -> None:
        """The metadata has a partition changed so; it is made if it is not there. Everybody alive hears of it."""
        topic = self.image.topics.by_id.get(TOPIC_ID)
        old = topic.partitions.get(index) if topic is not None else None
        fields: dict[str, Any] = {"leader_epoch": 0, "partition_epoch": 0}
        if old is not None:
            fields = {name: getattr(old, name) for name in old.__struct_fields__}
            fields["partition_epoch"] += 1
            fields["leader_epoch"] += "leader" in changes
        fields |= changes
        fields.setdefault("isr", fields["replicas"])
        fields["directories"] = tuple(bytes([each]) * 16 for each in fields["replicas"])
        partitions = {**(topic.partitions if topic is not None else {}), index: PartitionImage(**fields)}
        self._become(TopicImage(TOPIC, TOPIC_ID, partitions))

    def fence(self, broker: int) -> None:
        """It may be in no ISR from now on."""
        brokers = self.image.brokers
        self.image = replace(self.image, brokers={**brokers, broker: replace(brokers[broker], fenced=True)})

    def _become(self, topic: TopicImage) -> None:
        before = self.image
        topics = TopicsImage(by_name={TOPIC: topic}, by_id={TOPIC_ID: topic})
        self.image = replace(before, topics=topics)
        delta = Delta(before=before, after=self.image, topic_ids=frozenset([TOPIC_ID]))
        for node in self.nodes.values():
            if node.me not in self.dead:
                node.replicas.apply(delta)

    def partition(self, index: int = 0) -> PartitionImage:
        return self.image.topics.by_id[TOPIC_ID].partitions[index]

    async def alter_partition(self, request: AlterPartitionRequest) -> AlterPartitionResponse:
        """As the controller does it; the metadata comes before the answer."""
        await trio.lowlevel.checkpoint()
        heard = decode(AlterPartitionRequest, 3, encode(request, 3))
        self.asked.append(heard)
        answers = []
        for data in heard.topics[0].partitions:
            known = self.partition(data.partition_index)
            code = Code.NONE
            if data.partition_epoch != known.partition_epoch:
                code = Code.INVALID_UPDATE_VERSION
            else:
                isr = tuple(each.broker_id for each in data.new_isr_with_epochs)
                self.say(index=data.partition_index, isr=isr)
                known = self.partition(data.partition_index)
            answers.append(
                ResponsePartitionData(
                    partition_index=data.partition_index,
                    error_code=code,
                    leader_id=known.leader,
                    leader_epoch=known.leader_epoch,
                    isr=list(known.isr),
                    partition_epoch=known.partition_epoch,
                )
            )
        topics = [ResponseTopicData(topic_id=TOPIC_ID, partitions=answers)]
        return AlterPartitionResponse(throttle_time_ms=0, error_code=0, topics=topics)


@asynccontextmanager
async def brokers(
    path: Path, ids: tuple[int, ...] = (1, 2), *, configs: Mapping[str, str] | None = None, **settings: str
) -> AsyncIterator[Brokers]:
    """Brokers that run."""
    quick = {"replica.fetch.wait.max.ms": "200", "replica.fetch.backoff.ms": "20"}
    named = {name.replace("_", "."): value for name, value in settings.items()}
    cluster = Brokers(path, ids, quick | named, configs or {})
    async with trio.open_nursery() as nursery:
        for node in cluster.nodes.values():
            nursery.start_soon(node.run)
        await trio.testing.wait_all_tasks_blocked()
        yield cluster
        nursery.cancel_scope.cancel()


async def until(true: Callable[[], bool]) -> None:
    """Return when it is so; it has 20 seconds."""
    with trio.fail_after(20):
        while not true():
            await trio.sleep(0.005)

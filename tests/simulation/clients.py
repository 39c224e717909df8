"""Clients in simulated time, as small as can be, on the wire's own messages: what all do, and consumers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, TypeVar

import trio

from kpybroker.peers.channel import Channel, PeerGone
from kpybroker.wire.codes import Code
from kpybroker.wire.messages.create_topics import (
    CreatableTopic,
    CreatableTopicConfig,
    CreateTopicsRequest,
    CreateTopicsResponse,
)
from kpybroker.wire.messages.fetch import FetchPartition, FetchRequest, FetchResponse, FetchTopic, PartitionData
from kpybroker.wire.messages.list_offsets import (
    ListOffsetsPartition,
    ListOffsetsRequest,
    ListOffsetsResponse,
    ListOffsetsTopic,
)
from kpybroker.wire.messages.metadata import MetadataRequest, MetadataRequestTopic, MetadataResponse
from kpybroker.wire.messages.produce import PartitionProduceData, ProduceRequest, ProduceResponse, TopicProduceData
from kpybroker.wire.records.batch import CONTROL, TRANSACTIONAL, iter_headers, iter_records
from kpybroker.wire.schema import Message

from .promises import Place
from .world import PORT

if TYPE_CHECKING:
    from .world import World

R = TypeVar("R", bound=Message)

TIMEOUT_S = 6.0
AGAIN_S = 0.1
LATEST, EARLIEST = -1, -2
UNCOMMITTED, COMMITTED = 0, 1
AGAIN = {
    Code.NOT_LEADER_OR_FOLLOWER,
    Code.UNKNOWN_TOPIC_OR_PARTITION,
    Code.LEADER_NOT_AVAILABLE,
    Code.NOT_ENOUGH_REPLICAS,
    Code.NOT_ENOUGH_REPLICAS_AFTER_APPEND,
    Code.REQUEST_TIMED_OUT,
    Code.FENCED_LEADER_EPOCH,
    Code.UNKNOWN_LEADER_EPOCH,
    Code.OFFSET_NOT_AVAILABLE,
    Code.COORDINATOR_LOAD_IN_PROGRESS,
    Code.COORDINATOR_NOT_AVAILABLE,
    Code.NOT_COORDINATOR,
    Code.CONCURRENT_TRANSACTIONS,
    Code.NOT_CONTROLLER,
    Code.KAFKA_STORAGE_ERROR,
    Code.UNSTABLE_OFFSET_COMMIT,
}
"""What a client asks again for, after a look at the metadata."""


class Client:
    """What all have: connections to the nodes, and what is known of who leads."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.rng = world.chance("client", name)
        connector = world.network.machine(name).connect
        self._channels = {
            node_id: Channel(lambda host=f"node{node_id}": (host, PORT), client_id=name, connector=connector)
            for node_id in world.nodes
        }
        self._leaders: dict[Place, tuple[int, int]] = {}
        self.unanswered = 0
        """How often nobody knows what became of a request: it may be carried out late, after it was asked again."""

    async def ask(self, node_id: int, request: Message, response_class: type[R], version: int) -> R:
        """Raises: PeerGone."""
        return await self._channels[node_id].ask(request, response_class, version=version, timeout_s=TIMEOUT_S)

    async def ask_any(self, request: Message, response_class: type[R], version: int) -> R:
        """The answer of one node or another; asked until there is one."""
        while True:
            try:
                return await self.ask(self.rng.choice(list(self.world.nodes)), request, response_class, version)
            except PeerGone:
                self.unanswered += 1
                await self.rest()

    async def rest(self) -> None:
        await trio.sleep(self.rng.uniform(AGAIN_S / 2, AGAIN_S * 2))

    async def leader(self, place: Place) -> tuple[int, int]:
        """Who leads a partition, and in which epoch; never of an older epoch than was known before (KIP-320)."""
        while place not in self._leaders or self._leaders[place][0] < 0:
            await self.look(place)
        return self._leaders[place]

    async def look(self, place: Place) -> None:
        request = MetadataRequest(topics=[MetadataRequestTopic(name=place.topic)], allow_auto_topic_creation=False)
        response = await self.ask_any(request, MetadataResponse, 12)
        for partition in response.topics[0].partitions:
            each = Place(place.topic, partition.partition_index)
            if partition.leader_epoch >= self._leaders.get(each, (-1, -1))[1]:
                self._leaders[each] = (partition.leader_id, partition.leader_epoch)
        await self.rest()

    async def create_topic(self, name: str, partitions: int, **configs: str) -> None:
        topic = CreatableTopic(
            name=name,
            num_partitions=partitions,
            replication_factor=3,
            assignments=[],
            configs=[CreatableTopicConfig(name=key.replace("_", "."), value=value) for key, value in configs.items()],
        )
        while True:
            request = CreateTopicsRequest(topics=[topic], timeout_ms=5000)
            response = await self.ask_any(request, CreateTopicsResponse, 7)
            if response.topics[0].error_code in (Code.NONE, Code.TOPIC_ALREADY_EXISTS):
                return
            self.unanswered += 1
            await self.rest()

    # Reading

    async def fetch(self, place: Place, offset: int, isolation: int, max_bytes: int = 4096) -> PartitionData | None:
        """What there is from an offset on; None: not now."""
        leader, epoch = await self.leader(place)
        partition = FetchPartition(
            partition=place.index, fetch_offset=offset, current_leader_epoch=epoch, partition_max_bytes=max_bytes
        )
        request = FetchRequest(
            max_wait_ms=500,
            min_bytes=1,
            isolation_level=isolation,
            topics=[FetchTopic(topic=place.topic, partitions=[partition])],
        )
        try:
            response = await self.ask(leader, request, FetchResponse, 12)
        except PeerGone:
            await self.look(place)
            return None
        if response.error_code:
            return None
        data = response.responses[0].partitions[0]
        if data.error_code == Code.NONE:
            return data
        assert data.error_code in AGAIN, f"{self.name}: {place} at {offset}: {Code(data.error_code).name}"
        await self.look(place)
        return None

    async def latest(self, place: Place, isolation: int = UNCOMMITTED, timestamp: int = LATEST) -> int | None:
        """Where a partition ends, or begins; None: nobody says so now."""
        leader, epoch = await self.leader(place)
        partition = ListOffsetsPartition(partition_index=place.index, current_leader_epoch=epoch, timestamp=timestamp)
        request = ListOffsetsRequest(
            replica_id=-1,
            isolation_level=isolation,
            topics=[ListOffsetsTopic(name=place.topic, partitions=[partition])],
        )
        try:
            response = await self.ask(leader, request, ListOffsetsResponse, 7)
        except PeerGone:
            await self.look(place)
            return None
        found = response.topics[0].partitions[0]
        if found.error_code == Code.NONE:
            return found.offset
        assert found.error_code in AGAIN, f"{self.name}: {place}: {Code(found.error_code).name}"
        await self.look(place)
        return None

    # Writing

    async def produce(
        self, place: Place, batch: bytes, transactional_id: str | None = None, version: int = 11
    ) -> tuple[Code, int] | None:
        """The error code and the offset that a batch got; None: nobody knows."""
        leader, _ = await self.leader(place)
        data = PartitionProduceData(index=place.index, records=batch)
        request = ProduceRequest(
            transactional_id=transactional_id,
            acks=-1,
            timeout_ms=3000,
            topic_data=[TopicProduceData(name=place.topic, partition_data=[data])],
        )
        try:
            response = await self.ask(leader, request, ProduceResponse, version)
        except PeerGone:
            await self.look(place)
            return None
        answer = response.responses[0].partition_responses[0]
        if answer.error_code in AGAIN:
            await self.look(place)
        return Code(answer.error_code), answer.base_offset


class Consumer(Client):
    """Reads a partition over and over from its beginning, and asks now and then where it ends."""

    def __init__(self, world: World, name: str, place: Place, isolation: int) -> None:
        super().__init__(world, name)
        self.place = place
        self.isolation = isolation

    async def run(self) -> None:
        """For ever."""
        promises, position = self.world.promises, 0
        while True:
            if self.rng.random() < 0.2:
                latest = await self.latest(self.place, self.isolation)
                if latest is not None:
                    promises.latest_offset(self.place, self.isolation, latest)
            if self.rng.random() < 0.02:
                position = 0
            data = await self.fetch(self.place, position, self.isolation)
            if data is None:
                await self.rest()
                continue
            records, position = records_of(data, position, self.isolation)
            promises.read(self.place, records, committed_only=self.isolation == COMMITTED)

    async def everything(self) -> list[bytes]:
        """All values that are there now, from the beginning to the latest offset."""
        while (end := await self.latest(self.place, self.isolation)) is None:
            await self.rest()
        values: list[bytes] = []
        position = 0
        while position < end:
            data = await self.fetch(self.place, position, self.isolation, max_bytes=1 << 20)
            if data is not None:
                records, position = records_of(data, position, self.isolation)
                values += [value for _, value in records]
        return values


def records_of(data: PartitionData, position: int, isolation: int) -> tuple[list[tuple[int, bytes]], int]:
    """The records in an answer as a consumer shows them: offsets and values; and where to read on."""
    buffer = bytes(data.records or b"")
    aborted = sorted((each.first_offset, each.producer_id) for each in data.aborted_transactions or [])
    open_and_aborted: set[int] = set()
    found: list[tuple[int, bytes]] = []
    end = position
    for at, header in iter_headers(buffer):
        end = max(end, header.next_offset)
        while aborted and aborted[0][0] <= header.last_offset:
            open_and_aborted.add(aborted.pop(0)[1])
        if header.attributes & CONTROL:
            (marker,) = iter_records(buffer, at)
            if bytes(marker.key or b"")[2:4] == b"\0\0":
                open_and_aborted.discard(header.producer_id)
        elif not (
            isolation == COMMITTED and header.attributes & TRANSACTIONAL and header.producer_id in open_and_aborted
        ):
            found += list(_values(buffer, at, header.base_offset))
    return [record for record in found if record[0] >= position], end


def _values(buffer: bytes, at: int, base_offset: int) -> Iterator[tuple[int, bytes]]:
    for offset, record in enumerate(iter_records(buffer, at), base_offset):
        yield offset, bytes(record.value or b"")

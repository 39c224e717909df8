"""Members of consumer groups (KIP-848): raw requests by the wire codec, on the connections they are given."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Iterable, Sequence

import trio
from group_client import Connection

from kpybroker.wire.codes import Code
from kpybroker.wire.messages.consumer_group_heartbeat import (
    ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatResponse,
    TopicPartitions,
)
from kpybroker.wire.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
    OffsetCommitResponse,
)

REBALANCE_MS = 300_000
NOT_YET = (Code.COORDINATOR_LOAD_IN_PROGRESS, Code.NOT_COORDINATOR, Code.COORDINATOR_NOT_AVAILABLE)


class Consumer:
    """One member, on a connection of its own."""

    def __init__(self, connection: Connection, group_id: str, topic: str, topic_id: bytes) -> None:
        self.connection = connection
        self.group_id = group_id
        self.topic = topic
        self.topic_id = topic_id
        self.member_id = str(uuid.uuid4())
        self.epoch = 0
        self.partitions: list[int] = []

    async def join(self) -> None:
        await self._ask(rebalance_timeout_ms=REBALANCE_MS, subscribed_topic_names=[self.topic], topic_partitions=[])

    async def beat(self) -> None:
        """A heartbeat with nothing to say."""
        await self._ask()

    async def tell(self) -> None:
        """A heartbeat that says what it owns."""
        owned = [TopicPartitions(topic_id=self.topic_id, partitions=self.partitions)] if self.partitions else []
        await self._ask(topic_partitions=owned)

    async def leave(self) -> None:
        self.epoch = -1
        await self._ask()

    async def _ask(
        self,
        rebalance_timeout_ms: int = -1,
        subscribed_topic_names: list[str] | None = None,
        topic_partitions: list[TopicPartitions] | None = None,
    ) -> None:
        request = ConsumerGroupHeartbeatRequest(
            group_id=self.group_id,
            member_id=self.member_id,
            member_epoch=self.epoch,
            rebalance_timeout_ms=rebalance_timeout_ms,
            subscribed_topic_names=subscribed_topic_names,
            topic_partitions=topic_partitions,
        )
        response = await self.connection.ask(request, 1, ConsumerGroupHeartbeatResponse)
        while response.error_code in NOT_YET:
            await trio.sleep(0.05)
            response = await self.connection.ask(request, 1, ConsumerGroupHeartbeatResponse)
        assert response.error_code == Code.NONE, response
        self.epoch = response.member_epoch
        if response.assignment is not None:
            self.partitions = [index for topic in response.assignment.topic_partitions for index in topic.partitions]

    async def commit(self) -> None:
        """Commit an offset of every partition it has."""
        partitions = [
            OffsetCommitRequestPartition(partition_index=index, committed_offset=1, committed_metadata="")
            for index in self.partitions
        ]
        request = OffsetCommitRequest(
            group_id=self.group_id,
            generation_id_or_member_epoch=self.epoch,
            member_id=self.member_id,
            topics=[OffsetCommitRequestTopic(name=self.topic, topic_id=self.topic_id, partitions=partitions)],
        )
        response = await self.connection.ask(request, 10, OffsetCommitResponse)
        assert {each.error_code for topic in response.topics for each in topic.partitions} <= {Code.NONE}, response


async def settle(members: Sequence[Consumer], partitions: int, pause_s: float) -> None:
    """Heartbeat, with pauses between, until all are in one epoch and have so many partitions between them."""
    while True:
        held = sum(len(member.partitions) for member in members)
        if held == partitions and len({member.epoch for member in members}) == 1:
            return
        await trio.sleep(pause_s)
        await together(member.tell for member in members)


async def together(acts: Iterable[Callable[[], Awaitable[None]]]) -> None:
    """All of this at once."""
    async with trio.open_nursery() as nursery:
        for act in acts:
            nursery.start_soon(act)

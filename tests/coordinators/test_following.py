"""Coordinators follow the leadership of their partitions from node to node, as the metadata tells it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing

from kpybroker.clock import SimulatedClock
from kpybroker.cluster.image import PartitionImage, TopicImage
from kpybroker.coordinators.machines.settings import GroupSettings
from kpybroker.coordinators.service import Groups
from kpybroker.coordinators.shards import Shard
from kpybroker.ids import Ids
from kpybroker.wire.codes import Code, Refused
from kpybroker.wire.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
)
from kpybroker.wire.messages.offset_fetch import OffsetFetchRequestGroup

pytestmark = pytest.mark.simulated_time

GROUP = "g"
INDEX = 3  # of 4: where the group lives
ME, OTHER, NOBODY = 1, 2, -1


def offsets_topic(leaders: Mapping[int, tuple[int, int]], *, topic_id: bytes = b"o" * 16) -> TopicImage:
    """A topic of four partitions, each led by (broker, in that epoch)."""

    def partition(leader: int, epoch: int) -> PartitionImage:
        return PartitionImage(
            replicas=(ME, OTHER),
            isr=(ME, OTHER),
            leader=leader,
            leader_epoch=epoch,
            partition_epoch=epoch,
            directories=(bytes(16), bytes(16)),
        )

    return TopicImage(
        "__consumer_offsets", topic_id, {index: partition(*leaders.get(index, (OTHER, 0))) for index in range(4)}
    )


class Node:
    """One node's group coordinator, with the logs of its replicas."""

    def __init__(self, settings: GroupSettings, make_log: Callable[..., Any], **log_options: Any) -> None:
        self.groups = Groups(settings, SimulatedClock(1_700_000_000_000), Ids(1), partitions=50)
        self.logs = {index: make_log(**log_options) for index in range(4)}
        self.refuses: Code | None = None

    def follow(self, leaders: Mapping[int, tuple[int, int]] | None, **options: Any) -> None:
        topic = None if leaders is None else offsets_topic(leaders, **options)
        self.groups.follow(topic, ME, self._log)

    def _log(self, index: int) -> Any:
        if self.refuses is not None:
            raise Refused(self.refuses)
        return self.logs[index]

    @property
    def shard(self) -> Shard[Any]:
        return self.groups._shards[INDEX]

    async def commit(self, offset: int) -> Code:
        partition = OffsetCommitRequestPartition(partition_index=0, committed_offset=offset, committed_metadata="")
        topics = [OffsetCommitRequestTopic(name="t", partitions=[partition])]
        request = OffsetCommitRequest(group_id=GROUP, member_id="", topics=topics)
        response = await self.groups.commit_offsets(request, version=9)
        return Code(response.topics[0].partitions[0].error_code)

    async def offset(self) -> int | Code:
        request = OffsetFetchRequestGroup(group_id=GROUP, topics=None)
        response = await self.groups.fetch_offsets(request, require_stable=False)
        return Code(response.error_code) if response.error_code else response.topics[0].partitions[0].committed_offset


@asynccontextmanager
async def running(*nodes: Node) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        for node in nodes:
            nursery.start_soon(node.groups.run)
        yield
        nursery.cancel_scope.cancel()


async def loaded() -> None:
    await trio.testing.wait_all_tasks_blocked()


@pytest.fixture
def node(settings: GroupSettings, make_log: Callable[..., Any]) -> Node:
    return Node(settings, make_log)


async def test_partitions_are_as_many_as_the_topic_has(node: Node) -> None:
    """Configured are 50: another node, which was configured otherwise, may have created the topic."""
    node.follow({})
    assert node.groups.partitions == 4
    assert node.groups.partition_for(GROUP) == INDEX


async def test_a_group_moves_to_another_node_and_back(settings: GroupSettings, make_log: Callable[..., Any]) -> None:
    """The log is what both nodes have: replication carries it."""
    first, second = Node(settings, make_log), Node(settings, make_log)
    second.logs = first.logs
    async with running(first, second):
        first.follow({INDEX: (ME, 1)})
        second.follow({})
        assert await first.commit(5) is Code.NONE
        assert await second.commit(6) is Code.NOT_COORDINATOR
        first.follow({INDEX: (OTHER, 2)})
        second.follow({INDEX: (ME, 2)})
        assert await second.commit(6) is Code.COORDINATOR_LOAD_IN_PROGRESS
        await loaded()
        assert (await first.offset(), await second.offset()) == (Code.NOT_COORDINATOR, 5)
        assert await second.commit(6) is Code.NONE
        second.follow({INDEX: (NOBODY, 3)})
        assert await second.offset() is Code.NOT_COORDINATOR
        first.follow({INDEX: (ME, 4)})
        await loaded()
        assert await first.offset() == 6


async def test_the_same_leader_in_a_new_epoch_goes_on(node: Node) -> None:
    async with running(node):
        node.follow({INDEX: (ME, 1)})
        shard = node.shard
        node.follow({INDEX: (ME, 2)})
        assert node.shard is shard
        assert shard.leader_epoch == 2


async def test_a_log_that_another_leads_is_left_alone_until_the_metadata_says_so(node: Node) -> None:
    async with running(node):
        node.follow({INDEX: (ME, 1)})
        node.logs[INDEX].refuses = Code.NOT_LEADER_OR_FOLLOWER
        assert await node.commit(1) is Code.NOT_COORDINATOR
        await loaded()
        assert await node.offset() is Code.NOT_COORDINATOR, "not even what it has is told"
        node.logs[INDEX].refuses = None
        node.follow({INDEX: (ME, 1)})
        assert await node.commit(1) is Code.NOT_COORDINATOR, "the same epoch as before"
        node.follow({INDEX: (ME, 3)})
        assert await node.commit(1) is Code.NONE


async def test_a_topic_that_was_made_anew_has_nothing_of_the_old(node: Node, make_log: Callable[..., Any]) -> None:
    async with running(node):
        node.follow({INDEX: (ME, 0)})
        assert await node.commit(5) is Code.NONE
        node.logs[INDEX] = make_log()
        node.follow({INDEX: (ME, 0)}, topic_id=b"n" * 16)  # deleted and created in one batch of metadata
        assert await node.commit(6) is Code.NONE
        node.follow(None)
        assert await node.offset() is Code.NOT_COORDINATOR


async def test_a_partition_whose_folder_has_failed_is_not_coordinated(node: Node) -> None:
    async with running(node):
        node.refuses = Code.KAFKA_STORAGE_ERROR
        node.follow({INDEX: (ME, 0), 0: (ME, 0)})
        assert await node.commit(1) is Code.NOT_COORDINATOR
        node.refuses = None
        node.follow({INDEX: (ME, 0)})
        assert await node.commit(1) is Code.NONE


async def test_what_waits_for_followers_hears_of_the_new_leader_at_once(
    settings: GroupSettings, make_log: Callable[..., Any]
) -> None:
    """And is not taken in by a high watermark that comes later: the record at its offset may be another leader's."""
    node = Node(settings, make_log, replicas=2)
    codes: list[Any] = []

    async def note(ask: Callable[[], Any]) -> None:
        codes.append(await ask())

    async with running(node):
        node.follow({INDEX: (ME, 1)})
        async with trio.open_nursery() as asking:
            asking.start_soon(note, lambda: node.commit(1))
            await loaded()
            asking.start_soon(note, node.offset)  # a read of what may yet be lost
            await loaded()
            node.follow({INDEX: (OTHER, 2)})
            node.logs[INDEX].replicate()
        assert codes == [Code.NOT_COORDINATOR, Code.NOT_COORDINATOR]


async def test_what_was_loaded_counts_only_once_it_is_replicated(
    settings: GroupSettings, make_log: Callable[..., Any]
) -> None:
    """As in Kafka all of the log is loaded, and answers wait for the high watermark to reach its end."""
    node = Node(settings, make_log, replicas=2)
    found: list[int | Code] = []

    async def read() -> None:
        found.append(await node.offset())

    async with running(node):
        node.follow({INDEX: (ME, 1)})
        with trio.move_on_after(1):
            await node.commit(7)
        node.follow({INDEX: (NOBODY, 2)})
        node.follow({INDEX: (ME, 3)})
        await loaded()
        async with trio.open_nursery() as asking:
            asking.start_soon(read)
            await loaded()
            assert found == []
            node.logs[INDEX].replicate()
    assert found == [7]

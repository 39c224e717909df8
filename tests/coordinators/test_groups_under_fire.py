"""The group coordinator while its partitions are lost and won, its disk fills up and its replicas stand still.

Members of groups of both types, and administrators, ask whatever comes to their minds. Leadership may be lost with
records that no replica has: they are gone then. However it goes, each request is answered within the time that its
group's rebalance and the replicas may take, nothing is raised, no commit that was answered is lost, and what the shards
have in the end is what their logs say.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Awaitable, Callable
from itertools import count
from typing import Any

import pytest
import trio

from kpybroker.clock import SimulatedClock
from kpybroker.cluster.image import ClusterImage, PartitionImage, TopicImage, TopicsImage
from kpybroker.coordinators.loading import replay
from kpybroker.coordinators.machines.settings import GroupSettings
from kpybroker.coordinators.machines.shard import GroupShard
from kpybroker.coordinators.service import Groups
from kpybroker.coordinators.shards import ShardState
from kpybroker.ids import Ids
from kpybroker.wire.codec import encode
from kpybroker.wire.codes import Code
from kpybroker.wire.internal.consumer_protocol import ConsumerProtocolSubscription
from kpybroker.wire.messages.consumer_group_heartbeat import ConsumerGroupHeartbeatRequest, TopicPartitions
from kpybroker.wire.messages.heartbeat import HeartbeatRequest
from kpybroker.wire.messages.join_group import JoinGroupRequest, JoinGroupRequestProtocol
from kpybroker.wire.messages.leave_group import LeaveGroupRequest, MemberIdentity
from kpybroker.wire.messages.list_groups import ListGroupsRequest
from kpybroker.wire.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
)
from kpybroker.wire.messages.offset_fetch import OffsetFetchRequestGroup
from kpybroker.wire.messages.sync_group import SyncGroupRequest, SyncGroupRequestAssignment
from kpybroker.wire.messages.txn_offset_commit import (
    TxnOffsetCommitRequest,
    TxnOffsetCommitRequestPartition,
    TxnOffsetCommitRequestTopic,
)
from kpybroker.wire.messages.write_txn_markers import WritableTxnMarker
from kpybroker.wire.records.batch import iter_headers

pytestmark = pytest.mark.simulated_time

WALL_MS = 1_700_000_000_000
GROUPS = ("g", "h", "i")
KEPT = "kept"
"""A group that is used for its offsets only, and not deleted."""
CLIENTS = 8
STORY_S = 400.0
ANSWER_LIMIT_S = 120.0
"""The longest rebalance timeout, an initial one on top, and the time for the replicas."""
TOKEN_SEEDS = 4
"""Stories of a second each; a hundred and more under `make campaign`."""
TOPICS = {name: bytes([number]) * 16 for number, name in enumerate(("t", "u"), 1)}


def image() -> ClusterImage:
    partition = PartitionImage(
        replicas=(1,), directories=(bytes(16),), isr=(1,), leader=1, leader_epoch=0, partition_epoch=0
    )
    partitions = dict.fromkeys(range(3), partition)
    topics = [TopicImage(name=name, id=topic_id, partitions=partitions) for name, topic_id in TOPICS.items()]
    by_name = {topic.name: topic for topic in topics}
    return ClusterImage(topics=TopicsImage(by_name=by_name, by_id={topic.id: topic for topic in topics}), offset=1)


class Client:
    """Somebody who uses groups, and believes now this, now that of its membership."""

    def __init__(self, groups: Groups, chance: random.Random, name: str) -> None:
        self._groups = groups
        self._chance = chance
        self._name = name
        self._instance = chance.choice((None, None, f"instance-{name}"))
        self._member_id = ""
        self._generation = 0
        self._members: list[str] = []
        self._group = chance.choice(GROUPS)
        self.codes: set[int] = set()

    async def run(self) -> None:
        acts: list[Callable[[], Awaitable[Any]]] = [
            *[self._join, self._sync, self._beat, self._modern] * 3,
            *[self._modern_leaves, self._leave, self._commit, self._commit, self._txn_commit, self._end_txn],
            *[self._fetch, self._delete, self._look, self._move],
        ]
        while True:
            await trio.sleep(self._chance.choice((0, 0, 0.1, 1, 7)))
            act = self._chance.choice(acts)
            with trio.move_on_after(ANSWER_LIMIT_S) as limit:
                await act()
            assert not limit.cancelled_caught, f"{act.__name__} of {self._name} was not answered"

    async def _move(self) -> None:
        self._group, self._member_id, self._generation = self._chance.choice(GROUPS), "", 0

    async def _join(self) -> None:
        subscription = ConsumerProtocolSubscription(topics=[self._chance.choice(("t", "u"))])
        request = JoinGroupRequest(
            group_id=self._group,
            session_timeout_ms=self._chance.choice((6_000, 20_000)),
            rebalance_timeout_ms=self._chance.choice((3_000, 40_000)),
            member_id=self._member_id,
            group_instance_id=self._instance,
            protocol_type="consumer",
            protocols=[JoinGroupRequestProtocol(name="range", metadata=struct.pack(">h", 1) + encode(subscription, 1))],
        )
        version = self._chance.choice((5, 9))
        response = await self._groups.join_group(request, version=version, client_id=self._name, client_host="/h")
        self._note(response.error_code)
        if response.error_code in (Code.NONE, Code.MEMBER_ID_REQUIRED):
            self._member_id, self._generation = response.member_id, max(response.generation_id, 0)
        else:
            self._member_id = ""
        self._members = [member.member_id for member in response.members]

    async def _sync(self) -> None:
        given = [SyncGroupRequestAssignment(member_id=each, assignment=b"") for each in self._members]
        request = SyncGroupRequest(
            group_id=self._group,
            generation_id=self._generation,
            member_id=self._member_id,
            group_instance_id=self._instance,
            protocol_type="consumer",
            protocol_name="range",
            assignments=given,
        )
        self._note((await self._groups.sync_group(request, version=5)).error_code)

    async def _beat(self) -> None:
        request = HeartbeatRequest(
            group_id=self._group,
            generation_id=self._generation,
            member_id=self._member_id,
            group_instance_id=self._instance,
        )
        self._note((await self._groups.heartbeat(request)).error_code)

    async def _leave(self) -> None:
        identity = MemberIdentity(member_id=self._member_id, group_instance_id=self._instance)
        request = LeaveGroupRequest(group_id=self._group, members=[identity])
        self._note((await self._groups.leave_group(request, version=4)).error_code)

    async def _modern(self, epoch: int | None = None) -> None:
        epoch = self._chance.choice((0, self._generation, self._generation)) if epoch is None else epoch
        owned = [TopicPartitions(topic_id=TOPICS["t"], partitions=[0])]
        request = ConsumerGroupHeartbeatRequest(
            group_id=self._group,
            member_id=self._member_id or self._name,
            member_epoch=epoch,
            instance_id=self._instance,
            rebalance_timeout_ms=5_000 if epoch == 0 else -1,
            subscribed_topic_names=[self._chance.choice(("t", "u"))] if epoch == 0 else None,
            subscribed_topic_regex=self._chance.choice((None, None, "t.*", "[")) if epoch == 0 else None,
            topic_partitions=[] if epoch == 0 else self._chance.choice((None, [], owned)),
        )
        response = await self._groups.consumer_heartbeat(
            request, version=1, client_id=self._name, client_host="/h", may_describe=lambda _: True
        )
        self._note(response.error_code)
        if response.error_code == Code.NONE:
            self._member_id, self._generation = response.member_id or "", max(response.member_epoch, 0)

    async def _modern_leaves(self) -> None:
        await self._modern(self._chance.choice((-1, -2)))

    async def _commit(self) -> None:
        partitions = [
            OffsetCommitRequestPartition(partition_index=index, committed_offset=1, committed_metadata="")
            for index in range(self._chance.choice((1, 3)))
        ]
        request = OffsetCommitRequest(
            group_id=self._group,
            generation_id_or_member_epoch=self._chance.choice((-1, self._generation)),
            member_id=self._chance.choice(("", self._member_id)),
            topics=[OffsetCommitRequestTopic(name="t", topic_id=TOPICS["t"], partitions=partitions)],
        )
        response = await self._groups.commit_offsets(request, version=9)
        self._note(response.topics[0].partitions[0].error_code)

    async def _txn_commit(self) -> None:
        partition = TxnOffsetCommitRequestPartition(partition_index=0, committed_offset=2, committed_metadata="")
        request = TxnOffsetCommitRequest(
            transactional_id="x",
            group_id=self._group,
            producer_id=self._chance.randrange(3),
            producer_epoch=0,
            topics=[TxnOffsetCommitRequestTopic(name="t", topic_id=TOPICS["t"], partitions=[partition])],
        )
        response = await self._groups.commit_txn_offsets(request, guard=None)
        self._note(response.topics[0].partitions[0].error_code)

    async def _end_txn(self) -> None:
        marker = WritableTxnMarker(
            producer_id=self._chance.randrange(3),
            producer_epoch=0,
            transaction_result=self._chance.random() < 0.5,
            topics=[],
            coordinator_epoch=0,
        )
        self._note(await self._groups.end_transaction(self._groups.partition_for(self._group), marker))

    async def _fetch(self) -> None:
        request = OffsetFetchRequestGroup(group_id=self._group, topics=None)
        self._note((await self._groups.fetch_offsets(request, require_stable=True)).error_code)

    async def _delete(self) -> None:
        if self._chance.random() < 0.3:
            (result,) = await self._groups.delete_groups([self._group])
            self._note(result.error_code)

    async def _look(self) -> None:
        assert len(await self._groups.describe_groups(GROUPS, version=6)) == len(GROUPS)
        assert len(await self._groups.describe_consumer_groups(GROUPS)) == len(GROUPS)
        self._note((await self._groups.list_groups(ListGroupsRequest())).error_code)

    def _note(self, code: int) -> None:
        self.codes.add(code)


class Keeper:
    """Commits one offset after the other, and remembers which was the last that was answered."""

    def __init__(self, groups: Groups) -> None:
        self._groups = groups
        self.answered = 0

    async def run(self) -> None:
        for offset in count(1):
            await trio.sleep(0.5)
            await self.check()
            partition = OffsetCommitRequestPartition(partition_index=0, committed_offset=offset, committed_metadata="")
            topics = [OffsetCommitRequestTopic(name="t", topic_id=TOPICS["t"], partitions=[partition])]
            request = OffsetCommitRequest(group_id=KEPT, member_id="", topics=topics)
            response = await self._groups.commit_offsets(request, version=9)
            if response.topics[0].partitions[0].error_code == Code.NONE:
                self.answered = offset

    async def check(self) -> bool:
        """Whether there was an answer to the question what has been committed: nothing less than was answered."""
        request = OffsetFetchRequestGroup(group_id=KEPT, topics=None)
        response = await self._groups.fetch_offsets(request, require_stable=False)
        if response.error_code == Code.NONE and self.answered:
            assert response.topics[0].partitions[0].committed_offset >= self.answered, "an answered commit is lost"
        return response.error_code == Code.NONE


async def trouble(groups: Groups, logs: dict[int, Any], chance: random.Random) -> None:
    """One partition after the other has something happen to it, and gets over it."""
    while True:
        await trio.sleep(chance.choice((0.5, 3, 10)))
        index = chance.choice(list(logs))
        log = logs[index]
        match chance.randrange(6):
            case 0:
                log.refuses = chance.choice((Code.NOT_ENOUGH_REPLICAS, Code.KAFKA_STORAGE_ERROR))
                await trio.sleep(chance.choice((0.1, 4)))
                log.refuses = None
            case 1:
                log.failed, log.refuses = True, Code.KAFKA_STORAGE_ERROR
                await trio.sleep(chance.choice((0.1, 4)))
                log.failed, log.refuses = False, None
                groups.lead(index, log)
            case 2:
                log.replicas = chance.choice((1, 2))
                await trio.sleep(chance.choice((0, 1)))
                log.lose()
                await trio.sleep(chance.choice((0, 4)))
                groups.resign(index)
                log.truncate()
                await trio.sleep(chance.choice((0, 4)))
                log.refuses, log.replicas = None, 1
                groups.lead(index, log)
            case 3:
                groups.lead(index, log)
                groups.lead(index, log)
            case 4:
                log.replicas = 2
                await trio.sleep(chance.choice((0.1, 2, 20)))
                log.replicas = 1
                log.replicate()
            case 5:
                groups.follow_topics(image(), ["t"], created=False)


def assert_as_logged(shard: GroupShard, log: Any, settings: GroupSettings) -> None:
    """What the shard has is what its log says."""
    loaded = GroupShard(settings)
    for batch in log.batches:
        for position, header in iter_headers(batch):
            replay(loaded, batch, position, header)
    assert shard.offsets.committed == loaded.offsets.committed
    assert shard.offsets.pending == loaded.offsets.pending
    assert shard.consumers.groups.keys() == loaded.consumers.groups.keys()
    for group_id, group in shard.consumers.groups.items():
        other = loaded.consumers.groups[group_id]
        assert (group.members, group.targets, group.epoch) == (other.members, other.targets, other.epoch)
    in_log = {group_id: group.committed for group_id, group in shard.classic.items() if group.in_log}
    assert in_log == {group_id: group.committed for group_id, group in loaded.classic.items()}


async def story(settings: GroupSettings, make_log: Callable[..., Any], seed: int) -> set[int]:
    """One story; the error codes that clients were told."""
    chance = random.Random(seed)
    groups = Groups(settings, SimulatedClock(WALL_MS), Ids(seed), partitions=50)
    groups.follow_topics(image())
    logs = {groups.partition_for(group_id): make_log() for group_id in (*GROUPS, KEPT)}
    keeper = Keeper(groups)
    clients = [Client(groups, chance, f"client-{number}") for number in range(CLIENTS)]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(groups.run)
        for index, log in logs.items():
            groups.lead(index, log)
        async with trio.open_nursery() as people:
            for client in clients:
                people.start_soon(client.run)
            people.start_soon(keeper.run)
            people.start_soon(trouble, groups, logs, chance)
            await trio.sleep(STORY_S)
            people.cancel_scope.cancel()
        for index, log in logs.items():
            if log.failed or log.refuses is not None:
                log.failed, log.refuses = False, None
                groups.lead(index, log)
            log.replicate()
        await trio.sleep(10)
        for index, log in logs.items():
            shard = groups._shards[index]
            assert shard.state is ShardState.ACTIVE
            assert_as_logged(shard.machine, log, settings)
        assert await keeper.check()
        assert keeper.answered
        nursery.cancel_scope.cancel()
    return set().union(*(client.codes for client in clients))


async def test_every_request_is_answered(
    settings: GroupSettings, make_log: Callable[..., Any], pytestconfig: pytest.Config
) -> None:
    seeds = pytestconfig.getoption("--campaign-size") or TOKEN_SEEDS
    first = int(pytestconfig.getoption("--campaign-seed"))
    told: set[int] = set()
    for seed in range(first, first + seeds):
        told |= await story(settings, make_log, seed)
    assert told >= {Code.NONE, Code.NOT_COORDINATOR, Code.REBALANCE_IN_PROGRESS, Code.COORDINATOR_NOT_AVAILABLE}

"""The service around the machines: shards, waiting, time, failures. In simulated time, with a log in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
import trio

from kpybroker.clock import SimulatedClock
from kpybroker.coordinators.coordinator import java_hash, partition_of
from kpybroker.coordinators.machines.settings import GroupSettings
from kpybroker.coordinators.service import Groups
from kpybroker.coordinators.shards import ShardState
from kpybroker.ids import Ids
from kpybroker.wire.codes import Code, Refused
from kpybroker.wire.messages.consumer_group_heartbeat import ConsumerGroupHeartbeatRequest
from kpybroker.wire.messages.heartbeat import HeartbeatRequest
from kpybroker.wire.messages.join_group import JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse
from kpybroker.wire.messages.leave_group import LeaveGroupRequest, MemberIdentity
from kpybroker.wire.messages.list_groups import ListGroupsRequest
from kpybroker.wire.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
)
from kpybroker.wire.messages.offset_delete import OffsetDeleteRequest
from kpybroker.wire.messages.offset_fetch import OffsetFetchRequestGroup
from kpybroker.wire.messages.sync_group import SyncGroupRequest, SyncGroupRequestAssignment
from kpybroker.wire.records.batch import iter_headers

pytestmark = pytest.mark.simulated_time

WALL_MS = 1_700_000_000_000
GROUP = "g"


@asynccontextmanager
async def running(settings: GroupSettings) -> AsyncIterator[Groups]:
    groups = Groups(settings, SimulatedClock(WALL_MS), Ids(1), partitions=50)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(groups.run)
        yield groups
        nursery.cancel_scope.cancel()


def join(member_id: str = "", **changes: Any) -> JoinGroupRequest:
    request = JoinGroupRequest(
        group_id=GROUP,
        session_timeout_ms=10_000,
        rebalance_timeout_ms=30_000,
        member_id=member_id,
        protocol_type="consumer",
        protocols=[JoinGroupRequestProtocol(name="range", metadata=b"m")],
    )
    return msgspec.structs.replace(request, **changes)


def sync(member_id: str, generation: int, **assignments: bytes) -> SyncGroupRequest:
    return SyncGroupRequest(
        group_id=GROUP,
        generation_id=generation,
        member_id=member_id,
        protocol_type="consumer",
        protocol_name="range",
        assignments=[SyncGroupRequestAssignment(member_id=key, assignment=value) for key, value in assignments.items()],
    )


def commit(offset: int, group_id: str = GROUP, **changes: Any) -> OffsetCommitRequest:
    partition = OffsetCommitRequestPartition(partition_index=0, committed_offset=offset, committed_metadata="")
    topics = [OffsetCommitRequestTopic(name="t", partitions=[partition])]
    return OffsetCommitRequest(group_id=group_id, member_id="", topics=topics, **changes)


async def joined(groups: Groups, member_id: str = "", *, version: int = 3) -> JoinGroupResponse:
    return await groups.join_group(join(member_id), version=version, client_id="c", client_host="/host")


async def stable_member(groups: Groups) -> str:
    """The one member of a stable group."""
    member_id = (await joined(groups)).member_id
    request = sync(member_id, 1)
    request = msgspec.structs.replace(
        request, assignments=[SyncGroupRequestAssignment(member_id=member_id, assignment=b"all")]
    )
    assert (await groups.sync_group(request, version=5)).assignment == b"all"
    return member_id


async def offset_of(groups: Groups, group_id: str = GROUP) -> int:
    response = await groups.fetch_offsets(OffsetFetchRequestGroup(group_id=group_id, topics=None), require_stable=False)
    assert response.error_code == Code.NONE
    return response.topics[0].partitions[0].committed_offset if response.topics else -1


# -- where groups live


@pytest.mark.parametrize(
    ("group_id", "number"),
    [
        ("", 0),
        ("a", 97),
        ("console-consumer-12345", 158455506),
        ("café", 3045921),
        ("😀", 1772899),
        ("polygenelubricants", -(1 << 31)),
        ("group-848", -1484198802),
    ],
)
def test_java_hash(group_id: str, number: int) -> None:
    assert java_hash(group_id) == number


def test_partitions_of_groups() -> None:
    assert partition_of("a", 50) == 97 % 50
    assert partition_of("group-848", 3) == 0, "as Kafka has put it"
    assert partition_of("polygenelubricants", 7) == 0, "Math.abs of the least number would be negative"


async def test_a_group_elsewhere(settings: GroupSettings) -> None:
    async with running(settings) as groups:
        with pytest.raises(Refused) as refusal:
            groups.local(GROUP)
        assert refusal.value.code is Code.NOT_COORDINATOR
        assert (await joined(groups)).error_code == Code.NOT_COORDINATOR
        assert (await groups.sync_group(sync("m", 1), version=5)).error_code == Code.NOT_COORDINATOR
        heartbeat = HeartbeatRequest(group_id=GROUP, generation_id=1, member_id="m")
        assert (await groups.heartbeat(heartbeat)).error_code == Code.NOT_COORDINATOR
        response = await groups.commit_offsets(commit(1), version=9)
        assert response.topics[0].partitions[0].error_code == Code.NOT_COORDINATOR
        assert (await groups.delete_groups([GROUP]))[0].error_code == Code.NOT_COORDINATOR
        assert (await groups.describe_groups([GROUP], version=6))[0].error_code == Code.NOT_COORDINATOR
        assert (await groups.list_groups(ListGroupsRequest())).groups == []


async def test_requests_without_a_group(settings: GroupSettings, make_log: Callable[..., Any]) -> None:
    async with running(settings) as groups:
        groups.lead(0, make_log())
        response = await groups.join_group(join(group_id=""), version=9, client_id="c", client_host="/h")
        assert response.error_code == Code.INVALID_GROUP_ID
        deletion = await groups.delete_offsets(OffsetDeleteRequest(group_id="", topics=[]))
        assert deletion.error_code == Code.INVALID_GROUP_ID
        # Offsets of the group without a name are as old as Kafka, and still work.
        assert (await groups.commit_offsets(commit(5, ""), version=9)).topics[0].partitions[0].error_code == Code.NONE
        assert await offset_of(groups, "") == 5


@pytest.mark.parametrize("session_ms", [5_999, 1_800_001])
async def test_session_timeout_out_of_bounds(
    settings: GroupSettings, make_log: Callable[..., Any], session_ms: int
) -> None:
    async with running(settings) as groups:
        groups.lead(groups.partition_for(GROUP), make_log())
        request = join(session_timeout_ms=session_ms)
        response = await groups.join_group(request, version=9, client_id="c", client_host="/h")
        assert response.error_code == Code.INVALID_SESSION_TIMEOUT


# -- what versions change


async def test_shapes_by_version(settings: GroupSettings, make_log: Callable[..., Any]) -> None:
    async with running(settings) as groups:
        groups.lead(groups.partition_for(GROUP), make_log())
        request = join("nobody")
        old = await groups.join_group(request, version=6, client_id="c", client_host="/h")
        new = await groups.join_group(request, version=7, client_id="c", client_host="/h")
        assert (old.protocol_name, new.protocol_name) == ("", None)
        nameless = msgspec.structs.replace(sync("m", 1), protocol_name=None)
        assert (await groups.sync_group(nameless, version=5)).error_code == Code.INCONSISTENT_GROUP_PROTOCOL
        assert (await groups.sync_group(nameless, version=4)).error_code == Code.UNKNOWN_MEMBER_ID
        single = LeaveGroupRequest(group_id=GROUP, member_id="nobody")
        left = await groups.leave_group(single, version=2)
        assert (left.error_code, left.members) == (Code.UNKNOWN_MEMBER_ID, [])
        several = LeaveGroupRequest(group_id=GROUP, members=[MemberIdentity(member_id="nobody")])
        left = await groups.leave_group(several, version=3)
        assert (left.error_code, left.members[0].error_code) == (Code.NONE, Code.UNKNOWN_MEMBER_ID)


async def test_version_0_joins_wait_as_long_as_a_session(settings: GroupSettings, make_log: Callable[..., Any]) -> None:
    async with running(settings) as groups:
        groups.lead(groups.partition_for(GROUP), make_log())
        request = join(rebalance_timeout_ms=-1)
        member_id = (await groups.join_group(request, version=0, client_id="c", client_host="/h")).member_id
        group = groups.local(GROUP).machine.classic[GROUP]
        assert group.roster.members[member_id].rebalance_timeout_ms == 10_000


# -- time


async def test_a_session_ends_on_time(settings: GroupSettings, make_log: Callable[..., Any]) -> None:
    async with running(settings) as groups:
        groups.lead(groups.partition_for(GROUP), make_log())
        member_id = await stable_member(groups)
        heartbeat = HeartbeatRequest(group_id=GROUP, generation_id=1, member_id=member_id)
        for _ in range(5):
            await trio.sleep(9.9)
            assert (await groups.heartbeat(heartbeat)).error_code == Code.NONE
        await trio.sleep(9.9)
        assert (await groups.describe_groups([GROUP], version=6))[0].group_state == "Stable"
        await trio.sleep(0.2)
        assert (await groups.describe_groups([GROUP], version=6))[0].group_state == "Empty"


async def test_a_deadline_put_off_while_the_service_sleeps(
    settings: GroupSettings, make_log: Callable[..., Any]
) -> None:
    async with running(settings) as groups:
        groups.lead(groups.partition_for(GROUP), make_log())
        member_id = await stable_member(groups)
        await trio.sleep(5)
        await groups.heartbeat(HeartbeatRequest(group_id=GROUP, generation_id=1, member_id=member_id))
        await trio.sleep(10.1)
        assert groups.local(GROUP).machine.classic[GROUP].state == "Empty"


async def test_an_earlier_deadline_wakes_the_sleeper(settings: GroupSettings, make_log: Callable[..., Any]) -> None:
    settings = msgspec.structs.replace(settings, initial_rebalance_delay_ms=3_000)
    async with running(settings) as groups:
        groups.lead(groups.partition_for(GROUP), make_log())
        await groups.commit_offsets(commit(1), version=9)  # plans a clean-up in ten minutes
        await trio.sleep(1)
        began_s = trio.current_time()
        assert (await joined(groups)).generation_id == 1
        assert trio.current_time() - began_s == pytest.approx(3.0)


async def test_nothing_ticks_when_nothing_is_due(settings: GroupSettings, make_log: Callable[..., Any]) -> None:
    async with running(settings) as groups:
        for index in range(50):
            groups.lead(index, make_log())
        await trio.sleep(1_000_000)
        assert groups._due == []


async def test_a_cancelled_wait_leaves_the_member_joining(
    settings: GroupSettings, make_log: Callable[..., Any]
) -> None:
    settings = msgspec.structs.replace(settings, initial_rebalance_delay_ms=3_000)
    async with running(settings) as groups:
        groups.lead(groups.partition_for(GROUP), make_log())
        with trio.move_on_after(1):
            await joined(groups)
        await trio.sleep(5)
        described = (await groups.describe_groups([GROUP], version=6))[0]
        assert (described.group_state, len(described.members)) == ("CompletingRebalance", 1)


# -- the high watermark


async def test_answers_wait_for_the_replicas(settings: GroupSettings, make_log: Callable[..., Any]) -> None:
    log = make_log(replicas=2)
    answered: list[int] = []

    async def commit_and_note(groups: Groups) -> None:
        response = await groups.commit_offsets(commit(1), version=9)
        answered.append(response.topics[0].partitions[0].error_code)

    async def fetch_and_note(groups: Groups) -> None:
        answered.append(await offset_of(groups))

    async with running(settings) as groups:
        groups.lead(groups.partition_for(GROUP), log)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(commit_and_note, groups)
            await trio.sleep(1)
            nursery.start_soon(fetch_and_note, groups)  # a read of what is not replicated waits too
            await trio.sleep(1)
            assert answered == []
            log.replicate()
        assert sorted(answered) == [0, 1]


async def test_replicas_that_do_not_come(settings: GroupSettings, make_log: Callable[..., Any]) -> None:
    log = make_log(replicas=2)
    async with running(settings) as groups:
        groups.lead(groups.partition_for(GROUP), log)
        began_s = trio.current_time()
        response = await groups.commit_offsets(commit(7), version=9)
        assert trio.current_time() - began_s == pytest.approx(5.0)
        assert response.topics[0].partitions[0].error_code == Code.COORDINATOR_NOT_AVAILABLE
        fetched = await groups.fetch_offsets(OffsetFetchRequestGroup(group_id=GROUP, topics=None), require_stable=True)
        assert fetched.error_code == Code.NOT_COORDINATOR
        log.replicate()
        assert await offset_of(groups) == 7  # nothing was rolled back


async def test_leadership_lost_while_waiting(settings: GroupSettings, make_log: Callable[..., Any]) -> None:
    log = make_log(replicas=2)
    codes: list[int] = []

    async def commit_and_note(groups: Groups) -> None:
        response = await groups.commit_offsets(commit(1), version=9)
        codes.append(response.topics[0].partitions[0].error_code)

    async with running(settings) as groups:
        groups.lead(groups.partition_for(GROUP), log)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(commit_and_note, groups)
            await trio.sleep(1)
            log.lose()
            groups.resign(groups.partition_for(GROUP))
        assert codes == [Code.NOT_COORDINATOR]


# -- failures of the log


async def test_a_refused_append_keeps_the_shard(settings: GroupSettings, make_log: Callable[..., Any]) -> None:
    log = make_log()
    async with running(settings) as groups:
        groups.lead(groups.partition_for(GROUP), log)
        member_id = await stable_member(groups)
        log.refuses = Code.NOT_ENOUGH_REPLICAS
        response = await groups.commit_offsets(commit(1, generation_id_or_member_epoch=1), version=9)
        assert response.topics[0].partitions[0].error_code == Code.UNKNOWN_MEMBER_ID
        mine = msgspec.structs.replace(commit(1, generation_id_or_member_epoch=1), member_id=member_id)
        response = await groups.commit_offsets(mine, version=9)
        assert response.topics[0].partitions[0].error_code == Code.COORDINATOR_NOT_AVAILABLE
        log.refuses = None
        heartbeat = HeartbeatRequest(group_id=GROUP, generation_id=1, member_id=member_id)
        assert (await groups.heartbeat(heartbeat)).error_code == Code.NONE


async def test_after_a_failed_append_the_shard_is_what_the_log_says(
    settings: GroupSettings, make_log: Callable[..., Any]
) -> None:
    log = make_log()
    index_of = Groups(settings, SimulatedClock(WALL_MS), Ids(1), partitions=50).partition_for
    codes: list[int] = []

    async def join_and_note(groups: Groups) -> None:
        codes.append((await joined(groups)).error_code)

    async with running(settings) as groups:
        groups.lead(index_of(GROUP), log)
        member_id = await stable_member(groups)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(join_and_note, groups)  # waits for the member to rejoin
            await trio.sleep(1)
            log.refuses, log.failed = Code.KAFKA_STORAGE_ERROR, True
            mine = msgspec.structs.replace(commit(1, generation_id_or_member_epoch=1), member_id=member_id)
            response = await groups.commit_offsets(mine, version=9)
            assert response.topics[0].partitions[0].error_code == Code.NOT_COORDINATOR
            with pytest.raises(Refused) as refusal:
                groups.local(GROUP)
            assert refusal.value.code is Code.COORDINATOR_LOAD_IN_PROGRESS
        assert codes == [Code.NOT_COORDINATOR]
        log.refuses, log.failed = None, False
        await trio.sleep(0.1)
        described = (await groups.describe_groups([GROUP], version=6))[0]
        assert described.group_state == "Stable"
        assert [member.member_id for member in described.members] == [member_id]


async def test_a_log_that_can_not_be_read(settings: GroupSettings, make_log: Callable[..., Any]) -> None:
    log = make_log()
    async with running(settings) as groups:
        index = groups.partition_for(GROUP)
        groups.lead(index, log)
        await groups.commit_offsets(commit(1), version=9)
        log.unreadable, log.failed = Code.KAFKA_STORAGE_ERROR, True
        groups.lead(index, log)
        await trio.sleep(0.1)
        with pytest.raises(Refused) as refusal:
            groups.local(GROUP)
        assert refusal.value.code is Code.NOT_COORDINATOR
        log.unreadable, log.failed = None, False
        groups.lead(index, log)
        await trio.sleep(0.1)
        assert await offset_of(groups) == 1


async def test_a_full_disk_keeps_the_shard(settings: GroupSettings, make_log: Callable[..., Any]) -> None:
    """The client is told to look again, and finds the group as it was."""
    log = make_log()
    async with running(settings) as groups:
        groups.lead(groups.partition_for(GROUP), log)
        member_id = await stable_member(groups)
        log.refuses = Code.KAFKA_STORAGE_ERROR
        mine = msgspec.structs.replace(commit(1, generation_id_or_member_epoch=1), member_id=member_id)
        response = await groups.commit_offsets(mine, version=9)
        assert response.topics[0].partitions[0].error_code == Code.NOT_COORDINATOR
        await trio.sleep(60)  # what the machine wants to write by itself is refused too, and does not keep it busy
        log.refuses = None
        response = await groups.commit_offsets(commit(2), version=9)
        assert response.topics[0].partitions[0].error_code in (Code.NONE, Code.UNKNOWN_MEMBER_ID)
        assert (await groups.describe_groups([GROUP], version=6))[0].error_code == Code.NONE


async def test_groups_that_a_full_disk_refused_leave_nothing(
    settings: GroupSettings, make_log: Callable[..., Any]
) -> None:
    log = make_log()
    async with running(settings) as groups:
        for index in range(50):
            groups.lead(index, log)
        log.refuses = Code.NOT_ENOUGH_REPLICAS
        for number in range(100):
            request = ConsumerGroupHeartbeatRequest(
                group_id=f"group-{number}",
                member_id="m",
                member_epoch=0,
                rebalance_timeout_ms=1_000,
                subscribed_topic_names=["t"],
                topic_partitions=[],
            )
            response = await groups.consumer_heartbeat(
                request, version=1, client_id="c", client_host="/h", may_describe=lambda _: True
            )
            assert response.error_code == Code.COORDINATOR_NOT_AVAILABLE
        await trio.sleep(60)  # sessions of nobody end
        for shard in groups.shards:
            machine = shard.machine
            assert not machine.consumers.groups
            assert not machine.consumers._refresh
            assert len(machine.deadlines) <= 1, "of the clean-up"


async def test_a_log_for_which_there_was_no_room_is_loaded_later(
    settings: GroupSettings, make_log: Callable[..., Any]
) -> None:
    log = make_log()
    async with running(settings) as groups:
        index = groups.partition_for(GROUP)
        groups.lead(index, log)
        await groups.commit_offsets(commit(1), version=9)
        log.unreadable = Code.KAFKA_STORAGE_ERROR
        groups.lead(index, log)
        await trio.sleep(12)
        with pytest.raises(Refused) as refusal:
            groups.local(GROUP)
        assert refusal.value.code is Code.COORDINATOR_LOAD_IN_PROGRESS
        log.unreadable = None
        await trio.sleep(5)
        assert await offset_of(groups) == 1


# -- loading


async def test_while_a_shard_loads(settings: GroupSettings, make_log: Callable[..., Any]) -> None:
    log = make_log()
    groups = Groups(settings, SimulatedClock(WALL_MS), Ids(1), partitions=50)  # not running: nothing is loaded
    index = groups.partition_for(GROUP)
    groups.lead(index, log)
    await groups.commit_offsets(commit(9), version=9)
    groups.lead(index, log)
    response = await groups.commit_offsets(commit(10), version=9)
    assert response.topics[0].partitions[0].error_code == Code.COORDINATOR_LOAD_IN_PROGRESS
    heartbeat = HeartbeatRequest(group_id=GROUP, generation_id=1, member_id="m")
    assert (await groups.heartbeat(heartbeat)).error_code == Code.NONE
    assert (await groups.list_groups(ListGroupsRequest())).error_code == Code.COORDINATOR_LOAD_IN_PROGRESS
    async with trio.open_nursery() as nursery:
        nursery.start_soon(groups.run)
        await trio.sleep(0.1)
        assert await offset_of(groups) == 9
        nursery.cancel_scope.cancel()


async def test_resigning_while_loading(settings: GroupSettings, make_log: Callable[..., Any]) -> None:
    log = make_log()
    groups = Groups(settings, SimulatedClock(WALL_MS), Ids(1), partitions=50)
    index = groups.partition_for(GROUP)
    groups.lead(index, log)
    for offset in range(2000):
        await groups.commit_offsets(commit(offset), version=9)
    groups.lead(index, log)
    shard = groups._shards[index]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(groups.run)
        while not shard.machine.classic:  # until the first turn of the load is over
            await trio.lowlevel.checkpoint()
        assert shard.state is ShardState.LOADING
        groups.resign(index)
        await trio.sleep(0.1)
        nursery.cancel_scope.cancel()
    assert shard.state is ShardState.LOST
    assert (await joined(groups)).error_code == Code.NOT_COORDINATOR


async def test_resigning_before_the_load_has_begun(settings: GroupSettings, make_log: Callable[..., Any]) -> None:
    """What waits to be loaded may be led anew, or by others, before its turn comes."""
    log = make_log()
    groups = Groups(settings, SimulatedClock(WALL_MS), Ids(1), partitions=50)  # not running: nothing is loaded
    index = groups.partition_for(GROUP)
    groups.lead(index, log)
    await groups.commit_offsets(commit(9), version=9)
    groups.lead(index, log)
    overtaken = groups._shards[index]
    groups.lead(index, log)
    groups.lead(index + 1, log)
    given_up = groups._shards[index + 1]
    groups.resign(index + 1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(groups.run)
        await trio.sleep(0.1)
        assert await offset_of(groups) == 9
        nursery.cancel_scope.cancel()
    assert overtaken.state is given_up.state is ShardState.LOST


# -- batches


async def test_one_batch_for_one_request(settings: GroupSettings, make_log: Callable[..., Any]) -> None:
    log = make_log()
    async with running(settings) as groups:
        groups.lead(groups.partition_for(GROUP), log)
        partitions = [
            OffsetCommitRequestPartition(partition_index=index, committed_offset=1, committed_metadata=None)
            for index in range(100)
        ]
        topics = [OffsetCommitRequestTopic(name="t", partitions=partitions)]
        await groups.commit_offsets(OffsetCommitRequest(group_id=GROUP, member_id="", topics=topics), version=9)
        (batch,) = log.batches
        ((_, header),) = iter_headers(batch)
        assert (header.count, header.base_timestamp, header.producer_id) == (100, WALL_MS, -1)
        # Tombstones of a deleted topic stand for themselves, and go into as many batches as it takes.
        log.batch_bytes_max = 1000
        groups.delete_topics([("t", bytes(16))])
        headers = [header for batch in log.batches[1:] for _, header in iter_headers(batch)]
        assert sum(header.count for header in headers) == 100
        assert len(headers) > 1
        assert max(header.length for header in headers) <= 1000
        assert await offset_of(groups) == -1

"""What becomes of groups when their log fails, fills up, or is lost and led anew. In simulated time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
import trio

from kpybroker.clock import SimulatedClock
from kpybroker.coordinators.machines.settings import GroupSettings
from kpybroker.coordinators.service import Groups
from kpybroker.coordinators.shards import ShardState
from kpybroker.ids import Ids
from kpybroker.wire.codes import Code, Refused
from kpybroker.wire.messages.consumer_group_heartbeat import ConsumerGroupHeartbeatRequest
from kpybroker.wire.messages.heartbeat import HeartbeatRequest
from kpybroker.wire.messages.list_groups import ListGroupsRequest

from .asking import GROUP, WALL_MS, commit, joined, offset_of, running, stable_member

pytestmark = pytest.mark.simulated_time


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


async def test_a_log_that_refuses_again_and_again_is_told_of_once_in_a_while(
    settings: GroupSettings, make_log: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    log = make_log()
    async with running(settings) as groups:
        groups.lead(groups.partition_for(GROUP), log)
        member_id = await stable_member(groups)
        log.refuses = Code.NOT_ENOUGH_REPLICAS
        mine = msgspec.structs.replace(commit(1, generation_id_or_member_epoch=1), member_id=member_id)
        caplog.set_level("INFO")
        for _ in range(10):
            await groups.commit_offsets(mine, version=9)
        assert sum("refused a decision" in line for line in caplog.messages) == 1
        await trio.sleep(2)
        await groups.commit_offsets(mine, version=9)
        assert sum("refused a decision" in line for line in caplog.messages) == 2

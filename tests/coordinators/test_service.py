"""The service around the machines: shards, waiting, time. In simulated time, with a log in memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
import trio

from kpybroker.coordinators.coordinator import java_hash, partition_of
from kpybroker.coordinators.machines.settings import GroupSettings
from kpybroker.coordinators.service import Groups
from kpybroker.wire.codes import Code, Refused
from kpybroker.wire.messages.heartbeat import HeartbeatRequest
from kpybroker.wire.messages.leave_group import LeaveGroupRequest, MemberIdentity
from kpybroker.wire.messages.list_groups import ListGroupsRequest
from kpybroker.wire.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
)
from kpybroker.wire.messages.offset_delete import OffsetDeleteRequest
from kpybroker.wire.messages.offset_fetch import OffsetFetchRequestGroup
from kpybroker.wire.records.batch import iter_headers

from .asking import GROUP, WALL_MS, commit, join, joined, offset_of, running, stable_member, sync

pytestmark = pytest.mark.simulated_time


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

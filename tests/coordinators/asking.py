"""What tests of the group coordinator ask it, and a coordinator that runs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import trio

from kpybroker.clock import SimulatedClock
from kpybroker.coordinators.machines.settings import GroupSettings
from kpybroker.coordinators.service import Groups
from kpybroker.ids import Ids
from kpybroker.wire.codes import Code
from kpybroker.wire.messages.join_group import JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse
from kpybroker.wire.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
)
from kpybroker.wire.messages.offset_fetch import OffsetFetchRequestGroup
from kpybroker.wire.messages.sync_group import SyncGroupRequest, SyncGroupRequestAssignment

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

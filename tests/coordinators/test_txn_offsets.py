"""The service around groups whose offsets are committed in transactions. In simulated time, with a log in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from kpybroker.clock import SimulatedClock
from kpybroker.coordinators.machines.settings import GroupSettings
from kpybroker.coordinators.service import Groups
from kpybroker.ids import Ids
from kpybroker.storage.verification import Guard
from kpybroker.wire.codes import Code
from kpybroker.wire.messages.offset_fetch import OffsetFetchRequestGroup, OffsetFetchRequestTopics
from kpybroker.wire.messages.txn_offset_commit import (
    TxnOffsetCommitRequest,
    TxnOffsetCommitRequestPartition,
    TxnOffsetCommitRequestTopic,
)
from kpybroker.wire.messages.write_txn_markers import WritableTxnMarker
from kpybroker.wire.records.batch import iter_headers

pytestmark = pytest.mark.simulated_time

GROUP = "g"
PRODUCER = 7


@asynccontextmanager
async def leading(settings: GroupSettings, log: Any) -> AsyncIterator[Groups]:
    groups = Groups(settings, SimulatedClock(1_700_000_000_000), Ids(1), partitions=1)
    groups.lead(0, log)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(groups.run)
        yield groups
        nursery.cancel_scope.cancel()


async def commit(groups: Groups, offset: int, guard: Guard | None = None) -> Code:
    partition = TxnOffsetCommitRequestPartition(partition_index=0, committed_offset=offset, committed_metadata=None)
    request = TxnOffsetCommitRequest(
        transactional_id="t",
        group_id=GROUP,
        producer_id=PRODUCER,
        producer_epoch=3,
        topics=[TxnOffsetCommitRequestTopic(name="t", partitions=[partition])],
    )
    response = await groups.commit_txn_offsets(request, guard=guard)
    return Code(response.topics[0].partitions[0].error_code)


def marker(*, committed: bool = True) -> WritableTxnMarker:
    return WritableTxnMarker(
        producer_id=PRODUCER,
        producer_epoch=4,
        transaction_result=committed,
        topics=[],
        coordinator_epoch=0,
        transaction_version=2,
    )


async def stable_offset(groups: Groups) -> int | Code:
    topics = [OffsetFetchRequestTopics(name="t", partition_indexes=[0])]
    response = await groups.fetch_offsets(OffsetFetchRequestGroup(group_id=GROUP, topics=topics), require_stable=True)
    partition = response.topics[0].partitions[0]
    return Code(partition.error_code) if partition.error_code else partition.committed_offset


async def test_what_the_log_is_handed(settings: GroupSettings, make_log: Callable[..., Any]) -> None:
    """Batches of the producer, as Kafka's coordinator writes them; the guard, and the version of the marker."""
    log, guard = make_log(), Guard()
    async with leading(settings, log) as groups:
        assert await commit(groups, 5, guard) is Code.NONE
        assert log.guard is guard
        assert await groups.end_transaction(0, marker()) is Code.NONE
        assert log.transaction_version == 2
    offsets, end = [header for batch in log.batches for _, header in iter_headers(batch)]
    assert (offsets.producer_id, offsets.producer_epoch, offsets.base_sequence) == (PRODUCER, 3, 0)
    assert (offsets.is_transactional, offsets.is_control) == (True, False)
    assert (end.producer_id, end.producer_epoch, end.base_sequence) == (PRODUCER, 4, -1)
    assert (end.is_transactional, end.is_control) == (True, True)


@pytest.mark.parametrize(("committed", "then"), [(True, 5), (False, -1)])
async def test_a_marker_decides(
    settings: GroupSettings, make_log: Callable[..., Any], committed: bool, then: int
) -> None:
    async with leading(settings, make_log()) as groups:
        await commit(groups, 5)
        assert await stable_offset(groups) is Code.UNSTABLE_OFFSET_COMMIT
        await groups.end_transaction(0, marker(committed=committed))
        assert await stable_offset(groups) == then


async def test_a_marker_that_the_log_refuses_decides_nothing(
    settings: GroupSettings, make_log: Callable[..., Any]
) -> None:
    log = make_log()
    async with leading(settings, log) as groups:
        await commit(groups, 5)
        log.refuses = Code.TRANSACTION_COORDINATOR_FENCED
        assert await groups.end_transaction(0, marker()) is Code.TRANSACTION_COORDINATOR_FENCED
        log.refuses = None
        assert await stable_offset(groups) is Code.UNSTABLE_OFFSET_COMMIT


async def test_a_marker_that_is_not_replicated_in_time(settings: GroupSettings, make_log: Callable[..., Any]) -> None:
    """It is in the log, so it counts; who sent it is told to send it again."""
    log = make_log(replicas=2)
    async with leading(settings, log) as groups:
        assert await groups.end_transaction(0, marker()) is Code.REQUEST_TIMED_OUT
        codes: list[Code] = []

        async def again() -> None:
            codes.append(await groups.end_transaction(0, marker()))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(again)
            await trio.testing.wait_all_tasks_blocked()
            assert codes == []
            log.replicate()
        assert codes == [Code.NONE]


async def test_markers_wait_for_the_coordinator(settings: GroupSettings, make_log: Callable[..., Any]) -> None:
    """A partition that is not coordinated here, one that is being loaded, one that is lost: the marker comes again."""
    log = make_log()
    async with leading(settings, log) as groups:
        assert await groups.end_transaction(1, marker()) is Code.NOT_LEADER_OR_FOLLOWER
        await commit(groups, 5)
        groups.lead(0, log)
        assert await groups.end_transaction(0, marker()) is Code.NOT_LEADER_OR_FOLLOWER
        await trio.testing.wait_all_tasks_blocked()
        assert await groups.end_transaction(0, marker()) is Code.NONE
        assert await stable_offset(groups) == 5
        log.lose()
        assert await groups.end_transaction(0, marker()) is Code.NOT_LEADER_OR_FOLLOWER

"""Nobody hears of a record before flush.messages has it on the disk, and its log's topic id; syncs are shared."""

import errno
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing

from kpybroker.config import BrokerConfig
from kpybroker.config.topic import topic_config
from kpybroker.replication.flusher import Flusher
from kpybroker.replication.partition import Partition
from kpybroker.storage.errors import StorageFailed, SyncFailed
from kpybroker.storage.files import RealFiles
from kpybroker.storage.log import Log
from kpybroker.wire.codes import Code, Refused
from kpybroker.wire.records.batch import build_batch
from kpybroker.wire.records.record import Record
from tests.replication.surroundings import ME, around, partition_image

NOW = 1_700_000_000_000
TOPIC_ID = bytes(15) + b"\1"


def batch(*values: bytes) -> bytearray:
    return bytearray(build_batch([Record(timestamp=NOW, value=value) for value in values]))


class Disk:
    """Stands in for Logs: a flush takes until the test lets it go."""

    def __init__(self) -> None:
        self.begun: list[int] = []
        self.gate = trio.Semaphore(0)
        self.failing: StorageFailed | None = None
        self.met: list[tuple[Partition, str, StorageFailed]] = []

    async def flush(self, log: Log, offset: int) -> None:
        flush = log.begin_flush(offset)
        assert flush is not None
        self.begun.append(offset)
        await self.gate.acquire()
        log.end_flush(flush, self.failing)
        if self.failing is not None:
            raise self.failing


@pytest.fixture
def make_log(tmp_path: Path) -> Callable[[int], Log]:
    def make(flush_messages: int, *, named: bool = True) -> Log:
        config = topic_config(BrokerConfig.load(), {"flush.messages": str(flush_messages)}).log
        log = Log.create(tmp_path / "t-0", topic_id=TOPIC_ID, config=config, files=RealFiles(sync=False))
        if named:
            log.flush()
        return log

    return make


@asynccontextmanager
async def running(
    disk: Disk, log: Log, *, leader: int = ME, replicas: tuple[int, ...] = (ME,)
) -> AsyncIterator[Partition]:
    flusher = Flusher(disk)
    met = lambda *met: disk.met.append(met)  # noqa: E731
    partition = Partition("t", 0, TOPIC_ID, around(open_log=lambda _: log, flush=flusher.want, met=met))
    partition.lead(partition_image(leader=leader, replicas=replicas))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(flusher.run)
        yield partition
        nursery.cancel_scope.cancel()


async def test_appends_during_a_sync_share_the_next_one(make_log) -> None:
    disk = Disk()
    async with running(disk, make_log(1)) as partition:
        partition.append(batch(b"a"), now_ms=NOW)
        await trio.testing.wait_all_tasks_blocked()
        events = []
        for _ in range(5):
            appended = partition.append(batch(b"b"), now_ms=NOW)
            events.append(partition.replicated(appended.last_offset + 1))
        assert (disk.begun, partition.high_watermark, partition.flushing) == ([1], 0, True)
        disk.gate.release()
        await trio.testing.wait_all_tasks_blocked()
        assert (disk.begun, partition.high_watermark) == ([1, 6], 1)
        assert not any(event.is_set() for event in events)
        disk.gate.release()
        await trio.testing.wait_all_tasks_blocked()
        assert (disk.begun, partition.high_watermark, partition.flushing) == ([1, 6], 6, False)
        assert all(event.is_set() for event in events)


async def test_records_below_the_bound_are_there_at_once(make_log) -> None:
    disk = Disk()
    async with running(disk, make_log(3)) as partition:
        partition.append(batch(b"a", b"b"), now_ms=NOW)
        assert partition.high_watermark == 2
        partition.append(batch(b"c"), now_ms=NOW)
        await trio.testing.wait_all_tasks_blocked()
        assert (disk.begun, partition.high_watermark) == ([3], 2)
        disk.gate.release()
        await trio.testing.wait_all_tasks_blocked()
        assert partition.high_watermark == 3


async def test_records_that_came_during_a_sync_and_need_none_are_there_after_it(make_log) -> None:
    disk = Disk()
    async with running(disk, make_log(3)) as partition:
        partition.append(batch(b"a", b"b", b"c"), now_ms=NOW)
        await trio.testing.wait_all_tasks_blocked()
        partition.append(batch(b"d"), now_ms=NOW)
        assert (disk.begun, partition.high_watermark) == ([3], 0)
        disk.gate.release()
        await trio.testing.wait_all_tasks_blocked()
        assert (disk.begun, partition.high_watermark, partition.flushing) == ([3], 4, False)


@pytest.mark.parametrize("leader", [ME, ME + 1], ids=["leader", "follower"])
async def test_the_topic_id_of_a_new_log_is_synced_before_anybody_asks(make_log, leader: int) -> None:
    disk = Disk()
    async with running(disk, make_log(2**63 - 1, named=False), leader=leader, replicas=(1, 2)) as partition:
        disk.gate.release()
        assert partition.log.owes_flush
        await trio.testing.wait_all_tasks_blocked()
        assert (disk.begun, partition.flushing) == ([0], False)


async def test_the_first_records_wait_for_the_topic_id_of_their_log(make_log) -> None:
    disk = Disk()
    async with running(disk, make_log(2**63 - 1, named=False)) as partition:
        appended = partition.append(batch(b"a", b"b"), now_ms=NOW)
        event = partition.replicated(appended.last_offset + 1)
        await trio.testing.wait_all_tasks_blocked()
        assert (disk.begun, partition.high_watermark) == ([0], 0)
        assert event is not None
        disk.gate.release()
        await event.wait()
        assert (disk.begun, partition.high_watermark, partition.log.recovery_point) == ([0], 2, 0)


async def test_a_sync_that_fails_tells_whoever_waits(make_log) -> None:
    disk = Disk()
    disk.failing = SyncFailed("/data", OSError(errno.EIO, "bad"))
    async with running(disk, make_log(1)) as partition:
        appended = partition.append(batch(b"a"), now_ms=NOW)
        event = partition.replicated(appended.last_offset + 1)
        disk.gate.release()
        await trio.testing.wait_all_tasks_blocked()
        assert event is not None
        assert event.is_set()
        assert partition.high_watermark == 0
        with pytest.raises(Refused) as refused:
            partition.append(batch(b"b"), now_ms=NOW)
        assert refused.value.code is Code.KAFKA_STORAGE_ERROR
        assert {failure for _, _, failure in disk.met} == {disk.failing}


@pytest.mark.simulated_time
async def test_a_flush_for_which_there_is_no_descriptor_is_tried_again(make_log) -> None:
    disk = Disk()
    disk.failing = StorageFailed("/data", OSError(errno.EMFILE, "too many"))
    async with running(disk, make_log(1)) as partition:
        appended = partition.append(batch(b"a"), now_ms=NOW)
        event = partition.replicated(appended.last_offset + 1)
        disk.gate.release()
        while not disk.met:
            await trio.lowlevel.checkpoint()
        disk.failing = None
        disk.gate.release()
        assert event is not None
        await event.wait()
        assert (disk.begun, partition.high_watermark, len(disk.met)) == ([1, 1], 1, 1)


async def test_one_replica_is_enough_for_who_waits_for_the_sync_alone(make_log) -> None:
    disk = Disk()
    async with running(disk, make_log(1), replicas=(ME, ME + 1)) as partition:
        appended = partition.append(batch(b"a"), now_ms=NOW)
        synced, replicated = trio.Event(), partition.replicated(1)
        assert partition.tell_synced(synced, 1)
        await trio.testing.wait_all_tasks_blocked()
        assert not synced.is_set()
        assert partition.outcome(appended.last_offset, 0, acks_all=False) is Code.REQUEST_TIMED_OUT
        disk.gate.release()
        await synced.wait()
        assert replicated is not None
        assert not replicated.is_set()
        assert partition.outcome(appended.last_offset, 0, acks_all=False) is Code.NONE
        assert not partition.tell_synced(trio.Event(), 1)

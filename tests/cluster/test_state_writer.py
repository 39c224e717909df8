"""Writing quorum-state: the last word counts, in order, and nobody goes on before it is on the disk."""

import errno
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from kpybroker.cluster.state_writer import StateWriter
from kpybroker.storage.errors import StorageFailed, SyncFailed

pytestmark = pytest.mark.simulated_time


class Disk:
    """Writes when the test says so."""

    def __init__(self):
        self.begun = 0
        self.written = []
        self.turns = trio.Semaphore(0)
        self.failure = None

    async def in_worker(self, call):
        self.begun += 1
        await self.turns.acquire()
        if self.failure is not None:
            raise self.failure
        call()

    def state(self, value):
        return lambda: self.written.append(value)


@asynccontextmanager
async def running(disk):
    writer = StateWriter(disk.in_worker)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(writer.run)
        yield writer
        nursery.cancel_scope.cancel()


async def waiting(nursery, writer):
    """Somebody who waits; what they have seen."""
    seen = []

    async def wait():
        await writer.done()
        seen.append(True)

    nursery.start_soon(wait)
    await trio.testing.wait_all_tasks_blocked()
    return seen


async def test_nothing_owed_is_done():
    async with running(Disk()) as writer:
        with trio.fail_after(0):
            await writer.done()


async def test_two_states_are_written_in_order_and_whoever_waits_sees_both_done():
    disk = Disk()
    async with running(disk) as writer, trio.open_nursery() as nursery:
        writer.want(disk.state(1))
        first = await waiting(nursery, writer)
        writer.want(disk.state(2))
        second = await waiting(nursery, writer)
        disk.turns.release()
        await trio.testing.wait_all_tasks_blocked()
        assert (disk.written, first, second) == ([1], [], []), "what came meanwhile is owed, too"
        disk.turns.release()
        await trio.testing.wait_all_tasks_blocked()
        assert (disk.written, first, second) == ([1, 2], [True], [True])


async def test_of_those_that_wait_only_the_last_one_is_written():
    disk = Disk()
    async with running(disk) as writer:
        for value in range(5):
            writer.want(disk.state(value))
        await trio.testing.wait_all_tasks_blocked()
        writer.want(disk.state(5))
        disk.turns.release()
        disk.turns.release()
        await writer.done()
        assert disk.written == [4, 5]


async def test_without_room_it_is_written_later():
    disk = Disk()
    disk.failure = StorageFailed("/data", OSError(errno.ENOSPC, "full"))
    async with running(disk) as writer, trio.open_nursery() as nursery:
        writer.want(disk.state(1))
        seen = await waiting(nursery, writer)
        disk.turns.release()
        await trio.sleep(0.5)
        writer.want(disk.state(2))
        disk.failure = None
        assert (disk.begun, seen) == (1, [])
        disk.turns.release()
        await trio.sleep(1)
        assert (disk.written, seen) == ([2], [True])


async def test_without_room_it_is_tried_again_though_nothing_else_is_wanted():
    disk = Disk()
    disk.failure = StorageFailed("/data", OSError(errno.ENOSPC, "full"))
    async with running(disk) as writer:
        writer.want(disk.state(1))
        disk.turns.release()
        await trio.testing.wait_all_tasks_blocked()
        disk.failure = None
        disk.turns.release()
        with trio.fail_after(10):
            await writer.done()
        assert disk.written == [1]


async def test_a_disk_that_failed_ends_it():
    disk = Disk()
    disk.failure = SyncFailed("/data", OSError(errno.EIO, "bad"))
    writer = StateWriter(disk.in_worker)
    writer.want(disk.state(1))
    disk.turns.release()
    with trio.fail_after(10), pytest.raises(SyncFailed):
        await writer.run()

"""The metadata on a full disk: changes are refused, commits and snapshots wait, and it all goes on with room."""

import errno

import pytest
import trio

from kpybroker.storage.errors import StorageFailed
from kpybroker.wire.codes import Code, Refused

from .running import FaultyFiles, config, create, inline, running

pytestmark = pytest.mark.simulated_time


async def refused(cluster, name):
    with pytest.raises(Refused) as refusal:
        await create(cluster, name)
    return refusal.value.code


async def test_a_change_is_refused_and_leaves_nothing_behind():
    disk = FaultyFiles()
    async with running(disk, in_worker=inline) as cluster:
        disk.space = 0
        assert await refused(cluster, "a") is Code.KAFKA_STORAGE_ERROR
        assert await refused(cluster, "b") is Code.KAFKA_STORAGE_ERROR
        assert not cluster.image.topics.by_name
        disk.space = None
        assert await create(cluster, "b") == [Code.NONE]
    async with running(disk.killed(), in_worker=inline) as cluster:
        assert set(cluster.image.topics.by_name) == {"b"}


@pytest.mark.parametrize("when", ["before the sync", "in the worker"])
async def test_a_commit_waits_for_room(monkeypatch, when):
    """The record is written, the files that a sync needs are not: whoever waits goes on waiting."""
    disk = FaultyFiles()
    async with running(disk, in_worker=inline) as cluster:
        log = cluster.controller._log
        begin, refusals = log.begin_flush, []

        def once(real):
            def refusing(*arguments):
                if not refusals:
                    refusals.append(real)
                    raise StorageFailed("/data", OSError(errno.EMFILE, "Too many open files"))
                return real(*arguments)

            return refusing

        def begin_flush(now_ms):
            flush = begin(now_ms)
            if flush is not None:
                monkeypatch.setattr(type(flush), "run", once(type(flush).run))
            return flush

        monkeypatch.setattr(log, "begin_flush", once(begin) if when == "before the sync" else begin_flush)
        began_s = trio.current_time()
        assert await create(cluster, "a") == [Code.NONE]
        assert len(refusals) == 1
        assert trio.current_time() > began_s
        monkeypatch.undo()


async def test_a_snapshot_is_tried_again():
    disk = FaultyFiles()
    few = config(metadata_log_max_record_bytes_between_snapshots=2000)
    async with running(disk, of=few, in_worker=inline) as cluster:
        folder = "/data/__cluster_metadata-0"

        def snapshots():
            return [name for name in disk.names(folder) if name.endswith(".checkpoint")]

        before = len(snapshots())
        write_whole, refusals = disk.write_whole, []

        def full(path, data, **more):
            if str(path).endswith(".checkpoint") and len(refusals) < 2:
                refusals.append(path)
                raise StorageFailed(path, OSError(errno.ENOSPC, "No space left on device"))
            write_whole(path, data, **more)

        disk.write_whole = full
        for number in range(40):
            assert await create(cluster, f"t{number}") == [Code.NONE]
            await trio.sleep(10)
        assert len(refusals) == 2
        assert len(snapshots()) > before


@pytest.mark.parametrize("space", [0, 300, 3000])
async def test_a_stop_on_a_full_disk(space):
    """It ends, and the next start finds what was committed."""
    disk = FaultyFiles()
    async with running(disk, in_worker=inline, stop=False) as cluster:
        assert await create(cluster, "a") == [Code.NONE]
        disk.space = space
    cluster.close(clean=True)
    disk.space = None
    async with running(disk.killed(), in_worker=inline) as cluster:
        assert set(cluster.image.topics.by_name) == {"a"}


async def test_a_quorum_is_not_changed_without_room():
    disk = FaultyFiles()
    async with running(disk, in_worker=inline) as cluster:
        log = cluster.controller._log
        raft, quorum = log.raft, log.quorum
        disk.space = 0
        with pytest.raises(StorageFailed):
            log.change_quorum(log.upgraded_quorum((("CONTROLLER", "localhost", 9093),)), 0)
        assert (log.raft.voters, log.quorum) == (raft.voters, quorum)
        disk.space = None


async def test_the_controller_is_told_of_cordons_when_there_is_room():
    disk = FaultyFiles()
    async with running(disk, in_worker=inline) as cluster:
        (path,) = cluster.directories
        disk.space = 0
        cluster.broker.cordon([path])
        await trio.sleep(12)
        assert not cluster.image.brokers[cluster.node_id].cordoned_directories
        disk.space = None
        await trio.sleep(6)
        assert cluster.image.brokers[cluster.node_id].cordoned_directories == tuple(cluster.directories.values())

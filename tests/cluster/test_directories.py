"""Several data folders of one broker, as the controller sees them (KIP-858)."""

from contextlib import asynccontextmanager

import pytest
import trio

from kpybroker.clock import Clock
from kpybroker.cluster import broker_lifecycle
from kpybroker.cluster.image import LOST_DIRECTORY, MIGRATING_DIRECTORY, NO_LEADER, UNASSIGNED_DIRECTORY
from kpybroker.cluster.machines.assign_directories import assignments_request
from kpybroker.cluster.service import Cluster
from kpybroker.ids import Ids
from kpybroker.storage.data_dirs import DataDirs
from kpybroker.wire.codes import Code, Refused

from .making import LISTENER
from .running import EMBEDDED, NOW, FaultyFiles, create

PATHS = ("/one", "/two")


@asynccontextmanager
async def running(disk, *, paths=PATHS):
    dirs = DataDirs.open(paths, paths[0], disk)
    cluster = Cluster.open(dirs, config=EMBEDDED, adopt=True, clock=Clock(), ids=Ids(), files=disk, now_ms=NOW)
    async with trio.open_nursery() as nursery:
        await nursery.start(cluster.run)
        await cluster.broker.join([LISTENER], rack=None, previous_epoch=-1)
        yield cluster
        nursery.cancel_scope.cancel()
    cluster.close(clean=True)
    dirs.close()


def partition(cluster, topic="t"):
    return cluster.image.topics.by_name[topic].partitions[0]


def place(cluster, topic="t"):
    return cluster.image.topics.by_name[topic].id, 0


async def lose(cluster, path):
    """The folder fails; returns when the controller has recorded it."""
    cluster.broker.directory_failed(path)
    while cluster.directories[path] in cluster.image.brokers[1].directories:
        await trio.sleep(0)


async def test_a_replica_is_not_placed_until_the_broker_says_where():
    disk = FaultyFiles()
    async with running(disk) as cluster:
        one, two = (cluster.directories[path] for path in PATHS)
        assert one != two
        assert set(cluster.image.brokers[1].directories) == {one, two}
        await create(cluster, "t")
        assert partition(cluster).directories == (UNASSIGNED_DIRECTORY,)
        await cluster.broker.assign_directories({place(cluster): two})
        assert (partition(cluster).directories, partition(cluster).leader) == ((two,), 1)
        epoch = partition(cluster).partition_epoch
        await cluster.broker.assign_directories({place(cluster): two})
        assert partition(cluster).partition_epoch == epoch, "no news"
    async with running(disk) as cluster:
        assert tuple(cluster.directories.values()) == (one, two)
        assert partition(cluster).directories == (two,)


async def test_with_one_folder_it_is_known_at_once():
    disk = FaultyFiles()
    async with running(disk, paths=PATHS[:1]) as cluster:
        await create(cluster, "t")
        assert partition(cluster).directories == (cluster.directories["/one"],)


async def test_a_folder_that_failed_has_no_leaders():
    disk = FaultyFiles()
    async with running(disk) as cluster:
        one, two = (cluster.directories[path] for path in PATHS)
        await create(cluster, "t", "stays", "late")
        await cluster.broker.assign_directories({place(cluster): two, place(cluster, "stays"): one})
        await lose(cluster, "/two")
        assert cluster.image.brokers[1].directories == (one,)
        lost = partition(cluster)
        assert (lost.leader, lost.isr, lost.elr) == (NO_LEADER, (), (1,))
        assert partition(cluster, "stays").leader == 1
        assert partition(cluster, "late").leader == 1, "nobody has said that it is there"
        await cluster.broker.assign_directories({place(cluster, "late"): two})
        assert (partition(cluster, "late").leader, partition(cluster, "late").isr) == (NO_LEADER, ())
        await create(cluster, "new")
        assert partition(cluster, "new").directories == (one,), "one folder is left"
        await cluster.broker.assign_directories({place(cluster, "late"): one})
        assert partition(cluster, "late").leader == 1, "it is somewhere else after all"
    async with running(disk) as cluster:
        assert partition(cluster).leader == 1, "the folder is back"


async def test_a_folder_that_is_not_there_at_the_start():
    disk = FaultyFiles()
    async with running(disk) as cluster:
        await create(cluster, "t")
        await cluster.broker.assign_directories({place(cluster): cluster.directories["/two"]})
    async with running(disk, paths=PATHS[:1]) as cluster:
        assert partition(cluster).leader == NO_LEADER
    async with running(disk) as cluster:
        assert partition(cluster).leader == 1


async def test_assignments_of_what_is_not_there():
    disk = FaultyFiles()
    async with running(disk) as cluster:
        two = cluster.directories["/two"]
        await create(cluster, "t")
        topic_id, _ = place(cluster)
        places = {(bytes(16), 0): two, (topic_id, 7): two, (topic_id, 0): two}
        request = assignments_request(1, cluster.broker.epoch, places)
        (directory,) = (await cluster.controller.assign_replicas_to_dirs(request)).directories
        codes = {
            (topic.topic_id, each.partition_index): each.error_code
            for topic in directory.topics
            for each in topic.partitions
        }
        assert codes == {
            (bytes(16), 0): Code.UNKNOWN_TOPIC_ID,
            (topic_id, 7): Code.UNKNOWN_TOPIC_OR_PARTITION,
            (topic_id, 0): Code.NONE,
        }
        with pytest.raises(Refused) as refused:
            await cluster.controller.assign_replicas_to_dirs(assignments_request(1, 12345, places))
        assert refused.value.code is Code.STALE_BROKER_EPOCH


@pytest.mark.parametrize(
    ("directory", "online"), [(UNASSIGNED_DIRECTORY, True), (MIGRATING_DIRECTORY, True), (LOST_DIRECTORY, False)]
)
async def test_reserved_directories(directory, online):
    disk = FaultyFiles()
    async with running(disk) as cluster:
        assert cluster.image.brokers[1].has_online_directory(directory) is online


async def test_a_controller_without_room_is_told_again(monkeypatch):
    """The folder fails while the disk with the metadata is full."""
    monkeypatch.setattr(broker_lifecycle, "TELL_AGAIN_S", 0)
    disk = FaultyFiles()
    async with running(disk) as cluster:
        await create(cluster, "t")
        await cluster.broker.assign_directories({place(cluster): cluster.directories["/two"]})
        disk.space = 0
        cluster.broker.directory_failed("/two")
        assert cluster.directories["/two"] in cluster.image.brokers[1].directories
        disk.space = None
        with trio.fail_after(20):
            while cluster.directories["/two"] in cluster.image.brokers[1].directories:
                await trio.sleep(0)
        assert partition(cluster).leader == NO_LEADER

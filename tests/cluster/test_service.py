"""The cluster of one node, whole: started, used, stopped, killed."""

import contextlib
import random
from itertools import pairwise

import pytest
import trio

from kpybroker.cluster.image import EMPTY, ConfigResource, Endpoint
from kpybroker.cluster.metadata_log import FOLDER
from kpybroker.cluster.snapshot import BOOTSTRAP, image_of, parse_file_name, read_snapshot
from kpybroker.storage.errors import StorageFailed
from kpybroker.wire.codes import Code, Refused
from kpybroker.wire.internal import metadata_records as rec

from .data import batches_of, replayed
from .making import CALLER
from .running import FaultyFiles, config, configure, create, delete, grow, inline, open_cluster, running

METADATA = f"/data/{FOLDER}"


def metadata_log(disk):
    """All batches in the metadata log on a disk."""
    names = [name for name in disk.names(METADATA) if name.endswith(".log")]
    return batches_of({name: disk.content(f"{METADATA}/{name}") for name in names})


def snapshots(disk):
    """The complete snapshots on a disk but the one of formatting, newest last."""
    found = [id_ for name in disk.names(METADATA) if (id_ := parse_file_name(name)) not in (None, BOOTSTRAP)]
    return sorted(found)


def kinds(batches):
    return [[type(record).__name__.removesuffix("Record") for record in batch.records] for batch in batches]


async def test_the_first_start():
    disk = FaultyFiles()
    async with running(disk) as cluster:
        assert cluster.image.brokers[1].active
        assert cluster.image.brokers[1].endpoints == (Endpoint("PLAINTEXT", "localhost", 9092, 0),)
        assert cluster.image.brokers[1].directories == tuple(cluster.directories.values())
        assert cluster.image.controllers[1].endpoints == (Endpoint("CONTROLLER", "localhost", 9093, 0),)
        assert cluster.image.configs == {ConfigResource(4, ""): {"min.insync.replicas": "1"}}
        assert cluster.finalized_features.levels["kraft.version"] == 1
        assert cluster.finalized_features.levels["metadata.version"] == 30
        assert cluster.finalized_features.epoch == cluster.image.offset
        assert cluster.broker.epoch == 13
    assert kinds(metadata_log(disk)) == [
        [],  # LeaderChange, KRaftVersion, Voters
        ["BeginTransaction", *["FeatureLevel"] * 6, "Config", "EndTransaction"],
        ["RegisterController"],
        ["RegisterBroker"],
        ["BrokerRegistrationChange", "BrokerRegistrationChange"],
        ["BrokerRegistrationChange"],
    ]
    assert disk.content("/data/.kafka_cleanshutdown") == b'{"version":0,"brokerEpoch":13}'


async def test_topics_are_there_after_a_clean_stop():
    disk = FaultyFiles()
    async with running(disk) as cluster:
        assert await create(cluster, "a", "b", partitions=2, configs=[("retention.ms", "5")]) == [0, 0]
        assert await delete(cluster, "b") == [0]
        assert await grow(cluster, "a", 3) == 0
        made = cluster.image.topics.by_name["a"]
        assert cluster.image.topics.by_id[made.id] is made
    async with running(disk) as cluster:
        assert list(cluster.image.topics.by_name) == ["a"]
        again = cluster.image.topics.by_name["a"]
        assert again.id == made.id
        assert [partition.leader for partition in again.partitions.values()] == [1, 1, 1]
        assert [partition.leader_epoch for partition in again.partitions.values()] == [2, 2, 2]
        assert [partition.leader_recovery_state for partition in again.partitions.values()] == [0, 0, 0]
        assert cluster.image.config(2, "a") == {"retention.ms": "5"}


async def test_after_a_kill_the_former_incarnation_is_fenced_at_once():
    disk = FaultyFiles()
    async with running(disk, stop=False) as cluster:
        await create(cluster, "a")
    disk = disk.killed()
    before = len(metadata_log(disk))
    async with running(disk) as cluster:
        partition = cluster.image.topics.by_name["a"].partitions[0]
        assert (partition.leader, partition.isr, partition.leader_epoch) == (1, (1,), 2)
        assert partition.leader_recovery_state == 1, "its data may be short: nobody else can tell"
    assert kinds(metadata_log(disk))[before : before + 5] == [
        [],  # LeaderChange
        ["RegisterController"],
        ["PartitionChange", "BrokerRegistrationChange"],
        ["PartitionChange", "RegisterBroker"],
        ["BrokerRegistrationChange", "PartitionChange", "BrokerRegistrationChange"],
    ]


async def test_every_start_takes_a_new_epoch():
    disk = FaultyFiles()
    for epoch in (1, 2, 3):
        async with running(disk):
            pass
        batches = metadata_log(disk)
        assert {batch.epoch for batch in batches} == set(range(1, epoch + 1))
    disk.remove(f"{METADATA}/quorum-state")
    async with running(disk) as cluster:
        assert cluster.image.epoch == 4


async def test_a_controller_with_several_listeners_tells_of_all():
    several = config(
        process_roles="broker,controller",
        node_id=1,
        controller_quorum_bootstrap_servers="localhost:9093",
        listeners="PLAINTEXT://localhost:9092,INSIDE://localhost:9093,OUTSIDE://localhost:9094",
        advertised_listeners="PLAINTEXT://localhost:9092,OUTSIDE://elsewhere:9095",
        controller_listener_names="INSIDE,OUTSIDE",
        listener_security_protocol_map="PLAINTEXT:PLAINTEXT,INSIDE:PLAINTEXT,OUTSIDE:PLAINTEXT",
    )
    told = [("INSIDE", "localhost", 9093), ("OUTSIDE", "elsewhere", 9095)]
    async with running(FaultyFiles(), of=several) as cluster:
        registered = cluster.image.controllers[cluster.node_id].endpoints
        assert [(each.name, each.host, each.port) for each in registered] == told
        assert list(cluster.raft.who.endpoints) == told, "what voters are told"
        assert cluster.raft.leader_address == ("localhost", 9093), "controllers talk by the first"
        (voter,) = cluster.raft.log.raft.voters
        assert list(voter.endpoints) == told[:1], "as kafka-storage formats it"


async def test_listeners_hear_of_every_change_in_order():
    heard = []
    disk = FaultyFiles()
    async with running(disk) as cluster:
        cluster.on_change(lambda delta, image: heard.append((delta, image)))
        await create(cluster, "a")
        await delete(cluster, "a")
        await create(cluster, "b")
    assert [[topic.name for topic in delta.topics_created()] for delta, _ in heard][:3] == [["a"], [], ["b"]]
    assert [[topic.name for topic in delta.topics_deleted()] for delta, _ in heard][:3] == [[], ["a"], []]
    assert all(delta.after is image for delta, image in heard)
    assert all(image is after.before for (_, image), (after, _) in pairwise(heard))


async def test_an_answer_means_that_the_image_has_it():
    async with running(FaultyFiles()) as cluster:
        await create(cluster, "a")
        assert "a" in cluster.image.topics.by_name


async def test_requests_at_the_same_time_share_syncs_and_all_are_answered():
    disk = FaultyFiles()
    answers = {}
    async with running(disk) as cluster:

        async def one(name):
            answers[name] = await create(cluster, name)

        before = sum(what == "sync" for what, _ in disk.trace)
        async with trio.open_nursery() as nursery:
            for number in range(60):
                nursery.start_soon(one, f"t{number % 30}")
        syncs = sum(what == "sync" for what, _ in disk.trace) - before
    assert syncs < 30
    codes = [code for (code,) in answers.values()]
    assert len(codes) == 30
    assert set(codes) <= {Code.NONE, Code.TOPIC_ALREADY_EXISTS}


async def test_a_request_that_is_cancelled_is_carried_out():
    disk = FaultyFiles()
    async with running(disk) as cluster:
        with trio.CancelScope() as scope:
            scope.cancel()
            await create(cluster, "a")
        assert scope.cancelled_caught
        assert await create(cluster, "a") == [Code.TOPIC_ALREADY_EXISTS]


async def ended_by(error, use):
    """Run a cluster, use it until it ends, and make sure that `error` ended it; what `use` returned."""
    disk = FaultyFiles()
    done = []

    async def whole():
        async with running(disk) as cluster:
            done.append(cluster)
            done.append(await use(cluster, disk))
            await trio.sleep_forever()

    with pytest.raises(ExceptionGroup) as raised:
        await whole()
    assert raised.group_contains(error)
    return done


async def answer(cluster, name):
    """The code that a request to create a topic comes to."""
    try:
        return (await create(cluster, name))[0]
    except Refused as refused:
        return refused.code


async def test_a_failing_disk_ends_the_node_and_refuses_who_waits():
    async def use(cluster, disk):
        disk.fail_from = disk.operations + 2  # the write goes well, the sync does not
        with trio.CancelScope(shield=True):  # as a request's connection is no part of the cluster's nursery
            return await answer(cluster, "a")

    cluster, code = await ended_by(StorageFailed, use)
    assert code == Code.NOT_CONTROLLER
    assert "a" not in cluster.image.topics.by_name, "nobody was told of what may be lost"


async def test_a_write_that_fails_ends_the_node():
    async def use(cluster, disk):
        disk.fail_from = disk.operations + 1
        return [await answer(cluster, "a"), await answer(cluster, "b")]

    _, codes = await ended_by(StorageFailed, use)
    assert codes == [Code.NOT_CONTROLLER, Code.NOT_CONTROLLER]


async def test_a_listener_that_raises_ends_the_node():
    def listener(delta, image):
        raise ZeroDivisionError

    async def use(cluster, disk):
        cluster.on_change(listener)
        return await answer(cluster, "a")

    await ended_by(ZeroDivisionError, use)


async def test_before_and_after_it_runs_everything_is_refused():
    data_dir, cluster = open_cluster(FaultyFiles())
    with pytest.raises(Refused) as raised:
        await create(cluster, "a")
    assert raised.value.code is Code.NOT_CONTROLLER
    async with trio.open_nursery() as nursery:
        await nursery.start(cluster.run)
        nursery.cancel_scope.cancel()
    with pytest.raises(Refused):
        await create(cluster, "a")
    data_dir.close()


# Snapshots


async def test_a_clean_stop_leaves_a_snapshot_of_everything():
    disk = FaultyFiles()
    async with running(disk) as cluster:
        await create(cluster, "a")
        end = cluster.image
    (id_,) = snapshots(disk)
    data = disk.content(f"{METADATA}/{id_.file_name}")
    image = image_of(read_snapshot(data), id_)
    assert image == replayed(metadata_log(disk))
    assert image.topics.by_name["a"].id == end.topics.by_name["a"].id
    async with running(disk):
        pass
    assert len(snapshots(disk)) == 2
    async with running(disk):
        pass
    assert len(snapshots(disk)) == 2, "older ones go"


async def test_a_snapshot_by_bytes():
    disk = FaultyFiles()
    few = config(metadata_log_max_record_bytes_between_snapshots=2000)
    async with running(disk, of=few, stop=False) as cluster:
        taken = trio.Event()
        for number in range(60):
            await create(cluster, f"t{number}")
            if snapshots(disk):
                taken.set()
                break
            await trio.lowlevel.checkpoint()
        assert taken.is_set()
    (id_, *_) = snapshots(disk)
    assert id_.end_offset < replayed(metadata_log(disk)).offset + 1


@pytest.mark.simulated_time
async def test_a_snapshot_by_time():
    disk = FaultyFiles()
    async with running(disk, stop=False, in_worker=inline) as cluster:
        await create(cluster, "a")
        assert snapshots(disk) == []
        await trio.sleep(3601)
        assert len(snapshots(disk)) == 1
        await trio.sleep(3601 * 5)
        assert len(snapshots(disk)) == 1, "nothing new, no other"
    (id_,) = snapshots(disk)
    assert "a" in image_of(read_snapshot(disk.content(f"{METADATA}/{id_.file_name}")), id_).topics.by_name


# Disasters


async def story(disk, acknowledged):
    """Two runs with some requests in each; `acknowledged` holds what must be there: True, or must not be: False."""
    for run in range(2):
        async with running(disk) as cluster:
            for number in range(2):
                name = f"t{run}-{number}"
                if await create(cluster, name, partitions=2) == [0]:
                    acknowledged[name] = True
            if run == 1:
                acknowledged.pop("t0-0", None)  # it may be gone from here on
                if await delete(cluster, "t0-0") == [0]:
                    acknowledged["t0-0"] = False
                await configure(cluster, 2, "t1-0", "retention.ms", "7")
                acknowledged["retention"] = True


async def survives(disk, acknowledged):
    """Everything acknowledged is there; the log is what the image says; work goes on."""
    async with running(disk) as cluster:
        names = set(cluster.image.topics.by_name)
        for name, there in acknowledged.items():
            if name == "retention":
                assert cluster.image.config(2, "t1-0") == {"retention.ms": "7"}
            else:
                assert (name in names) == there, name
        for topic in cluster.image.topics.by_name.values():
            assert sorted(topic.partitions) == [0, 1], "a topic is there whole or not at all"
            assert all(partition.leader == 1 for partition in topic.partitions.values())
        assert await create(cluster, "after") == [0]
        image = cluster.image
    if metadata_log(disk)[0].base_offset == 0:
        assert replayed([batch for batch in metadata_log(disk) if batch.last_offset <= image.offset]) == image


def operations_of_the_story():
    disk = FaultyFiles()
    trio.run(story, disk, {})
    return disk.operations


OPERATIONS = operations_of_the_story()


@pytest.mark.parametrize("first", range(1, 9))
def test_killed_between_any_two_writes_nothing_acknowledged_is_lost(first):
    for last_operation in range(first, OPERATIONS + 1, 8):
        disk = FaultyFiles()
        disk.fail_from = last_operation
        acknowledged = {}
        with contextlib.suppress(ExceptionGroup, StorageFailed):
            trio.run(story, disk, acknowledged)
        trio.run(survives, disk.killed(), acknowledged)


@pytest.mark.parametrize("seed", range(8))
def test_after_a_power_failure_at_any_time_nothing_acknowledged_is_lost(seed):
    rng = random.Random(seed)
    for last_operation in range(1 + seed, OPERATIONS + 1, 8):
        disk = FaultyFiles()
        disk.make_folder("/data")
        disk.sync_folder("/")
        disk.fail_from = disk.operations + last_operation
        acknowledged = {}
        with contextlib.suppress(ExceptionGroup, StorageFailed):
            trio.run(story, disk, acknowledged)
        trio.run(survives, disk.crash(rng), acknowledged)


async def test_a_transaction_that_nobody_ended_is_aborted():
    disk = FaultyFiles()
    data_dir, cluster = open_cluster(disk)
    async with trio.open_nursery() as nursery:
        await nursery.start(cluster.run)
        log = cluster.raft.log
        log.append([rec.BeginTransactionRecord(name="never ended"), rec.TopicRecord(name="x", topic_id=b"x" * 16)], 1)
        nursery.cancel_scope.cancel()
    cluster.close(clean=False)
    data_dir.close()
    async with running(disk) as cluster:
        assert "x" not in cluster.image.topics.by_name
        assert await create(cluster, "x") == [0]
    aborts = [
        record
        for batch in metadata_log(disk)
        for record in batch.records
        if isinstance(record, rec.AbortTransactionRecord)
    ]
    assert [record.reason for record in aborts] == ["Controller failover"]


def test_an_image_is_empty_before_anything_was_written():
    data_dir, cluster = open_cluster(FaultyFiles())
    assert cluster.image == EMPTY
    assert cluster.controller.failure is None
    assert CALLER.may_cluster
    data_dir.close()

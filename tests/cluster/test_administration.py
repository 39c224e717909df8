"""A whole cluster of one node, administered: what is decided survives restarts, and harms nobody's shutdown."""

import pytest

from kpybroker.cluster.image import NO_LEADER
from kpybroker.wire.codes import Code, Refused

from .running import PATH, FaultyFiles, config, create, running, unregister, update


def only_partition(cluster, topic="a"):
    return cluster.image.topics.by_name[topic].partitions[0]


async def test_a_broker_that_was_unregistered_is_back_after_a_restart():
    disk = FaultyFiles()
    async with running(disk) as cluster:
        assert await create(cluster, "a") == [Code.NONE]
        assert await unregister(cluster) == Code.NONE
        assert cluster.image.brokers == {}
        partition = only_partition(cluster)
        assert (partition.leader, partition.isr, partition.elr) == (NO_LEADER, (), (1,))
        with pytest.raises(Refused) as raised:
            await unregister(cluster)
        assert raised.value.code is Code.BROKER_ID_NOT_REGISTERED
        with pytest.raises(Refused) as raised:
            await cluster.broker.allocate_producer_ids()
        assert raised.value.code is Code.STALE_BROKER_EPOCH
        assert await create(cluster, "b") == [Code.INVALID_REPLICATION_FACTOR]
    async with running(disk, stop=False) as cluster:
        partition = only_partition(cluster)
        assert (partition.leader, partition.isr, partition.elr, partition.leader_recovery_state) == (1, (1,), (), 1), (
            "as Kafka"
        )
        assert await unregister(cluster) == Code.NONE
    async with running(disk.killed()) as cluster:
        assert only_partition(cluster).leader == 1


async def test_a_quorum_of_the_configuration_is_upgraded():
    disk = FaultyFiles()
    static = config(controller_quorum_voters="1@localhost:9093")
    async with running(disk, of=static, adopt=False) as cluster:
        assert "kraft.version" not in cluster.finalized_features.levels
        before = cluster.finalized_features.epoch
        assert await update(cluster, kraft_version=1) == Code.NONE
        assert cluster.finalized_features.levels["kraft.version"] == 1
        assert cluster.finalized_features.epoch == before + 3, "KRaftVersion, Voters, NoOp"
        (voter,) = cluster.controller.quorum().voters
        assert (voter.id, voter.directory_id, voter.endpoints) == (
            1,
            cluster.directories[PATH],
            (("CONTROLLER", "localhost", 9093),),
        )
        assert await update(cluster, kraft_version=1) == Code.NONE
    for of, adopt in ((static, False), (config(), True)):
        async with running(disk, of=of, adopt=adopt) as cluster:
            assert cluster.finalized_features.levels["kraft.version"] == 1


async def test_cordoned_folders_take_no_new_partitions():
    disk = FaultyFiles()
    async with running(disk, of=config(cordoned_log_dirs="*")) as cluster:
        assert cluster.image.brokers[1].cordoned_directories == (cluster.directories[PATH],)
        assert await create(cluster, "a") == [Code.INVALID_REPLICATION_FACTOR]
        cluster.broker.cordon([])
        assert await create(cluster, "a") == [Code.NONE]
        cluster.broker.cordon([PATH])
        cluster.broker.cordon([PATH])
        assert await create(cluster, "b") == [Code.INVALID_REPLICATION_FACTOR]
        assert only_partition(cluster).leader == 1, "what is there stays"

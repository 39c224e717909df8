"""The controller's edge: leadership that comes and goes, brokers that come, fall silent, break off and come back."""

import pytest
import trio
import trio.testing

from kpybroker.cluster.duties import Ending
from kpybroker.cluster.features import SUPPORTED
from kpybroker.cluster.image import Endpoint
from kpybroker.wire.codes import Code, Refused
from kpybroker.wire.messages import broker_registration
from kpybroker.wire.messages.allocate_producer_ids import AllocateProducerIdsRequest
from kpybroker.wire.messages.broker_heartbeat import BrokerHeartbeatRequest
from kpybroker.wire.messages.controller_registration import ControllerRegistrationRequest, Feature, Listener
from kpybroker.wire.messages.create_topics import CreateTopicsRequest

from .making import CALLER, directory, wanted
from .running import FaultyFiles, create, inline, running
from .test_brokers import registration
from .test_service import kinds, metadata_log

INCARNATION = b"one of broker 2."
ENDPOINTS = (Endpoint("CONTROLLER", "localhost", 9093, 0),)


async def register(cluster, **fields):
    """Another broker registers; its epoch."""
    wanted = {
        "broker_id": 2,
        "cluster_id": cluster.cluster_id,
        "incarnation_id": INCARNATION,
        "log_dirs": [directory(2)],
        "features": [
            broker_registration.Feature(name=name, min_supported_version=low, max_supported_version=high)
            for name, (low, high) in SUPPORTED.items()
        ],
    }
    response = await cluster.controller.register_broker(registration(**{**wanted, **fields}), api_version=4)
    return response.broker_epoch


def a_heartbeat(cluster, epoch, **fields):
    values = {
        "broker_id": 2,
        "broker_epoch": epoch,
        "current_metadata_offset": cluster.image.offset,
        "want_fence": False,
        "want_shut_down": False,
    }
    return BrokerHeartbeatRequest(**{**values, **fields})


async def beat(cluster, epoch, **fields):
    return await cluster.controller.broker_heartbeat(a_heartbeat(cluster, epoch, **fields))


def simulated(story, **given):
    """Play a story in simulated time; nobody listens where brokers say they do, or somebody does."""
    disk = FaultyFiles()

    async def main():
        async with running(disk, in_worker=inline, seed=1) as cluster:
            looked = []

            async def connect(host, port):
                looked.append((host, port))
                if not given.get("listening", True):
                    raise ConnectionRefusedError("nobody")
                return trio.testing.memory_stream_pair()[0]

            cluster.controller._duties._connector = connect
            await story(cluster)

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    return disk


def test_a_broker_comes_and_falls_silent():
    async def story(cluster):
        epoch = await register(cluster)
        assert cluster.image.brokers[2].fenced
        answer = await beat(cluster, epoch)
        assert not answer.is_fenced
        await trio.sleep(8)
        await beat(cluster, epoch)
        await trio.sleep(8)
        assert cluster.image.brokers[2].active
        await trio.sleep(2)
        assert cluster.image.brokers[2].fenced
        assert cluster.image.brokers[1].active

    disk = simulated(story)
    written = [batch for batch in kinds(metadata_log(disk)) if "NoOp" in batch]
    assert 30 <= len(written) <= 40  # every half second while another broker follows


def test_a_lone_node_writes_nothing_while_nothing_happens():
    async def story(cluster):
        before = cluster.image.offset
        await trio.sleep(3600)
        assert cluster.image.offset == before

    simulated(story)


def test_the_id_of_a_living_broker_is_taken():
    async def story(cluster):
        epoch = await register(cluster)
        await beat(cluster, epoch, want_fence=True)  # it is starting
        with pytest.raises(Refused) as refused:
            await register(cluster, incarnation_id=b"another broker 2")
        assert refused.value.code == Code.DUPLICATE_BROKER_REGISTRATION
        assert await register(cluster, incarnation_id=INCARNATION) == epoch
        await trio.sleep(9.1)
        assert await register(cluster, incarnation_id=b"another broker 2") > epoch

    simulated(story)


def test_after_a_controlled_stop_nobody_waits_for_the_session():
    async def story(cluster):
        epoch = await register(cluster)
        await beat(cluster, epoch)
        answer = await beat(cluster, epoch, want_shut_down=True)
        assert answer.should_shut_down
        assert await register(cluster, incarnation_id=b"the next of two.") > epoch

    simulated(story)


class Connection:
    def __init__(self):
        self.calls = []

    def at_end(self, call):
        self.calls.append(call)

    def end(self):
        for call in self.calls:
            call()


def test_a_broker_whose_process_is_gone_is_fenced_at_once_and_may_come_back():
    async def story(cluster):
        connection: Ending = Connection()
        epoch = await register(cluster)
        await cluster.controller.keep(cluster.controller.begin_heartbeat(a_heartbeat(cluster, epoch), by=connection))
        assert cluster.image.brokers[2].active
        connection.end()
        await trio.sleep(0.01)
        assert cluster.image.brokers[2].fenced
        assert await register(cluster, incarnation_id=b"the next of two.") > epoch

    simulated(story, listening=False)


async def test_who_waits_when_the_leadership_is_lost_is_told_so():
    async with running(FaultyFiles(), stop=False) as cluster:
        controller = cluster.controller
        request = AllocateProducerIdsRequest(broker_id=1, broker_epoch=cluster.broker.epoch)
        promise = controller.begin_heartbeat(a_heartbeat(cluster, cluster.broker.epoch, broker_id=1))
        controller.renounce()
        with pytest.raises(Refused) as refused:
            await controller.keep(promise)
        assert refused.value.code == Code.NOT_CONTROLLER
        with pytest.raises(Refused, match="No controller appears to be active"):
            await controller.allocate_producer_ids(request)
        controller.activate([], incarnation_id=cluster.broker.incarnation_id, endpoints=ENDPOINTS)
        await controller.allocate_producer_ids(request)
        with pytest.raises(Refused):
            await controller.keep(promise)  # committed or not: it was given by another leadership
        assert cluster.image.brokers[1].active  # this process's own: nobody has died


def test_a_new_leadership_gives_everybody_a_new_session():
    async def story(cluster):
        epoch = await register(cluster)
        await beat(cluster, epoch)
        await trio.sleep(8)
        cluster.controller.renounce()
        await trio.sleep(3600)
        assert cluster.image.brokers[2].active  # whoever leads decides
        cluster.controller.activate([], incarnation_id=cluster.broker.incarnation_id, endpoints=ENDPOINTS)
        await trio.sleep(8)
        assert cluster.image.brokers[2].active
        await trio.sleep(2)
        assert cluster.image.brokers[2].fenced

    simulated(story)


def test_a_new_leader_fences_who_is_dead_already():
    async def story(cluster):
        epoch = await register(cluster)
        await beat(cluster, epoch)
        cluster.controller.renounce()
        cluster.controller.activate([], incarnation_id=cluster.broker.incarnation_id, endpoints=ENDPOINTS)
        await trio.sleep(0.01)
        assert cluster.image.brokers[2].fenced

    simulated(story, listening=False)


def test_another_controller_registers():
    async def story(cluster):
        request = ControllerRegistrationRequest(
            controller_id=3,
            incarnation_id=INCARNATION,
            zk_migration_ready=False,
            listeners=[Listener(name="CONTROLLER", host="three", port=9093, security_protocol=0)],
            features=[Feature(name="metadata.version", min_supported_version=7, max_supported_version=30)],
        )
        response = await cluster.controller.register_controller(request)
        assert response.error_code == Code.NONE
        assert cluster.image.controllers[3].endpoints == (Endpoint("CONTROLLER", "three", 9093, 0),)

    simulated(story)


def test_two_brokers_hand_over_to_each_other():
    async def story(cluster):
        await trio.sleep(30)  # a lone broker sends no heartbeats, and begins when it is not alone any more
        epoch = await register(cluster)
        await beat(cluster, epoch)
        assert await create(cluster, *"abcdef") == [Code.NONE] * 6
        led = {topic.partitions[0].leader for topic in cluster.image.topics.by_name.values()}
        assert led == {1, 2}
        answer = await beat(cluster, epoch, want_shut_down=True)
        assert (answer.is_fenced, answer.should_shut_down) == (False, False)
        assert cluster.image.brokers[2].in_controlled_shutdown
        await beat(cluster, epoch, want_shut_down=True)
        with trio.fail_after(5):
            while not (await beat(cluster, epoch, want_shut_down=True)).should_shut_down:
                await trio.sleep(0.1)
        assert cluster.image.brokers[2].fenced
        assert all(topic.partitions[0].leader in (1, -1) for topic in cluster.image.topics.by_name.values())

    simulated(story)


async def test_a_request_for_more_than_fits_into_a_batch_is_refused():
    """Kafka's controller resigns; its nodes have buffers of 8 MiB."""
    value = ",".join(f"{number}:1" for number in range(4500))
    topics = [
        wanted(f"t{number}", 1, 1, configs=[("leader.replication.throttled.replicas", value)]) for number in range(300)
    ]
    async with running(FaultyFiles()) as cluster:
        end = cluster.raft.log.log_end_offset
        with pytest.raises(Refused) as refused:
            await cluster.controller.create_topics(CreateTopicsRequest(topics=topics), CALLER)
        assert (refused.value.code, cluster.raft.log.log_end_offset) == (Code.UNKNOWN_SERVER_ERROR, end)
        assert await create(cluster, "small") == [0]

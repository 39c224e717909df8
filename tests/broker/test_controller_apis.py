"""What brokers and controllers ask on the controller's listener, over connections."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from kpybroker.cluster.features import SUPPORTED
from kpybroker.testing import Broker
from kpybroker.wire.codes import Code
from kpybroker.wire.messages import broker_registration as reg
from kpybroker.wire.messages.allocate_producer_ids import AllocateProducerIdsRequest, AllocateProducerIdsResponse
from kpybroker.wire.messages.alter_partition import AlterPartitionRequest, AlterPartitionResponse, RequestTopicData
from kpybroker.wire.messages.assign_replicas_to_dirs import AssignReplicasToDirsRequest, AssignReplicasToDirsResponse
from kpybroker.wire.messages.broker_heartbeat import BrokerHeartbeatRequest, BrokerHeartbeatResponse
from kpybroker.wire.messages.controller_registration import (
    ControllerRegistrationRequest,
    ControllerRegistrationResponse,
)
from kpybroker.wire.messages.describe_cluster import DescribeClusterRequest, DescribeClusterResponse

from .conftest import Client


@pytest.fixture(scope="module")
def node() -> Iterator[Broker]:
    listeners = "PLAINTEXT://localhost:0,CONTROLLER://localhost:0"
    with Broker({"controller.quorum.voters": "1@localhost:9093", "listeners": listeners}) as broker:
        yield broker


@pytest.fixture
def controller(node: Broker, connect_to: Callable[[int], Client]) -> Client:
    (point,) = node._running().controllers_listening
    return connect_to(point.port)


def registration(cluster_id: str, broker_id: int, port: int, incarnation: bytes) -> reg.BrokerRegistrationRequest:
    return reg.BrokerRegistrationRequest(
        broker_id=broker_id,
        cluster_id=cluster_id,
        incarnation_id=incarnation,
        listeners=[reg.Listener(name="PLAINTEXT", host="127.0.0.1", port=port, security_protocol=0)],
        features=[
            reg.Feature(name=name, min_supported_version=low, max_supported_version=high)
            for name, (low, high) in SUPPORTED.items()
        ],
        rack=None,
        log_dirs=[b"folder of    %03d" % broker_id],
        previous_broker_epoch=-1,
    )


def described(controller: Client, kind: int = 2) -> DescribeClusterResponse:
    request = DescribeClusterRequest(include_cluster_authorized_operations=False, endpoint_type=kind)
    return controller.ask(request, DescribeClusterResponse, 2)


def test_the_controllers_are_described(controller: Client) -> None:
    response = described(controller)
    assert (response.error_code, response.endpoint_type, response.controller_id) == (Code.NONE, 2, 1)
    assert [(each.broker_id, each.port) for each in response.brokers] == [(1, 9093)]  # as the voters are listed
    wrong, unknown = described(controller, 1), described(controller, 7)
    assert (wrong.error_code, unknown.error_code) == (Code.MISMATCHED_ENDPOINT_TYPE, Code.UNSUPPORTED_ENDPOINT_TYPE)
    assert wrong.error_message == (
        "The request was sent to an endpoint of type CONTROLLER, but we wanted an endpoint of type BROKER"
    )


def test_a_broker_comes_and_is_gone(controller: Client, connect_to: Callable[[int], Client], node: Broker) -> None:
    cluster_id = described(controller).cluster_id
    request = registration(cluster_id, 7, 1, b"the first of it.")  # nobody listens on port 1
    response = controller.ask(request, reg.BrokerRegistrationResponse, 4)
    assert response.error_code == Code.NONE
    alive = BrokerHeartbeatRequest(
        broker_id=7,
        broker_epoch=response.broker_epoch,
        current_metadata_offset=2**40,
        want_fence=False,
        want_shut_down=False,
    )
    (point,) = node._running().controllers_listening
    heartbeats = connect_to(point.port)
    answer = heartbeats.ask(alive, BrokerHeartbeatResponse, 2)
    assert (answer.error_code, answer.is_fenced) == (Code.NONE, False)
    another = registration(cluster_id, 7, 1, b"the next of it..")
    refused = controller.ask(another, reg.BrokerRegistrationResponse, 4)
    assert refused.error_code == Code.DUPLICATE_BROKER_REGISTRATION
    heartbeats.close()
    while (again := controller.ask(another, reg.BrokerRegistrationResponse, 4)).error_code:
        assert again.error_code == Code.DUPLICATE_BROKER_REGISTRATION
    assert again.broker_epoch > response.broker_epoch
    stale = controller.ask(alive, BrokerHeartbeatResponse, 2)
    assert stale.error_code == Code.STALE_BROKER_EPOCH


def test_who_is_not_registered_is_refused(controller: Client) -> None:
    ids = AllocateProducerIdsRequest(broker_id=99, broker_epoch=1)
    assert controller.ask(ids, AllocateProducerIdsResponse, 0).error_code == Code.STALE_BROKER_EPOCH
    nothing = AlterPartitionRequest(broker_id=99, broker_epoch=1, topics=[])
    assert controller.ask(nothing, AlterPartitionResponse, 3).error_code == Code.NONE, "as Kafka, which does not look"
    alter = AlterPartitionRequest(
        broker_id=99, broker_epoch=1, topics=[RequestTopicData(topic_id=bytes(16), partitions=[])]
    )
    assert controller.ask(alter, AlterPartitionResponse, 3).error_code == Code.STALE_BROKER_EPOCH
    assign = AssignReplicasToDirsRequest(broker_id=99, broker_epoch=1, directories=[])
    assert controller.ask(assign, AssignReplicasToDirsResponse, 0).error_code == Code.STALE_BROKER_EPOCH


def test_another_controller_registers(controller: Client) -> None:
    request = ControllerRegistrationRequest(
        controller_id=8, incarnation_id=bytes(15) + b"8", zk_migration_ready=False, listeners=[], features=[]
    )
    assert controller.ask(request, ControllerRegistrationResponse, 0).error_code == Code.NONE

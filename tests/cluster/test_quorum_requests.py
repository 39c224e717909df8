"""DescribeQuorum, AddRaftVoter and RemoveRaftVoter, asked of a quorum of one."""

import pytest

from kpybroker.cluster.image import Endpoint
from kpybroker.cluster.machines.quorum_requests import QuorumView, check_add, check_remove, describe_quorum
from kpybroker.cluster.machines.raft_events import Voter
from kpybroker.wire.codes import Code, Refused
from kpybroker.wire.messages import describe_quorum as messages
from kpybroker.wire.messages.add_raft_voter import AddRaftVoterRequest, Listener
from kpybroker.wire.messages.remove_raft_voter import RemoveRaftVoterRequest
from kpybroker.wire.primitives import ZERO_UUID, uuid_text

from .making import CLUSTER_ID, directory

NOW = 1_700_000_000_000
HERE = Listener(name="CONTROLLER", host="localhost", port=9093)
ME = f"ReplicaKey(id=1, directoryId={uuid_text(directory(1))})"
OTHER = f"ReplicaKey(id=2, directoryId={uuid_text(directory(2))})"


def view(kraft_version=1):
    records = (("CONTROLLER", "in.the.records", 9093),) if kraft_version else ()
    return QuorumView(
        cluster_id=CLUSTER_ID,
        leader_id=1,
        epoch=7,
        kraft_version=kraft_version,
        voters=(Voter(id=1, directory_id=directory(1), endpoints=records),),
        high_watermark=40,
        log_end_offset=42,
        endpoints=(Endpoint("CONTROLLER", "in.the.configuration", 9093, 0),),
    )


def describe(api_version, kraft_version=1):
    partition = messages.RequestPartitionData(partition_index=0)
    topic = messages.RequestTopicData(topic_name="__cluster_metadata", partitions=[partition])
    request = messages.DescribeQuorumRequest(topics=[topic])
    return describe_quorum(view(kraft_version), request, NOW, api_version=api_version)


@pytest.mark.parametrize("api_version", [0, 1, 2])
def test_the_quorum(api_version):
    response = describe(api_version)
    (partition,) = response.topics[0].partitions
    (voter,) = partition.current_voters
    assert (partition.leader_id, partition.leader_epoch, partition.high_watermark) == (1, 7, 40)
    assert (voter.replica_id, voter.log_end_offset) == (1, 42)
    assert voter.last_fetch_timestamp == voter.last_caught_up_timestamp == NOW
    assert voter.replica_directory_id == (directory(1) if api_version >= 2 else ZERO_UUID)
    hosts = [listener.host for node in response.nodes for listener in node.listeners]
    assert hosts == (["in.the.records"] if api_version >= 2 else [])


def test_a_quorum_from_the_configuration_knows_no_directories():
    response = describe(2, kraft_version=0)
    assert response.topics[0].partitions[0].current_voters[0].replica_directory_id == ZERO_UUID
    assert response.nodes[0].listeners[0].host == "in.the.configuration"


def why(ask, request, kraft_version=1):
    with pytest.raises(Refused) as raised:
        ask(view(kraft_version), request)
    return raised.value.code, raised.value.why


def add(voter_id, of, *listeners, cluster_id=CLUSTER_ID):
    return AddRaftVoterRequest(
        cluster_id=cluster_id, timeout_ms=1000, voter_id=voter_id, voter_directory_id=of, listeners=list(listeners)
    )


def remove(voter_id, of, cluster_id=CLUSTER_ID):
    return RemoveRaftVoterRequest(cluster_id=cluster_id, voter_id=voter_id, voter_directory_id=of)


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (
            add(1, directory(1), HERE),
            (Code.DUPLICATE_VOTER, f"The voter id for {ME} is already part of the set of voters [{ME}]."),
        ),
        (
            add(2, directory(2), HERE),
            (Code.REQUEST_TIMED_OUT, f"Aborted add voter operation for {OTHER} since it is lagging behind"),
        ),
        (
            add(2, directory(2), HERE, cluster_id="x"),
            (Code.INCONSISTENT_CLUSTER_ID, f'The given id "x" doesn\'t match the cluster id "{CLUSTER_ID}"'),
        ),
        (add(2, ZERO_UUID, HERE), (Code.INVALID_REQUEST, "Add voter request didn't include a valid voter")),
        (add(-1, directory(2), HERE), (Code.INVALID_REQUEST, "Add voter request didn't include a valid voter")),
    ],
)
def test_nobody_can_be_added(request_, expected):
    assert why(check_add, request_) == expected


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (
            remove(1, directory(1)),
            (Code.VOTER_NOT_FOUND, f"Cannot remove voter {ME} from the set of voters [{ME}]"),
        ),
        (
            remove(2, directory(2), cluster_id=None),
            (Code.VOTER_NOT_FOUND, f"Cannot remove voter {OTHER} from the set of voters [{ME}]"),
        ),
        (remove(1, ZERO_UUID), (Code.INVALID_REQUEST, "Remove voter request didn't include a valid voter")),
        (
            remove(1, directory(1), cluster_id=""),
            (Code.INCONSISTENT_CLUSTER_ID, f'The given id "" doesn\'t match the cluster id "{CLUSTER_ID}"'),
        ),
    ],
)
def test_nobody_can_be_removed(request_, expected):
    assert why(check_remove, request_) == expected


def test_kraft_version_0_has_no_voters_to_change():
    doing = "Cluster doesn't support {} voter because the kraft.version feature is 0"
    assert why(check_add, add(2, directory(2), HERE), 0) == (Code.UNSUPPORTED_VERSION, doing.format("adding"))
    assert why(check_remove, remove(1, directory(1)), 0) == (Code.UNSUPPORTED_VERSION, doing.format("removing"))

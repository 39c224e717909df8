"""DescribeQuorum, AddRaftVoter and RemoveRaftVoter as the leader of a quorum of one answers them (KIP-595, KIP-853).

Nobody fetches the metadata log from this node yet, so a node that is to become a voter is never caught up, and without
a second voter the only one can't leave.
"""

from __future__ import annotations

import msgspec

from kpybroker.cluster.image import Endpoint
from kpybroker.cluster.machines.raft_events import Voter
from kpybroker.cluster.names import METADATA_TOPIC
from kpybroker.wire.codes import Code, Refused
from kpybroker.wire.messages import describe_quorum as quorum
from kpybroker.wire.messages.add_raft_voter import AddRaftVoterRequest, AddRaftVoterResponse
from kpybroker.wire.messages.remove_raft_voter import RemoveRaftVoterRequest, RemoveRaftVoterResponse
from kpybroker.wire.primitives import ZERO_UUID, uuid_text

NODES_SINCE = 2
"""The version of DescribeQuorum from which the voters' directories and listeners are told."""


class QuorumView(msgspec.Struct, frozen=True, kw_only=True):
    """The quorum as its leader has it."""

    cluster_id: str
    leader_id: int
    epoch: int
    kraft_version: int
    voters: tuple[Voter, ...]
    high_watermark: int
    log_end_offset: int
    endpoints: tuple[Endpoint, ...]
    """Where the leader's own controller listens; the first is on the listener that controllers talk by."""


def describe_quorum(
    view: QuorumView, request: quorum.DescribeQuorumRequest, now_ms: int, *, api_version: int
) -> quorum.DescribeQuorumResponse:
    """Answer a DescribeQuorum request (v0 to 2): there is one partition to ask for."""
    asked = [(topic.topic_name, [each.partition_index for each in topic.partitions]) for topic in request.topics]
    if asked != [(METADATA_TOPIC, [0])]:
        return _elsewhere(request)
    shows_nodes = api_version >= NODES_SINCE
    partition = quorum.ResponsePartitionData(
        partition_index=0,
        error_code=Code.NONE,
        leader_id=view.leader_id,
        leader_epoch=view.epoch,
        high_watermark=view.high_watermark,
        current_voters=[_replica(view, voter, now_ms, shows_nodes) for voter in view.voters],
        observers=[],
    )
    return quorum.DescribeQuorumResponse(
        error_code=Code.NONE,
        topics=[quorum.ResponseTopicData(topic_name=METADATA_TOPIC, partitions=[partition])],
        nodes=[quorum.Node(node_id=voter.id, listeners=_listeners(view, voter)) for voter in view.voters]
        if shows_nodes
        else [],
    )


def _elsewhere(request: quorum.DescribeQuorumRequest) -> quorum.DescribeQuorumResponse:
    code = Code.UNKNOWN_TOPIC_OR_PARTITION
    return quorum.DescribeQuorumResponse(
        error_code=Code.NONE,
        topics=[
            quorum.ResponseTopicData(
                topic_name=topic.topic_name,
                partitions=[
                    quorum.ResponsePartitionData(
                        partition_index=each.partition_index,
                        error_code=code,
                        error_message=code.message,
                        leader_id=0,
                        leader_epoch=0,
                        high_watermark=0,
                        current_voters=[],
                        observers=[],
                    )
                    for each in topic.partitions
                ],
            )
            for topic in request.topics
        ],
    )


def _replica(view: QuorumView, voter: Voter, now_ms: int, with_directory: bool) -> quorum.ReplicaState:
    return quorum.ReplicaState(
        replica_id=voter.id,
        replica_directory_id=voter.directory_id if with_directory and view.kraft_version > 0 else ZERO_UUID,
        log_end_offset=view.log_end_offset,
        last_fetch_timestamp=now_ms,  # of the leader itself, as of this moment
        last_caught_up_timestamp=now_ms,
    )


def _listeners(view: QuorumView, voter: Voter) -> list[quorum.Listener]:
    """Where a voter listens; a quorum of kraft.version 0 has it from the configuration, not from its records."""
    if view.kraft_version > 0:
        return [quorum.Listener(name=name, host=host, port=port) for name, host, port in voter.endpoints]
    return [quorum.Listener(name=point.name, host=point.host, port=point.port) for point in view.endpoints]


def add_voter(view: QuorumView, request: AddRaftVoterRequest) -> AddRaftVoterResponse:
    """Answer an AddRaftVoter request (v0 and 1): always with an error. Raises: Refused."""
    _check_cluster(view, request.cluster_id)
    if request.voter_id < 0 or request.voter_directory_id == ZERO_UUID:
        raise Refused(Code.INVALID_REQUEST, "Add voter request didn't include a valid voter")
    default = view.endpoints[0].name
    if all(listener.name != default for listener in request.listeners):
        given = {listener.name: listener for listener in reversed(request.listeners)}
        told = ", ".join(
            f"ListenerName({name})={listener.host}/<unresolved>:{listener.port}" for name, listener in given.items()
        )
        raise Refused(
            Code.INVALID_REQUEST,
            f"Add voter request didn't include the endpoint (Endpoints(endpoints={{{told}}})) for the default listener "
            f"ListenerName({default})",
        )
    _check_kraft_version(view, "adding")
    key = _key(request.voter_id, request.voter_directory_id)
    if any(voter.id == request.voter_id for voter in view.voters):
        raise Refused(
            Code.DUPLICATE_VOTER, f"The voter id for {key} is already part of the set of voters {_keys(view)}."
        )
    raise Refused(Code.REQUEST_TIMED_OUT, f"Aborted add voter operation for {key} since it is lagging behind")


def remove_voter(view: QuorumView, request: RemoveRaftVoterRequest) -> RemoveRaftVoterResponse:
    """Answer a RemoveRaftVoter request (v0): always with an error. Raises: Refused."""
    _check_cluster(view, request.cluster_id)
    if request.voter_id < 0 or request.voter_directory_id == ZERO_UUID:
        raise Refused(Code.INVALID_REQUEST, "Remove voter request didn't include a valid voter")
    _check_kraft_version(view, "removing")
    key = _key(request.voter_id, request.voter_directory_id)
    raise Refused(Code.VOTER_NOT_FOUND, f"Cannot remove voter {key} from the set of voters {_keys(view)}")


def _check_cluster(view: QuorumView, cluster_id: str | None) -> None:
    if cluster_id is not None and cluster_id != view.cluster_id:
        raise Refused(
            Code.INCONSISTENT_CLUSTER_ID,
            f'The given id "{cluster_id}" doesn\'t match the cluster id "{view.cluster_id}"',
        )


def _check_kraft_version(view: QuorumView, doing: str) -> None:
    if view.kraft_version < 1:
        raise Refused(
            Code.UNSUPPORTED_VERSION,
            f"Cluster doesn't support {doing} voter because the kraft.version feature is {view.kraft_version}",
        )


def _key(voter_id: int, directory_id: bytes) -> str:
    return f"ReplicaKey(id={voter_id}, directoryId={uuid_text(directory_id)})"


def _keys(view: QuorumView) -> str:
    return f"[{', '.join(_key(voter.id, voter.directory_id) for voter in view.voters)}]"

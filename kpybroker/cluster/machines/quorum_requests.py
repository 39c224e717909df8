"""DescribeQuorum, and what the leader checks before the voters change, one change at a time (KIP-595, KIP-853).

A node that is to become a voter has to be caught up: otherwise nothing could be committed until it is. The only voter
can't leave.
"""

from __future__ import annotations

import msgspec

from kpybroker.cluster.image import Endpoint
from kpybroker.cluster.machines.raft_events import Key, Quorum, Voter
from kpybroker.cluster.names import METADATA_TOPIC
from kpybroker.wire.codes import Code, Refused
from kpybroker.wire.messages import describe_quorum as quorum
from kpybroker.wire.messages.add_raft_voter import AddRaftVoterRequest
from kpybroker.wire.messages.remove_raft_voter import RemoveRaftVoterRequest
from kpybroker.wire.messages.update_raft_voter import UpdateRaftVoterRequest
from kpybroker.wire.primitives import ZERO_UUID, uuid_text

NODES_SINCE = 2
"""The version of DescribeQuorum from which the voters' directories and listeners are told."""


class Replica(msgspec.Struct, frozen=True, kw_only=True):
    """How far one of those is that fetch."""

    key: Key
    log_end_offset: int
    """-1: unknown."""
    fetched_ms: int
    caught_up_ms: int


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
    replicas: tuple[Replica, ...] = ()
    """Who fetches the log from the leader, voters and observers."""
    caught_up: frozenset[Key] = frozenset()
    """Those of them that may become voters."""
    established: bool = True
    """Whether something of this epoch is committed."""
    quorum_offset: int = -1
    """Where the log says who votes."""

    @property
    def changing(self) -> bool:
        """Whether the last change of the voters is not committed."""
        return self.quorum_offset >= self.high_watermark


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
        current_voters=[_voter(view, voter, now_ms, shows_nodes) for voter in view.voters],
        observers=[
            _state(each.key, each, shows_nodes)
            for each in view.replicas
            if not any(voter.key.matches(each.key) for voter in view.voters)
        ],
    )
    return quorum.DescribeQuorumResponse(
        error_code=Code.NONE,
        topics=[quorum.ResponseTopicData(topic_name=METADATA_TOPIC, partitions=[partition])],
        nodes=[quorum.Node(node_id=voter.id, listeners=_listeners(view, voter)) for voter in view.voters]
        if shows_nodes
        else [],
    )


def not_leader(request: quorum.DescribeQuorumRequest) -> quorum.DescribeQuorumResponse:
    """The answer of a node that does not lead the quorum."""
    asked = [(topic.topic_name, [each.partition_index for each in topic.partitions]) for topic in request.topics]
    if asked != [(METADATA_TOPIC, [0])]:
        return _elsewhere(request)
    return _elsewhere(request, Code.NOT_LEADER_OR_FOLLOWER)


def _elsewhere(
    request: quorum.DescribeQuorumRequest, code: Code = Code.UNKNOWN_TOPIC_OR_PARTITION
) -> quorum.DescribeQuorumResponse:
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


def _voter(view: QuorumView, voter: Voter, now_ms: int, with_directory: bool) -> quorum.ReplicaState:
    """How far a voter is; of the leader itself as of this moment."""
    key = voter.key if view.kraft_version > 0 else Key(voter.id)
    if voter.id == view.leader_id:
        own = Replica(key=key, log_end_offset=view.log_end_offset, fetched_ms=now_ms, caught_up_ms=now_ms)
        return _state(key, own, with_directory)
    unknown = Replica(key=key, log_end_offset=-1, fetched_ms=-1, caught_up_ms=-1)
    return _state(key, next((each for each in view.replicas if each.key.matches(voter.key)), unknown), with_directory)


def _state(key: Key, replica: Replica, with_directory: bool) -> quorum.ReplicaState:
    return quorum.ReplicaState(
        replica_id=key.id,
        replica_directory_id=key.directory_id if with_directory else ZERO_UUID,
        log_end_offset=replica.log_end_offset,
        last_fetch_timestamp=replica.fetched_ms,
        last_caught_up_timestamp=replica.caught_up_ms,
    )


def _listeners(view: QuorumView, voter: Voter) -> list[quorum.Listener]:
    """Where a voter listens; a quorum of kraft.version 0 has it from the configuration, not from its records."""
    if view.kraft_version > 0:
        return [quorum.Listener(name=name, host=host, port=port) for name, host, port in voter.endpoints]
    return [quorum.Listener(name=point.name, host=point.host, port=point.port) for point in view.endpoints]


def check_add(view: QuorumView, request: AddRaftVoterRequest) -> Voter:
    """The voter that an AddRaftVoter request (v0 and 1) is about, if it may be added. Raises: Refused."""
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
    _check_established(view)
    _check_kraft_version(view, "adding")
    _check_settled(view)
    key = Key(request.voter_id, request.voter_directory_id)
    if any(voter.id == request.voter_id for voter in view.voters):
        raise Refused(
            Code.DUPLICATE_VOTER, f"The voter id for {_key(*key)} is already part of the set of voters {_keys(view)}."
        )
    if key not in view.caught_up:
        raise Refused(
            Code.REQUEST_TIMED_OUT, f"Aborted add voter operation for {_key(*key)} since it is lagging behind"
        )
    endpoints = tuple((listener.name, listener.host, listener.port) for listener in request.listeners)
    return Voter(id=key.id, directory_id=key.directory_id, endpoints=endpoints)


def check_kraft_range(view: QuorumView, voter: Voter, supported: tuple[int, int] | None) -> Voter:
    """The voter with the kraft.versions that it says it supports, if the quorum's is one. Raises: Refused."""
    low, high = supported or (0, 0)
    if supported is None or not low <= view.kraft_version <= high:
        told = "(min: 0, max: 0)" if supported is None else f"(min: {low}, max: {high}"
        raise Refused(
            Code.INVALID_REQUEST,
            f"Aborted add voter operation for {_key(*voter.key)} since the kraft.version range {told} doesn't support "
            f"the finalized version {view.kraft_version}",
        )
    return msgspec.structs.replace(voter, kraft_versions=supported)


def check_remove(view: QuorumView, request: RemoveRaftVoterRequest) -> Quorum:
    """The quorum that a RemoveRaftVoter request (v0) leaves. Raises: Refused."""
    _check_cluster(view, request.cluster_id)
    if request.voter_id < 0 or request.voter_directory_id == ZERO_UUID:
        raise Refused(Code.INVALID_REQUEST, "Remove voter request didn't include a valid voter")
    _check_established(view)
    _check_kraft_version(view, "removing")
    _check_settled(view)
    key = Key(request.voter_id, request.voter_directory_id)
    left = tuple(voter for voter in view.voters if voter.key != key)
    if not left or len(left) == len(view.voters):
        raise Refused(Code.VOTER_NOT_FOUND, f"Cannot remove voter {_key(*key)} from the set of voters {_keys(view)}")
    return Quorum(view.kraft_version, left)


def check_update(view: QuorumView, request: UpdateRaftVoterRequest) -> Voter:
    """The voter as an UpdateRaftVoter request (v0) says it is. Raises: Refused."""
    _check_cluster(view, request.cluster_id)
    if request.current_leader_epoch < view.epoch:
        raise Refused(Code.FENCED_LEADER_EPOCH)
    if request.current_leader_epoch > view.epoch:
        raise Refused(Code.UNKNOWN_LEADER_EPOCH)
    if request.voter_id < 0 or request.voter_directory_id == ZERO_UUID:
        raise Refused(Code.INVALID_REQUEST)
    if all(listener.name != view.endpoints[0].name for listener in request.listeners):
        raise Refused(Code.INVALID_REQUEST)
    _check_established(view)
    _check_settled(view)
    key = Key(request.voter_id, request.voter_directory_id)
    supported = request.kraft_version_feature.min_supported_version, request.kraft_version_feature.max_supported_version
    if not supported[0] <= view.kraft_version <= supported[1]:
        raise Refused(Code.INVALID_REQUEST)
    if not any(voter.key.matches(key) for voter in view.voters):
        raise Refused(Code.VOTER_NOT_FOUND)
    endpoints = tuple((listener.name, listener.host, listener.port) for listener in request.listeners)
    return Voter(id=key.id, directory_id=key.directory_id, endpoints=endpoints, kraft_versions=supported)


def _check_established(view: QuorumView) -> None:
    if not view.established:
        raise Refused(
            Code.REQUEST_TIMED_OUT,
            "Request timed out waiting for leader to establish HWM and fence previous voter changes",
        )


def _check_settled(view: QuorumView) -> None:
    if view.changing:
        raise Refused(
            Code.REQUEST_TIMED_OUT,
            "Request timed out waiting for voters to commit the latest voter change at "
            f"Optional[{view.quorum_offset}] with HWM {view.high_watermark}",
        )


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

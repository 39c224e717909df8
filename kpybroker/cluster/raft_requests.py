"""The raft machine's requests and answers as Kafka's messages, as the one who asks sees them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from kpybroker.cluster.machines import raft_events as ev
from kpybroker.cluster.machines.raft_events import Answer, SnapshotId, Voter
from kpybroker.cluster.metadata_opening import TOPIC_ID
from kpybroker.cluster.names import METADATA_TOPIC
from kpybroker.cluster.raft_node import Identity
from kpybroker.wire.codes import Code
from kpybroker.wire.messages import add_raft_voter as adding
from kpybroker.wire.messages import begin_quorum_epoch as begin
from kpybroker.wire.messages import end_quorum_epoch as end
from kpybroker.wire.messages import fetch, fetch_snapshot, vote
from kpybroker.wire.messages import update_raft_voter as updating

FETCH_WAIT_MS = 500
"""How long a leader may keep a fetch waiting."""


class _Node(Protocol):
    @property
    def node_id(self) -> int: ...
    @property
    def host(self) -> str: ...
    @property
    def port(self) -> int: ...


class _Response(Protocol):
    @property
    def error_code(self) -> int: ...
    @property
    def node_endpoints(self) -> Sequence[_Node]: ...


class _Told(Protocol):
    @property
    def error_code(self) -> int: ...


class _Leader(Protocol):
    @property
    def leader_id(self) -> int: ...
    @property
    def leader_epoch(self) -> int: ...


AddressOf = Callable[[], "tuple[str, int] | None"]


def _answer(who: Identity, response: _Response, told: _Told, leader: _Leader) -> Answer:
    """What every answer says; `told` is of the partition, `leader` where it says who leads."""
    nodes = response.node_endpoints
    endpoints = tuple((who.listener, node.host, node.port) for node in nodes if node.node_id == leader.leader_id)
    return Answer(response.error_code or told.error_code, leader.leader_epoch, leader.leader_id, endpoints)


def payload(records: object) -> bytes:
    """The records of a response that was decoded."""
    if records is None:
        return b""
    assert isinstance(records, bytes | memoryview), "what was decoded is in memory"
    return bytes(records)


def _unusable(code: int) -> Answer:
    """An answer without what was asked for: of no epoch, so that nothing follows from it."""
    return Answer(code or Code.UNKNOWN_SERVER_ERROR, -1, -1)


def vote_request(who: Identity, asked: ev.SendVote) -> vote.VoteRequest:
    """Ask for a vote."""
    partition = vote.RequestPartitionData(
        partition_index=0,
        replica_epoch=asked.epoch,
        replica_id=who.me.id,
        replica_directory_id=who.me.directory_id,
        voter_directory_id=asked.to.directory_id,
        last_offset_epoch=asked.last_epoch,
        last_offset=asked.last_offset,
        pre_vote=asked.pre_vote,
    )
    topic = vote.RequestTopicData(topic_name=METADATA_TOPIC, partitions=[partition])
    return vote.VoteRequest(cluster_id=who.cluster_id, voter_id=asked.to.id, topics=[topic])


def vote_answered(who: Identity, asked: ev.SendVote, response: vote.VoteResponse) -> ev.VoteAnswered:
    """What the voter said."""
    for topic in response.topics[:1]:
        for told in topic.partitions[:1]:
            answer = _answer(who, response, told, told)
            return ev.VoteAnswered(asked, answer, told.vote_granted)
    return ev.VoteAnswered(asked, _unusable(response.error_code), False)


def begin_request(who: Identity, asked: ev.SendBegin) -> begin.BeginQuorumEpochRequest:
    """Tell a voter that we lead."""
    partition = begin.RequestPartitionData(
        partition_index=0, voter_directory_id=asked.to.directory_id, leader_id=who.me.id, leader_epoch=asked.epoch
    )
    return begin.BeginQuorumEpochRequest(
        cluster_id=who.cluster_id,
        voter_id=asked.to.id,
        topics=[begin.RequestTopicData(topic_name=METADATA_TOPIC, partitions=[partition])],
        leader_endpoints=[begin.LeaderEndpoint(name=name, host=host, port=port) for name, host, port in who.endpoints],
    )


def announcement_answered(
    who: Identity, response: begin.BeginQuorumEpochResponse | end.EndQuorumEpochResponse
) -> Answer:
    """What the voter said to being told that an epoch begins or ends."""
    for topic in response.topics[:1]:
        for told in topic.partitions[:1]:
            return _answer(who, response, told, told)
    return _unusable(response.error_code)


def end_request(who: Identity, asked: ev.SendEnd) -> end.EndQuorumEpochRequest:
    """Tell a voter that we leave."""
    partition = end.RequestPartitionData(
        partition_index=0,
        leader_id=who.me.id,
        leader_epoch=asked.epoch,
        preferred_successors=[key.id for key in asked.preferred],
        preferred_candidates=[
            end.ReplicaInfo(candidate_id=key.id, candidate_directory_id=key.directory_id) for key in asked.preferred
        ],
    )
    return end.EndQuorumEpochRequest(
        cluster_id=who.cluster_id,
        topics=[end.RequestTopicData(topic_name=METADATA_TOPIC, partitions=[partition])],
        leader_endpoints=[end.LeaderEndpoint(name=name, host=host, port=port) for name, host, port in who.endpoints],
    )


def fetch_request(who: Identity, asked: ev.Fetch, *, bytes_max: int) -> fetch.FetchRequest:
    """Fetch the metadata log."""
    partition = fetch.FetchPartition(
        partition=0,
        current_leader_epoch=asked.epoch,
        fetch_offset=asked.offset,
        last_fetched_epoch=asked.last_epoch,
        partition_max_bytes=0,
        replica_directory_id=who.me.directory_id,
        high_watermark=asked.high_watermark,
    )
    return fetch.FetchRequest(
        cluster_id=who.cluster_id,
        replica_state=fetch.ReplicaState(replica_id=who.me.id, replica_epoch=-1),
        max_wait_ms=FETCH_WAIT_MS,
        min_bytes=0,
        max_bytes=bytes_max,
        topics=[fetch.FetchTopic(topic=METADATA_TOPIC, topic_id=TOPIC_ID, partitions=[partition])],
    )


def fetch_answered(who: Identity, asked: ev.Fetch, response: fetch.FetchResponse) -> tuple[ev.FetchAnswered, bytes]:
    """What the leader, or who was taken for it, said; and the records."""
    for topic in response.responses[:1]:
        for told in topic.partitions[:1]:
            answer = _answer(who, response, told, told.current_leader)
            diverging, snapshot = told.diverging_epoch, told.snapshot_id
            records = payload(told.records)
            event = ev.FetchAnswered(
                asked,
                answer,
                high_watermark=told.high_watermark,
                diverging=(diverging.epoch, diverging.end_offset) if diverging.epoch >= 0 else None,
                snapshot=SnapshotId(snapshot.end_offset, snapshot.epoch)
                if snapshot.epoch >= 0 and snapshot.end_offset >= 0
                else None,
                has_records=bool(records),
            )
            return event, records
    return ev.FetchAnswered(asked, _unusable(response.error_code)), b""


def snapshot_request(
    who: Identity, wanted: ev.LoadSnapshot, position: int, *, bytes_max: int
) -> fetch_snapshot.FetchSnapshotRequest:
    """Read on in a snapshot."""
    partition = fetch_snapshot.RequestPartitionSnapshot(
        partition=0,
        current_leader_epoch=wanted.epoch,
        snapshot_id=fetch_snapshot.SnapshotId(end_offset=wanted.id.end_offset, epoch=wanted.id.epoch),
        position=position,
        replica_directory_id=who.me.directory_id,
    )
    return fetch_snapshot.FetchSnapshotRequest(
        cluster_id=who.cluster_id,
        replica_id=who.me.id,
        max_bytes=bytes_max,
        topics=[fetch_snapshot.RequestTopicSnapshot(name=METADATA_TOPIC, partitions=[partition])],
    )


def snapshot_answered(
    who: Identity, wanted: ev.LoadSnapshot, response: fetch_snapshot.FetchSnapshotResponse
) -> tuple[ev.SnapshotAnswered, fetch_snapshot.ResponsePartitionSnapshot | None]:
    """What the leader said; and the slice."""
    for topic in response.topics[:1]:
        for told in topic.partitions[:1]:
            answer = _answer(who, response, told, told.current_leader)
            return ev.SnapshotAnswered(wanted.epoch, answer), told
    return ev.SnapshotAnswered(wanted.epoch, _unusable(response.error_code)), None


def update_request(who: Identity, epoch: int, voter: Voter) -> updating.UpdateRaftVoterRequest:
    """Tell the leader where we listen and what we support."""
    low, high = voter.kraft_versions
    return updating.UpdateRaftVoterRequest(
        cluster_id=who.cluster_id,
        current_leader_epoch=epoch,
        voter_id=voter.id,
        voter_directory_id=voter.directory_id,
        listeners=[updating.Listener(name=name, host=host, port=port) for name, host, port in voter.endpoints],
        kraft_version_feature=updating.KRaftVersionFeature(min_supported_version=low, max_supported_version=high),
    )


def add_request(who: Identity, *, timeout_ms: int) -> adding.AddRaftVoterRequest:
    """Ask the leader to make us a voter."""
    return adding.AddRaftVoterRequest(
        cluster_id=who.cluster_id,
        timeout_ms=timeout_ms,
        voter_id=who.me.id,
        voter_directory_id=who.me.directory_id,
        listeners=[adding.Listener(name=name, host=host, port=port) for name, host, port in who.endpoints],
        ack_when_committed=False,
    )

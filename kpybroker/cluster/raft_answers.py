"""What a member of the metadata quorum answers to the others: Vote, Begin- and EndQuorumEpoch, Fetch, FetchSnapshot.

A request must name the metadata partition and nothing else, and the cluster if it names one. Every answer says who
leads which epoch, and where it listens on the listener that the request came by.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from kpybroker.cluster.machines import raft_events as ev
from kpybroker.cluster.machines.raft_events import Endpoints, Key, SnapshotId
from kpybroker.cluster.metadata_log import TOPIC_ID
from kpybroker.cluster.names import METADATA_TOPIC
from kpybroker.cluster.snapshot import BOOTSTRAP
from kpybroker.wire.codes import Code

if TYPE_CHECKING:
    from kpybroker.cluster.raft_node import RaftNode
    from kpybroker.wire.messages.begin_quorum_epoch import BeginQuorumEpochRequest, BeginQuorumEpochResponse
    from kpybroker.wire.messages.end_quorum_epoch import EndQuorumEpochRequest, EndQuorumEpochResponse
    from kpybroker.wire.messages.fetch import FetchPartition, FetchRequest, FetchResponse
    from kpybroker.wire.messages.fetch_snapshot import FetchSnapshotRequest, FetchSnapshotResponse
    from kpybroker.wire.messages.vote import VoteRequest, VoteResponse

BY_ID_SINCE = 13
"""The version of Fetch from which topics are named by id."""
FETCH_BYTES_MAX = 8 << 20
"""What is read of the log for one fetch, whatever was asked for: any batch of it is smaller."""


class Listener:
    """One node's quorum, as it answers on one listener: with what it then was, once that is on the disk."""

    def __init__(self, node: RaftNode, name: str) -> None:
        self._node = node
        self._name = name

    # Votes and announcements

    async def vote(self, request: VoteRequest) -> VoteResponse:
        """Answer a Vote (v0 to 2)."""
        from kpybroker.wire.messages import vote

        refusal = self._refusal(request)
        if refusal is not None:
            return vote.VoteResponse(error_code=refusal, topics=[])
        asked = request.topics[0].partitions[0]
        reply = self._step(
            ev.VoteRequested(
                Key(asked.replica_id, asked.replica_directory_id),
                asked.replica_epoch,
                asked.last_offset_epoch,
                asked.last_offset,
                asked.pre_vote,
                _voter(request.voter_id, asked.voter_directory_id),
            )
        )
        told = vote.ResponsePartitionData(
            partition_index=0,
            error_code=reply.code,
            leader_id=self._leader_id,
            leader_epoch=self._node.leader_epoch,
            vote_granted=reply.granted,
        )
        response = vote.VoteResponse(
            error_code=Code.NONE,
            topics=[vote.ResponseTopicData(topic_name=METADATA_TOPIC, partitions=[told])],
            node_endpoints=[vote.NodeEndpoint(node_id=id_, host=host, port=port) for id_, host, port in self._nodes()],
        )
        await self._node.persisted()
        return response

    async def begin(self, request: BeginQuorumEpochRequest) -> BeginQuorumEpochResponse:
        """Answer a BeginQuorumEpoch (v0 and 1)."""
        from kpybroker.wire.messages import begin_quorum_epoch as begin

        refusal = self._refusal(request)
        if refusal is not None:
            return begin.BeginQuorumEpochResponse(error_code=refusal, topics=[])
        asked = request.topics[0].partitions[0]
        reply = self._step(
            ev.BeginRequested(
                asked.leader_id,
                asked.leader_epoch,
                _endpoints(request.leader_endpoints),
                _voter(request.voter_id, asked.voter_directory_id),
            )
        )
        told = begin.ResponsePartitionData(
            partition_index=0,
            error_code=reply.code,
            leader_id=self._leader_id,
            leader_epoch=self._node.leader_epoch,
        )
        response = begin.BeginQuorumEpochResponse(
            error_code=Code.NONE,
            topics=[begin.ResponseTopicData(topic_name=METADATA_TOPIC, partitions=[told])],
            node_endpoints=[begin.NodeEndpoint(node_id=id_, host=host, port=port) for id_, host, port in self._nodes()],
        )
        await self._node.persisted()
        return response

    async def end(self, request: EndQuorumEpochRequest) -> EndQuorumEpochResponse:
        """Answer an EndQuorumEpoch (v0 and 1)."""
        from kpybroker.wire.messages import end_quorum_epoch as end

        refusal = self._refusal(request)
        if refusal is not None:
            return end.EndQuorumEpochResponse(error_code=refusal, topics=[])
        asked = request.topics[0].partitions[0]
        preferred = [Key(each.candidate_id, each.candidate_directory_id) for each in asked.preferred_candidates]
        reply = self._step(
            ev.EndRequested(
                asked.leader_id,
                asked.leader_epoch,
                _endpoints(request.leader_endpoints),
                tuple(preferred or map(Key, asked.preferred_successors)),
            )
        )
        told = end.ResponsePartitionData(
            partition_index=0,
            error_code=reply.code,
            leader_id=self._leader_id,
            leader_epoch=self._node.leader_epoch,
        )
        response = end.EndQuorumEpochResponse(
            error_code=Code.NONE,
            topics=[end.ResponseTopicData(topic_name=METADATA_TOPIC, partitions=[told])],
            node_endpoints=[end.NodeEndpoint(node_id=id_, host=host, port=port) for id_, host, port in self._nodes()],
        )
        await self._node.persisted()
        return response

    # The log

    async def fetch(self, request: FetchRequest, version: int) -> FetchResponse:
        """Answer a Fetch (v4 to 18) as things are now."""
        from kpybroker.wire.messages import fetch

        refusal = self._refusal(request, by_id=version >= BY_ID_SINCE)
        if refusal is not None:
            return fetch.FetchResponse(throttle_time_ms=0, error_code=refusal, responses=[])
        asked = request.topics[0].partitions[0]
        reply = ev.FetchReply(Code.INVALID_REQUEST)
        if _is_fetch(request, asked):
            replica = request.replica_id if request.replica_id >= 0 else request.replica_state.replica_id
            told = self._node.step(
                ev.FetchRequested(
                    Key(replica, asked.replica_directory_id),
                    asked.current_leader_epoch,
                    asked.fetch_offset,
                    asked.last_fetched_epoch,
                )
            )
            assert isinstance(told, ev.FetchReply)
            reply = told
        node, leadership = self._node, self._node.log.raft.leadership
        valid = reply.code == Code.NONE and reply.diverging is None and reply.snapshot is None
        high_watermark = leadership.high_watermark if leadership is not None and reply.code == Code.NONE else None
        diverging, snapshot = reply.diverging or (-1, -1), reply.snapshot or SnapshotId(-1, -1)
        bytes_max = min(max(request.max_bytes, 0), FETCH_BYTES_MAX)
        data = fetch.PartitionData(
            partition_index=0,
            error_code=reply.code,
            high_watermark=-1 if high_watermark is None else high_watermark,
            log_start_offset=node.log.log_start_offset,
            diverging_epoch=fetch.EpochEndOffset(epoch=diverging[0], end_offset=diverging[1]),
            current_leader=fetch.LeaderIdAndEpoch(leader_id=self._leader_id, leader_epoch=node.leader_epoch),
            snapshot_id=fetch.SnapshotId(end_offset=snapshot.end_offset, epoch=snapshot.epoch),
            aborted_transactions=None,
            records=node.log.read(asked.fetch_offset, bytes_max) if valid else b"",
        )
        topic = fetch.FetchableTopicResponse(topic=METADATA_TOPIC, topic_id=TOPIC_ID, partitions=[data])
        response = fetch.FetchResponse(
            throttle_time_ms=0,
            responses=[topic],
            node_endpoints=[fetch.NodeEndpoint(node_id=id_, host=host, port=port) for id_, host, port in self._nodes()],
        )
        await self._node.persisted()
        return response

    async def fetch_snapshot(self, request: FetchSnapshotRequest) -> FetchSnapshotResponse:
        """Answer a FetchSnapshot (v0 and 1). Blocks for reading the slice. Raises: StorageFailed."""
        from kpybroker.wire.messages import fetch_snapshot as messages

        node = self._node
        if request.cluster_id is not None and request.cluster_id != node.who.cluster_id:
            return messages.FetchSnapshotResponse(
                throttle_time_ms=0, error_code=Code.INCONSISTENT_CLUSTER_ID, topics=[]
            )
        if len(request.topics) != 1 or len(request.topics[0].partitions) != 1:
            return messages.FetchSnapshotResponse(throttle_time_ms=0, error_code=Code.INVALID_REQUEST, topics=[])
        topic = request.topics[0]
        asked = topic.partitions[0]
        id_ = SnapshotId(asked.snapshot_id.end_offset, asked.snapshot_id.epoch)
        size, data, code = 0, b"", Code.UNKNOWN_TOPIC_OR_PARTITION
        ours = (topic.name, asked.partition) == (METADATA_TOPIC, 0)
        if ours:
            key = Key(request.replica_id, asked.replica_directory_id)
            code = self._step(ev.SnapshotRequested(key, asked.current_leader_epoch)).code
        if code == Code.NONE:
            there = node.log.snapshots.size_of(id_) if id_ != BOOTSTRAP else None
            if there is None:
                code = Code.SNAPSHOT_NOT_FOUND
            elif not 0 <= asked.position < there:
                code = Code.POSITION_OUT_OF_RANGE
            else:
                bytes_max = min(max(request.max_bytes, 0), FETCH_BYTES_MAX)
                size, data = there, node.log.snapshots.read(id_, asked.position, bytes_max)
        found = code == Code.NONE
        told = messages.ResponsePartitionSnapshot(
            index=asked.partition,
            error_code=code,
            snapshot_id=messages.SnapshotId(end_offset=id_.end_offset if found else 0, epoch=id_.epoch if found else 0),
            current_leader=messages.LeaderIdAndEpoch(leader_id=self._leader_id, leader_epoch=node.leader_epoch)
            if ours
            else messages.LeaderIdAndEpoch(leader_id=0, leader_epoch=0),
            size=size,
            position=asked.position if found else 0,
            unaligned_records=data,
        )
        response = messages.FetchSnapshotResponse(
            throttle_time_ms=0,
            error_code=Code.NONE,
            topics=[messages.ResponseTopicSnapshot(name=topic.name, partitions=[told])],
            node_endpoints=[
                messages.NodeEndpoint(node_id=id_, host=host, port=port) for id_, host, port in self._nodes()
            ],
        )
        await self._node.persisted()
        return response

    # Inside

    def _step(self, event: ev.Event) -> ev.Reply:
        reply = self._node.step(event)
        assert isinstance(reply, ev.Reply), "every request has its reply"
        return reply

    def _refusal(self, request: Any, *, by_id: bool = False) -> Code | None:
        """What is wrong with a request before it is looked into."""
        if request.cluster_id is not None and request.cluster_id != self._node.who.cluster_id:
            return Code.INCONSISTENT_CLUSTER_ID
        named = [
            (topic.topic_id if by_id else _name(topic), _index(partition))
            for topic in request.topics
            for partition in topic.partitions
        ]
        ours = [(TOPIC_ID if by_id else METADATA_TOPIC, 0)]
        return None if named == ours and len(request.topics) == 1 else Code.INVALID_REQUEST

    @property
    def _leader_id(self) -> int:
        leader_id = self._node.leader_id
        return -1 if leader_id is None else leader_id

    def _nodes(self) -> list[tuple[int, str, int]]:
        """Where the leader listens, by this listener's name."""
        leader_id = self._node.leader_id
        if leader_id is None:
            return []
        return [(leader_id, host, port) for name, host, port in self._node.leader_endpoints if name == self._name][:1]


def _name(topic: Any) -> str:
    name: str = topic.topic if hasattr(topic, "topic") else topic.topic_name
    return name


def _index(partition: Any) -> int:
    index: int = partition.partition if hasattr(partition, "partition") else partition.partition_index
    return index


def _voter(voter_id: int, directory_id: bytes) -> Key | None:
    """Whom a request is meant for; None: it does not say."""
    return Key(voter_id, directory_id) if voter_id >= 0 else None


def _endpoints(told: Sequence[Any]) -> Endpoints:
    return tuple((each.name, each.host, each.port) for each in told)


def _is_fetch(request: FetchRequest, asked: FetchPartition) -> bool:
    return (
        request.max_wait_ms >= 0
        and asked.fetch_offset >= 0
        and 0 <= asked.last_fetched_epoch <= asked.current_leader_epoch
    )


def must_answer(request: FetchRequest, response: FetchResponse) -> bool:
    """Whether a fetch is answered at once: an error, records, where to cut or what to load, or a new high watermark."""
    if response.error_code or not response.responses or request.max_wait_ms == 0:
        return True
    told, asked = response.responses[0].partitions[0], request.topics[0].partitions[0]
    return (
        told.error_code != Code.NONE
        or bool(told.records)
        or told.diverging_epoch.epoch >= 0
        or told.snapshot_id.epoch >= 0
        or asked.high_watermark < told.high_watermark
    )

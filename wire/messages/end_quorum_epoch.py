"""EndQuorumEpoch (API 54): a leader of the metadata quorum resigns and names successors (KIP-595)."""

from typing import Annotated

from kpybroker.wire.schema import IGNORABLE, Int16, Int32, Message, Since, Struct, Tag, Uint16, Uuid, Versions, message


class ReplicaInfo(Struct):
    candidate_id: Int32
    candidate_directory_id: Uuid


class RequestPartitionData(Struct):
    partition_index: Int32
    leader_id: Int32
    leader_epoch: Int32
    preferred_successors: Annotated[list[Int32], Versions("0"), IGNORABLE] = []
    preferred_candidates: Annotated[list[ReplicaInfo], Since(1), IGNORABLE] = []


class RequestTopicData(Struct):
    topic_name: str
    partitions: list[RequestPartitionData]


class LeaderEndpoint(Struct):
    name: str
    host: str
    port: Uint16


@message(key=54, versions="0-1", flexible="1+")
class EndQuorumEpochRequest(Message):
    cluster_id: str | None = None
    topics: list[RequestTopicData]
    leader_endpoints: Annotated[list[LeaderEndpoint], Since(1), IGNORABLE] = []


class ResponsePartitionData(Struct):
    partition_index: Int32
    error_code: Int16
    leader_id: Int32
    leader_epoch: Int32


class ResponseTopicData(Struct):
    topic_name: str
    partitions: list[ResponsePartitionData]


class NodeEndpoint(Struct):
    node_id: Int32
    host: str
    port: Uint16


@message(key=54, versions="0-1", flexible="1+")
class EndQuorumEpochResponse(Message):
    error_code: Int16
    topics: list[ResponseTopicData]
    node_endpoints: Annotated[list[NodeEndpoint], Tag(0, since=1)] = []

"""Vote (API 52): a candidate of the metadata quorum asks for a vote, or whether it would get one (KIP-595, KIP-996)."""

from typing import Annotated

from kpybroker.wire.primitives import ZERO_UUID
from kpybroker.wire.schema import IGNORABLE, Int16, Int32, Int64, Message, Since, Struct, Tag, Uint16, Uuid, message


class RequestPartitionData(Struct):
    partition_index: Int32
    replica_epoch: Int32
    replica_id: Int32
    replica_directory_id: Annotated[Uuid, Since(1), IGNORABLE] = ZERO_UUID
    voter_directory_id: Annotated[Uuid, Since(1), IGNORABLE] = ZERO_UUID
    last_offset_epoch: Int32
    last_offset: Int64
    pre_vote: Annotated[bool, Since(2)] = False  # KIP-996


class RequestTopicData(Struct):
    topic_name: str
    partitions: list[RequestPartitionData]


@message(key=52, versions="0-2", flexible="0+")
class VoteRequest(Message):
    cluster_id: str | None = None
    voter_id: Annotated[Int32, Since(1), IGNORABLE] = -1
    topics: list[RequestTopicData]


class ResponsePartitionData(Struct):
    partition_index: Int32
    error_code: Int16
    leader_id: Int32
    leader_epoch: Int32
    vote_granted: bool


class ResponseTopicData(Struct):
    topic_name: str
    partitions: list[ResponsePartitionData]


class NodeEndpoint(Struct):
    node_id: Int32
    host: str
    port: Uint16


@message(key=52, versions="0-2", flexible="0+")
class VoteResponse(Message):
    error_code: Int16
    topics: list[ResponseTopicData]
    node_endpoints: Annotated[list[NodeEndpoint], Tag(0, since=1)] = []

"""BeginQuorumEpoch (API 53): a new leader of the metadata quorum announces itself to the voters (KIP-595)."""

from typing import Annotated

from kpybroker.wire.primitives import ZERO_UUID
from kpybroker.wire.schema import IGNORABLE, Int16, Int32, Message, Since, Struct, Tag, Uint16, Uuid, message


class RequestPartitionData(Struct):
    partition_index: Int32
    voter_directory_id: Annotated[Uuid, Since(1), IGNORABLE] = ZERO_UUID
    leader_id: Int32
    leader_epoch: Int32


class RequestTopicData(Struct):
    topic_name: str
    partitions: list[RequestPartitionData]


class LeaderEndpoint(Struct):
    name: str
    host: str
    port: Uint16


@message(key=53, versions="0-1", flexible="1+")
class BeginQuorumEpochRequest(Message):
    cluster_id: str | None = None
    voter_id: Annotated[Int32, Since(1), IGNORABLE] = -1
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


@message(key=53, versions="0-1", flexible="1+")
class BeginQuorumEpochResponse(Message):
    error_code: Int16
    topics: list[ResponseTopicData]
    node_endpoints: Annotated[list[NodeEndpoint], Tag(0, since=1)] = []

"""Metadata (API 3): brokers, topics and who leads their partitions."""

from typing import Annotated

from kpybroker.wire.primitives import ZERO_UUID
from kpybroker.wire.schema import IGNORABLE, Int16, Int32, Message, Nullable, Since, Struct, Uuid, Versions, message


class MetadataRequestTopic(Struct):
    topic_id: Annotated[Uuid, Since(10), IGNORABLE] = ZERO_UUID  # KIP-516
    name: Annotated[str | None, Nullable("10+")]


@message(key=3, versions="0-13", flexible="9+")
class MetadataRequest(Message):
    topics: Annotated[list[MetadataRequestTopic] | None, Nullable("1+")]
    allow_auto_topic_creation: Annotated[bool, Since(4)] = True
    include_cluster_authorized_operations: Annotated[bool, Versions("8-10")] = False  # KIP-430
    include_topic_authorized_operations: Annotated[bool, Since(8)] = False  # KIP-430


class MetadataResponseBroker(Struct):
    node_id: Int32
    host: str
    port: Int32
    rack: Annotated[str | None, Since(1), IGNORABLE] = None


class MetadataResponsePartition(Struct):
    error_code: Int16
    partition_index: Int32
    leader_id: Int32
    leader_epoch: Annotated[Int32, Since(7), IGNORABLE] = -1  # KIP-320
    replica_nodes: list[Int32]
    isr_nodes: list[Int32]
    offline_replicas: Annotated[list[Int32], Since(5), IGNORABLE] = []  # KIP-112


class MetadataResponseTopic(Struct):
    error_code: Int16
    name: Annotated[str | None, Nullable("12+")]
    topic_id: Annotated[Uuid, Since(10), IGNORABLE] = ZERO_UUID  # KIP-516
    is_internal: Annotated[bool, Since(1), IGNORABLE] = False
    partitions: list[MetadataResponsePartition]
    topic_authorized_operations: Annotated[Int32, Since(8)] = -0x80000000  # bits, KIP-430


@message(key=3, versions="0-13", flexible="9+")
class MetadataResponse(Message):
    throttle_time_ms: Annotated[Int32, Since(3), IGNORABLE] = 0
    brokers: list[MetadataResponseBroker]
    cluster_id: Annotated[str | None, Since(2), IGNORABLE] = None
    controller_id: Annotated[Int32, Since(1), IGNORABLE] = -1
    topics: list[MetadataResponseTopic]
    cluster_authorized_operations: Annotated[Int32, Versions("8-10")] = -0x80000000  # bits, KIP-430
    error_code: Annotated[Int16, Since(13), IGNORABLE] = 0

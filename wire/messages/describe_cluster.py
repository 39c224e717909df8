"""DescribeCluster (API 60): the cluster's id, controller and nodes (KIP-700)."""

from typing import Annotated

from kpybroker.wire.schema import Int8, Int16, Int32, Message, Since, Struct, message


@message(key=60, versions="0-2", flexible="0+")
class DescribeClusterRequest(Message):
    include_cluster_authorized_operations: bool
    endpoint_type: Annotated[Int8, Since(1)] = 1  # 1: brokers, 2: controllers (KIP-919)
    include_fenced_brokers: Annotated[bool, Since(2)] = False


class DescribeClusterBroker(Struct):
    broker_id: Int32
    host: str
    port: Int32
    rack: str | None = None
    is_fenced: Annotated[bool, Since(2)] = False


@message(key=60, versions="0-2", flexible="0+")
class DescribeClusterResponse(Message):
    throttle_time_ms: Int32
    error_code: Int16
    error_message: str | None = None
    endpoint_type: Annotated[Int8, Since(1)] = 1  # 1: brokers, 2: controllers (KIP-919)
    cluster_id: str
    controller_id: Int32 = -1
    brokers: list[DescribeClusterBroker]
    cluster_authorized_operations: Int32 = -0x80000000

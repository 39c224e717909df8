"""AlterPartition (API 56): a leader asks the controller to change the in-sync replicas (KIP-497)."""

from typing import Annotated

from kpybroker.wire.schema import IGNORABLE, Int8, Int16, Int32, Int64, Message, Since, Struct, Uuid, Versions, message


class BrokerState(Struct):
    broker_id: Int32
    broker_epoch: Int64 = -1


class RequestPartitionData(Struct):
    partition_index: Int32
    leader_epoch: Int32
    new_isr: Annotated[list[Int32], Versions("2")] = []
    new_isr_with_epochs: Annotated[list[BrokerState], Since(3)] = []  # KIP-903
    leader_recovery_state: Int8 = 0  # KIP-704
    partition_epoch: Int32


class RequestTopicData(Struct):
    topic_id: Annotated[Uuid, IGNORABLE]
    partitions: list[RequestPartitionData]


@message(key=56, versions="2-3", flexible="0+")
class AlterPartitionRequest(Message):
    broker_id: Int32
    broker_epoch: Int64 = -1
    topics: list[RequestTopicData]


class ResponsePartitionData(Struct):
    partition_index: Int32
    error_code: Int16
    leader_id: Int32
    leader_epoch: Int32
    isr: list[Int32]
    leader_recovery_state: Annotated[Int8, IGNORABLE] = 0  # KIP-704
    partition_epoch: Int32


class ResponseTopicData(Struct):
    topic_id: Annotated[Uuid, IGNORABLE]
    partitions: list[ResponsePartitionData]


@message(key=56, versions="2-3", flexible="0+")
class AlterPartitionResponse(Message):
    throttle_time_ms: Int32
    error_code: Int16
    topics: list[ResponseTopicData]

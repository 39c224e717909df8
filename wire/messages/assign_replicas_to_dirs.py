"""AssignReplicasToDirs (API 73): a broker tells the controller which log directory holds which replica (KIP-858)."""

from kpybroker.wire.schema import Int16, Int32, Int64, Message, Struct, Uuid, message


class RequestPartitionData(Struct):
    partition_index: Int32


class RequestTopicData(Struct):
    topic_id: Uuid
    partitions: list[RequestPartitionData]


class RequestDirectoryData(Struct):
    id: Uuid
    topics: list[RequestTopicData]


@message(key=73, versions="0", flexible="0+")
class AssignReplicasToDirsRequest(Message):
    broker_id: Int32
    broker_epoch: Int64 = -1
    directories: list[RequestDirectoryData]


class ResponsePartitionData(Struct):
    partition_index: Int32
    error_code: Int16


class ResponseTopicData(Struct):
    topic_id: Uuid
    partitions: list[ResponsePartitionData]


class ResponseDirectoryData(Struct):
    id: Uuid
    topics: list[ResponseTopicData]


@message(key=73, versions="0", flexible="0+")
class AssignReplicasToDirsResponse(Message):
    throttle_time_ms: Int32
    error_code: Int16
    directories: list[ResponseDirectoryData]

"""ElectLeaders (API 43): make the preferred, or any, replica the leader (KIP-183, KIP-460)."""

from typing import Annotated

from kpybroker.wire.schema import Int8, Int16, Int32, Message, Since, Struct, message


class TopicPartitions(Struct):
    topic: str
    partitions: list[Int32]


@message(key=43, versions="0-2", flexible="2+")
class ElectLeadersRequest(Message):
    election_type: Annotated[Int8, Since(1)] = 0
    topic_partitions: list[TopicPartitions] | None
    timeout_ms: Int32 = 60000


class PartitionResult(Struct):
    partition_id: Int32
    error_code: Int16
    error_message: str | None


class ReplicaElectionResult(Struct):
    topic: str
    partition_result: list[PartitionResult]


@message(key=43, versions="0-2", flexible="2+")
class ElectLeadersResponse(Message):
    throttle_time_ms: Int32
    error_code: Annotated[Int16, Since(1)] = 0
    replica_election_results: list[ReplicaElectionResult]

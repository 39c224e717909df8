"""AssignReplicasToDirs: a broker says in which of its folders its replicas are (KIP-858).

Where the folder is not one that the broker has online, the replica leaves ISR and leadership, in a record of its own
after those of the places. A partition without a leader gets one if its replica turns out to be in a folder that is
online (Kafka's controller leaves that to the next election).
"""

from __future__ import annotations

from collections.abc import Mapping

from kpybroker.cluster.features import DIRECTORIES_SINCE
from kpybroker.cluster.image import BrokerImage
from kpybroker.cluster.machines.brokers import broker_at_epoch
from kpybroker.cluster.machines.decision import Decision, State
from kpybroker.cluster.machines.leadership import Place, leader_changes, rules_of
from kpybroker.cluster.machines.partition_change import change_partition
from kpybroker.cluster.replay import MetadataRecord
from kpybroker.wire.codes import Code, Refused
from kpybroker.wire.internal.metadata_records import PartitionChangeRecord
from kpybroker.wire.messages.assign_replicas_to_dirs import (
    AssignReplicasToDirsRequest,
    AssignReplicasToDirsResponse,
    RequestDirectoryData,
    RequestPartitionData,
    RequestTopicData,
    ResponseDirectoryData,
    ResponsePartitionData,
    ResponseTopicData,
)


def assignments_request(
    broker_id: int, broker_epoch: int, places: Mapping[tuple[bytes, int], bytes]
) -> AssignReplicasToDirsRequest:
    """The request that says of each partition (topic id and index) in which directory it is."""
    directories: dict[bytes, dict[bytes, list[RequestPartitionData]]] = {}
    for (topic_id, index), directory in places.items():
        topics = directories.setdefault(directory, {})
        topics.setdefault(topic_id, []).append(RequestPartitionData(partition_index=index))
    return AssignReplicasToDirsRequest(
        broker_id=broker_id,
        broker_epoch=broker_epoch,
        directories=[
            RequestDirectoryData(
                id=directory,
                topics=[RequestTopicData(topic_id=topic, partitions=parts) for topic, parts in topics.items()],
            )
            for directory, topics in directories.items()
        ],
    )


def assign_replicas_to_dirs(
    state: State, request: AssignReplicasToDirsRequest
) -> Decision[AssignReplicasToDirsResponse]:
    """Decide an AssignReplicasToDirs request (v0). Raises: Refused(STALE_BROKER_EPOCH, UNSUPPORTED_VERSION)."""
    if (state.image.features.metadata_version or 0) < DIRECTORIES_SINCE:
        raise Refused(Code.UNSUPPORTED_VERSION, "Directory assignment is not supported yet.")
    assignments = _Assignments(state, broker_at_epoch(state.image, request.broker_id, request.broker_epoch))
    directories = [
        ResponseDirectoryData(
            id=directory.id,
            topics=[
                ResponseTopicData(
                    topic_id=topic.topic_id,
                    partitions=[
                        ResponsePartitionData(
                            partition_index=each.partition_index,
                            error_code=assignments.assign(topic.topic_id, each.partition_index, directory.id),
                        )
                        for each in topic.partitions
                    ],
                )
                for topic in directory.topics
            ],
        )
        for directory in request.directories
    ]
    response = AssignReplicasToDirsResponse(throttle_time_ms=0, error_code=Code.NONE, directories=directories)
    return Decision([*assignments.records, *assignments.gone], response)


class _Assignments:
    """The assignments of one request."""

    def __init__(self, state: State, broker: BrokerImage) -> None:
        self._state = state
        self._broker = broker
        self._configs = state.configs
        self.records: list[MetadataRecord] = []
        self.gone: list[MetadataRecord] = []
        """Of replicas that are in a folder that is offline."""

    def assign(self, topic_id: bytes, index: int, directory: bytes) -> Code:
        """Record where one replica is; the error code of that."""
        topic = self._state.image.topics.by_id.get(topic_id)
        if topic is None:
            return Code.UNKNOWN_TOPIC_ID
        partition = topic.partitions.get(index)
        if partition is None:
            return Code.UNKNOWN_TOPIC_OR_PARTITION
        broker = self._broker
        if broker.id not in partition.replicas:
            return Code.NOT_LEADER_OR_FOLLOWER
        directories = dict(zip(partition.replicas, partition.directories, strict=True))
        directories[broker.id] = directory
        record: PartitionChangeRecord | None
        if broker.has_online_directory(directory):
            rules = rules_of(self._state, self._configs, topic, self._state.image.is_active)
            record = change_partition(partition, rules, topic_id=topic_id, index=index, directories=directories)
        else:
            places = [directories[replica] for replica in partition.replicas]
            record = PartitionChangeRecord(partition_id=index, topic_id=topic_id, directories=places)
            if tuple(places) == partition.directories:
                record = None
            self.gone += leader_changes(self._state, [Place(topic, index, partition)], gone=broker.id)
        if record is not None:
            self.records.append(record)
        return Code.NONE

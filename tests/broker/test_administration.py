"""The administration APIs at a broker: what they change for everybody, and what nobody can do with them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from kpybroker.testing import Broker
from kpybroker.wire.api_keys import APIS
from kpybroker.wire.codes import Code
from kpybroker.wire.messages import (
    add_raft_voter,
    alter_partition_reassignments,
    alter_replica_log_dirs,
    create_partitions,
    delete_records,
    describe_log_dirs,
    describe_producers,
    describe_quorum,
    elect_leaders,
    list_partition_reassignments,
)
from kpybroker.wire.messages.api_versions import ApiVersionsRequest, ApiVersionsResponse
from kpybroker.wire.messages.metadata import MetadataRequest, MetadataRequestTopic, MetadataResponse
from kpybroker.wire.messages.produce import PartitionProduceData, ProduceRequest, ProduceResponse, TopicProduceData
from kpybroker.wire.messages.remove_raft_voter import RemoveRaftVoterRequest
from kpybroker.wire.messages.unregister_broker import UnregisterBrokerRequest, UnregisterBrokerResponse
from kpybroker.wire.messages.update_features import FeatureUpdateKey, UpdateFeaturesRequest, UpdateFeaturesResponse
from kpybroker.wire.primitives import ZERO_UUID
from kpybroker.wire.records.batch import build_batch
from kpybroker.wire.records.record import Record
from kpybroker.wire.schema import Message

LONG = "x" * 32_767
MANY = 20_000
SOME_ID = bytes(range(16))


def produce(client: Any) -> int:
    records = build_batch([Record(timestamp=1_700_000_000_000, value=b"x")])
    data = TopicProduceData(name="t", partition_data=[PartitionProduceData(index=0, records=records)])
    answer = client.ask(ProduceRequest(acks=-1, timeout_ms=5000, topic_data=[data]), ProduceResponse, 12)
    code: int = answer.responses[0].partition_responses[0].error_code
    return code


def metadata(client: Any) -> tuple[list[int], int]:
    """The brokers, and the leader of partition 0."""
    request = MetadataRequest(topics=[MetadataRequestTopic(name="t", topic_id=ZERO_UUID)])
    response = client.ask(request, MetadataResponse, 12)
    return [broker.node_id for broker in response.brokers], response.topics[0].partitions[0].leader_id


def test_the_only_broker_is_unregistered(broker: Broker, client: Any, connect: Callable[[], Any]) -> None:
    """As with Kafka it leads nothing until it starts anew; then everything is there."""
    broker.create_topic("t")
    assert produce(client) == Code.NONE
    answer = client.ask(UnregisterBrokerRequest(broker_id=1), UnregisterBrokerResponse, 0)
    assert (answer.error_code, answer.error_message) == (Code.NONE, "")
    assert metadata(client) == ([], -1)
    assert produce(client) == Code.NOT_LEADER_OR_FOLLOWER
    broker.restart()
    again = connect()
    assert metadata(again) == ([1], 1)
    assert produce(again) == Code.NONE


def levels(client: Any) -> dict[str, int]:
    request = ApiVersionsRequest(client_software_name="test", client_software_version="1")
    features = client.ask(request, ApiVersionsResponse, 4).finalized_features
    return {each.name: each.max_version_level for each in features}


def test_feature_levels_are_told_and_kept(broker: Broker, client: Any, connect: Callable[[], Any]) -> None:
    before = levels(client)
    down = FeatureUpdateKey(feature="share.version", max_version_level=0, upgrade_type=2)
    answer = client.ask(UpdateFeaturesRequest(feature_updates=[down]), UpdateFeaturesResponse, 2)
    assert answer.error_code == Code.NONE
    after = {name: level for name, level in before.items() if name != "share.version"}
    assert levels(client) == after != before
    broker.restart()
    assert levels(connect()) == after


def hostile() -> list[tuple[str, Message, int]]:
    """Long names, numbers at their ends, lists without end."""
    many = list(range(-1, MANY))
    return [
        (
            "DeleteRecords",
            delete_records.DeleteRecordsRequest(
                topics=[
                    delete_records.DeleteRecordsTopic(
                        name=name,
                        partitions=[
                            delete_records.DeleteRecordsPartition(partition_index=index, offset=-(2**63))
                            for index in many
                        ],
                    )
                    for name in (LONG, "t")
                ],
                timeout_ms=-(2**31),
            ),
            2,
        ),
        (
            "DescribeLogDirs",
            describe_log_dirs.DescribeLogDirsRequest(
                topics=[describe_log_dirs.DescribableLogDirTopic(topic=name, partitions=many) for name in (LONG, "t")]
            ),
            4,
        ),
        (
            "AlterReplicaLogDirs",
            alter_replica_log_dirs.AlterReplicaLogDirsRequest(
                dirs=[
                    alter_replica_log_dirs.AlterReplicaLogDir(
                        path=f"/{LONG[1:]}",
                        topics=[alter_replica_log_dirs.AlterReplicaLogDirTopic(name="\0/../", partitions=many)],
                    )
                ]
            ),
            2,
        ),
        (
            "DescribeProducers",
            describe_producers.DescribeProducersRequest(
                topics=[describe_producers.TopicRequest(name=LONG, partition_indexes=[0, -(2**31)])]
            ),
            0,
        ),
        (
            "DescribeProducers",
            describe_producers.DescribeProducersRequest(
                topics=[describe_producers.TopicRequest(name="t", partition_indexes=many)]
            ),
            0,
        ),
        (
            "ElectLeaders",
            elect_leaders.ElectLeadersRequest(
                topic_partitions=[
                    elect_leaders.TopicPartitions(topic=LONG, partitions=[-1]),
                    elect_leaders.TopicPartitions(topic="t", partitions=many),
                ]
            ),
            2,
        ),
        (
            "AlterPartitionReassignments",
            alter_partition_reassignments.AlterPartitionReassignmentsRequest(
                topics=[
                    alter_partition_reassignments.ReassignableTopic(
                        name=name,
                        partitions=[
                            alter_partition_reassignments.ReassignablePartition(partition_index=index, replicas=ids)
                            for index, ids in ((0, many), (2**31 - 1, [-1]), (-(2**31), None))
                        ],
                    )
                    for name in (LONG, "t")
                ]
            ),
            1,
        ),
        (
            "ListPartitionReassignments",
            list_partition_reassignments.ListPartitionReassignmentsRequest(
                topics=[
                    list_partition_reassignments.ListPartitionReassignmentsTopics(name=name, partition_indexes=many)
                    for name in (LONG, "t")
                ]
            ),
            0,
        ),
        (
            "UpdateFeatures",
            UpdateFeaturesRequest(
                feature_updates=[FeatureUpdateKey(feature=LONG, max_version_level=2**15 - 1)]
                + [FeatureUpdateKey(feature=f"f{index}", max_version_level=-(2**15)) for index in many]
            ),
            2,
        ),
        (
            "DescribeQuorum",
            describe_quorum.DescribeQuorumRequest(
                topics=[
                    describe_quorum.RequestTopicData(
                        topic_name=LONG,
                        partitions=[describe_quorum.RequestPartitionData(partition_index=index) for index in many],
                    )
                ]
            ),
            2,
        ),
        ("UnregisterBroker", UnregisterBrokerRequest(broker_id=-(2**31)), 0),
        (
            "AddRaftVoter",
            add_raft_voter.AddRaftVoterRequest(
                cluster_id=None,
                timeout_ms=-1,
                voter_id=2**31 - 1,
                voter_directory_id=SOME_ID,
                listeners=[add_raft_voter.Listener(name=f"{index}", host=LONG[:100], port=65_535) for index in many],
            ),
            1,
        ),
        (
            "RemoveRaftVoter",
            RemoveRaftVoterRequest(cluster_id=LONG, voter_id=2**31 - 1, voter_directory_id=SOME_ID),
            0,
        ),
        (
            "CreatePartitions",
            create_partitions.CreatePartitionsRequest(
                topics=[
                    create_partitions.CreatePartitionsTopic(name="t", count=2**31 - 1, assignments=None),
                    create_partitions.CreatePartitionsTopic(name=LONG, count=-(2**31), assignments=None),
                    create_partitions.CreatePartitionsTopic(
                        name="u",
                        count=MANY + 1,
                        assignments=[create_partitions.CreatePartitionsAssignment(broker_ids=[1])] * MANY,
                    ),
                ],
                timeout_ms=60_000,
                validate_only=False,
            ),
            3,
        ),
    ]


@pytest.mark.parametrize(
    ("name", "request_", "version"), hostile(), ids=lambda value: value if isinstance(value, str) else ""
)
def test_hostile_requests_are_answered(
    broker: Broker, client: Any, caplog: pytest.LogCaptureFixture, name: str, request_: Message, version: int
) -> None:
    broker.create_topic("t")
    broker.create_topic("u")
    client.ask(request_, APIS[request_.API_KEY].response_class(), version)
    assert [record.getMessage() for record in caplog.records if record.exc_info] == [], name
    assert metadata(client) == ([1], 1)
    assert produce(client) == Code.NONE

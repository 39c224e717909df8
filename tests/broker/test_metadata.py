"""Metadata, DescribeTopicPartitions, DescribeCluster, CreateTopics, DeleteTopics: what there is, and making it."""

from __future__ import annotations

from typing import Any

import pytest

from kpybroker.testing import Broker
from kpybroker.wire.codes import Code
from kpybroker.wire.messages.create_topics import (
    CreatableReplicaAssignment,
    CreatableTopic,
    CreatableTopicConfig,
    CreatableTopicResult,
    CreateTopicsRequest,
    CreateTopicsResponse,
)
from kpybroker.wire.messages.delete_topics import DeleteTopicsRequest, DeleteTopicsResponse, DeleteTopicState
from kpybroker.wire.messages.describe_cluster import DescribeClusterRequest, DescribeClusterResponse
from kpybroker.wire.messages.describe_topic_partitions import (
    Cursor,
    DescribeTopicPartitionsRequest,
    DescribeTopicPartitionsResponse,
    TopicRequest,
)
from kpybroker.wire.messages.metadata import MetadataRequest, MetadataRequestTopic, MetadataResponse
from kpybroker.wire.primitives import ZERO_UUID

NOT_ASKED = -(2**31)


def by_name(*names: str | None) -> list[MetadataRequestTopic]:
    return [MetadataRequestTopic(name=name, topic_id=ZERO_UUID) for name in names]


def metadata(client: Any, *names: str, version: int = 13, **more: Any) -> MetadataResponse:
    answer: MetadataResponse = client.ask(MetadataRequest(topics=by_name(*names), **more), MetadataResponse, version)
    return answer


@pytest.mark.parametrize("version", range(14))
def test_topics_and_brokers(broker: Broker, client: Any, version: int) -> None:
    broker.create_topic("t", partitions=3)
    response = metadata(client, "t", version=version)
    assert [(node.node_id, node.host, node.port) for node in response.brokers] == [(1, "localhost", broker.port)]
    (topic,) = response.topics
    assert (topic.error_code, topic.name, topic.is_internal) == (Code.NONE, "t", False)
    assert (topic.topic_id == ZERO_UUID) == (version < 10)
    assert sorted((each.partition_index, each.leader_id) for each in topic.partitions) == [(0, 1), (1, 1), (2, 1)]
    assert topic.partitions[0].replica_nodes == topic.partitions[0].isr_nodes == [1]
    if version >= 1:
        assert response.controller_id == 1
    if version >= 2:
        assert len(response.cluster_id or "") == 22


def test_all_topics(broker: Broker, client: Any) -> None:
    for name in ("a", "b"):
        broker.create_topic(name)
    response = client.ask(MetadataRequest(topics=None), MetadataResponse, 12)
    assert sorted(topic.name for topic in response.topics) == ["a", "b"]
    assert client.ask(MetadataRequest(topics=[]), MetadataResponse, 12).topics == []
    assert len(client.ask(MetadataRequest(topics=[]), MetadataResponse, 0).topics) == 2


def test_by_id(broker: Broker, client: Any) -> None:
    broker.create_topic("t")
    wanted = metadata(client, "t").topics[0].topic_id
    request = MetadataRequest(topics=[MetadataRequestTopic(name=None, topic_id=each) for each in (wanted, b"\7" * 16)])
    known, unknown = client.ask(request, MetadataResponse, 12).topics
    assert (known.name, known.error_code) == ("t", Code.NONE)
    assert (unknown.name, unknown.error_code, unknown.topic_id) == (None, Code.UNKNOWN_TOPIC_ID, b"\7" * 16)


def test_ids_are_refused_where_they_mean_nothing(client: Any) -> None:
    request = MetadataRequest(topics=[MetadataRequestTopic(name=None, topic_id=b"\7" * 16)])
    assert client.ask(request, MetadataResponse, 10).topics[0].error_code == Code.INVALID_REQUEST


def test_a_missing_topic_is_created_where_that_is_allowed(client: Any) -> None:
    (missing,) = metadata(client, "new", allow_auto_topic_creation=False).topics
    assert (missing.error_code, missing.partitions) == (Code.UNKNOWN_TOPIC_OR_PARTITION, [])
    (created,) = metadata(client, "new").topics
    assert (created.error_code, len(created.partitions)) == (Code.NONE, 1)


def test_auto_creation_can_be_off(connect: Any) -> None:
    with Broker({"auto.create.topics.enable": "false"}) as other:
        client = connect(other.port)
        assert metadata(client, "new").topics[0].error_code == Code.UNKNOWN_TOPIC_OR_PARTITION


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a b", "ü", "x" * 250])
def test_names_that_no_topic_may_have(client: Any, name: str) -> None:
    for allowed in (True, False):
        (topic,) = metadata(client, name, allow_auto_topic_creation=allowed).topics
        assert (topic.error_code, topic.name) == (Code.INVALID_TOPIC_EXCEPTION, name)


def test_authorized_operations_when_asked_for(broker: Broker, client: Any) -> None:
    broker.create_topic("t")
    assert metadata(client, "t").topics[0].topic_authorized_operations == NOT_ASKED
    asked = metadata(client, "t", include_topic_authorized_operations=True)
    assert asked.topics[0].topic_authorized_operations == 0b1101_1111_1000
    old = metadata(client, "t", version=8, include_cluster_authorized_operations=True)
    assert old.cluster_authorized_operations == sum(1 << bit for bit in (5, 7, 8, 9, 10, 11, 12))


def test_describe_cluster(broker: Broker, client: Any) -> None:
    request = DescribeClusterRequest(include_cluster_authorized_operations=True)
    for version in range(3):
        response = client.ask(request, DescribeClusterResponse, version)
        assert [(node.broker_id, node.port) for node in response.brokers] == [(1, broker.port)]
        assert response.cluster_authorized_operations > 0
    controllers = DescribeClusterRequest(include_cluster_authorized_operations=False, endpoint_type=2)
    assert client.ask(controllers, DescribeClusterResponse, 1).error_code == Code.MISMATCHED_ENDPOINT_TYPE
    nonsense = DescribeClusterRequest(include_cluster_authorized_operations=False, endpoint_type=9)
    assert client.ask(nonsense, DescribeClusterResponse, 1).error_code == Code.UNSUPPORTED_ENDPOINT_TYPE


def test_describe_topic_partitions_page_by_page(broker: Broker, client: Any) -> None:
    broker.create_topic("a", partitions=3)
    broker.create_topic("b", partitions=2)
    seen = []
    cursor = None
    for _ in range(9):
        request = DescribeTopicPartitionsRequest(topics=[], response_partition_limit=2, cursor=cursor)
        page = client.ask(request, DescribeTopicPartitionsResponse, 0)
        seen += [(topic.name, each.partition_index) for topic in page.topics for each in topic.partitions]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert seen == [("a", 0), ("a", 1), ("a", 2), ("b", 0), ("b", 1)]


@pytest.mark.parametrize(
    "cursor", [Cursor(topic_name="z", partition_index=0), Cursor(topic_name="a", partition_index=-1)]
)
def test_a_cursor_must_make_sense(broker: Broker, client: Any, cursor: Cursor) -> None:
    broker.create_topic("a")
    request = DescribeTopicPartitionsRequest(topics=[TopicRequest(name="a")], cursor=cursor)
    response = client.ask(request, DescribeTopicPartitionsResponse, 0)
    assert response.topics[0].error_code == Code.INVALID_REQUEST


def create(client: Any, name: str, version: int = 7, validate_only: bool = False, **more: Any) -> CreatableTopicResult:
    fields = {"num_partitions": 1, "replication_factor": 1, "assignments": [], "configs": []} | more
    request = CreateTopicsRequest(
        topics=[CreatableTopic(name=name, **fields)], timeout_ms=1000, validate_only=validate_only
    )
    answer: CreatableTopicResult = client.ask(request, CreateTopicsResponse, version).topics[0]
    return answer


@pytest.mark.parametrize("version", range(2, 8))
def test_create_topics(client: Any, version: int) -> None:
    retention = [CreatableTopicConfig(name="retention.ms", value="1000")]
    created = create(client, "t", version, num_partitions=2, configs=retention)
    assert created.error_code == Code.NONE
    if version >= 5:
        assert (created.num_partitions, created.replication_factor) == (2, 1)
        configs = {config.name: config for config in created.configs or ()}
        assert (configs["retention.ms"].value, configs["retention.ms"].config_source) == ("1000", 1)
    (topic,) = metadata(client, "t").topics
    assert len(topic.partitions) == 2
    if version >= 7:
        assert created.topic_id == topic.topic_id
    assert create(client, "t", version).error_code == Code.TOPIC_ALREADY_EXISTS


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        pytest.param({"name": "a/b"}, Code.INVALID_TOPIC_EXCEPTION, id="a name that no topic may have"),
        pytest.param({"num_partitions": 0}, Code.INVALID_PARTITIONS, id="no partitions"),
        pytest.param({"replication_factor": 2}, Code.INVALID_REPLICATION_FACTOR, id="more replicas than brokers"),
        pytest.param(
            {"configs": [CreatableTopicConfig(name="retention.ms", value="soon")]}, Code.INVALID_CONFIG, id="a value"
        ),
        pytest.param(
            {"configs": [CreatableTopicConfig(name="no.such", value="1")]}, Code.INVALID_CONFIG, id="no such setting"
        ),
        pytest.param(
            {"assignments": [CreatableReplicaAssignment(partition_index=0, broker_ids=[9])], "num_partitions": -1,
             "replication_factor": -1},
            Code.INVALID_REPLICA_ASSIGNMENT,
            id="a broker that is not there",
        ),
    ],
)  # fmt: skip
def test_topics_that_cannot_be_created(client: Any, fields: dict[str, Any], code: Code) -> None:
    result = create(client, **({"name": "t"} | fields))
    assert Code(result.error_code) is code
    assert result.error_message


def test_validate_only_creates_nothing(client: Any) -> None:
    assert create(client, "t", validate_only=True).error_code == Code.NONE
    assert metadata(client, "t", allow_auto_topic_creation=False).topics[0].error_code != Code.NONE


def test_delete_topics_by_name_and_id(broker: Broker, client: Any) -> None:
    for name in ("a", "b", "c"):
        broker.create_topic(name)
    topic_id = metadata(client, "b").topics[0].topic_id
    states = [DeleteTopicState(name="a", topic_id=ZERO_UUID), DeleteTopicState(name=None, topic_id=topic_id)]
    request = DeleteTopicsRequest(topics=states, timeout_ms=1000)
    assert [each.error_code for each in client.ask(request, DeleteTopicsResponse, 6).responses] == [0, 0]
    old = DeleteTopicsRequest(topic_names=["c", "nope"], timeout_ms=1000)
    answers = client.ask(old, DeleteTopicsResponse, 1).responses
    assert {each.name: each.error_code for each in answers} == {"c": 0, "nope": Code.UNKNOWN_TOPIC_OR_PARTITION}
    assert client.ask(MetadataRequest(topics=None), MetadataResponse, 12).topics == []
    folders = {path.name.rsplit(".", 1)[0] for path in broker.data_dir.iterdir() if path.name.endswith("-delete")}
    assert folders == {"a-0", "b-0", "c-0"}


def test_a_topic_created_anew_begins_anew(broker: Broker, client: Any) -> None:
    broker.create_topic("t")
    first = metadata(client, "t").topics[0].topic_id
    gone = DeleteTopicsRequest(topics=[DeleteTopicState(name="t", topic_id=ZERO_UUID)], timeout_ms=1000)
    client.ask(gone, DeleteTopicsResponse, 6)
    broker.create_topic("t")
    assert metadata(client, "t").topics[0].topic_id != first

"""Topics made, described and deleted by the admin clients of both Python libraries; what they ask of any broker."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator

import pytest
from confluent_kafka import KafkaError, KafkaException, Producer, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, OffsetSpec
from harness.brokers import BrokerUnderTest
from kafka import KafkaAdminClient
from kafka.admin import ConfigResource as PythonConfigResource
from kafka.errors import InvalidReplicationFactorError, TopicAlreadyExistsError, UnknownTopicOrPartitionError

LIMIT_S = 60.0


@pytest.fixture
def name() -> str:
    """A topic that is not there yet."""
    return f"admin-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def confluent(broker: BrokerUnderTest) -> AdminClient:
    return AdminClient({"bootstrap.servers": broker.address})


@pytest.fixture
def python(broker: BrokerUnderTest) -> Iterator[KafkaAdminClient]:
    client = KafkaAdminClient(bootstrap_servers=broker.address)
    yield client
    client.close()


def until(reached: Callable[[], bool]) -> None:
    """Metadata of one broker follows the controller's log: a moment may pass before a change shows."""
    deadline = time.monotonic() + LIMIT_S
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.02)


class TestConfluentKafka:
    """librdkafka's admin client."""

    def create(self, admin: AdminClient, name: str, partitions: int = 3, **settings: object) -> None:
        topic = NewTopic(name, partitions, settings.pop("replicas", 1), **settings)  # type: ignore[arg-type]
        admin.create_topics([topic], operation_timeout=LIMIT_S)[name].result(LIMIT_S)

    def test_a_topic_from_its_creation_to_its_deletion(self, confluent: AdminClient, name: str) -> None:
        self.create(confluent, name)
        described = confluent.describe_topics(TopicCollection([name]))[name].result(LIMIT_S)
        assert described.name == name
        assert [each.id for each in described.partitions] == [0, 1, 2]
        leaders = {each.leader.id for each in described.partitions}
        assert all(
            [node.id for node in each.replicas] == [node.id for node in each.isr] for each in described.partitions
        )
        assert leaders == {node.id for node in confluent.describe_cluster().result(LIMIT_S).nodes}

        confluent.delete_topics([name], operation_timeout=LIMIT_S)[name].result(LIMIT_S)
        until(lambda: name not in confluent.list_topics(timeout=LIMIT_S).topics)

    def test_a_topic_is_made_once(self, confluent: AdminClient, name: str) -> None:
        self.create(confluent, name)
        with pytest.raises(KafkaException) as refused:
            self.create(confluent, name)
        assert refused.value.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS
        assert refused.value.args[0].str() == f"Topic '{name}' already exists."

    @pytest.mark.parametrize(
        ("settings", "code"),
        [
            pytest.param({"replicas": 3}, KafkaError.INVALID_REPLICATION_FACTOR, id="more replicas than brokers"),
            pytest.param({"partitions": 0}, KafkaError.INVALID_PARTITIONS, id="no partitions"),
            pytest.param({"config": {"no.such.setting": "1"}}, KafkaError.INVALID_CONFIG, id="an unknown setting"),
            pytest.param({"config": {"retention.ms": "soon"}}, KafkaError.INVALID_CONFIG, id="a bad value"),
        ],
    )
    def test_refused(self, confluent: AdminClient, name: str, settings: dict[str, object], code: int) -> None:
        with pytest.raises(KafkaException) as refused:
            self.create(confluent, name, **settings)  # type: ignore[arg-type]
        assert refused.value.args[0].code() == code
        assert name not in confluent.list_topics(timeout=LIMIT_S).topics

    @pytest.mark.parametrize("bad", [".", "..", "a b", "x" * 250, "a/b"])
    def test_a_bad_name(self, confluent: AdminClient, bad: str) -> None:
        with pytest.raises(KafkaException) as refused:
            self.create(confluent, bad)
        assert refused.value.args[0].code() == KafkaError.TOPIC_EXCEPTION

    def test_validate_only_makes_nothing(self, confluent: AdminClient, name: str) -> None:
        topic = NewTopic(name, 3, 1)
        confluent.create_topics([topic], operation_timeout=LIMIT_S, validate_only=True)[name].result(LIMIT_S)
        assert name not in confluent.list_topics(timeout=LIMIT_S).topics

    def test_deleting_what_is_not_there(self, confluent: AdminClient, name: str) -> None:
        with pytest.raises(KafkaException) as refused:
            confluent.delete_topics([name], operation_timeout=LIMIT_S)[name].result(LIMIT_S)
        assert refused.value.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART

    def test_describing_what_is_not_there(self, confluent: AdminClient, name: str) -> None:
        with pytest.raises(KafkaException) as refused:
            confluent.describe_topics(TopicCollection([name]))[name].result(LIMIT_S)
        assert refused.value.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART

    def test_offsets_of_a_partition(self, broker: BrokerUnderTest, confluent: AdminClient, name: str) -> None:
        self.create(confluent, name, partitions=1)
        producer = Producer({"bootstrap.servers": broker.address})
        for timestamp in (1000, 3000, 2000):
            producer.produce(name, b"value", partition=0, timestamp=1_700_000_000_000 + timestamp)
        assert producer.flush(LIMIT_S) == 0

        def offset(spec: OffsetSpec) -> int:
            asked = TopicPartition(name, 0)
            return confluent.list_offsets({asked: spec})[asked].result(LIMIT_S).offset

        assert offset(OffsetSpec.earliest()) == 0
        assert offset(OffsetSpec.latest()) == 3
        assert offset(OffsetSpec.max_timestamp()) == 1
        assert offset(OffsetSpec.for_timestamp(1_700_000_002_500)) == 1
        assert offset(OffsetSpec.for_timestamp(1_700_000_009_000)) == -1

    @pytest.mark.needs("admin describe configs")
    def test_settings_of_a_topic(self, confluent: AdminClient, name: str) -> None:
        self.create(confluent, name, config={"retention.ms": "12345"})
        asked = ConfigResource(ConfigResource.Type.TOPIC, name)
        entries = confluent.describe_configs([asked])[asked].result(LIMIT_S)
        assert entries["retention.ms"].value == "12345"
        assert not entries["retention.ms"].is_default
        assert entries["cleanup.policy"].value == "delete"
        assert entries["cleanup.policy"].is_default

    @pytest.mark.needs("admin list groups")
    def test_groups_are_listed(self, confluent: AdminClient) -> None:
        listed = confluent.list_consumer_groups().result(LIMIT_S)
        assert listed.errors == []


class TestKafkaPython:
    """kafka-python's admin client."""

    def test_a_topic_from_its_creation_to_its_deletion(self, python: KafkaAdminClient, name: str) -> None:
        made = python.create_topics({name: {"num_partitions": 3, "replication_factor": 1}}, wait_for_metadata=True)
        assert [(each["name"], each["error_code"], each["num_partitions"]) for each in made["topics"]] == [(name, 0, 3)]
        (described,) = python.describe_topics([name])
        assert described["error_code"] == 0
        assert sorted(each["partition_index"] for each in described["partitions"]) == [0, 1, 2]
        assert {each["error_code"] for each in described["partitions"]} == {0}
        assert name in python.list_topics()

        python.delete_topics([name])
        until(lambda: name not in python.list_topics())

    def test_what_a_new_topic_is_given(self, python: KafkaAdminClient, name: str) -> None:
        """CreateTopics answers with the defaults that were taken and with the topic's settings (KIP-525)."""
        made = python.create_topics({name: {"configs": {"segment.bytes": "1048576"}}})
        (topic,) = made["topics"]
        assert (topic["num_partitions"], topic["replication_factor"]) == (1, 1)
        assert topic["configs"]["segment.bytes"]["value"] == "1048576"
        assert topic["configs"]["cleanup.policy"]["value"] == "delete"

    def test_refusals(self, python: KafkaAdminClient, name: str) -> None:
        python.create_topics({name: {}})
        with pytest.raises(TopicAlreadyExistsError):
            python.create_topics({name: {}})
        with pytest.raises(InvalidReplicationFactorError):
            python.create_topics({f"{name}-2": {"num_partitions": 1, "replication_factor": 2}})
        with pytest.raises(UnknownTopicOrPartitionError):
            python.delete_topics([f"{name}-3"])

    def test_partitions_on_brokers_of_choice(self, python: KafkaAdminClient, name: str) -> None:
        (broker_id,) = (each["broker_id"] for each in python.describe_cluster()["brokers"])
        python.create_topics({name: {"assignments": {0: [broker_id], 1: [broker_id]}}}, wait_for_metadata=True)
        (described,) = python.describe_topics([name])
        assert [each["replica_nodes"] for each in described["partitions"]] == [[broker_id], [broker_id]]

    def test_the_cluster(self, python: KafkaAdminClient, broker: BrokerUnderTest) -> None:
        cluster = python.describe_cluster()
        (node,) = cluster["brokers"]
        assert f"{node['host']}:{node['port']}" == broker.address or broker.kind == "outside"
        assert cluster["controller_id"] == node["broker_id"]
        assert len(cluster["cluster_id"]) == 22

    @pytest.mark.needs("admin describe configs")
    def test_settings_of_a_broker(self, python: KafkaAdminClient) -> None:
        (broker_id,) = (each["broker_id"] for each in python.describe_cluster()["brokers"])
        described = python.describe_configs([PythonConfigResource("broker", str(broker_id))], config_filter="all")
        assert described["broker"][str(broker_id)]["num.partitions"]["value"] == "1"


def test_a_topic_comes_by_itself(broker: BrokerUnderTest, confluent: AdminClient, name: str) -> None:
    """auto.create.topics.enable: a producer's first word makes the topic, with num.partitions partitions."""
    producer = Producer({"bootstrap.servers": broker.address})
    producer.produce(name, b"value")
    assert producer.flush(LIMIT_S) == 0
    assert len(confluent.list_topics(name, timeout=LIMIT_S).topics[name].partitions) == 1

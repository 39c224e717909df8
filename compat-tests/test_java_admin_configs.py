"""Apache Kafka's Java Admin: the settings of topics, brokers, groups, client metrics and loggers; quotas."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from harness.java_clients import Admin, eventually, items, plain, refusal


class Configs:
    """The configs of one resource."""

    def __init__(self, admin: Admin, kind: str, name: str) -> None:
        self.admin = admin
        kinds = admin.clients.common.config.ConfigResource.Type
        self.resource = admin.clients.common.config.ConfigResource(getattr(kinds, kind), name)

    def describe(self, **options: bool) -> dict[str, Any]:
        """Name -> ConfigEntry; `options` are DescribeConfigsOptions'."""
        given = self.admin.api.DescribeConfigsOptions()
        for name, value in options.items():
            getattr(given, name)(value)
        found = self.admin.describeConfigs([self.resource], given).all().get()[self.resource]
        return {entry.name(): entry for entry in items(found.entries())}

    def value(self, name: str) -> tuple[str, str]:
        """A config's value and source."""
        entry = self.describe()[name]
        return entry.value(), plain(entry.source())

    def alter(self, operation: str, name: str, value: str, *, validate_only: bool = False) -> None:
        """One step of incrementalAlterConfigs: SET, DELETE, APPEND, SUBTRACT. Raises: Py4JJavaError."""
        kind = getattr(self.admin.api.AlterConfigOp.OpType, operation)
        step = self.admin.api.AlterConfigOp(self.admin.api.ConfigEntry(name, value), kind)
        options = self.admin.api.AlterConfigsOptions().validateOnly(validate_only)
        self.admin.incrementalAlterConfigs({self.resource: [step]}, options).all().get()

    def refused(self, operation: str, name: str, value: str) -> str:
        return refusal(lambda: self.alter(operation, name, value))[0]


@pytest.fixture
def topic(admin: Admin) -> Configs:
    admin.create()
    return Configs(admin, "TOPIC", admin.topic)


@pytest.fixture
def this_broker(admin: Admin) -> Configs:
    return Configs(admin, "BROKER", str(admin.broker_id))


@pytest.mark.needs("DescribeConfigs")
def test_describing_a_topic(topic: Configs) -> None:
    found = topic.describe(includeSynonyms=True, includeDocumentation=True)
    retention = found["retention.ms"]
    assert (retention.value(), plain(retention.type())) == ("604800000", "LONG")
    assert not retention.isReadOnly()
    assert not retention.isSensitive()
    assert len(retention.documentation()) > 20
    synonyms = [(each.name(), plain(each.source()), each.value()) for each in found["segment.bytes"].synonyms()]
    assert ("log.segment.bytes", "STATIC_BROKER_CONFIG", "1073741824") in synonyms
    assert {"cleanup.policy", "min.insync.replicas", "compression.type", "segment.bytes"} <= set(found)


@pytest.mark.needs("DescribeConfigs", "IncrementalAlterConfigs")
def test_altering_a_topic(topic: Configs) -> None:
    default = topic.value("cleanup.policy")
    topic.alter("SET", "cleanup.policy", "compact", validate_only=True)
    assert topic.value("cleanup.policy") == default
    topic.alter("SET", "cleanup.policy", "compact")
    assert topic.value("cleanup.policy") == ("compact", "DYNAMIC_TOPIC_CONFIG")
    topic.alter("APPEND", "cleanup.policy", "delete")
    assert topic.value("cleanup.policy") == ("compact,delete", "DYNAMIC_TOPIC_CONFIG")
    topic.alter("SUBTRACT", "cleanup.policy", "compact")
    assert topic.value("cleanup.policy") == ("delete", "DYNAMIC_TOPIC_CONFIG")
    topic.alter("DELETE", "cleanup.policy", "")
    assert topic.value("cleanup.policy") == default
    assert topic.refused("SET", "retention.ms", "soon") == "InvalidConfigurationException"
    assert topic.refused("SET", "no.such.config", "1") == "InvalidConfigurationException"
    assert topic.refused("APPEND", "retention.ms", "1") == "InvalidConfigurationException"


@pytest.mark.needs("DescribeConfigs", "IncrementalAlterConfigs")
def test_a_topics_config_takes_effect(topic: Configs) -> None:
    admin = topic.admin
    topic.alter("SET", "max.message.bytes", "1000")
    with admin.clients.producer(admin.address) as producer:
        record = admin.clients.producer_api.ProducerRecord(admin.topic, 0, None, bytes(2_000))
        assert refusal(lambda: producer.send(record).get())[0] == "RecordTooLargeException"
        topic.alter("DELETE", "max.message.bytes", "")
        assert producer.send(record).get().offset() == 0


@pytest.mark.needs("DescribeConfigs")
def test_configs_of_what_is_not_there(admin: Admin) -> None:
    assert refusal(Configs(admin, "TOPIC", "nowhere").describe)[0] == "UnknownTopicOrPartitionException"
    assert refusal(Configs(admin, "TOPIC", "not a name").describe)[0] == "InvalidTopicException"


@pytest.mark.needs("DescribeConfigs")
def test_describing_a_broker(this_broker: Configs) -> None:
    found = this_broker.describe(includeSynonyms=True)
    assert found["node.id"].value() == this_broker.resource.name()
    assert found["node.id"].isReadOnly()
    assert not found["log.retention.ms"].isReadOnly()
    assert plain(found["num.partitions"].type()) == "INT"
    password = found["ssl.keystore.password"]
    assert (password.value(), password.isSensitive(), plain(password.type())) == (None, True, "PASSWORD")


@pytest.mark.needs("DescribeConfigs", "IncrementalAlterConfigs")
def test_altering_a_broker_and_the_clusters_default(admin: Admin, this_broker: Configs) -> None:
    """One broker's value goes before the cluster's, the cluster's before the file's."""
    cluster = Configs(admin, "BROKER", "")
    before = this_broker.value("log.cleaner.backoff.ms")
    cluster.alter("SET", "log.cleaner.backoff.ms", "16000")
    eventually(lambda: this_broker.value("log.cleaner.backoff.ms"), ("16000", "DYNAMIC_DEFAULT_BROKER_CONFIG"))
    this_broker.alter("SET", "log.cleaner.backoff.ms", "17000")
    eventually(lambda: this_broker.value("log.cleaner.backoff.ms"), ("17000", "DYNAMIC_BROKER_CONFIG"))
    assert cluster.value("log.cleaner.backoff.ms") == ("16000", "DYNAMIC_DEFAULT_BROKER_CONFIG")
    this_broker.alter("DELETE", "log.cleaner.backoff.ms", "")
    cluster.alter("DELETE", "log.cleaner.backoff.ms", "")
    eventually(lambda: this_broker.value("log.cleaner.backoff.ms"), before)
    assert "log.cleaner.backoff.ms" not in cluster.describe()
    assert this_broker.refused("SET", "node.id", "7") == "InvalidRequestException"
    assert this_broker.refused("SET", "log.cleaner.backoff.ms", "soon") == "InvalidRequestException"


@pytest.mark.needs("DescribeConfigs", "IncrementalAlterConfigs")
def test_a_groups_configs(admin: Admin) -> None:
    group = Configs(admin, "GROUP", f"group-{uuid.uuid4().hex[:8]}")
    group.alter("SET", "consumer.session.timeout.ms", "50000")
    eventually(lambda: group.value("consumer.session.timeout.ms"), ("50000", "DYNAMIC_GROUP_CONFIG"))
    group.alter("DELETE", "consumer.session.timeout.ms", "")
    assert group.refused("SET", "retention.ms", "1") == "InvalidConfigurationException"


@pytest.mark.needs("DescribeConfigs", "IncrementalAlterConfigs", "ListConfigResources")
def test_client_metrics(admin: Admin) -> None:
    """KIP-714's subscriptions are configs of a resource of their own."""
    name = f"metrics-{uuid.uuid4().hex[:8]}"
    subscription = Configs(admin, "CLIENT_METRICS", name)
    subscription.alter("SET", "interval.ms", "60000")
    subscription.alter("SET", "metrics", "org.apache.kafka.producer.")
    eventually(lambda: subscription.value("interval.ms"), ("60000", "DYNAMIC_CLIENT_METRICS_CONFIG"))
    assert subscription.value("metrics")[0] == "org.apache.kafka.producer."
    assert name in {each.name() for each in items(admin.listClientMetricsResources().all().get())}
    assert subscription.refused("SET", "interval.ms", "5") == "InvalidRequestException"
    subscription.alter("DELETE", "interval.ms", "")
    subscription.alter("DELETE", "metrics", "")


@pytest.mark.needs("ListConfigResources")
def test_listing_config_resources(topic: Configs) -> None:
    def listed(*kinds: str) -> set[tuple[str, str]]:
        wanted = {getattr(topic.admin.clients.common.config.ConfigResource.Type, kind) for kind in kinds}
        found = topic.admin.listConfigResources(wanted, topic.admin.api.ListConfigResourcesOptions()).all().get()
        return {(plain(each.type()), each.name()) for each in items(found)}

    assert ("TOPIC", topic.resource.name()) in listed("TOPIC")
    assert ("BROKER", str(topic.admin.broker_id)) in listed("BROKER")
    everything = listed()
    assert {("TOPIC", topic.resource.name()), ("BROKER", str(topic.admin.broker_id))} <= everything


@pytest.mark.needs("DescribeConfigs", "IncrementalAlterConfigs")
def test_loggers(admin: Admin) -> None:
    """KIP-412: levels of the running broker, and back."""
    loggers = Configs(admin, "BROKER_LOGGER", str(admin.broker_id))
    found = loggers.describe()
    name = max(set(found) - {"root"})
    loggers.alter("SET", name, "DEBUG")
    assert loggers.value(name) == ("DEBUG", "DYNAMIC_BROKER_LOGGER_CONFIG")
    loggers.alter("DELETE", name, "")
    assert loggers.value(name)[0] == found["root"].value()
    assert loggers.refused("SET", name, "LOUD") == "InvalidConfigurationException"
    assert loggers.refused("APPEND", name, "DEBUG") == "InvalidRequestException"


def test_quotas(admin: Admin) -> None:
    quota = admin.clients.common.quota
    client = f"client-{uuid.uuid4().hex[:8]}"
    entity = quota.ClientQuotaEntity({"client-id": client})
    double = admin.clients.jvm.java.lang.Double
    step = admin.clients.jvm.org.apache.kafka.common.quota.ClientQuotaAlteration.Op

    def alter(*steps: Any, **options: bool) -> None:
        given = admin.api.AlterClientQuotasOptions().validateOnly(options.get("validate_only", False))
        admin.alterClientQuotas([quota.ClientQuotaAlteration(entity, list(steps))], given).all().get()

    def quotas() -> dict[str, float]:
        by_client = quota.ClientQuotaFilter.contains([quota.ClientQuotaFilterComponent.ofEntity("client-id", client)])
        found = plain(admin.describeClientQuotas(by_client).entities().get())
        return found.get(entity, {})

    alter(step("producer_byte_rate", double.valueOf("1048576")), validate_only=True)
    eventually(quotas, {})
    alter(step("producer_byte_rate", double.valueOf("1048576")), step("request_percentage", double.valueOf("150")))
    eventually(quotas, {"producer_byte_rate": 1048576.0, "request_percentage": 150.0})
    alter(step("producer_byte_rate", None))
    eventually(quotas, {"request_percentage": 150.0})
    everything = plain(admin.describeClientQuotas(quota.ClientQuotaFilter.all()).entities().get())
    assert entity in everything
    alter(step("request_percentage", None))
    eventually(quotas, {})
    wrong = refusal(lambda: alter(step("no_such_quota", double.valueOf("1"))))
    assert wrong[0] == "InvalidRequestException"

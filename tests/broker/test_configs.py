"""Settings read and changed while the broker runs, and what a change does at once."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from kpybroker.testing import Broker
from kpybroker.wire.codes import Code
from kpybroker.wire.messages import alter_configs as whole
from kpybroker.wire.messages import incremental_alter_configs as single
from kpybroker.wire.messages.describe_configs import (
    DescribeConfigsRequest,
    DescribeConfigsResource,
    DescribeConfigsResourceResult,
    DescribeConfigsResponse,
)
from kpybroker.wire.messages.list_config_resources import ListConfigResourcesRequest, ListConfigResourcesResponse
from kpybroker.wire.messages.produce import PartitionProduceData, ProduceRequest, ProduceResponse, TopicProduceData
from kpybroker.wire.records.batch import build_batch
from kpybroker.wire.records.record import Record

TOPIC, BROKER, LOGGER, METRICS, GROUP = 2, 4, 8, 16, 32
SET, DELETE, APPEND, SUBTRACT = range(4)
TOO_LARGE, WELL = Code.MESSAGE_TOO_LARGE, Code.NONE


def change(client: Any, kind: int, name: str, *configs: tuple[str, int, str | None]) -> tuple[int, str | None]:
    """IncrementalAlterConfigs of one resource: the error's code and message."""
    listed = [single.AlterableConfig(name=key, config_operation=op, value=value) for key, op, value in configs]
    resource = single.AlterConfigsResource(resource_type=kind, resource_name=name, configs=listed)
    request = single.IncrementalAlterConfigsRequest(resources=[resource], validate_only=False)
    (answer,) = client.ask(request, single.IncrementalAlterConfigsResponse, 1).responses
    return answer.error_code, answer.error_message


def replace(client: Any, kind: int, name: str, **settings: str) -> tuple[int, str | None]:
    """AlterConfigs of one resource."""
    listed = [whole.AlterableConfig(name=key.replace("_", "."), value=value) for key, value in settings.items()]
    resource = whole.AlterConfigsResource(resource_type=kind, resource_name=name, configs=listed)
    request = whole.AlterConfigsRequest(resources=[resource], validate_only=False)
    (answer,) = client.ask(request, whole.AlterConfigsResponse, 2).responses
    return answer.error_code, answer.error_message


def described(client: Any, kind: int, name: str, *keys: str) -> dict[str, DescribeConfigsResourceResult]:
    resource = DescribeConfigsResource(resource_type=kind, resource_name=name, configuration_keys=list(keys) or None)
    request = DescribeConfigsRequest(resources=[resource], include_synonyms=True, include_documentation=True)
    (result,) = client.ask(request, DescribeConfigsResponse, 4).results
    assert result.error_code == WELL
    return {config.name: config for config in result.configs}


def produce(client: Any, topic: str, size: int) -> int:
    """The error's code for one record of `size` bytes."""
    data = TopicProduceData(
        name=topic,
        partition_data=[PartitionProduceData(index=0, records=build_batch([Record(timestamp=1, value=bytes(size))]))],
    )
    request = ProduceRequest(acks=-1, timeout_ms=1000, topic_data=[data])
    code: int = client.ask(request, ProduceResponse, 12).responses[0].partition_responses[0].error_code
    return code


def test_a_topics_setting_acts_at_once(broker: Broker, client: Any) -> None:
    broker.create_topic("t")
    assert produce(client, "t", 500) == WELL
    assert change(client, TOPIC, "t", ("max.message.bytes", SET, "300")) == (WELL, None)
    assert produce(client, "t", 500) == TOO_LARGE
    assert change(client, TOPIC, "t", ("max.message.bytes", DELETE, None)) == (WELL, None)
    assert produce(client, "t", 500) == WELL


def test_a_brokers_setting_acts_at_once_on_topics_without_their_own(broker: Broker, client: Any) -> None:
    broker.create_topic("t")
    broker.create_topic("own", configs={"max.message.bytes": 1000})
    assert produce(client, "t", 500) == produce(client, "own", 500) == WELL
    assert change(client, BROKER, "", ("message.max.bytes", SET, "300")) == (WELL, None)
    assert (produce(client, "t", 500), produce(client, "own", 500)) == (TOO_LARGE, WELL)
    assert change(client, BROKER, "1", ("message.max.bytes", SET, "600")) == (WELL, None)
    assert produce(client, "t", 500) == WELL, "this broker's own comes before that of all"
    value = described(client, TOPIC, "t", "max.message.bytes")["max.message.bytes"]
    assert [(said.name, said.value, said.source) for said in value.synonyms] == [
        ("message.max.bytes", "600", 2),
        ("message.max.bytes", "300", 3),
        ("message.max.bytes", "1048588", 5),
    ]


def test_settings_are_there_after_a_restart(connect_to: Callable[[int], Any]) -> None:
    with Broker() as broker:
        broker.create_topic("t")
        client = connect_to(broker.port)
        assert change(client, BROKER, "1", ("message.max.bytes", SET, "300")) == (WELL, None)
        broker.restart()
        client = connect_to(broker.port)
        assert produce(client, "t", 500) == TOO_LARGE
        assert described(client, BROKER, "1", "message.max.bytes")["message.max.bytes"].value == "300"


def test_a_new_topic_is_made_under_the_settings_of_the_moment(broker: Broker, client: Any) -> None:
    assert change(client, BROKER, "", ("log.cleanup.policy", APPEND, "compact")) == (WELL, None)
    broker.create_topic("t")
    policy = described(client, TOPIC, "t", "cleanup.policy")["cleanup.policy"]
    assert (policy.value, policy.config_source, policy.config_type) == ("delete,compact", 3, 7)


@pytest.mark.parametrize(
    ("resource", "config", "code", "why"),
    [
        pytest.param((TOPIC, "t"), ("retention.ms", SET, None), Code.INVALID_REQUEST,
                     "Null value not supported for : retention.ms", id="null"),
        pytest.param((TOPIC, "t"), ("retention.ms", 7, "1"), Code.UNKNOWN_SERVER_ERROR, None, id="no operation"),
        pytest.param((BROKER, "1"), ("node.id", SET, "2"), Code.INVALID_REQUEST,
                     "Cannot update these configs dynamically: [node.id]", id="read-only"),
        pytest.param((BROKER, "1"), ("no.such", APPEND, "2"), Code.INVALID_CONFIG,
                     "Unknown config name: no.such", id="append to nothing"),
        pytest.param((BROKER, "1"), ("num.io.threads", APPEND, "2"), Code.INVALID_CONFIG,
                     "Config value append is not allowed for config key: num.io.threads", id="append to no list"),
        pytest.param((BROKER, "1"), ("num.io.threads", 7, "2"), Code.INVALID_REQUEST,
                     "Unknown operations type 7", id="no operation on a broker"),
        pytest.param((BROKER, "2"), ("num.io.threads", SET, "5"), Code.INVALID_REQUEST,
                     "Unexpected broker id, expected 1, but received 2", id="another broker"),
        pytest.param((BROKER, "x"), ("num.io.threads", SET, "5"), Code.INVALID_REQUEST,
                     "Node id must be an integer, but it is: x", id="no broker's id"),
        pytest.param((BROKER, ""), ("ssl.client.auth", SET, "none"), Code.INVALID_REQUEST,
                     "Cannot update these configs at default cluster level, broker id must be specified: "
                     "[ssl.client.auth]", id="for one broker only"),
        pytest.param((99, "x"), ("a", SET, "b"), Code.INVALID_REQUEST, "Unknown resource type 99", id="no such type"),
    ],
)  # fmt: skip
def test_refused(
    broker: Broker, client: Any, resource: tuple[int, str], config: Any, code: int, why: str | None
) -> None:
    broker.create_topic("t")
    assert change(client, *resource, config) == (code, why)


def test_a_key_and_a_resource_twice(broker: Broker, client: Any) -> None:
    broker.create_topic("t")
    twice = [("segment.ms", SET, "9"), ("segment.ms", DELETE, None)]
    assert change(client, TOPIC, "t", *twice) == (Code.INVALID_REQUEST, "Error due to duplicate config keys")
    resource = whole.AlterConfigsResource(resource_type=TOPIC, resource_name="t", configs=[])
    request = whole.AlterConfigsRequest(resources=[resource, resource], validate_only=False)
    answers = client.ask(request, whole.AlterConfigsResponse, 2).responses
    assert [each.error_message for each in answers] == ["Each resource must appear at most once."] * 2


def test_replacing_resets_what_is_not_named(broker: Broker, client: Any) -> None:
    broker.create_topic("t", configs={"segment.ms": 5000})
    assert replace(client, TOPIC, "t", retention_ms="7000") == (WELL, None)
    values = described(client, TOPIC, "t", "segment.ms", "retention.ms")
    assert {name: each.value for name, each in values.items()} == {"segment.ms": "604800000", "retention.ms": "7000"}


def test_a_setting_of_a_plugin_is_kept_as_a_secret(client: Any) -> None:
    assert change(client, BROKER, "1", ("some.plugin.setting", SET, "x")) == (WELL, None)
    shown = described(client, BROKER, "1", "some.plugin.setting")["some.plugin.setting"]
    assert (shown.value, shown.is_sensitive, shown.read_only, shown.config_type) == (None, True, True, 0)


def test_secrets_are_not_shown(client: Any) -> None:
    name = "listener.name.plaintext.ssl.keystore.password"
    assert change(client, BROKER, "1", (name, SET, "hunter2")) == (WELL, None)
    shown = described(client, BROKER, "1", name)[name]
    assert (shown.value, shown.is_sensitive) == (None, True)
    assert [said.value for said in shown.synonyms] == [None]


def test_every_setting_of_the_broker_is_documented(client: Any) -> None:
    settings = described(client, BROKER, "1")
    assert len(settings) > 300
    assert all(each.documentation for each in settings.values())
    assert settings["log.retention.hours"].read_only
    assert not settings["message.max.bytes"].read_only


@pytest.fixture
def levels() -> Iterator[None]:
    """Loggers are the process's: their levels are put back."""
    names = ("kpybroker.node", "kafka.request.logger")
    before = {name: logging.getLogger(name).level for name in names}
    yield
    for name, level in before.items():
        logging.getLogger(name).setLevel(level)


@pytest.mark.usefixtures("levels")
def test_levels_of_loggers(client: Any) -> None:
    def level() -> str | None:
        return described(client, LOGGER, "1", "kpybroker.node")["kpybroker.node"].value

    assert change(client, LOGGER, "1", ("kpybroker.node", SET, "TRACE")) == (WELL, None)
    assert level() == "TRACE"
    assert logging.getLogger("kpybroker.node").isEnabledFor(logging.DEBUG)
    assert change(client, LOGGER, "1", ("kpybroker.node", SET, "FATAL")) == (WELL, None)
    assert level() == "FATAL"
    assert not logging.getLogger("kpybroker.node").isEnabledFor(logging.ERROR)
    assert change(client, LOGGER, "1", ("kpybroker.node", DELETE, None)) == (WELL, None)
    assert level() == described(client, LOGGER, "1", "root")["root"].value
    assert "kafka.request.logger" in described(client, LOGGER, "1")


def test_what_has_settings_is_listed(broker: Broker, client: Any) -> None:
    broker.create_topic("t")
    assert change(client, GROUP, "g", ("consumer.session.timeout.ms", SET, "50000")) == (WELL, None)
    assert change(client, METRICS, "m", ("interval.ms", SET, "1000")) == (WELL, None)

    def listed(version: int, *types: int) -> list[tuple[int, str]]:
        request = ListConfigResourcesRequest(resource_types=list(types))
        answer = client.ask(request, ListConfigResourcesResponse, version)
        assert answer.error_code == WELL
        return sorted((each.resource_type, each.resource_name) for each in answer.config_resources)

    assert listed(1) == [(TOPIC, "t"), (BROKER, "1"), (LOGGER, "1"), (METRICS, "m"), (GROUP, "g")]
    assert listed(1, GROUP, TOPIC) == [(TOPIC, "t"), (GROUP, "g")]
    assert listed(0) == [(METRICS, "m")]
    assert change(client, GROUP, "g", ("consumer.session.timeout.ms", DELETE, None)) == (WELL, None)
    assert listed(1, GROUP) == []
    unknown = client.ask(ListConfigResourcesRequest(resource_types=[3]), ListConfigResourcesResponse, 1)
    assert (unknown.error_code, unknown.config_resources) == (Code.UNSUPPORTED_VERSION, [])

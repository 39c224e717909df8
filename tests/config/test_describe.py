"""What DescribeConfigs says, against what Apache Kafka 4.3.1 said with the same settings (kafka_described.jsonl)."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from kpybroker.config import BrokerConfig
from kpybroker.config.describe import (
    Described,
    Source,
    describe_all_brokers,
    describe_broker,
    describe_client_metrics,
    describe_group,
    describe_topic,
)
from kpybroker.config.sources import read_properties

HERE = Path(__file__).parent


def kafka() -> dict[str, list[dict[str, Any]]]:
    described: dict[str, list[dict[str, Any]]] = {}
    for line in (HERE / "kafka_described.jsonl").read_text().splitlines():
        entry = json.loads(line)
        described.setdefault(entry.pop("of"), []).append(entry)
    return described


def plain(described: Iterable[Described]) -> list[dict[str, Any]]:
    """In the form of the recorded answers, by name."""
    return sorted(
        (
            {
                "name": each.name,
                "value": each.value,
                "source": int(each.source),
                "sensitive": each.sensitive,
                "read_only": each.read_only,
                "type": each.type.name if each.type is not None else "UNKNOWN",
                "synonyms": [[said.name, said.value, int(said.source)] for said in each.synonyms],
            }
            for each in described
        ),
        key=lambda each: str(each["name"]),
    )


@pytest.fixture(scope="module")
def config() -> BrokerConfig:
    """The same settings as that broker had. min.insync.replicas is what its controller set when ELR came (KIP-966)."""
    return BrokerConfig(read_properties(HERE / "server.properties")).with_dynamic(
        default={
            "log.retention.ms": "7000",
            "message.max.bytes": "2000000",
            "leader.replication.throttled.rate": "100",
            "num.io.threads": "5",
            "min.insync.replicas": "1",
        },
        broker={
            "log.roll.ms": "60000",
            "message.max.bytes": "3000000",
            "listener.name.plaintext.max.connections": "9",
        },
    )


TOPIC = {"retention.ms": "5", "cleanup.policy": "compact, delete", "min.cleanable.dirty.ratio": "0.10"}
GROUP = {"consumer.session.timeout.ms": "50000", "share.isolation.level": "read_committed"}
METRICS = {"interval.ms": "1000", "metrics": "a., b."}


def test_as_kafka(config: BrokerConfig) -> None:
    ours = {
        "broker": describe_broker(config),
        "all brokers": describe_all_brokers(config),
        "topic t": describe_topic(config, TOPIC),
        "topic plain": describe_topic(config, {}),
        "group g": describe_group(config, GROUP),
        "client metrics m": describe_client_metrics(METRICS),
    }
    recorded = kafka()
    assert ours.keys() == recorded.keys()
    for of, described in ours.items():
        assert plain(described) == sorted(recorded[of], key=lambda each: str(each["name"])), of


def test_secrets_and_unknown_settings_have_no_value(config: BrokerConfig) -> None:
    by_name = {each.name: each for each in describe_broker(config)}
    secret = by_name["ssl.keystore.password"]
    assert (secret.value, secret.sensitive) == (None, True)
    assert [said.value for said in secret.synonyms] == [None]
    plugin = by_name["some.plugin.setting"]
    assert (plugin.value, plugin.type, plugin.documentation) == (None, None, None)


def test_documentation_is_ours(config: BrokerConfig) -> None:
    described = next(each for each in describe_topic(config, {}) if each.name == "retention.ms")
    assert described.documentation == "How long closed segments are kept, by their newest record; -1 for ever."
    assert described.source is Source.DYNAMIC_DEFAULT_BROKER

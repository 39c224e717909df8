"""The tables, row by row, against what Apache Kafka 4.3.1's own classes say of each setting (kafka_settings.jsonl)."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

import kpybroker
from kpybroker.config.attributes import declared
from kpybroker.config.broker import BrokerConfig
from kpybroker.config.setting import (
    Items,
    NotEmpty,
    OffsetReset,
    OneOf,
    Range,
    RangeOrDefault,
    Required,
    Setting,
    ThrottledReplicas,
    by_name,
)
from kpybroker.config.synonyms import GROUP_SYNONYMS, TOPIC_SYNONYMS
from kpybroker.config.tables import (
    BROKER_SETTINGS,
    CLIENT_METRICS_SETTINGS,
    ENTITY_QUOTAS,
    GROUP_SETTINGS,
    RATE_SETTINGS,
    TOPIC_SETTINGS,
)
from kpybroker.config.values import Type

KAFKA = [json.loads(line) for line in Path(__file__).with_name("kafka_settings.jsonl").read_text().splitlines()]
TABLES = {
    "broker": BROKER_SETTINGS,
    "topic": TOPIC_SETTINGS,
    "group": GROUP_SETTINGS,
    "client-metrics": CLIENT_METRICS_SETTINGS,
    "rates": RATE_SETTINGS,
    "entity": ENTITY_QUOTAS,
}
OWN = {"kpybroker.prometheus.listener"}
"""What Kafka has no setting for: named so that it can never have one."""
PACKAGE = Path(kpybroker.__file__).parent
ELSEWHERE = "".join(path.read_text() for path in PACKAGE.rglob("*.py") if path.parent.name not in ("config", "tables"))
BY_HAND = {"controller.quorum.voters", "controller.quorum.bootstrap.servers", "authorizer.class.name"}
"""Settings whose bounds are not Kafka's classes: see test_values for what they take."""


def bounds_text(setting: Setting) -> str:
    """The bounds as Kafka writes them in its documentation."""
    match setting.bounds:
        case None | Items(()):
            return ""
        case Range(low, None):
            return f"[{low},...]"
        case Range(low, high):
            return f"[{low},...,{high}]"
        case RangeOrDefault(low, high, default):
            return f"[{low},...,{high}] or {default}"
        case OneOf(words, any_case):
            return ("(case insensitive) " if any_case else "") + f"[{', '.join(words)}]"
        case Items(words):
            return f"[{', '.join(words)}]"
        case NotEmpty():
            return "non-empty string"
        case ThrottledReplicas():
            return "[partitionId]:[brokerId],[partitionId]:[brokerId],..."
        case OffsetReset():
            return "[latest, earliest, by_duration:PnDTnHnMn.nS]"
        case other:
            raise AssertionError(other)


@pytest.mark.parametrize("scope", TABLES)
def test_every_setting_of_kafka_has_a_row_and_no_other(scope: str) -> None:
    ours = [name for name in TABLES[scope] if name not in OWN]
    assert sorted(ours) == sorted(each["name"] for each in KAFKA if each["scope"] == scope)


@pytest.mark.parametrize("kafka", [pytest.param(each, id=f"{each['scope']}-{each['name']}") for each in KAFKA])
def test_row(kafka: dict[str, Any]) -> None:
    setting = TABLES[kafka["scope"]][kafka["name"]]
    assert setting.type.name == kafka["type"]
    assert isinstance(setting.default, Required) == kafka["required"]
    assert setting.default_text == kafka["default"]
    assert setting.internal == kafka["internal"]
    if kafka["dynamic"] is not None:
        assert setting.dynamic.value == kafka["dynamic"]
    if setting.name not in BY_HAND:
        assert bounds_text(setting) == kafka["bounds"]
        assert getattr(setting.bounds, "may_be_empty", None) == kafka["may_be_empty"]
    if kafka["default"] is not None and kafka["name"] != "controller.quorum.voters":
        assert setting.parse(kafka["default"]) == setting.default, "a default keeps its own bounds"


def test_own_settings_are_not_listed_with_kafkas() -> None:
    assert {name for name in BROKER_SETTINGS if name.startswith("kpybroker.")} == OWN
    assert all(BROKER_SETTINGS[name].internal for name in OWN)


def test_topic_rows_stand_in_kafka_s_order() -> None:
    """Of several wrong overrides the first in this order is the one that is named in the answer."""
    names = list(TOPIC_SETTINGS)
    assert names[:3] == ["segment.bytes", "segment.ms", "segment.jitter.ms"]
    assert names[-2:] == ["remote.log.delete.on.disable", "internal.segment.bytes"]


def test_documentation_is_one_sentence() -> None:
    for table in TABLES.values():
        for setting in table.values():
            assert setting.documentation.endswith("."), setting.name
            assert len(setting.documentation) > 15, setting.name


def test_secrets_are_the_passwords() -> None:
    assert {name for name, setting in BROKER_SETTINGS.items() if setting.sensitive} == {
        name for name, setting in BROKER_SETTINGS.items() if setting.type is Type.PASSWORD
    }
    assert BROKER_SETTINGS["ssl.keystore.password"].sensitive


def test_synonyms_name_settings_that_exist() -> None:
    for topic_name, synonyms in TOPIC_SYNONYMS.items():
        assert topic_name in TOPIC_SETTINGS
        assert all(name in BROKER_SETTINGS for name, _ in synonyms)
    for group_name, broker_name in GROUP_SYNONYMS.items():
        assert GROUP_SETTINGS[group_name].default == BROKER_SETTINGS[broker_name].default


def test_two_rows_of_one_name_are_an_error() -> None:
    row = BROKER_SETTINGS["node.id"]
    with pytest.raises(ValueError, match=r"node\.id has two rows"):
        by_name((row,), (row,))


TYPES = {
    bool: {Type.BOOLEAN},
    int: {Type.INT, Type.SHORT, Type.LONG},
    float: {Type.DOUBLE},
    str: {Type.STRING},
    tuple: {Type.LIST},
}


@pytest.mark.parametrize("attribute", sorted(declared(BrokerConfig)))
def test_attribute_has_its_setting_s_type(attribute: str) -> None:
    declaration = declared(BrokerConfig)[attribute]
    setting = BROKER_SETTINGS[declaration.setting]
    assert setting.type in TYPES[declaration.kind]
    assert declaration.optional == (setting.default is None)


READ_BY_CONFIG = {
    "advertised.listeners",
    "broker.id",
    "controller.listener.names",
    "inter.broker.listener.name",
    "listener.security.protocol.map",
    "listeners",
    "log.dir",
    "log.dirs",
    "metadata.log.dir",
    "process.roles",
    "security.inter.broker.protocol",
}
"""Settings that others see as `reachable`, `roles`, `data_dirs` and the like."""


def test_settings_said_to_have_an_effect_are_those_that_the_code_can_see() -> None:
    """USED and INERT in the tables are not opinions: a setting with an effect is an attribute, or a topic's default."""
    seen = {each.setting for each in declared(BrokerConfig).values()} | READ_BY_CONFIG
    seen |= {name for synonyms in TOPIC_SYNONYMS.values() for name, _ in synonyms}
    seen -= {"log.local.retention.ms", "log.local.retention.bytes"}  # tiered storage is not built
    assert {name for name, setting in BROKER_SETTINGS.items() if setting.effect} == seen


READ_OTHERWISE = {
    "controller_quorum_bootstrap_servers",  # checked; a single node connects to nobody
    "cordoned_log_dirs",  # by BrokerConfig.cordons
    "controller_quorum_voters",  # as before, and this node's own address comes from it
    "message_max_bytes",  # reaches topics
    "min_insync_replicas",
    "offsets_topic_replication_factor",  # put together from a prefix in cluster/auto_topics.py
    "offsets_topic_segment_bytes",
    "producer_id_expiration_ms",  # reaches logs
    "transaction_state_log_replication_factor",  # as those of the offsets topic
    "transaction_state_log_segment_bytes",
    "unclean_leader_election_enable",
}


@pytest.mark.parametrize("attribute", sorted(declared(BrokerConfig).keys() - READ_OTHERWISE))
def test_every_attribute_is_read_somewhere(attribute: str) -> None:
    """One that is not read any more is not USED any more: take it out, and change its row to INERT."""
    by_name = f'config["{declared(BrokerConfig)[attribute].setting}"]'
    read = by_name in ELSEWHERE or re.search(rf"config\.{attribute}\b", ELSEWHERE) is not None
    assert read

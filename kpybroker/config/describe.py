"""What DescribeConfigs says of a setting: its value, and every place that has a say in it, the strongest first.

Four places can set a broker's setting: the cluster's metadata for this broker, the same for all brokers, what the node
was started with, and the default; a topic or a group comes before them with its own. The rules are Kafka's, down to
the one that a synonym counts as a source only behind the setting's own name (KIP-226).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from enum import IntEnum

import msgspec

from kpybroker.config.broker import BrokerConfig
from kpybroker.config.loggers import levels
from kpybroker.config.setting import Required, Setting
from kpybroker.config.synonyms import GROUP_SYNONYMS, TOPIC_SYNONYMS, broker_synonyms
from kpybroker.config.tables import (
    BROKER_SETTINGS,
    CLIENT_METRICS_SETTINGS,
    GROUP_SETTINGS,
    TOPIC_SETTINGS,
    broker_setting,
)
from kpybroker.config.topic import topic_config
from kpybroker.config.values import InvalidValue, Type, Value, text_of


class Source(IntEnum):
    """Where a value comes from, numbered as DescribeConfigs reports it."""

    TOPIC = 1
    DYNAMIC_BROKER = 2
    DYNAMIC_DEFAULT_BROKER = 3
    STATIC_BROKER = 4
    DEFAULT = 5
    DYNAMIC_BROKER_LOGGER = 6
    CLIENT_METRICS = 7
    GROUP = 8


class Said(msgspec.Struct, frozen=True):
    """One place that sets a setting, under the name used there. No value: it is a secret."""

    name: str
    value: str | None
    source: Source


class Described(msgspec.Struct, frozen=True, kw_only=True):
    """One setting as DescribeConfigs shows it."""

    name: str
    value: str | None
    """None: none, or a secret."""
    source: Source
    sensitive: bool
    read_only: bool
    synonyms: tuple[Said, ...]
    """Every place that sets it, the strongest first."""
    type: Type | None
    """None: not known here (a setting of some plug-in, taken for a secret), or a logger's level."""
    documentation: str | None
    """None: not known here. Empty: there is none to be asked for."""


def describe_broker(config: BrokerConfig) -> Iterator[Described]:
    """Every setting of a broker, those of its plug-ins included."""
    given = dict.fromkeys((*config.static, *config.dynamic_default, *config.dynamic_broker))
    unknown = (name for name in given if broker_setting(name) is None)
    for name in (*config.names(), *unknown):
        setting = broker_setting(name)
        if setting is None or not setting.internal:
            yield _broker_setting(config, name, setting, only=None)


def describe_all_brokers(config: BrokerConfig) -> Iterator[Described]:
    """The settings that the cluster's metadata sets for all brokers (the BROKER resource without a name)."""
    for name in config.dynamic_default:
        yield _broker_setting(config, name, broker_setting(name), only=Source.DYNAMIC_DEFAULT_BROKER)


def describe_topic(config: BrokerConfig, overrides: Mapping[str, str]) -> Iterator[Described]:
    """Every setting of a topic with these overrides."""
    topic = topic_config(config, overrides)
    values, overrides = topic.values, topic.overrides
    for name, setting in TOPIC_SETTINGS.items():
        if not setting.internal or name in overrides:
            synonyms = TOPIC_SYNONYMS.get(name)
            said = _said_by_broker(config, synonyms[0][0]) if synonyms else ()
            yield _described(setting, values[name], said, own=Source.TOPIC if name in overrides else None)


def describe_group(config: BrokerConfig, overrides: Mapping[str, str]) -> Iterator[Described]:
    """Every setting of a group with these overrides."""

    def default(setting: Setting) -> tuple[Value, tuple[Said, ...]]:
        synonym = GROUP_SYNONYMS.get(setting.name)
        if synonym is not None:
            return config[synonym], _said_by_broker(config, synonym)
        assert not isinstance(setting.default, Required)
        return setting.default, (Said(setting.name, setting.default_text, Source.DEFAULT),)

    return _describe_scope(GROUP_SETTINGS, overrides, Source.GROUP, default)


def describe_client_metrics(overrides: Mapping[str, str]) -> Iterator[Described]:
    """Every setting of a subscription of client metrics (KIP-714)."""

    def default(setting: Setting) -> tuple[Value, tuple[Said, ...]]:
        assert not isinstance(setting.default, Required)
        return setting.default, ()

    return _describe_scope(CLIENT_METRICS_SETTINGS, overrides, Source.CLIENT_METRICS, default)


def describe_loggers() -> Iterator[Described]:
    """The level of each logger (KIP-412)."""
    for name, level in levels().items():
        yield Described(
            name=name,
            value=level,
            source=Source.DYNAMIC_BROKER_LOGGER,
            sensitive=False,
            read_only=False,
            synonyms=(),
            type=None,
            documentation="",
        )


def _describe_scope(
    table: Mapping[str, Setting],
    overrides: Mapping[str, str],
    own: Source,
    default: Callable[[Setting], tuple[Value, tuple[Said, ...]]],
) -> Iterator[Described]:
    for name, setting in table.items():
        value, said = default(setting)
        source = None
        if name in overrides:
            with suppress(InvalidValue):  # validation keeps such a one out of the metadata
                value, source = setting.parse(overrides[name]), own
        yield _described(setting, value, said, own=source)


def _described(setting: Setting, value: Value, said: tuple[Said, ...], own: Source | None) -> Described:
    """A setting of something that is not a broker; `own`: the source if it is set there itself."""
    text = None if setting.sensitive else text_of(value)
    synonyms = (Said(setting.name, text, own), *said) if own is not None else said
    return Described(
        name=setting.name,
        value=text,
        source=synonyms[0].source if synonyms else Source.DEFAULT,
        sensitive=setting.sensitive,
        read_only=False,
        synonyms=synonyms,
        type=setting.type,
        documentation=setting.documentation,
    )


def _broker_setting(config: BrokerConfig, name: str, setting: Setting | None, only: Source | None) -> Described:
    said = tuple(each for each in _said_by_broker(config, name) if only is None or each.source is only)
    sensitive = setting is None or setting.sensitive
    value = config.dynamic_default.get(name) if only is not None else None if setting is None else text_of(config[name])
    return Described(
        name=name,
        value=None if sensitive else value,
        source=said[0].source if said else Source.DEFAULT,
        sensitive=sensitive,
        read_only=setting is None or not setting.changeable or setting.name != name,
        synonyms=said,
        type=None if setting is None else setting.type,
        documentation=None if setting is None else setting.documentation,
    )


def _said_by_broker(config: BrokerConfig, name: str) -> tuple[Said, ...]:
    """Every place that sets a broker's setting or a synonym of it, from the first one on that uses its own name."""
    setting = broker_setting(name)
    sensitive = setting is None or setting.sensitive
    names = broker_synonyms(name)
    places = (
        (Source.DYNAMIC_BROKER, config.dynamic_broker),
        (Source.DYNAMIC_DEFAULT_BROKER, config.dynamic_default),
        (Source.STATIC_BROKER, config.static),
        (Source.DEFAULT, _defaults(names)),
    )
    said = [
        Said(each, None if sensitive else texts[each], source)
        for source, texts in places
        for each in names
        if each in texts
    ]
    while said and said[0].name != name:
        del said[0]
    return tuple(said)


def _defaults(names: tuple[str, ...]) -> dict[str, str]:
    """The defaults, as text, of those of these settings that a node can be started with and that have one."""
    texts = {name: BROKER_SETTINGS[name].default_text for name in names if name in BROKER_SETTINGS}
    return {name: text for name, text in texts.items() if text is not None}

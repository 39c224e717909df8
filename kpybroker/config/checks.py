"""What must hold between the settings of a node; bounds of single settings are in the tables.

The rules are Kafka's. Each is a line of the function it stands in; the first that is broken is named.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from kpybroker.config.errors import ConfigError
from kpybroker.config.listeners import SecurityProtocol, parse_address
from kpybroker.config.synonyms import TOPIC_SYNONYMS

if TYPE_CHECKING:
    from kpybroker.config.broker import BrokerConfig


def check_whole(config: BrokerConfig, texts: Mapping[str, str]) -> None:
    """Raise ConfigError unless the settings fit together."""
    _check_log(config)
    _check_quorum(config)
    _check_roles(config)
    _check_listeners(config, texts)
    _check_prometheus(config)


def _require(condition: bool, otherwise: str) -> None:
    if not condition:
        raise ConfigError(otherwise)


def _check_log(config: BrokerConfig) -> None:
    roll, jitter, retention = (_effective(config, name) for name in ("segment.ms", "segment.jitter.ms", "retention.ms"))
    _require(roll >= 1, "log.roll.ms must be at least 1")
    _require(jitter >= 0, "log.roll.jitter.ms must not be negative")
    _require(retention != 0, "log.retention.ms must be at least 1, or -1 for no limit")
    low, high = (_effective(config, name) for name in ("min.compaction.lag.ms", "max.compaction.lag.ms"))
    _require(low <= high, f"log.cleaner.min.compaction.lag.ms ({low}) is above the maximum ({high})")


def _effective(config: BrokerConfig, topic_setting: str) -> int:
    """A number that a topic gets from its broker, as in `topic.broker_default`, which needs a checked configuration."""
    for name, factor in TOPIC_SYNONYMS[topic_setting]:
        value = config[name]
        if isinstance(value, int):
            return value * factor
    raise AssertionError(f"{topic_setting}: the last synonym has a default")


def _check_quorum(config: BrokerConfig) -> None:
    voters = config.controller_quorum_voters
    ids = {int(voter.partition("@")[0]) for voter in voters}
    _require(
        bool(voters or config.controller_quorum_bootstrap_servers),
        "controller.quorum.bootstrap.servers or controller.quorum.voters must say where the controllers are",
    )
    if "controller" in config.roles:
        _require(
            not ids or config.node_id in ids,
            f"a controller must be one of controller.quorum.voters, and node {config.node_id} is not",
        )
    else:
        _require(
            config.node_id not in ids,
            f"node {config.node_id} is one of controller.quorum.voters, but by process.roles no controller",
        )


def _check_roles(config: BrokerConfig) -> None:
    reachable = config.reachable
    listening = {each.name for each in reachable.listening}
    if "controller" in config.roles:
        missing = [name for name in reachable.controller_names if name not in listening]
        _require(not missing, f"controller.listener.names: {''.join(missing[:1])} is not one of listeners")
    else:
        _require(not reachable.controllers, "listeners of the controller need process.roles to have controller in it")
        unmapped = [name for name in reachable.controller_names if name not in reachable.protocols]
        _require(
            not unmapped, f"listener.security.protocol.map: {''.join(unmapped[:1])}, the controller's, is not there"
        )
    if "broker" in config.roles:
        told = {each.name for each in reachable.advertised}
        _require(bool(told), "a broker needs a listener that is not one of controller.listener.names")
        _require(told <= listening, f"advertised.listeners: {', '.join(sorted(told - listening))} is none of listeners")
        _require(
            reachable.inter_broker_name in told,
            f"inter.broker.listener.name: {reachable.inter_broker_name} is not one of advertised.listeners"
            f" ({', '.join(sorted(told))})",
        )
    else:
        _require(
            not reachable.brokers,
            "a node that is only a controller must only have listeners of controller.listener.names",
        )


def _check_listeners(config: BrokerConfig, texts: Mapping[str, str]) -> None:
    reachable = config.reachable
    for each in (*reachable.advertised, *reachable.advertised_controllers):
        _require(each.host != "0.0.0.0", f"advertised.listeners: nobody can connect to {each}; name an address")
    _require(
        not ("inter.broker.listener.name" in texts and "security.inter.broker.protocol" in texts),
        "inter.broker.listener.name and security.inter.broker.protocol exclude each other",
    )
    for each in reachable.listening:
        _require(
            each.protocol is SecurityProtocol.PLAINTEXT,
            f"listeners: {each.name} is secured by {each.protocol.name}, and only PLAINTEXT is spoken here so far",
        )


def _check_prometheus(config: BrokerConfig) -> None:
    try:
        parse_address(config.kpybroker_prometheus_listener)
    except ConfigError as wrong:
        raise ConfigError(f"kpybroker.prometheus.listener: {wrong}") from None

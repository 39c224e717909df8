"""What must hold between the settings of a node; bounds of single settings are in the tables.

The rules are Kafka's. Each is a line of the function it stands in; the first that is broken is named.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from kpybroker.config.errors import ConfigError
from kpybroker.config.listeners import SecurityProtocol, parse_address
from kpybroker.config.synonyms import TOPIC_SYNONYMS

if TYPE_CHECKING:
    from kpybroker.config.broker import BrokerConfig

_HOST = re.compile(r"[0-9a-zA-Z\-%._:]*")
"""What Kafka takes for a host name or an address."""


ASSIGNOR_CLASSES = "org.apache.kafka.coordinator.group.assignor"
CONSUMER_ASSIGNORS: Final = {
    "uniform": "uniform",
    "range": "range",
    f"{ASSIGNOR_CLASSES}.UniformAssignor": "uniform",
    f"{ASSIGNOR_CLASSES}.RangeAssignor": "range",
}
"""The assignors of consumer groups by what they may be called: by their names, or by Kafka's classes."""


def check_whole(config: BrokerConfig, texts: Mapping[str, str]) -> None:
    """Raise ConfigError unless the settings fit together."""
    _check_log(config)
    _check_cordoned(config)
    _check_groups(config)
    _check_connections(config)
    _check_quorum(config)
    _check_roles(config)
    _check_listeners(config, texts)
    _check_prometheus(config)


def _require(condition: bool, otherwise: str, kafka: str | None = None) -> None:
    """Raise ConfigError unless it is so; `kafka`: what Kafka requires, in its words."""
    if not condition:
        raise ConfigError(otherwise, kafka=None if kafka is None else f"requirement failed: {kafka}")


def _check_log(config: BrokerConfig) -> None:
    roll, jitter, retention = (_effective(config, name) for name in ("segment.ms", "segment.jitter.ms", "retention.ms"))
    _require(roll >= 1, "log.roll.ms must be at least 1", "log.roll.ms must be greater than or equal to 1")
    _require(
        jitter >= 0, "log.roll.jitter.ms must not be negative", "log.roll.jitter.ms must be greater than or equal to 0"
    )
    _require(
        retention != 0,
        "log.retention.ms must be at least 1, or -1 for no limit",
        "log.retention.ms must be unlimited (-1) or, greater than or equal to 1",
    )
    threads, buffer_bytes = config.int_of("log.cleaner.threads"), config.int_of("log.cleaner.dedupe.buffer.size")
    if threads == 0:
        raise ConfigError("log.cleaner.threads must be at least 1", kafka="/ by zero")
    too_small = "log.cleaner.dedupe.buffer.size must be at least 1MB per cleaner thread."
    _require(int(buffer_bytes / threads) > 1024 * 1024, too_small, too_small)


def _check_cordoned(config: BrokerConfig) -> None:
    """Folders that take no new partitions must be folders of the node; * alone stands for all (KIP-1066)."""
    cordoned = config["cordoned.log.dirs"]
    assert isinstance(cordoned, tuple)
    if "*" in cordoned:
        alone = "When cordoned.log.dirs is set to *, it must not contain other values"
        _require(len(cordoned) == 1, alone, alone)
        return
    folders = set(map(str, config.data_dirs))
    missing = ", ".join(each for each in cordoned if each not in folders)
    there = f"All entries in cordoned.log.dirs must be present in log.dirs or log.dir. Missing entries : {missing}"
    _require(not missing, there, there)


def _check_groups(config: BrokerConfig) -> None:
    """The defaults of each kind of group lie within what groups may set."""
    for kind in ("consumer", "share", "streams"):
        for what in ("session.timeout.ms", "heartbeat.interval.ms", "assignment.interval.ms"):
            name, low, high = (f"group.{kind}.{part}{what}" for part in ("", "min.", "max."))
            value = config.int_of(name)
            for fits, bound, side in (
                (value >= config.int_of(low), low, "greater"),
                (value <= config.int_of(high), high, "less"),
            ):
                if not fits:
                    raise ConfigError(f"{name} must be {side} than or equal to {bound}")
    for assignor in config.group_consumer_assignors:
        if assignor not in CONSUMER_ASSIGNORS:
            raise ConfigError(f"group.consumer.assignors: there is no assignor {assignor!r}")


def per_address_overrides(text: str) -> dict[str, int]:
    """max.connections.per.ip.overrides as a map, IPv6 addresses as they stand there. Raises: ConfigError."""
    setting = "max.connections.per.ip.overrides"
    overrides = {}
    for item in re.split(r"\s*,\s*", text.strip()) if text.strip() else ():
        address, colon, limit = item.rpartition(":")
        if not colon:
            # The second half is what Java says of a missing colon.
            kafka = f"Error parsing configuration property '{setting}': begin 0, end -1, length {len(item)}"
            raise ConfigError(f"{setting}: {item!r} is not address:count", kafka=kafka)
        if not limit.strip().lstrip("+-").isdecimal():
            kafka = f'For input string: "{limit.strip()}"'
            raise ConfigError(f"{setting}: {item!r} has no number for {address}", kafka=kafka)
        invalid = f"{setting} contains invalid addresses : {address}"
        _require(bool(_HOST.fullmatch(address.strip())), invalid, invalid)
        overrides[address.strip()] = int(limit)
    return overrides


def _check_connections(config: BrokerConfig) -> None:
    overrides = per_address_overrides(config.max_connections_per_ip_overrides)
    zero = "max.connections.per.ip can be set to zero only if max.connections.per.ip.overrides property is set."
    _require(config.max_connections_per_ip != 0 or bool(overrides), zero, zero)


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
        kafka = "controller.listener.names must contain at least one value appearing in the 'listeners' configuration"
        _require(
            not missing,
            f"controller.listener.names: {''.join(missing[:1])} is not one of listeners",
            f"{kafka} when running the KRaft controller role",
        )
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

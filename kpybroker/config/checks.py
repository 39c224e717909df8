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
    from kpybroker.config.reachable import Reachable

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
    _check_roles(config, texts)
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


def _as_kafka(condition: bool, text: str) -> None:
    """As `_require`, where what Kafka says is what there is to say."""
    _require(condition, text, text)


def _check_quorum(config: BrokerConfig) -> None:
    voters = config.controller_quorum_voters
    ids = {int(voter.partition("@")[0]) for voter in voters}
    _as_kafka(
        bool(voters or config.controller_quorum_bootstrap_servers),
        "If using process.roles, either controller.quorum.bootstrap.servers must contain the set of bootstrap "
        "controllers or controller.quorum.voters must contain a parseable set of controllers.",
    )
    listed = f"controller.quorum.voters=Set({', '.join(map(str, sorted(ids)))})"
    if "controller" in config.roles:
        _as_kafka(
            not ids or config.node_id in ids,
            f"If process.roles contains the 'controller' role, the node id {config.node_id} must be included in the "
            f"set of voters {listed}",
        )
    else:
        _as_kafka(
            config.node_id not in ids,
            f"If process.roles contains just the 'broker' role, the node id {config.node_id} must not be included in "
            f"the set of voters {listed}",
        )
        _as_kafka(
            not config["controller.quorum.auto.join.enable"],
            "controller.quorum.auto.join.enable is only supported when process.roles contains the 'controller' role.",
        )


def _check_roles(config: BrokerConfig, texts: Mapping[str, str]) -> None:
    if "controller" in config.roles:
        _check_controller(config, texts)
    else:
        _check_broker_only(config.reachable)
    if "broker" in config.roles:
        _check_broker(config.reachable)


def _check_controller(config: BrokerConfig, texts: Mapping[str, str]) -> None:
    reachable = config.reachable
    if "broker" not in config.roles:
        _as_kafka(
            not reachable.brokers,
            "The listeners config must only contain KRaft controller listeners from controller.listener.names when "
            "process.roles=controller",
        )
        _as_kafka(
            "inter.broker.listener.name" not in texts or reachable.inter_broker_name not in reachable.controller_names,
            "controller.listener.names must not contain an explicitly set inter.broker.listener.name configuration "
            "value when process.roles=controller'",
        )
    running = "the 'listeners' configuration when running the KRaft controller role"
    listening = {each.name for each in reachable.listening}
    _as_kafka(
        not listening.isdisjoint(reachable.controller_names),
        f"controller.listener.names must contain at least one value appearing in {running}",
    )
    _as_kafka(
        set(reachable.controller_names) <= listening,
        f"controller.listener.names must only contain values appearing in {running}",
    )


def _check_broker_only(reachable: Reachable) -> None:
    running = "when running KRaft with just the broker role"
    _as_kafka(bool(reachable.controller_names), f"controller.listener.names must contain at least one value {running}")
    _as_kafka(
        not reachable.controllers,
        f"controller.listener.names must not contain a value appearing in the 'listeners' configuration {running}",
    )
    for name in reachable.controller_names:
        _as_kafka(
            name in reachable.protocols,
            f"Controller listener with name {name} defined in controller.listener.names not found in "
            "listener.security.protocol.map  (an explicit security mapping for each controller listener is required "
            "if listener.security.protocol.map is non-empty, or if there are security protocols other than PLAINTEXT "
            "in use)",
        )


def _check_broker(reachable: Reachable) -> None:
    told = {each.name for each in reachable.advertised}
    listening = {each.name for each in reachable.listening}
    _as_kafka(
        bool(told),
        "There must be at least one broker advertised listener. Perhaps all listeners appear in "
        "controller.listener.names?",
    )
    _as_kafka(
        reachable.inter_broker_name in told,
        "inter.broker.listener.name must be a listener name defined in advertised.listeners. The valid options based "
        f"on currently configured listeners are {','.join(sorted(told))}",
    )
    _as_kafka(
        told <= listening,
        "advertised.listeners listener names must be equal to or a subset of the ones defined in listeners. Found "
        f"{','.join(sorted(told))}. The valid options based on the current configuration are "
        f"{','.join(sorted(listening))}",
    )


def _check_listeners(config: BrokerConfig, texts: Mapping[str, str]) -> None:
    reachable = config.reachable
    early = config["early.start.listeners"]
    known = {each.name for each in reachable.listening}
    for name in map(str.upper, early if isinstance(early, tuple) else ()):
        contains = f"early.start.listeners contains listener {name}, but this is not contained in listeners or"
        if name not in known:
            raise ConfigError(f"{contains} controller.listener.names")
    for each in (*reachable.advertised, *reachable.advertised_controllers):
        _as_kafka(
            each.host != "0.0.0.0",
            "advertised.listeners cannot use the nonroutable meta-address 0.0.0.0. Use a routable IP address.",
        )
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

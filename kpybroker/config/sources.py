"""Where a node's settings come from: a file, the environment, the command line; without any, the embedded profile."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

import msgspec

from kpybroker.config.environment import settings_from
from kpybroker.config.errors import ConfigError, unknown
from kpybroker.config.listeners import EndPoint, SecurityProtocol
from kpybroker.config.tables import BROKER_SETTINGS, broker_setting
from kpybroker.metrics import PROMETHEUS_REPORTER

DATA_DIR: Final = "kpybroker-data"
"""The folder of the data, beside where the node is started, unless it is told another."""

CONTROLLER_PORT: Final = 9093

EMBEDDED: Final[Mapping[str, str]] = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.quorum.bootstrap.servers": "localhost:9093",
    "listeners": "PLAINTEXT://localhost:9092,CONTROLLER://localhost:9093",
    "inter.broker.listener.name": "PLAINTEXT",
    "advertised.listeners": "PLAINTEXT://localhost:9092,CONTROLLER://localhost:9093",
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": (
        "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT,SASL_SSL:SASL_SSL"
    ),
    "num.network.threads": "3",
    "num.io.threads": "8",
    "socket.send.buffer.bytes": "102400",
    "socket.receive.buffer.bytes": "102400",
    "socket.request.max.bytes": "104857600",
    "log.dirs": DATA_DIR,
    "num.partitions": "1",
    "num.recovery.threads.per.data.dir": "2",
    "offsets.topic.replication.factor": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "log.retention.hours": "168",
    "log.segment.bytes": "1073741824",
    "log.retention.check.interval.ms": "300000",
    "group.initial.rebalance.delay.ms": "0",
}
"""A single node for itself: the server.properties that Apache Kafka ships, except that it listens on localhost only,
has its data beside it, and that the first member of a group does not wait for a second one."""


def listening_on(host: str, port: int) -> dict[str, str]:
    """The settings of an embedded node that listens there. No host: on every interface, under this machine's name."""
    plain = EndPoint(name="PLAINTEXT", protocol=SecurityProtocol.PLAINTEXT, host=host, port=port)
    told = msgspec.structs.replace(plain, host="") if plain.wildcard else plain
    # A lone node opens no port for its controller, but the metadata names one, and it must be another.
    controller = f"CONTROLLER://localhost:{CONTROLLER_PORT if port != CONTROLLER_PORT else CONTROLLER_PORT + 1}"
    return {"listeners": f"{plain},{controller}", "advertised.listeners": f"{told},{controller}"}


class Given(msgspec.Struct, frozen=True, kw_only=True):
    """What a node is started with."""

    static: Mapping[str, str]
    embedded: bool
    """Whether everything that is not an override comes from the embedded profile."""
    warnings: tuple[str, ...]
    """A line for each unknown name in file or environment, and one naming the settings without effect here."""


def gather(file: Path | None, overrides: Mapping[str, str], environment: Mapping[str, str] | None) -> Given:
    """Put the sources together: overrides over the environment over the file, or over the embedded profile.

    The environment is looked at only if it is given. By the rule of the apache/kafka image, one setting in it is enough
    for the profile not to be used. Raises: ConfigError for an override that is not known and an unreadable file.
    """
    check_names(overrides)
    from_file = {} if file is None else read_properties(file)
    from_environment = {} if environment is None else settings_from(environment)
    embedded = file is None and not from_environment
    given = {**from_file, **from_environment, **overrides}
    warnings = (
        *_unknown_ones(from_file, f"in {file}"),
        *_unknown_ones(from_environment, "in the environment"),
        *_without_effect(given),
        *_java_reporters(given),
    )
    return Given(static={**EMBEDDED, **overrides} if embedded else given, embedded=embedded, warnings=warnings)


def check_names(names: Iterable[str]) -> None:
    """Raises: ConfigError for a name that no setting has, with the nearest that there is."""
    for name in names:
        if broker_setting(name) is None:
            raise ConfigError(unknown(name, BROKER_SETTINGS))


def read_properties(file: Path) -> dict[str, str]:
    """The settings of a file in Java's .properties format. Raises: ConfigError if it cannot be read as one."""
    import javaproperties  # only when there is a file: a node without one starts faster

    try:
        with file.open("rb") as stream:
            return dict(javaproperties.load(stream))
    except OSError as error:
        raise ConfigError(f"cannot read {file}: {error.strerror or error}") from None
    except javaproperties.InvalidUEscapeError as error:
        raise ConfigError(f"{file} is not a .properties file: {error}") from None


def _unknown_ones(names: Iterable[str], where: str) -> list[str]:
    """A line for each name that is no setting; Kafka keeps such ones for its plug-ins and says no more than that."""
    return [f"{where} {unknown(name, BROKER_SETTINGS)}" for name in names if broker_setting(name) is None]


def _without_effect(given: Iterable[str]) -> list[str]:
    """At most one line: the settings given that change nothing here."""
    inert = sorted(name for name in given if (setting := broker_setting(name)) is not None and not setting.effect)
    return [f"without effect in this broker: {', '.join(inert)}"] if inert else []


def _java_reporters(given: Mapping[str, str]) -> list[str]:
    """At most one line: the reporters of metrics that are Java's."""
    reporters = [name.strip() for name in given.get("metric.reporters", "").split(",")]
    java = [name for name in reporters if name not in ("", PROMETHEUS_REPORTER)]
    return [f"metric.reporters: without effect in this broker: {', '.join(java)}"] if java else []

"""`kpybroker container`: a node inside a container, told what to do as the apache/kafka image is told.

Settings are KAFKA_* variables, KEY=VALUE arguments that stand for such variables, and a server.properties in
/mnt/shared/config. Without any of them the node is alone, listens on every interface and tells clients to come to
localhost:9092. Unless log.dirs is set, data is in the image's volume.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Final

import click
import msgspec

from kpybroker.config import BrokerConfig, ConfigError
from kpybroker.config.environment import FOR_THE_IMAGE, FOR_THE_JVM, settings_from
from kpybroker.config.sources import listening_on, read_properties
from kpybroker.tools.serve import fail, parse_settings, run_node, set_up_logging

MOUNTED_CONFIG: Final = Path("/mnt/shared/config/server.properties")
DATA_DIR: Final = "/var/lib/kafka/data"

_ROOT_LEVEL, _LOGGERS = "KAFKA_LOG4J_ROOT_LOGLEVEL", "KAFKA_LOG4J_LOGGERS"
_LEVELS: Final = {
    "ALL": "DEBUG",
    "TRACE": "DEBUG",
    "DEBUG": "DEBUG",
    "INFO": "INFO",
    "WARN": "WARNING",
    "ERROR": "ERROR",
    "FATAL": "CRITICAL",
    "OFF": "CRITICAL",
}
"""Log4j's levels, as Python's logging has them."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What a container's environment asks for."""

    config: BrokerConfig
    cluster_id: str | None
    """Of a new cluster; a folder that has data keeps the one it has."""
    log_levels: Mapping[str, str]
    """By logger; "" is all of them."""
    warnings: tuple[str, ...]


def planned(environment: Mapping[str, str], mounted: Path) -> Plan:
    """Raises: ConfigError."""
    file = mounted if mounted.exists() else None
    given = settings_from(environment) | ({} if file is None else read_properties(file))
    overrides = {} if given else {"listeners": listening_on("", 9092)["listeners"]}
    if not given.keys() & {"log.dirs", "log.dir"}:
        overrides["log.dirs"] = DATA_DIR
    config = BrokerConfig.load(file, overrides, environment)
    levels, wrong = _log_levels(environment)
    idle = sorted(name for name in (FOR_THE_JVM | FOR_THE_IMAGE) - {_ROOT_LEVEL, _LOGGERS} if environment.get(name))
    without_effect = [f"without effect in this container: {', '.join(idle)}"] if idle else []
    return Plan(
        config=config,
        cluster_id=environment.get("CLUSTER_ID") or None,
        log_levels=levels,
        warnings=(*wrong, *without_effect, *config.warnings),
    )


def _log_levels(environment: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """Levels by logger, and a line for each that is none."""
    pairs = [("", environment.get(_ROOT_LEVEL, ""), _ROOT_LEVEL)]
    for text in environment.get(_LOGGERS, "").split(","):
        name, _, level = text.partition("=")
        pairs.append((name.strip(), level, _LOGGERS))
    levels, wrong = {}, []
    for name, level, variable in pairs:
        found = _LEVELS.get(level.strip().upper())
        if found is not None:
            levels[name] = found
        elif name or level:
            wrong.append(f"{variable}: {level!r} is none of Log4j's levels")
    return levels, wrong


def _end_at_once(number: int, _: FrameType | None) -> None:
    sys.exit(128 + number)


@click.command(context_settings={"ignore_unknown_options": False})
@click.argument("variables", nargs=-1, callback=parse_settings, metavar="[KAFKA_NAME=VALUE]...")
def container(variables: dict[str, str]) -> None:
    """Run one node as the apache/kafka image runs Kafka: settings from KAFKA_* variables (see docs/container.md)."""
    # Process 1 has no default action for signals: until the node has a better one, SIGTERM would be lost.
    signal.signal(signal.SIGTERM, _end_at_once)
    try:
        plan = planned({**os.environ, **variables}, MOUNTED_CONFIG)
    except ConfigError as error:
        fail(str(error))
    set_up_logging(dict(plan.log_levels))
    run_node(plan.config, plan.warnings, cluster_id=plan.cluster_id)

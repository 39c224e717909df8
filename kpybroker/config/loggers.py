"""The levels of loggers, by Kafka's names for them (KIP-412): those of this broker, and `root`.

Loggers belong to the process, as they do in Kafka's: nodes that share one share their levels. Levels are not kept over
a restart.
"""

from __future__ import annotations

import logging
from typing import Final

ROOT: Final = "root"
REQUEST_LOGGER: Final = "kafka.request.logger"
"""Kafka's log of requests: its name is listed before anything was written to it."""

LEVELS: Final = {
    "TRACE": 5,
    "DEBUG": logging.DEBUG,
    "INFO": logging.INFO,
    "WARN": logging.WARNING,
    "ERROR": logging.ERROR,
    "FATAL": logging.CRITICAL,
}
"""Kafka's levels -> those of Python's logging, which has none below DEBUG by name."""

_OURS: Final = ("kpybroker", "kafka")


def levels() -> dict[str, str]:
    """The level in force of each logger, by name."""
    return {ROOT: _name(logging.getLogger()), **{name: _name(logging.getLogger(name)) for name in _names()}}


def exists(name: str) -> bool:
    """Whether there is such a logger."""
    return name == ROOT or name in _names()


def set_level(name: str, level: str) -> None:
    """Set the level of a logger that exists, to one of LEVELS."""
    _logger(name).setLevel(LEVELS[level])


def unset_level(name: str) -> None:
    """Let a logger that exists, and is not the root, have the level of the one above it."""
    _logger(name).setLevel(logging.NOTSET)


def _names() -> list[str]:
    known = logging.getLogger().manager.loggerDict
    ours = {name for name in known if name.partition(".")[0] in _OURS and isinstance(known[name], logging.Logger)}
    return sorted(ours | {REQUEST_LOGGER})


def _logger(name: str) -> logging.Logger:
    return logging.getLogger(None if name == ROOT else name)


def _name(logger: logging.Logger) -> str:
    """The most talkative of Kafka's levels that says no more than the logger does."""
    effective = logger.getEffectiveLevel()
    return next((name for name, level in LEVELS.items() if level >= effective), "OFF")

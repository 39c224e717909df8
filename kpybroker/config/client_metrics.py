"""The settings of a subscription of client metrics (KIP-714), refused with Kafka's code and Kafka's sentence."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

from kpybroker.config.tables import CLIENT_METRICS_SETTINGS
from kpybroker.config.values import InvalidValue
from kpybroker.wire.codes import Code, Refused

INTERVAL_MS_MIN: Final = 100
INTERVAL_MS_MAX: Final = 3_600_000

MATCHED: Final = frozenset(
    {
        "client_instance_id",
        "client_id",
        "client_software_name",
        "client_software_version",
        "client_source_address",
        "client_source_port",
    }
)
"""What of a client a subscription may look at."""


def validate_client_metrics(name: str, overrides: Mapping[str, str]) -> None:
    """Check all settings that a subscription is to have. Raises: Refused(INVALID_REQUEST or INVALID_CONFIG)."""
    if not name:
        raise Refused(Code.INVALID_REQUEST, "Subscription name can't be empty")
    for key in overrides:
        if key not in CLIENT_METRICS_SETTINGS:
            raise Refused(Code.INVALID_REQUEST, f"Unknown client metrics configuration: {key}")
    try:
        values = {key: CLIENT_METRICS_SETTINGS[key].parse(text) for key, text in overrides.items()}
    except InvalidValue as error:
        raise Refused(Code.INVALID_CONFIG, str(error)) from None
    interval_ms = values.get("interval.ms", INTERVAL_MS_MIN)
    assert isinstance(interval_ms, int)
    if not INTERVAL_MS_MIN <= interval_ms <= INTERVAL_MS_MAX:
        between = f"interval must be between {INTERVAL_MS_MIN} and {INTERVAL_MS_MAX} (1 hour)"
        raise Refused(Code.INVALID_REQUEST, f"Invalid value {interval_ms} for interval.ms, {between}")
    match = values.get("match", ())
    assert isinstance(match, tuple)
    parse_match(match)


def parse_match(patterns: Iterable[str]) -> dict[str, re.Pattern[str]]:
    """What of a client must match what, from items of the form name=regular expression.

    Raises: Refused(INVALID_CONFIG).
    """
    found = {}
    for pattern in patterns:
        name, _, expression = pattern.rstrip("=").partition("=")
        try:
            if "=" in expression or not expression or name.strip() not in MATCHED:
                raise ValueError(pattern)
            found[name.strip()] = re.compile(expression.strip())
        except (ValueError, re.error):
            raise Refused(Code.INVALID_CONFIG, f"Illegal client matching pattern: {pattern}") from None
    return found

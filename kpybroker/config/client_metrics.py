"""The settings of a subscription of client metrics (KIP-714), refused with Kafka's code and Kafka's sentence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from kpybroker.config.tables import CLIENT_METRICS_SETTINGS
from kpybroker.config.values import InvalidValue
from kpybroker.metrics.subscriptions import IllegalPattern, parse_match
from kpybroker.wire.codes import Code, Refused

INTERVAL_MS_MIN: Final = 100
INTERVAL_MS_MAX: Final = 3_600_000


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
    try:
        parse_match(match)
    except IllegalPattern as error:
        raise Refused(Code.INVALID_CONFIG, str(error)) from None

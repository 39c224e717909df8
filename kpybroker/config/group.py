"""The settings of one group: each within the bounds that the broker's settings give to its kind of group.

They are refused with Kafka's code and Kafka's sentence.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from kpybroker.config.broker import BrokerConfig
from kpybroker.config.synonyms import GROUP_SYNONYMS
from kpybroker.config.tables import BROKER_SETTINGS, GROUP_SETTINGS
from kpybroker.config.values import InvalidValue, Value
from kpybroker.wire.codes import Code, Refused

_BOUNDS_OF: Final = {"num.standby.replicas": "standby.replicas"}
"""Where the name of a setting is not the name of its bound."""


def validate_group_overrides(broker: BrokerConfig, overrides: Mapping[str, str]) -> None:
    """Check all settings that a group is to have. Raises: Refused(INVALID_CONFIG)."""
    for name in overrides:
        if name not in GROUP_SETTINGS:
            raise Refused(Code.INVALID_CONFIG, f"Unknown group config name: {name}")
    try:
        values = {name: each.parse(overrides[name]) for name, each in GROUP_SETTINGS.items() if name in overrides}
    except InvalidValue as error:
        raise Refused(Code.INVALID_CONFIG, str(error)) from None
    for name, value in values.items():
        for why in _out_of_bounds(broker, name, value):
            raise Refused(Code.INVALID_CONFIG, why)
    for kind in ("consumer", "share", "streams"):
        session, heartbeat = f"{kind}.session.timeout.ms", f"{kind}.heartbeat.interval.ms"
        if {session, heartbeat} & values.keys() and _in_force(broker, values, session) <= _in_force(
            broker, values, heartbeat
        ):
            raise Refused(Code.INVALID_CONFIG, f"{session} must be greater than {heartbeat}")


def _out_of_bounds(broker: BrokerConfig, name: str, value: Value) -> Iterator[str]:
    if not isinstance(value, int):
        return
    kind, _, rest = name.partition(".")
    rest = _BOUNDS_OF.get(rest, rest)
    low, high = f"group.{kind}.min.{rest}", f"group.{kind}.max.{rest}"
    if low in BROKER_SETTINGS and value < broker.int_of(low):
        yield f"{name} must be greater than or equal to {low}"
    if high in BROKER_SETTINGS and value > broker.int_of(high):
        yield f"{name} must be less than or equal to {high}"


def _in_force(broker: BrokerConfig, values: Mapping[str, Value], name: str) -> int:
    value = values.get(name)
    return value if isinstance(value, int) else broker.int_of(GROUP_SYNONYMS[name])

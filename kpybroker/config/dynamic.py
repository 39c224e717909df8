"""Which settings of brokers can be changed while they run, and for whom (KIP-226).

Some are for one broker only (its listeners and what secures them), the others for one or for all. What secures a
listener is changed for that listener, by its name with the prefix `listener.name.<listener>.`. A name that Kafka does
not know may belong to a plug-in of the user's: it is kept, and shown without its value.

Unlike Kafka's, this broker does not open or close listeners while it runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from kpybroker.config.setting import Dynamic
from kpybroker.config.synonyms import without_listener
from kpybroker.config.tables import BROKER_SETTINGS, broker_setting
from kpybroker.config.values import InvalidValue, Type, refuse

PER_LISTENER: Final = frozenset(
    {
        "ssl.keystore.type",
        "ssl.keystore.location",
        "ssl.keystore.password",
        "ssl.key.password",
        "ssl.truststore.type",
        "ssl.truststore.location",
        "ssl.truststore.password",
        "ssl.keystore.certificate.chain",
        "ssl.keystore.key",
        "ssl.truststore.certificates",
    }
)
"""What can be changed only for a listener."""

_OF_ALL_LISTENERS: Final = {"max.connections", "max.connection.creation.rate", "num.network.threads"}
"""What can be set with a listener's prefix for all brokers."""


def static_ones(names: Iterable[str]) -> list[str]:
    """Those that are settings, and cannot be changed while a broker runs."""
    return [name for name in names if name in BROKER_SETTINGS and not BROKER_SETTINGS[name].changeable]


def without_prefix(names: Iterable[str]) -> list[str]:
    """Those that lack the prefix of the listener that they must be meant for."""
    return [name for name in names if name in PER_LISTENER]


def of_one_broker(names: Iterable[str]) -> list[str]:
    """Those that cannot be set for all brokers."""

    def per_broker(name: str) -> bool:
        base = without_listener(name)
        if base != name:
            return base not in _OF_ALL_LISTENERS
        setting = broker_setting(name)
        return setting is not None and setting.dynamic is Dynamic.PER_BROKER

    return [name for name in names if per_broker(name)]


def check_value(name: str, text: str) -> None:
    """Raise InvalidValue, about the setting without its listener's prefix, unless the text is one of its values."""
    setting = broker_setting(without_listener(name))
    if setting is None or setting.name != without_listener(name) or not setting.changeable:
        return
    value = setting.parse(text)
    if setting.type is Type.CLASS and value != setting.default:
        refuse(setting.name, value, f"Class {value} could not be found.")  # there are no classes of Java's here


def obeyed(layer: Mapping[str, str], *, per_broker: bool) -> tuple[dict[str, str], list[str]]:
    """What of stored settings can be obeyed, and a line for each that cannot."""
    scope = "for this broker" if per_broker else "for all brokers"
    reasons = dict.fromkeys(static_ones(layer), "can be set only before a broker starts")
    if "listeners" in layer:  # sockets are bound before the metadata is read
        reasons["listeners"] = "is taken only from what a broker is started with"
    reasons |= dict.fromkeys(without_prefix(layer), "can be changed only for one listener, by its prefix")
    if not per_broker:
        reasons |= dict.fromkeys(of_one_broker(layer), "can be set only for one broker")
    for name, text in layer.items():
        try:
            check_value(name, text)
        except InvalidValue as error:
            reasons[name] = str(error)
    taken = {name: text for name, text in layer.items() if name not in reasons}
    return taken, [f"{name}, set {scope}, is left out: {why}" for name, why in reasons.items()]

"""Where a node says that it listens, checked before it is written: a record that Kafka's nodes can't apply halts them.

Kafka's controller resigns over all of these but the missing name, over which it ends.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, TypeVar

from kpybroker.wire.codes import Code, Refused

if TYPE_CHECKING:
    from kpybroker.wire.messages.broker_registration import Listener as BrokerListener
    from kpybroker.wire.messages.controller_registration import Listener as ControllerListener

PROTOCOLS = range(4)
"""PLAINTEXT, SSL, SASL_PLAINTEXT, SASL_SSL."""


L = TypeVar("L", "BrokerListener", "ControllerListener")


def checked(listeners: Iterable[L]) -> Sequence[L]:
    """One for each name: the last one, at the first one's place. Raises: Refused(UNKNOWN_SERVER_ERROR)."""
    found: dict[str, L] = {}
    for each in listeners:
        if not each.name:
            raise Refused(Code.UNKNOWN_SERVER_ERROR, "Broker listeners must be named.")
        if each.security_protocol not in PROTOCOLS:
            raise Refused(Code.UNKNOWN_SERVER_ERROR, f"Unknown security protocol {each.security_protocol}")
        if not each.port:
            raise Refused(Code.UNKNOWN_SERVER_ERROR, "Cannot serialize ephemeral port 0 in ListenerInfo.")
        if not each.host.strip():
            raise Refused(Code.UNKNOWN_SERVER_ERROR, "Cannot serialize empty host in ListenerInfo.")
        found[each.name] = each
    return list(found.values())

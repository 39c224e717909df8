"""What a broker can do yet, by name: the one place where the tests know that kpybroker is not finished.

A test says what it takes with @pytest.mark.needs("..."). Apache Kafka has everything, and an outside broker is taken to
have it. What kpybroker does not have is listed here with why; such a test is expected to fail there, strictly: once it
passes, it fails as "unexpectedly passing" until the line is taken out.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from kpybroker.handlers.finder import HandlerFinder, Side
from kpybroker.wire.api_keys import APIS

CAPABILITIES: Final = {
    "kafka-topics --create",
    "kafka-topics --list",
    "kafka-topics --describe",
    "kafka-topics --delete",
    "kafka-broker-api-versions",
    "kafka-get-offsets",
    "kafka-consumer-groups --describe",
    "admin describe configs",
    "admin list groups",
}

NOT_YET_IN_KPYBROKER: Final[dict[str, str]] = {}
"""Capability -> the APIs that it waits for."""


def missing_on(kind: str, capabilities: Iterable[str]) -> list[str]:
    """Those of the capabilities that this kind of broker does not have. Raises: KeyError for an unknown capability."""
    apis = {api.name for api in APIS.values()}
    unknown = set(capabilities) - CAPABILITIES - apis
    if unknown:
        raise KeyError(f"not in harness/capabilities.py: {sorted(unknown)}")
    if kind != "kpybroker":
        return []
    served = {api.name for api, _, _ in HandlerFinder(Side.BROKER).advertised()}
    waiting = [f"{each} (needs {NOT_YET_IN_KPYBROKER[each]})" for each in capabilities if each in NOT_YET_IN_KPYBROKER]
    return waiting + [each for each in capabilities if each in apis - served]

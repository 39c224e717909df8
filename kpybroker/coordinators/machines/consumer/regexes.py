"""Subscriptions by regular expression: RE2's syntax, which takes linear time whatever a client thinks up.

Kafka has its own RE2, in Java: it accepts the same patterns and names their faults in its own words.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from kpybroker.coordinators.machines.patterns import compile_pattern
from kpybroker.wire.codes import Code, Refused

_FAULTS: Final = {
    "missing ]": "missing closing ]",
    "missing )": "missing closing )",
    "unexpected )": "regexp/syntax: internal error",
    "bad repetition operator": "invalid nested repetition operator",
    "no argument for repetition operator": "missing argument to repetition operator",
    "invalid repetition size": "invalid repeat count",
    "trailing \\": "trailing backslash at end of expression",
    "invalid perl operator": "invalid or unsupported Perl syntax",
    "invalid named capture group": "invalid named capture",
}
"""RE2's words to those of Kafka's."""


def check(pattern: str) -> None:
    """Raises: Refused(INVALID_REGULAR_EXPRESSION)."""
    _compile(pattern)


def matching(pattern: str, topics: Iterable[str]) -> frozenset[str]:
    """The topics whose whole names match; none for a pattern that another coordinator took and this one can't."""
    try:
        compiled = _compile(pattern)
    except Refused:
        return frozenset()
    return frozenset(topic for topic in topics if compiled.fullmatch(topic) is not None)


def _compile(pattern: str) -> Any:
    try:
        return compile_pattern(pattern)
    except Refused as refused:
        text = refused.why or ""
        fault = text if text in _FAULTS else text.rpartition(": ")[0] or text
        fault = next((ours for theirs, ours in _FAULTS.items() if fault.startswith(theirs)), fault.partition(": ")[0])
        raise Refused(
            Code.INVALID_REGULAR_EXPRESSION,
            f"SubscribedTopicRegex `{pattern}` is not a valid regular expression: {fault}.",
        ) from None

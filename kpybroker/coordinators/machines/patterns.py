"""Regular expressions of clients: RE2's syntax, as Kafka's, which takes linear time whatever a client thinks up."""

from __future__ import annotations

from typing import Any

from kpybroker.wire.codes import Code, Refused


def compile_pattern(pattern: str) -> Any:
    """What finds matches. Raises: Refused(INVALID_REGULAR_EXPRESSION), with RE2's words for what is wrong."""
    import re2  # type: ignore[import-untyped]  # only where somebody uses one

    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(pattern, options)
    except re2.error as error:
        said = error.args[0]
        why = said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)
        raise Refused(Code.INVALID_REGULAR_EXPRESSION, why) from None

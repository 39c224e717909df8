"""How long a client gives the controller."""

from __future__ import annotations

from kpybroker.wire.codes import Code, Refused


def check_time(timeout_ms: int) -> None:
    """Raises: Refused(REQUEST_TIMED_OUT) for a client that gives no time at all: nothing is carried out for it.

    Whoever gives some gets an answer: the controller carries requests out as they come, and at once.
    """
    if timeout_ms <= 0:
        raise Refused(Code.REQUEST_TIMED_OUT)

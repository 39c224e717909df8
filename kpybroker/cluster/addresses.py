"""Which names are addresses, or hosts that have one. The system looks hosts up, in a thread: it may take its time."""

from __future__ import annotations

import socket
from collections.abc import Collection, Mapping

import trio

LOOK_UP_S = 30.0
"""How long all hosts of one question may take together; those that are not found by then have no address."""
LOOK_UPS_MAX = 4
"""Threads that ask at once: no more, whoever wants to know."""


class Resolver:
    """Asks the system, a few names at a time."""

    def __init__(self) -> None:
        self._limiter = trio.CapacityLimiter(LOOK_UPS_MAX)

    async def resolved(self, names: Collection[str]) -> Mapping[str, str]:
        """Those of `names` that are an address or resolve to one, with it."""
        found = {name: address for name in names if (address := _literal(_bare(name))) is not None}
        with trio.move_on_after(LOOK_UP_S):
            for name in names:
                if name not in found:
                    address = await trio.to_thread.run_sync(
                        _look_up, _bare(name), abandon_on_cancel=True, limiter=self._limiter
                    )
                    if address is not None:
                        found[name] = address
        return found


def _bare(name: str) -> str:
    """An IPv6 address may stand in brackets."""
    return name.removeprefix("[").removesuffix("]")


def _literal(name: str) -> str | None:
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            return socket.inet_ntop(family, socket.inet_pton(family, name))
        except (OSError, ValueError):
            continue
    return None


def _look_up(name: str) -> str | None:
    try:
        answers = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError, ValueError):
        return None
    answers.sort(key=lambda answer: answer[0] != socket.AF_INET)  # Java's choice for a host that has both
    return str(answers[0][4][0])

"""Which names are addresses, or hosts that have one: asked of the system, in a thread, as that may take its time."""

from __future__ import annotations

import socket
from collections.abc import Collection, Mapping

import trio


async def resolved(names: Collection[str]) -> Mapping[str, str]:
    """Those of `names` that are an address or resolve to one, with it."""
    if not names:
        return {}
    return await trio.to_thread.run_sync(_resolve, names, abandon_on_cancel=True)


def _resolve(names: Collection[str]) -> dict[str, str]:
    found = {}
    for name in names:
        try:
            answers = socket.getaddrinfo(name.removeprefix("[").removesuffix("]"), None, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError, ValueError):
            continue
        answers.sort(key=lambda answer: answer[0] != socket.AF_INET)  # Java's choice for a host that has both
        found[name] = str(answers[0][4][0])
    return found

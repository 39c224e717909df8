"""Who is at the other end of a connection."""

import msgspec


class Principal(msgspec.Struct, frozen=True):
    """A Kafka principal: its type and its name, written `User:alice`."""

    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}"


ANONYMOUS = Principal("User", "ANONYMOUS")
"""Whoever connects to a listener that authenticates nobody."""

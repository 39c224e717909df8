"""Which limit binds a client: the most specific of those that are set for its user, its client id or both.

In this order: its user and client id, its user and any client id, its user; any user and its client id, any user and
any client id, any user; its client id, any client id. As soon as limits of more than one kind are set, whoever is not
bound by a limit of a kind is measured as if that kind did not exist, so that clients that share a limit share a rate.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Final, TypeAlias

Quotas: TypeAlias = "Iterable[tuple[Iterable[tuple[str, str | None]], Mapping[str, float]]]"
"""Whom each quota binds, and its limits. An entity is (type, name) pairs; the name None is the default."""

Scope: TypeAlias = "tuple[str, str | None]"
"""What a rate is measured for: user and client id, "" for all; a client without an id has None."""

_Name: TypeAlias = "str | _Any | None"


class _Any:
    """Stands for any name of a type: what the default is for."""


ANY: Final = _Any()
ALL: Final = ""
"""No part of the entity: it binds all of that type together."""


class Limits:
    """The limits of one key (producer_byte_rate, for example), by entity."""

    def __init__(self, key: str) -> None:
        self.key = key
        self._limits: dict[tuple[_Name, _Name], float] = {}
        self._of_users = self._of_clients = self._of_both = False

    def __bool__(self) -> bool:
        """Whether there is a limit at all."""
        return bool(self._limits)

    def replace(self, quotas: Quotas) -> None:
        """Take all limits anew. What is not finite limits nothing."""
        self._limits = {}
        for entity, values in quotas:
            parts = dict(entity)
            bound = values.get(self.key)
            if bound is None or not math.isfinite(bound) or not parts.keys() <= {"user", "client-id"}:
                continue
            user, client = (
                ANY if parts.get(kind, ALL) is None else parts.get(kind, ALL) for kind in ("user", "client-id")
            )
            self._limits[user, client] = bound
        self._of_users = any(client == ALL for _, client in self._limits)
        self._of_clients = any(user == ALL for user, _ in self._limits)
        self._of_both = any(ALL not in pair for pair in self._limits)

    def scope(self, user: str, client: str | None) -> Scope:
        """What the rate of a client is measured for."""
        kinds = self._of_users + self._of_clients + self._of_both
        if kinds <= 1:
            return (ALL if self._of_clients else user), (ALL if self._of_users else client)
        limits = self._limits
        for name in (user, ANY):
            if (name, client) in limits or (name, ANY) in limits:
                return user, client
            if (name, ALL) in limits:
                return user, ALL
        return ALL, client

    def bound(self, scope: Scope) -> float | None:
        """The limit of what is measured for `scope`; None if there is none."""
        user, client = scope
        if client is None:  # Kafka has no limit that binds a client without an id
            return None
        users: tuple[_Name, ...] = (user, ANY) if user else (ALL,)
        clients: tuple[_Name, ...] = (client, ANY) if client else (ALL,)
        for pair in ((each, other) for each in users for other in clients):
            if pair != (ALL, ALL) and pair in self._limits:
                return self._limits[pair]
        return None

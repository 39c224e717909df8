"""Subscriptions of client metrics (KIP-714): what to push, how often, and which clients are meant.

A client's metrics are the union of those of every subscription that matches it, and its interval is the shortest. The
subscription id tells one such outcome from another; it is computed as Apache Kafka computes it, the order of Java's
hash sets included, so that a client that goes from one broker of a cluster to another need not ask again.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec
from crc32c import crc32c

ALL_METRICS = "*"
INTERVAL_MS_DEFAULT = 300_000
"""How often a client pushes that no subscription matches."""

ATTRIBUTES = (
    "client_instance_id",
    "client_id",
    "client_software_name",
    "client_software_version",
    "client_source_address",
    "client_source_port",
)
"""What a subscription can match by."""

_BLANKS = "".join(map(chr, range(0x21)))  # what Java's String.trim drops
_BUCKETS_MIN = 16  # of a hash table of Java's, before it first grows


class IllegalPattern(ValueError):
    """A match that is not ATTRIBUTE=PATTERN. The text is the sentence that Kafka answers with."""


class Subscription(msgspec.Struct, frozen=True, kw_only=True):
    """One subscription: a CLIENT_METRICS resource's configs, parsed."""

    metrics: tuple[str, ...]
    """Prefixes of metric names; ALL_METRICS for all."""
    interval_ms: int
    match: Mapping[str, re.Pattern[str]]
    """Patterns by attribute, all of which must match the whole value; none of them: every client is meant."""

    def matches(self, attributes: Mapping[str, str | None]) -> bool:
        """Whether a client with these attributes is meant; an attribute that it has not told matches nothing."""
        for name, pattern in self.match.items():
            value = attributes.get(name)
            if value is None or pattern.fullmatch(value) is None:
                return False
        return True


class Requested(NamedTuple):
    """What one client is asked for."""

    subscription_id: int
    metrics: tuple[str, ...]
    interval_ms: int


def parse_match(patterns: Sequence[str]) -> dict[str, re.Pattern[str]]:
    """The patterns by attribute; of two for one attribute the later counts. Raises: IllegalPattern."""
    parsed = {}
    for text in patterns:
        parts = text.split("=")
        while len(parts) > 1 and not parts[-1]:  # Java's split leaves empty strings at the end away
            parts.pop()
        name = parts[0].strip(_BLANKS)
        if len(parts) != 2 or name not in ATTRIBUTES:
            raise IllegalPattern(f"Illegal client matching pattern: {text}")
        try:
            parsed[name] = re.compile(parts[1].strip(_BLANKS))
        except (re.error, OverflowError, RecursionError):
            raise IllegalPattern(f"Illegal client matching pattern: {text}") from None
    return parsed


def requested(
    subscriptions: Mapping[str, Subscription], attributes: Mapping[str, str | None], client_instance_id: bytes
) -> Requested:
    """What a client with these attributes is asked for, by all subscriptions (by name) that match it."""
    metrics: dict[str, None] = {}
    interval_ms = INTERVAL_MS_DEFAULT
    for name in _as_java_iterates(subscriptions, grows_at=1):
        each = subscriptions[name]
        if each.matches(attributes):
            metrics.update(dict.fromkeys(_as_java_iterates(each.metrics)))
            interval_ms = min(interval_ms, each.interval_ms)
    ordered = (ALL_METRICS,) if ALL_METRICS in metrics else tuple(_as_java_iterates(metrics))
    return Requested(_subscription_id(ordered, interval_ms, client_instance_id), ordered, interval_ms)


def _subscription_id(metrics: tuple[str, ...], interval_ms: int, client_instance_id: bytes) -> int:
    """CRC-32C of the metrics as Java prints a set of them, and the interval; xor the hash of the client instance id."""
    crc = crc32c(f"[{', '.join(metrics)}]{interval_ms}".encode())
    folded = 0
    for at in range(0, 16, 4):
        folded ^= int.from_bytes(client_instance_id[at : at + 4], "big")
    return _int32(crc ^ folded)


def _as_java_iterates(texts: Iterable[str], *, grows_at: int = 0) -> list[str]:
    """`texts`, each once, in the order in which a hash table of Java's iterates over them.

    Buckets are in the order of their hashes; within one, first come first. A table doubles when it is more than three
    quarters full (HashSet), or that full already (ConcurrentHashMap: `grows_at` 1). Buckets with more than eight texts,
    which Java makes trees of, are not followed: a client that changes brokers then asks again.
    """
    distinct = list(dict.fromkeys(texts))
    buckets = _BUCKETS_MIN
    while len(distinct) + grows_at > buckets * 3 // 4:
        buckets *= 2
    return sorted(distinct, key=lambda text: _spread(_java_hash(text)) & (buckets - 1))


def _java_hash(text: str) -> int:
    """String.hashCode, unsigned: over UTF-16 code units."""
    units = text.encode("utf-16-be", "surrogatepass")
    value = 0
    for at in range(0, len(units), 2):
        value = (31 * value + (units[at] << 8 | units[at + 1])) & 0xFFFFFFFF
    return value


def _spread(value: int) -> int:
    return value ^ value >> 16


def _int32(value: int) -> int:
    return value - (1 << 32) if value & 1 << 31 else value

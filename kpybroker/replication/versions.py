"""What brokers speak to each other, by the cluster's metadata.version: a fetcher does not ask its leader what it knows.

So no leader is ever asked for more than the oldest broker of the cluster has to know.
"""

from __future__ import annotations

FETCH = ((27, 18), (21, 17), (19, 16), (10, 15), (9, 14))
"""From which level of metadata.version (4.1-IV1, 3.9-IV0, 3.7-IV4, 3.5-IV1, 3.5-IV0) which version."""
LIST_OFFSETS = ((29, 11), (25, 10), (21, 9), (9, 8))
"""4.2-IV1, 4.0-IV3, 3.9-IV0, 3.5-IV0."""
ISR_WITH_EPOCHS_SINCE = 10
"""3.5-IV1: AlterPartition v3 says the broker epochs of those in the ISR (KIP-903)."""


def fetch_version(level: int) -> int:
    """The version of a follower's Fetch."""
    return _at(FETCH, level, 13)


def list_offsets_version(level: int) -> int:
    """The version of a follower's ListOffsets."""
    return _at(LIST_OFFSETS, level, 7)


def alter_partition_version(level: int) -> int:
    """The version of AlterPartition."""
    return 3 if level >= ISR_WITH_EPOCHS_SINCE else 2


def _at(since: tuple[tuple[int, int], ...], level: int, otherwise: int) -> int:
    return next((version for least, version in since if level >= least), otherwise)

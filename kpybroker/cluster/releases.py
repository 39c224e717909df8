"""Releases of Apache Kafka by their names, and what a cluster that starts at one of them finalizes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from kpybroker.cluster.features import (
    DEPENDENCIES,
    ELR_VERSION,
    GROUP_VERSION,
    INITIAL,
    KRAFT_VERSION,
    METADATA_VERSION,
    METADATA_VERSION_MAX,
    METADATA_VERSION_MIN,
    SHARE_VERSION,
    STREAMS_VERSION,
    SUPPORTED,
    TRANSACTION_VERSION,
)

RELEASES: Final[Mapping[int, str]] = {
    7: "3.3-IV3",
    8: "3.4-IV0",
    9: "3.5-IV0",
    10: "3.5-IV1",
    11: "3.5-IV2",
    12: "3.6-IV0",
    13: "3.6-IV1",
    14: "3.6-IV2",
    15: "3.7-IV0",
    16: "3.7-IV1",
    17: "3.7-IV2",
    18: "3.7-IV3",
    19: "3.7-IV4",
    20: "3.8-IV0",
    21: "3.9-IV0",
    22: "4.0-IV0",
    23: "4.0-IV1",
    24: "4.0-IV2",
    25: "4.0-IV3",
    26: "4.1-IV0",
    27: "4.1-IV1",
    28: "4.2-IV0",
    29: "4.2-IV1",
    30: "4.3-IV0",
}
"""The names of metadata.version's levels."""

_DEFAULT_SINCE: Final[Mapping[str, int]] = {
    GROUP_VERSION: 22,
    TRANSACTION_VERSION: 24,
    ELR_VERSION: 26,
    SHARE_VERSION: 28,
    STREAMS_VERSION: 29,
}
"""metadata.version from which a new cluster has a feature at the level that it has in INITIAL; before: 0."""


class UnknownRelease(Exception):
    """No such release, feature or level; the text is Kafka's."""


def release_level(name: str) -> int:
    """The metadata.version of "4.3", "4.3-IV0", "4.3.1". Raises: UnknownRelease."""
    segments = name.split(".")
    key = ".".join(segments[:2])
    known = {text: level for level, text in RELEASES.items()}
    known |= {text.partition("-")[0]: level for level, text in RELEASES.items()}  # the last of a release is meant
    if key not in known:
        supported = ", ".join(RELEASES.values())
        raise UnknownRelease(f"Unknown metadata.version '{name}'. Supported metadata.version are: {supported}")
    return known[key]


def initial_levels(metadata_version: int, chosen: Mapping[str, int]) -> dict[str, int]:
    """What a new cluster finalizes (kraft.version apart), `chosen` instead of the defaults. Raises: UnknownRelease."""
    for name in chosen:
        if name not in SUPPORTED:
            names = ", ".join(sorted(SUPPORTED.keys() - {METADATA_VERSION}))
            raise UnknownRelease(f"Unsupported feature: {name}. Supported features are: {names}")
    if not METADATA_VERSION_MIN <= metadata_version <= METADATA_VERSION_MAX:
        raise UnknownRelease(
            f"No MetadataVersion with feature level {metadata_version}. Valid feature levels are from "
            f"{METADATA_VERSION_MIN} to {METADATA_VERSION_MAX}."
        )
    levels = {METADATA_VERSION: metadata_version}
    for name in INITIAL.keys() - {METADATA_VERSION}:
        levels[name] = INITIAL[name] if metadata_version >= _DEFAULT_SINCE[name] else 0
    levels |= {name: level for name, level in chosen.items() if name not in (KRAFT_VERSION, METADATA_VERSION)}
    for name, level in sorted(levels.items()):
        least, greatest = SUPPORTED[name]
        if not least <= level <= greatest:
            raise UnknownRelease(f"No feature:{name} with feature level {level}")
        for other, needed in DEPENDENCIES.get((name, level), {}).items():
            if levels[other] < needed:
                raise UnknownRelease(f"{name} could not be set to {level} because it depends on {other} level {needed}")
    return {name: levels[name] for name in INITIAL if levels[name] > 0}

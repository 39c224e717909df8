"""Feature levels (KIP-584): what this node can read and write, and what a new cluster starts with.

A finalized level is a promise about formats. metadata.version says which versions the records of the metadata log may
have; the others gate APIs and formats of their own. The levels are those of Apache Kafka 4.3.
"""

from __future__ import annotations

from collections.abc import Mapping

METADATA_VERSION = "metadata.version"
KRAFT_VERSION = "kraft.version"
TRANSACTION_VERSION = "transaction.version"
GROUP_VERSION = "group.version"
ELR_VERSION = "eligible.leader.replicas.version"
SHARE_VERSION = "share.version"
STREAMS_VERSION = "streams.version"

METADATA_VERSION_MIN = 7
"""3.3-IV3, the oldest that Kafka 4 takes."""

METADATA_VERSION_MAX = 30
"""4.3-IV0: what new clusters finalize, and the highest whose records we know."""

CORDONED_DIRECTORIES_SINCE = 30
"""metadata.version from which BrokerRegistrationChange can carry cordoned directories (KIP-1066)."""

DIRECTORIES_SINCE = 17
"""metadata.version from which replicas are recorded with a directory id (3.7-IV2, KIP-858)."""

SHRINK_WITHOUT_EPOCH_SINCE = 12
"""metadata.version from which a smaller ISR needs no new leader epoch (3.6-IV0, KAFKA-15021)."""

CONTROLLER_REGISTRATION_SINCE = 15
"""metadata.version from which controllers register (3.7-IV0, KIP-919)."""

TRANSACTIONS_SINCE = 13
"""metadata.version from which several batches can be one transaction (3.6-IV1, KIP-868)."""

METADATA_CHANGED_AT = (8, 11, 13, 14, 15, 17, 23, 30)
"""metadata.versions that brought records, or fields of records, that the one before can't hold."""

ELR_SINCE = 23
"""metadata.version from which eligible leader replicas can be recorded (4.0-IV1, KIP-966)."""

SUPPORTED: Mapping[str, tuple[int, int]] = {
    GROUP_VERSION: (0, 1),
    KRAFT_VERSION: (0, 1),
    METADATA_VERSION: (METADATA_VERSION_MIN, METADATA_VERSION_MAX),
    SHARE_VERSION: (0, 1),
    STREAMS_VERSION: (0, 1),
    TRANSACTION_VERSION: (0, 2),
    ELR_VERSION: (0, 1),
}
"""Levels that we support, lowest and highest, by feature: what we register as broker and as controller."""

DEPENDENCIES: Mapping[tuple[str, int], Mapping[str, int]] = {(ELR_VERSION, 1): {METADATA_VERSION: ELR_SINCE}}
"""The least levels of other features that a level of one feature needs."""

INITIAL: Mapping[str, int] = {
    METADATA_VERSION: METADATA_VERSION_MAX,
    ELR_VERSION: 1,
    GROUP_VERSION: 1,
    SHARE_VERSION: 1,
    STREAMS_VERSION: 1,
    TRANSACTION_VERSION: 2,
}
"""What `kafka-storage format` of 4.3 finalizes, in its order; kraft.version is decided by the kind of quorum."""


def supported_features() -> Mapping[str, tuple[int, int]]:
    """Levels that this node supports, lowest and highest, by feature: what ApiVersions tells."""
    return SUPPORTED

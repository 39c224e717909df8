"""The records of `__consumer_offsets` that classic groups and committed offsets write.

Which version of a value is written stands in `wire/internal/framing.py`, with one exception that Kafka makes too: an
offset that was committed with an explicit retention has version 1, the only one with an expire timestamp.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

from kpybroker.coordinators.machines.effects import Record
from kpybroker.wire.codec import decode_prefix
from kpybroker.wire.errors import MalformedMessage
from kpybroker.wire.internal.consumer_protocol import ConsumerProtocolSubscription
from kpybroker.wire.internal.group_records import (
    GroupMetadataKey,
    GroupMetadataValue,
    LegacyOffsetCommitValue,
    MemberMetadata,
    OffsetCommitKey,
    OffsetCommitValue,
)

CONSUMER_PROTOCOL_TYPE = "consumer"
"""The protocol type of consumers; their metadata is the consumer protocol's Subscription."""


def group_metadata(
    group_id: str,
    *,
    generation: int,
    state_timestamp_ms: int | None,
    protocol_type: str | None = None,
    protocol: str | None = None,
    leader: str | None = None,
    members: Iterable[MemberMetadata] = (),
) -> Record:
    """A group as it is from now on."""
    value = GroupMetadataValue(
        protocol_type=protocol_type or "",
        generation=generation,
        protocol=protocol,
        leader=leader,
        current_state_timestamp=-1 if state_timestamp_ms is None else state_timestamp_ms,
        members=list(members),
    )
    return Record(GroupMetadataKey(group=group_id), value)


def group_tombstone(group_id: str) -> Record:
    """The end of a group."""
    return Record(GroupMetadataKey(group=group_id), None)


def offset_tombstone(group_id: str, topic: str, partition: int) -> Record:
    """The end of one committed offset."""
    return Record(OffsetCommitKey(group=group_id, topic=topic, partition=partition), None)


def subscribed_topics(metadata: Iterable[bytes]) -> frozenset[str] | None:
    """All topics that consumers subscribe to, from their Subscription messages; None if one can't be read.

    A Subscription begins with its version, and every version begins with version 0's fields, of which the topics are
    the first: so versions of the future are understood too.
    """
    topics: set[str] = set()
    try:
        for subscription in metadata:
            (version,) = struct.unpack_from(">h", subscription)
            if version < 0:
                return None
            parsed, _ = decode_prefix(ConsumerProtocolSubscription, 0, subscription, 2)
            topics.update(parsed.topics)
    except (MalformedMessage, struct.error):
        return None
    return frozenset(topics)


def modern_offset(value: LegacyOffsetCommitValue | None) -> OffsetCommitValue | None:
    """An offset in today's form, from the oldest."""
    if value is None:
        return None
    return OffsetCommitValue(offset=value.offset, metadata=value.metadata, commit_timestamp=value.commit_timestamp)

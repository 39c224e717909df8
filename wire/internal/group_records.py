"""Records of __consumer_offsets for classic groups and for committed offsets of all groups.

Keys and values come in pairs with one type id; `framing` has what stands before the bytes.
"""

from typing import Annotated

from kpybroker.wire.primitives import ZERO_UUID
from kpybroker.wire.schema import IGNORABLE, Int32, Int64, Message, Since, Struct, Tag, Uuid, Versions, message


@message(key=0, versions="0")
class LegacyOffsetCommitKey(Message):
    """An offset's key in the oldest format; read only."""

    group: str
    topic: str
    partition: Int32


@message(key=0, versions="0")
class LegacyOffsetCommitValue(Message):
    """An offset in the oldest format; read only."""

    offset: Int64
    metadata: str
    commit_timestamp: Int64


@message(key=1, versions="0")
class OffsetCommitKey(Message):
    """Whose offset it is."""

    group: str
    topic: str
    partition: Int32


@message(key=1, versions="0-4", flexible="4+")
class OffsetCommitValue(Message):
    """A committed offset."""

    offset: Int64
    leader_epoch: Annotated[Int32, Since(3), IGNORABLE] = -1
    metadata: str
    commit_timestamp: Int64
    expire_timestamp: Annotated[Int64, Versions("1"), IGNORABLE] = -1
    topic_id: Annotated[Uuid, Tag(0, since=4), IGNORABLE] = ZERO_UUID


@message(key=2, versions="0")
class GroupMetadataKey(Message):
    """Which classic group it is."""

    group: str


class MemberMetadata(Struct):
    member_id: str
    group_instance_id: Annotated[str | None, Since(3), IGNORABLE] = None
    client_id: str
    client_host: str
    rebalance_timeout: Annotated[Int32, Since(1), IGNORABLE] = -1
    session_timeout: Int32
    subscription: bytes
    assignment: bytes


@message(key=2, versions="0-4", flexible="4+")
class GroupMetadataValue(Message):
    """A classic group: its generation, leader and members."""

    protocol_type: str
    generation: Int32
    protocol: str | None
    leader: str | None
    current_state_timestamp: Annotated[Int64, Since(2), IGNORABLE] = -1
    members: list[MemberMetadata]

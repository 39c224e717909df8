"""Groups whose protocol is not spoken here yet: share groups (KIP-932) and Streams groups (KIP-1071).

Another coordinator left their records in the log. They are kept as they are: nothing of them is ever expired, rewritten
or tidied away behind their owner's back. Only what is asked for outright ends such a group: a DeleteGroups, or a
classic member that joins a group without members, which then becomes a classic group, as in Kafka. What is read of the
records is just enough to answer classic requests about such a group as Kafka does.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from typing import TypeVar

from kpybroker.coordinators.machines.effects import Record
from kpybroker.wire.codes import Code
from kpybroker.wire.internal.share_group_records import (
    ShareGroupMemberMetadataKey,
    ShareGroupMemberMetadataValue,
    ShareGroupStatePartitionMetadataKey,
)
from kpybroker.wire.internal.streams_group_records import (
    StreamsGroupCurrentMemberAssignmentKey,
    StreamsGroupCurrentMemberAssignmentValue,
    StreamsGroupMemberMetadataKey,
    StreamsGroupMemberMetadataValue,
    StreamsGroupMetadataKey,
    StreamsGroupMetadataValue,
    StreamsGroupTargetAssignmentMetadataKey,
    StreamsGroupTargetAssignmentMetadataValue,
    StreamsGroupTopologyKey,
    StreamsGroupTopologyValue,
)
from kpybroker.wire.messages.offset_commit import OffsetCommitRequest
from kpybroker.wire.messages.offset_fetch import OffsetFetchRequestGroup
from kpybroker.wire.messages.txn_offset_commit import TxnOffsetCommitRequest
from kpybroker.wire.schema import Message

Value = TypeVar("Value")

NO_EPOCH = -1
MEMBER_EPOCHS_SINCE = 9
"""The version of OffsetCommit that members of the newer protocols must use."""


class GroupType(enum.StrEnum):
    """Types of groups by the names that ListGroups shows."""

    CLASSIC = "classic"
    CONSUMER = "consumer"
    SHARE = "share"
    STREAMS = "streams"


_TYPES = dict.fromkeys((3, 4, 5, 6, 7, 8, 16), GroupType.CONSUMER)
_TYPES |= dict.fromkeys((9, 10, 11, 12, 13, 14, 15), GroupType.SHARE)
_TYPES |= dict.fromkeys((17, 18, 19, 20, 21, 22, 23), GroupType.STREAMS)

_MemberValue = ShareGroupMemberMetadataValue | StreamsGroupMemberMetadataValue
_CurrentValue = StreamsGroupCurrentMemberAssignmentValue

_SETTLED = 1
"""The number of the member state "Stable" of Streams groups."""


def type_of(key: Message) -> GroupType | None:
    """Which type of group a record belongs to, by its key; None for the classic records."""
    return _TYPES.get(key.API_KEY)


class ForeignGroup:
    """One group of another type: its live records by key, and a few facts from them."""

    def __init__(self, group_id: str, group_type: GroupType) -> None:
        self.group_id = group_id
        self.type = group_type
        self.records: dict[Message, Message] = {}
        self._members: dict[str, _MemberValue] = {}
        self._assignments: dict[str, _CurrentValue] = {}
        self._epoch = 0
        self._assignment_epoch = 0
        self._topology: StreamsGroupTopologyValue | None = None

    # -- records

    def apply(self, key: Message, value: Message | None) -> None:
        """Take over one record of the group."""
        if value is None:
            self.records.pop(key, None)
        else:
            self.records[key] = value
        match key, value:
            case (
                (ShareGroupMemberMetadataKey(member_id=member_id) | StreamsGroupMemberMetadataKey(member_id=member_id)),
                (ShareGroupMemberMetadataValue() | StreamsGroupMemberMetadataValue() | None),
            ):
                _set(self._members, member_id, value)
            case (
                StreamsGroupCurrentMemberAssignmentKey(member_id=member_id),
                StreamsGroupCurrentMemberAssignmentValue() | None,
            ):
                _set(self._assignments, member_id, value)
            case StreamsGroupMetadataKey(), StreamsGroupMetadataValue():
                self._epoch = value.epoch
            case StreamsGroupTargetAssignmentMetadataKey(), StreamsGroupTargetAssignmentMetadataValue():
                self._assignment_epoch = value.assignment_epoch
            case StreamsGroupTopologyKey(), StreamsGroupTopologyValue() | None:
                self._topology = value

    def tombstones(self) -> Iterator[Record]:
        """What ends the group: a tombstone for each of its live records."""
        return (Record(key, None) for key in self.records)

    # -- questions

    @property
    def state(self) -> str:
        """Its state by Kafka's name."""
        if not self._members:
            return "Empty"
        if self.type is GroupType.SHARE:
            return "Stable"
        if self._topology is None:
            return "NotReady"
        if self._epoch > self._assignment_epoch:
            return "Assigning"
        return "Stable" if all(self._is_settled(member_id) for member_id in self._members) else "Reconciling"

    def _is_settled(self, member_id: str) -> bool:
        assignment = self._assignments.get(member_id)
        return (
            assignment is not None
            and assignment.state == _SETTLED
            and assignment.member_epoch == self._assignment_epoch
        )

    @property
    def is_empty(self) -> bool:
        """Whether it has no members."""
        return not self._members

    def subscribes(self, topic: str) -> bool:
        """Whether its members consume the topic."""
        if self._topology is None or self.is_empty:
            return False
        return any(topic in part.source_topics for part in self._topology.subtopologies)

    def commit_fault(self, request: OffsetCommitRequest, version: int) -> Code | None:
        """Why the group takes no offsets from this sender; share groups have none to commit."""
        if self.type is GroupType.SHARE:
            return Code.GROUP_ID_NOT_FOUND
        epoch = request.generation_id_or_member_epoch
        if epoch < 0 and self.is_empty:
            return None
        if request.member_id not in self._members:
            return Code.UNKNOWN_MEMBER_ID
        if version < MEMBER_EPOCHS_SINCE:
            return Code.UNSUPPORTED_VERSION
        return self._epoch_fault(request.member_id, epoch)

    def txn_commit_fault(self, request: TxnOffsetCommitRequest) -> Code | None:
        """Why the group takes no offsets from this sender's transaction, who need not say for which member it is."""
        if self.type is GroupType.SHARE:
            return Code.GROUP_ID_NOT_FOUND
        epoch = request.generation_id_or_member_epoch
        if epoch < 0 and self.is_empty:
            return None
        if epoch == NO_EPOCH and not request.member_id and request.group_instance_id is None:
            return None
        if request.member_id not in self._members:
            return Code.UNKNOWN_MEMBER_ID
        fault = self._epoch_fault(request.member_id, epoch)
        return Code.ILLEGAL_GENERATION if fault is Code.STALE_MEMBER_EPOCH else fault

    def fetch_fault(self, request: OffsetFetchRequestGroup) -> Code | None:
        """Why the group tells this sender no offsets. Who gives neither member id nor epoch may always ask."""
        if self.type is GroupType.SHARE:
            return Code.GROUP_ID_NOT_FOUND
        if request.member_id is None and request.member_epoch < 0:
            return None
        if request.member_id is None or request.member_id not in self._members:
            return Code.UNKNOWN_MEMBER_ID
        return self._epoch_fault(request.member_id, request.member_epoch)

    def _epoch_fault(self, member_id: str, epoch: int) -> Code | None:
        assignment = self._assignments.get(member_id)
        if epoch == (0 if assignment is None else assignment.member_epoch):
            return None
        return Code.STALE_MEMBER_EPOCH

    def delete_fault(self) -> Code | None:
        """Why the group can't be deleted: it has members, or state of share partitions that would have to go."""
        if not self.is_empty:
            return Code.NON_EMPTY_GROUP
        if any(isinstance(key, ShareGroupStatePartitionMetadataKey) for key in self.records):
            return Code.COORDINATOR_NOT_AVAILABLE
        return None


def _set(mapping: dict[str, Value], key: str, value: Value | None) -> None:
    if value is None:
        mapping.pop(key, None)
    else:
        mapping[key] = value

"""One member of a consumer group, as the log has it."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final

import msgspec

from kpybroker.wire.internal.consumer_group_records import (
    ClassicMemberMetadata,
    ConsumerGroupCurrentMemberAssignmentValue,
    ConsumerGroupMemberMetadataValue,
    TopicPartitions,
)

Epochs = Mapping[bytes, Mapping[int, int]]
"""Partitions by topic id and number, each with the group epoch in which the member got it (KIP-1251)."""

NO_PARTITIONS: Final[Epochs] = {}

LEAVE: Final = -1
"""The member epoch with which a member leaves."""
LEAVE_FOR_A_WHILE: Final = -2
"""The member epoch with which a static member leaves, to come back before its session ends."""


class MemberState(enum.IntEnum):
    """How far a member is on its way to the target assignment."""

    STABLE = 0
    """It has what it is to have, as far as it can."""
    UNREVOKED_PARTITIONS = 1
    """It has to give up partitions first, and is still in its old epoch."""
    UNRELEASED_PARTITIONS = 2
    """It waits for partitions that others have yet to give up."""
    UNKNOWN = 127
    """A state that a later coordinator has written."""

    @classmethod
    def _missing_(cls, value: object) -> MemberState:  # noqa: ARG003
        return cls.UNKNOWN


class ConsumerMember(msgspec.Struct, frozen=True, kw_only=True):
    """A member. Never changed: a new one takes its place."""

    member_id: str
    epoch: int = 0
    previous_epoch: int = -1
    state: MemberState = MemberState.STABLE
    instance_id: str | None = None
    rack_id: str | None = None
    client_id: str = ""
    client_host: str = ""
    topics: frozenset[str] = frozenset()
    regex: str | None = ""
    assignor: str | None = None
    rebalance_timeout_ms: int = -1
    classic: ClassicMemberMetadata | None = None
    """What a member of the classic protocol offered; None: it speaks the consumer protocol."""
    assigned: Epochs = NO_PARTITIONS
    revoking: Epochs = NO_PARTITIONS
    """What it has to give up, or has not told yet that it has."""

    def is_reconciled_to(self, epoch: int) -> bool:
        """Whether it has got all of the target assignment of that epoch."""
        return self.state is MemberState.STABLE and self.epoch == epoch

    def subscription(self) -> ConsumerGroupMemberMetadataValue:
        """What the log keeps of what it told of itself."""
        return ConsumerGroupMemberMetadataValue(
            instance_id=self.instance_id,
            rack_id=self.rack_id,
            client_id=self.client_id,
            client_host=self.client_host,
            subscribed_topic_names=sorted(self.topics),
            subscribed_topic_regex=self.regex,
            rebalance_timeout_ms=self.rebalance_timeout_ms,
            server_assignor=self.assignor,
            classic_member_metadata=self.classic,
        )

    def with_subscription(self, value: ConsumerGroupMemberMetadataValue) -> ConsumerMember:
        """The member as that record describes it."""
        return msgspec.structs.replace(
            self,
            instance_id=value.instance_id,
            rack_id=value.rack_id,
            client_id=value.client_id,
            client_host=value.client_host,
            topics=frozenset(value.subscribed_topic_names),
            regex=value.subscribed_topic_regex,
            rebalance_timeout_ms=value.rebalance_timeout_ms,
            assignor=value.server_assignor,
            classic=value.classic_member_metadata,
        )

    def current_assignment(self) -> ConsumerGroupCurrentMemberAssignmentValue:
        """What the log keeps of what it has."""
        return ConsumerGroupCurrentMemberAssignmentValue(
            member_epoch=self.epoch,
            previous_member_epoch=self.previous_epoch,
            state=self.state,
            assigned_partitions=_listed(self.assigned),
            partitions_pending_revocation=_listed(self.revoking),
        )

    def with_assignment(self, value: ConsumerGroupCurrentMemberAssignmentValue) -> ConsumerMember:
        """The member as that record says."""
        return msgspec.structs.replace(
            self,
            epoch=value.member_epoch,
            previous_epoch=value.previous_member_epoch,
            state=MemberState(value.state),
            assigned=_unlisted(value.assigned_partitions, value.member_epoch),
            revoking=_unlisted(value.partitions_pending_revocation, value.member_epoch),
        )

    def without_assignment(self) -> ConsumerMember:
        """The member once its assignment's tombstone is read: on its way out."""
        return msgspec.structs.replace(
            self, epoch=LEAVE, previous_epoch=LEAVE, assigned=NO_PARTITIONS, revoking=NO_PARTITIONS
        )


def _listed(partitions: Epochs) -> list[TopicPartitions]:
    return [
        TopicPartitions(
            topic_id=topic_id,
            partitions=sorted(epochs),
            assignment_epochs=[epochs[index] for index in sorted(epochs)],
        )
        for topic_id, epochs in sorted(partitions.items())
    ]


def _unlisted(partitions: list[TopicPartitions], member_epoch: int) -> Epochs:
    """Before KIP-1251 there were no epochs in the log: the member's own stands for them, if it is one."""
    fallback = max(member_epoch, 0)
    found: dict[bytes, dict[int, int]] = {}
    for topic in partitions:
        epochs = topic.assignment_epochs
        if epochs is None or len(epochs) != len(topic.partitions):
            epochs = [fallback] * len(topic.partitions)
        found[topic.topic_id] = dict(zip(topic.partitions, epochs, strict=True))
    return found

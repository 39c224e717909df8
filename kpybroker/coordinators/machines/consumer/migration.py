"""Groups that change their type with members in them: from classic to consumer and back (KIP-848).

What a group of one type is in terms of the other. A classic member of a consumer group goes on as it did: it joins,
syncs and heartbeats, and its generation is its member epoch.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from typing import TypeVar

from kpybroker.clock import Now
from kpybroker.coordinators.machines.classic_group import ClassicGroup
from kpybroker.coordinators.machines.consumer import records
from kpybroker.coordinators.machines.consumer.assignment import Partitions
from kpybroker.coordinators.machines.consumer.group import ConsumerGroup
from kpybroker.coordinators.machines.consumer.java_order import timeline_order
from kpybroker.coordinators.machines.consumer.member import ConsumerMember
from kpybroker.coordinators.machines.consumer.topics import Topics
from kpybroker.coordinators.machines.deadlines import Deadlines
from kpybroker.coordinators.machines.effects import Record
from kpybroker.coordinators.machines.member import Member, choose_protocol
from kpybroker.coordinators.machines.rebalance import GroupState
from kpybroker.coordinators.machines.roster import Roster
from kpybroker.coordinators.machines.settings import GroupSettings
from kpybroker.wire.codec import decode_prefix, encode
from kpybroker.wire.codes import Code, Refused
from kpybroker.wire.errors import MalformedMessage
from kpybroker.wire.internal.consumer_group_records import ClassicMemberMetadata, ClassicProtocol
from kpybroker.wire.internal.consumer_protocol import (
    AssignmentTopicPartition,
    ConsumerProtocolAssignment,
    ConsumerProtocolSubscription,
)
from kpybroker.wire.schema import Message

M = TypeVar("M", bound=Message)

PROTOCOL_TYPE = "consumer"
LATEST_VERSION = 3
"""Of the messages embedded in JoinGroup and SyncGroup; one of the future is read as this."""


class MalformedEmbedded(Exception):
    """A member's metadata, or its assignment, is not the consumer protocol's."""


# -- the messages embedded in classic requests


def subscription_of(metadata: bytes) -> ConsumerProtocolSubscription:
    """What a classic consumer subscribes to. Raises: MalformedEmbedded."""
    return _embedded(ConsumerProtocolSubscription, metadata)


def _version(data: bytes) -> int:
    try:
        version: int = struct.unpack_from(">h", data)[0]
    except struct.error as error:
        raise MalformedEmbedded(str(error)) from None
    if version < 0:
        raise MalformedEmbedded(f"version {version}")
    return min(version, LATEST_VERSION)


def _embedded(kind: type[M], data: bytes) -> M:
    try:
        return decode_prefix(kind, _version(data), data, 2)[0]
    except MalformedMessage as error:
        raise MalformedEmbedded(str(error)) from None


def embedded_assignment(partitions: Mapping[bytes, Iterable[int]], topics: Topics, metadata: bytes) -> bytes:
    """An assignment as SyncGroup answers it, in the version of the member's own metadata."""
    version = _version(metadata)
    named = ((topics.name_of(topic_id), indexes) for topic_id, indexes in partitions.items())
    listed = [AssignmentTopicPartition(topic=name, partitions=sorted(some)) for name, some in named if name is not None]
    return struct.pack(">h", version) + encode(ConsumerProtocolAssignment(assigned_partitions=listed), version)


# -- from classic to consumer


def upgraded(group: ClassicGroup, topics: Topics) -> list[Record]:
    """What makes a consumer group of a classic one, but for the tombstone of that.

    Raises: Refused(GROUP_ID_NOT_FOUND) if what its members say is not the consumer protocol's, or says more than that
    protocol has room for.
    """
    group_id, generation = group.group_id, group.generation
    try:
        members = group.roster.members
        pairs = [_upgraded_member(group, members[each], topics) for each in timeline_order(members.keys())]
    except MalformedEmbedded:
        raise Refused(
            Code.GROUP_ID_NOT_FOUND,
            f"Cannot upgrade classic group {group_id} to consumer group because the embedded consumer protocol is "
            "malformed.",
        ) from None
    subscribed = {topic for member, _ in pairs for topic in member.topics}
    out = [records.subscription(group_id, member) for member, _ in pairs]
    out.append(records.epoch(group_id, generation, topics.hash_of(subscribed)))
    out += [records.target(group_id, member.member_id, partitions) for member, partitions in pairs]
    out.append(records.target_epoch(group_id, generation, 0))
    out += [records.current_assignment(group_id, member) for member, _ in pairs]
    return out


def _upgraded_member(group: ClassicGroup, member: Member, topics: Topics) -> tuple[ConsumerMember, Partitions]:
    partitions: dict[bytes, tuple[int, ...]] = {}
    if member.assignment:
        try:
            assignment = _embedded(ConsumerProtocolAssignment, member.assignment)
        except MalformedEmbedded:
            raise Refused(Code.UNKNOWN_SERVER_ERROR) from None  # as Kafka answers
        if assignment.user_data:
            raise Refused(
                Code.GROUP_ID_NOT_FOUND,
                f"Cannot upgrade classic group {group.group_id} to consumer group because an unsupported custom "
                "assignor is in use. Please refer to the documentation or switch to a default assignor before "
                "re-attempting the upgrade.",
            )
        for topic in assignment.assigned_partitions:
            topic_id = topics.id_of(topic.topic)
            if topic_id is not None:
                partitions[topic_id] = tuple(dict.fromkeys(topic.partitions))
    if group.protocol_name is None:
        raise Refused(Code.UNKNOWN_SERVER_ERROR)  # as Kafka answers for a group that never had a generation
    subscription = subscription_of(member.metadata(group.protocol_name))
    generation = group.generation
    new = ConsumerMember(
        member_id=member.member_id,
        epoch=generation,
        previous_epoch=generation,
        instance_id=member.group_instance_id,
        rack_id=subscription.rack_id or None,
        rebalance_timeout_ms=member.rebalance_timeout_ms,
        client_id=member.client_id,
        client_host=member.client_host,
        topics=frozenset(subscription.topics),
        assigned={topic_id: dict.fromkeys(indexes, generation) for topic_id, indexes in partitions.items()},
        classic=classic_metadata(member.session_timeout_ms, member.protocols),
    )
    return new, partitions


def classic_metadata(session_timeout_ms: int, protocols: Iterable[tuple[str, bytes]]) -> ClassicMemberMetadata:
    """What the log keeps of a classic member beyond what all members have."""
    return ClassicMemberMetadata(
        session_timeout_ms=session_timeout_ms,
        supported_protocols=[ClassicProtocol(name=name, metadata=metadata) for name, metadata in protocols],
    )


# -- from consumer to classic


class Downgrade:
    """A classic group that takes the place of a consumer group of which only classic members are left."""

    def __init__(self, group: ConsumerGroup, topics: Topics, settings: GroupSettings, deadlines: Deadlines) -> None:
        self._group = group
        self._topics = topics
        self.classic = ClassicGroup(group.group_id, settings, deadlines)

    def convert(self, leaving: Iterable[ConsumerMember], joining: ConsumerMember | None, now: Now) -> list[Record]:
        """What ends the consumer group and makes the classic one. `joining` has taken a static member's place.

        Raises: Refused(GROUP_ID_NOT_FOUND) if the members' metadata is not the consumer protocol's.
        """
        group, classic = self._group, self.classic
        gone: set[str | None] = {member.member_id for member in leaving}
        replaced = None if joining is None else group.static_ids[joining.instance_id or ""]
        gone |= {replaced}
        staying = [group.members[each] for each in group.ordered() if each not in gone]
        roster = Roster(PROTOCOL_TYPE)
        for member in staying if joining is None else [*staying, joining]:
            roster.add(_classic_member(member))
        classic.roster = roster
        classic.generation = group.epoch
        classic.state = GroupState.STABLE
        classic.state_timestamp_ms = now.wall_ms
        classic.protocol_name = choose_protocol(roster.members.values())
        given = {}
        for member_id, each in roster.members.items():
            known_as = replaced if joining is not None and member_id == joining.member_id else member_id
            target = group.targets.get(known_as or member_id, {})
            given[member_id] = self._assignment(target, each.metadata(classic.protocol_name))
        renamed = {} if joining is None or replaced is None else {replaced: joining.member_id}
        return [*group.tombstones(renamed), classic.record_of(roster.members.values(), roster.leader, given)]

    def _assignment(self, target: Partitions, metadata: bytes) -> bytes:
        try:
            return embedded_assignment(target, self._topics, metadata)
        except MalformedEmbedded as error:
            group_id = self._group.group_id
            raise Refused(Code.GROUP_ID_NOT_FOUND, f"Cannot downgrade the classic group {group_id}: {error}.") from None


def _classic_member(member: ConsumerMember) -> Member:
    assert member.classic is not None, "only classic members are left"
    return Member(
        member.member_id,
        member.instance_id,
        member.client_id,
        member.client_host,
        rebalance_timeout_ms=member.rebalance_timeout_ms,
        session_timeout_ms=member.classic.session_timeout_ms,
        protocols=tuple((protocol.name, protocol.metadata) for protocol in member.classic.supported_protocols),
    )

"""What a shard of groups is told, and what it answers.

An event that expects an answer carries a `token`. The answer comes as a pair of that token and a response, in the same
step or in a later one (a JoinGroup waits for the others of its group).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import msgspec

from kpybroker.coordinators.machines import effects
from kpybroker.coordinators.machines.consumer.settings import ConsumerGroupSettings
from kpybroker.coordinators.machines.consumer.topics import Topics
from kpybroker.coordinators.machines.effects import Tick, Token, TxnProducer
from kpybroker.wire.messages.consumer_group_describe import ConsumerGroupDescribeResponse
from kpybroker.wire.messages.consumer_group_heartbeat import (
    ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatResponse,
)
from kpybroker.wire.messages.delete_groups import DeleteGroupsResponse
from kpybroker.wire.messages.describe_groups import DescribeGroupsResponse
from kpybroker.wire.messages.heartbeat import HeartbeatRequest, HeartbeatResponse
from kpybroker.wire.messages.join_group import JoinGroupRequest, JoinGroupResponse
from kpybroker.wire.messages.leave_group import LeaveGroupRequest, LeaveGroupResponse
from kpybroker.wire.messages.list_groups import ListGroupsResponse
from kpybroker.wire.messages.offset_commit import OffsetCommitRequest, OffsetCommitResponse
from kpybroker.wire.messages.offset_delete import OffsetDeleteRequest, OffsetDeleteResponse
from kpybroker.wire.messages.offset_fetch import OffsetFetchRequestGroup, OffsetFetchResponseGroup
from kpybroker.wire.messages.sync_group import SyncGroupRequest, SyncGroupResponse
from kpybroker.wire.messages.txn_offset_commit import TxnOffsetCommitRequest, TxnOffsetCommitResponse

Response: TypeAlias = (
    JoinGroupResponse
    | SyncGroupResponse
    | HeartbeatResponse
    | LeaveGroupResponse
    | OffsetCommitResponse
    | TxnOffsetCommitResponse
    | OffsetFetchResponseGroup
    | OffsetDeleteResponse
    | DescribeGroupsResponse
    | ListGroupsResponse
    | DeleteGroupsResponse
    | ConsumerGroupHeartbeatResponse
    | ConsumerGroupDescribeResponse
)


class JoinGroup(msgspec.Struct, frozen=True):
    """A JoinGroup request. `new_member_id` is used if the coordinator has to name the member."""

    request: JoinGroupRequest
    version: int
    client_id: str
    client_host: str
    new_member_id: str
    token: Token


class SyncGroup(msgspec.Struct, frozen=True):
    """A SyncGroup request."""

    request: SyncGroupRequest
    token: Token


class Heartbeat(msgspec.Struct, frozen=True):
    """A Heartbeat request."""

    request: HeartbeatRequest
    token: Token


class LeaveGroup(msgspec.Struct, frozen=True):
    """A LeaveGroup request in the form of version 3 and later: whoever leaves is in `members`."""

    request: LeaveGroupRequest
    token: Token


class ConsumerHeartbeat(msgspec.Struct, frozen=True):
    """A ConsumerGroupHeartbeat request that has all it must have.

    `new_member_id` is used if the coordinator has to name the member; `may_describe` says whether the client may see a
    topic: it gets none by a pattern that it may not see.
    """

    request: ConsumerGroupHeartbeatRequest
    client_id: str
    client_host: str
    new_member_id: str
    may_describe: Callable[[str], bool]
    token: Token


class DescribeConsumerGroups(msgspec.Struct, frozen=True):
    """The groups of a ConsumerGroupDescribe request that live on this shard."""

    group_ids: tuple[str, ...]
    token: Token


class CommitOffsets(msgspec.Struct, frozen=True):
    """An OffsetCommit request whose topics all have a name, and an id where the cluster knows one."""

    request: OffsetCommitRequest
    version: int
    token: Token


class CommitTxnOffsets(msgspec.Struct, frozen=True):
    """A TxnOffsetCommit request whose topics all have a name and an id; its transaction was verified."""

    request: TxnOffsetCommitRequest
    producer: TxnProducer
    token: Token


class FetchOffsets(msgspec.Struct, frozen=True):
    """One group of an OffsetFetch request. Topics have a name, and an id where the client gave one (version 10)."""

    request: OffsetFetchRequestGroup
    require_stable: bool
    token: Token


class DeleteOffsets(msgspec.Struct, frozen=True):
    """An OffsetDelete request whose topics all exist."""

    request: OffsetDeleteRequest
    token: Token


class DeleteGroups(msgspec.Struct, frozen=True):
    """The groups of a DeleteGroups request that live on this shard."""

    group_ids: tuple[str, ...]
    token: Token


class DescribeGroups(msgspec.Struct, frozen=True):
    """The groups of a DescribeGroups request that live on this shard."""

    group_ids: tuple[str, ...]
    version: int
    token: Token


class ListGroups(msgspec.Struct, frozen=True):
    """States and types to list, as the client wrote them; none of either means all."""

    states: tuple[str, ...]
    types: tuple[str, ...]
    token: Token


class TopicsDeleted(msgspec.Struct, frozen=True):
    """Topics that are gone from the cluster: (name, id) pairs. Their offsets go with them."""

    topics: tuple[tuple[str, bytes], ...]


class TopicsChanged(msgspec.Struct, frozen=True):
    """The cluster's topics are these from now on. `changed`: the names of those made, altered or deleted."""

    topics: Topics
    changed: frozenset[str]
    created: bool
    """Whether any of them is new."""


class SettingsChanged(msgspec.Struct, frozen=True):
    """What consumer groups go by is this from now on."""

    consumer: ConsumerGroupSettings


Event: TypeAlias = (
    JoinGroup
    | SyncGroup
    | Heartbeat
    | LeaveGroup
    | ConsumerHeartbeat
    | DescribeConsumerGroups
    | CommitOffsets
    | CommitTxnOffsets
    | FetchOffsets
    | DeleteOffsets
    | DeleteGroups
    | DescribeGroups
    | ListGroups
    | TopicsDeleted
    | TopicsChanged
    | SettingsChanged
    | Tick
)


class Effects(effects.Effects[Response]):
    """What one step decided."""

    __slots__ = ("group_id",)

    def __init__(self) -> None:
        super().__init__()
        self.group_id: str | None = None
        """The classic group whose soft state went ahead of the records: it falls back if they are refused."""

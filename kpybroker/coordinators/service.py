"""The group coordinator of a node: the operations that handlers call.

The operations take the request's message and return the response's; whatever goes wrong on the way stands in the
response as Kafka puts it there, so a handler authorises, calls, and returns. `local` and `Shard.ask` are for those who
want the Refused instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, cast

import msgspec

from kpybroker.clock import Clock
from kpybroker.cluster.image import ClusterImage
from kpybroker.coordinators.coordinator import Coordinator
from kpybroker.coordinators.machines import events
from kpybroker.coordinators.machines.consumer.settings import ConsumerGroupSettings
from kpybroker.coordinators.machines.consumer.topics import Topics
from kpybroker.coordinators.machines.consumer.validation import check_heartbeat
from kpybroker.coordinators.machines.effects import TxnProducer
from kpybroker.coordinators.machines.replies import (
    commit_error,
    consumer_group_error,
    consumer_heartbeat_error,
    described_error,
    join_error,
    leave_error,
    sync_error,
    txn_commit_error,
)
from kpybroker.coordinators.machines.settings import GroupSettings
from kpybroker.coordinators.shards import Shard, ShardState, ShardTerms, Wait, Waiter, wait_however_long
from kpybroker.ids import Ids
from kpybroker.replication.txn_markers import marker_batch
from kpybroker.storage.verification import Guard
from kpybroker.wire.codes import Code, Refused
from kpybroker.wire.messages.consumer_group_describe import ConsumerGroupDescribeResponse
from kpybroker.wire.messages.consumer_group_describe import DescribedGroup as DescribedConsumerGroup
from kpybroker.wire.messages.consumer_group_heartbeat import (
    ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatResponse,
)
from kpybroker.wire.messages.delete_groups import DeletableGroupResult, DeleteGroupsResponse
from kpybroker.wire.messages.describe_groups import DescribedGroup, DescribeGroupsResponse
from kpybroker.wire.messages.heartbeat import HeartbeatRequest, HeartbeatResponse
from kpybroker.wire.messages.join_group import JoinGroupRequest, JoinGroupResponse
from kpybroker.wire.messages.leave_group import LeaveGroupRequest, LeaveGroupResponse, MemberIdentity
from kpybroker.wire.messages.list_groups import ListedGroup, ListGroupsRequest, ListGroupsResponse
from kpybroker.wire.messages.offset_commit import OffsetCommitRequest, OffsetCommitResponse
from kpybroker.wire.messages.offset_delete import OffsetDeleteRequest, OffsetDeleteResponse
from kpybroker.wire.messages.offset_fetch import OffsetFetchRequestGroup, OffsetFetchResponseGroup
from kpybroker.wire.messages.sync_group import SyncGroupRequest, SyncGroupResponse
from kpybroker.wire.messages.txn_offset_commit import TxnOffsetCommitRequest, TxnOffsetCommitResponse
from kpybroker.wire.messages.write_txn_markers import WritableTxnMarker
from kpybroker.wire.records.batch import Codec
from kpybroker.wire.schema import replace

if TYPE_CHECKING:
    from kpybroker.coordinators.machines.shard import GroupShard

PROTOCOL_NULLABLE_SINCE = 7
"""The version of JoinGroup whose response may say that there is no protocol."""
PROTOCOL_NAMED_SINCE = 5
"""The version of SyncGroup that must name protocol type and protocol (KIP-559)."""
LEAVE_BATCHED_SINCE = 3
"""The version of LeaveGroup that names several members (KIP-345)."""


class Groups(Coordinator["GroupShard"]):
    """All that this node coordinates of groups. One per node; `run` must be running."""

    def __init__(
        self, settings: GroupSettings, clock: Clock, ids: Ids, *, partitions: int, codec: Codec = "none"
    ) -> None:
        """`partitions`: how many `__consumer_offsets` has, or will have; `codec`: offsets.topic.compression.codec."""
        terms = ShardTerms(name="group", codec=codec, commit_timeout_s=settings.commit_timeout_ms / 1000)
        super().__init__(self._new_machine, clock, terms, partitions=partitions)
        self.settings = settings
        self._topics = Topics()
        self._ids = ids

    def local(self, group_id: str) -> Shard[GroupShard]:
        """The shard of a group that this node coordinates.

        Raises: Refused: INVALID_GROUP_ID for an empty id, NOT_COORDINATOR, COORDINATOR_LOAD_IN_PROGRESS.
        """
        if not group_id:
            raise Refused(Code.INVALID_GROUP_ID)
        return self.shard(group_id)

    def _new_machine(self) -> GroupShard:
        from kpybroker.coordinators.machines.shard import GroupShard  # much, and not before there is a shard

        machine = GroupShard(self.settings)
        machine.consumers.follow(self._topics, frozenset(), created=False)
        return machine

    # -- what consumer groups go by

    def follow_topics(self, image: ClusterImage, changed: Iterable[str] = (), *, created: bool = False) -> None:
        """The cluster's topics are these from now on. `changed`: the names of those made, altered or deleted."""
        self._topics = Topics(image, self._topics)
        self._tell(events.TopicsChanged(self._topics, frozenset(changed), created))

    def follow_settings(self, consumer: ConsumerGroupSettings) -> None:
        """Consumer groups go by these settings from now on."""
        self.settings = msgspec.structs.replace(self.settings, consumer=consumer)
        self._tell(events.SettingsChanged(consumer))

    def _tell(self, event: events.TopicsChanged | events.SettingsChanged) -> None:
        """Let every machine know, those that are being loaded too; no decision comes of it."""
        now = self._clock.now()
        for shard in self.shards:
            shard.machine.step(event, now)

    # -- membership

    async def consumer_heartbeat(
        self,
        request: ConsumerGroupHeartbeatRequest,
        *,
        version: int,
        client_id: str,
        client_host: str,
        may_describe: Callable[[str], bool],
    ) -> ConsumerGroupHeartbeatResponse:
        """ConsumerGroupHeartbeat. `may_describe`: whether the client may see a topic that a pattern of its matches."""
        try:
            check_heartbeat(request, version, self.settings.consumer.assignors)
            shard = self.shard(request.group_id)
        except Refused as refusal:
            return consumer_heartbeat_error(refusal.code, refusal.why)
        new_member_id = "" if request.member_id else self._ids.uuid_text()
        waiter = Waiter()
        event = events.ConsumerHeartbeat(request, client_id, client_host, new_member_id, may_describe, waiter)
        return cast("ConsumerGroupHeartbeatResponse", await shard.ask(event, waiter))

    async def join_group(
        self,
        request: JoinGroupRequest,
        *,
        version: int,
        client_id: str,
        client_host: str,
        wait: Wait = wait_however_long,
    ) -> JoinGroupResponse:
        """JoinGroup: answered when the rebalance that it takes part in has got that far; `wait` is how to wait for it.

        `client_host` is the peer's address as Java prints it: with a leading slash.
        """
        session_ms = request.session_timeout_ms
        if version == 0:
            request = replace(request, rebalance_timeout_ms=session_ms)
        try:
            shard = self.local(request.group_id)
            if not self.settings.session_timeout_ms_min <= session_ms <= self.settings.session_timeout_ms_max:
                raise Refused(Code.INVALID_SESSION_TIMEOUT)
        except Refused as refusal:
            return _join_shape(join_error(refusal.code, request.member_id), version)
        new_member_id = ""
        if not request.member_id:
            instance_id = request.group_instance_id
            new_member_id = self._ids.member_id(client_id if instance_id is None else instance_id)
        waiter = Waiter()
        event = events.JoinGroup(request, version, client_id, client_host, new_member_id, waiter)
        return _join_shape(cast("JoinGroupResponse", await shard.ask(event, waiter, wait)), version)

    async def sync_group(
        self, request: SyncGroupRequest, *, version: int, wait: Wait = wait_however_long
    ) -> SyncGroupResponse:
        """SyncGroup: answered when the leader's assignment is in the log; `wait` is how to wait for it."""
        if version >= PROTOCOL_NAMED_SINCE and (request.protocol_type is None or request.protocol_name is None):
            return sync_error(Code.INCONSISTENT_GROUP_PROTOCOL)
        try:
            shard = self.local(request.group_id)
        except Refused as refusal:
            return sync_error(refusal.code)
        waiter = Waiter()
        return cast("SyncGroupResponse", await shard.ask(events.SyncGroup(request, waiter), waiter, wait))

    async def heartbeat(self, request: HeartbeatRequest) -> HeartbeatResponse:
        """Heartbeat. While the group is being loaded every member is taken to be fine."""
        try:
            shard = self.local(request.group_id)
        except Refused as refusal:
            loading = refusal.code is Code.COORDINATOR_LOAD_IN_PROGRESS
            return HeartbeatResponse(error_code=Code.NONE if loading else refusal.code)
        waiter = Waiter()
        return cast("HeartbeatResponse", await shard.ask(events.Heartbeat(request, waiter), waiter))

    async def leave_group(self, request: LeaveGroupRequest, *, version: int) -> LeaveGroupResponse:
        """LeaveGroup. Before version 3 it names one member, whose error is the response's."""
        try:
            shard = self.local(request.group_id)
        except Refused as refusal:
            return leave_error(refusal.code)
        batched = version >= LEAVE_BATCHED_SINCE
        if not batched:
            request = replace(request, member_id="", members=[MemberIdentity(member_id=request.member_id)])
        waiter = Waiter()
        response = cast("LeaveGroupResponse", await shard.ask(events.LeaveGroup(request, waiter), waiter))
        if batched or response.error_code:
            return response
        return LeaveGroupResponse(error_code=response.members[0].error_code)

    # -- offsets

    async def commit_offsets(self, request: OffsetCommitRequest, *, version: int) -> OffsetCommitResponse:
        """OffsetCommit, of topics that exist: each with its name, and with its id, which is stored too."""
        try:
            shard = self.shard(request.group_id)
        except Refused as refusal:
            return commit_error(refusal.code, request.topics)
        waiter = Waiter()
        event = events.CommitOffsets(request, version, waiter)
        return cast("OffsetCommitResponse", await shard.ask(event, waiter))

    async def commit_txn_offsets(
        self, request: TxnOffsetCommitRequest, *, guard: Guard | None
    ) -> TxnOffsetCommitResponse:
        """TxnOffsetCommit, of topics that exist: each with its name and its id. `guard`: its transaction was verified.

        The offsets are pending until `end_transaction`.
        """
        try:
            shard = self.local(request.group_id)
        except Refused as refusal:
            return txn_commit_error(refusal.code, request.topics)
        waiter = Waiter()
        producer = TxnProducer(request.producer_id, request.producer_epoch, guard)
        event = events.CommitTxnOffsets(request, producer, waiter)
        return cast("TxnOffsetCommitResponse", await shard.ask(event, waiter))

    async def end_transaction(self, index: int, marker: WritableTxnMarker) -> Code:
        """A transaction that offsets in this partition of `__consumer_offsets` may belong to is committed or aborted.

        NOT_LEADER_OR_FOLLOWER as long as the partition's groups are not coordinated here: the marker comes again then.
        """
        shard = self._shards.get(index)
        if shard is None:
            return Code.NOT_LEADER_OR_FOLLOWER
        try:
            await shard.end_transaction(
                marker_batch(marker, self._clock.wall_ms()),
                marker.producer_id,
                committed=marker.transaction_result,
                version=marker.transaction_version,
            )
        except Refused as refusal:
            not_yet = (Code.COORDINATOR_LOAD_IN_PROGRESS, Code.NOT_COORDINATOR)
            return Code.NOT_LEADER_OR_FOLLOWER if refusal.code in not_yet else refusal.code
        return Code.NONE

    async def fetch_offsets(self, group: OffsetFetchRequestGroup, *, require_stable: bool) -> OffsetFetchResponseGroup:
        """One group of an OffsetFetch. Topics carry names; ids only where the client gave them (version 10).

        An error stands at the group; before version 2 the handler has to repeat it at each partition.
        """
        try:
            shard = self.shard(group.group_id)
        except Refused as refusal:
            return OffsetFetchResponseGroup(group_id=group.group_id, topics=[], error_code=refusal.code)
        waiter = Waiter()
        event = events.FetchOffsets(group, require_stable, waiter)
        return cast("OffsetFetchResponseGroup", await shard.ask(event, waiter))

    async def delete_offsets(self, request: OffsetDeleteRequest) -> OffsetDeleteResponse:
        """OffsetDelete, of topics that exist."""
        try:
            shard = self.local(request.group_id)
        except Refused as refusal:
            return OffsetDeleteResponse(error_code=refusal.code, throttle_time_ms=0, topics=[])
        waiter = Waiter()
        return cast("OffsetDeleteResponse", await shard.ask(events.DeleteOffsets(request, waiter), waiter))

    def delete_topics(self, topics: Iterable[tuple[str, bytes]]) -> None:
        """Topics, as (name, id), are gone from the cluster: so are their offsets, in every shard of this node."""
        self.tell_all(events.TopicsDeleted(tuple(topics)))

    # -- administration

    async def delete_groups(self, group_ids: Iterable[str]) -> list[DeletableGroupResult]:
        """DeleteGroups: one result for each group, those of one shard together."""
        results: list[DeletableGroupResult] = []
        for ids in self._by_partition(group_ids):
            waiter = Waiter()
            try:
                response = await self.shard(ids[0]).ask(events.DeleteGroups(ids, waiter), waiter)
            except Refused as refusal:
                results += [DeletableGroupResult(group_id=group_id, error_code=refusal.code) for group_id in ids]
            else:
                results += cast("DeleteGroupsResponse", response).results
        return results

    async def describe_groups(self, group_ids: Iterable[str], *, version: int) -> list[DescribedGroup]:
        """DescribeGroups: one description for each group, those of one shard together."""
        described: list[DescribedGroup] = []
        for ids in self._by_partition(group_ids):
            waiter = Waiter()
            try:
                response = await self.shard(ids[0]).ask(events.DescribeGroups(ids, version, waiter), waiter)
            except Refused as refusal:
                described += [described_error(group_id, refusal.code) for group_id in ids]
            else:
                described += cast("DescribeGroupsResponse", response).groups
        return described

    async def describe_consumer_groups(self, group_ids: Iterable[str]) -> list[DescribedConsumerGroup]:
        """ConsumerGroupDescribe: one description for each group, those of one shard together."""
        wanted = list(group_ids)
        described = [consumer_group_error("", Code.INVALID_GROUP_ID) for group_id in wanted if not group_id]
        for ids in self._by_partition(group_id for group_id in wanted if group_id):
            waiter = Waiter()
            try:
                response = await self.shard(ids[0]).ask(events.DescribeConsumerGroups(ids, waiter), waiter)
            except Refused as refusal:
                described += [consumer_group_error(group_id, refusal.code) for group_id in ids]
            else:
                described += cast("ConsumerGroupDescribeResponse", response).groups
        return described

    async def list_groups(self, request: ListGroupsRequest) -> ListGroupsResponse:
        """ListGroups: all groups that this node coordinates. Not complete while a shard loads, so an error then."""
        groups: list[ListedGroup] = []
        states, types = tuple(request.states_filter), tuple(request.types_filter)
        for shard in self.shards:
            if shard.state is ShardState.LOADING:
                return ListGroupsResponse(error_code=Code.COORDINATOR_LOAD_IN_PROGRESS, groups=[])
            if shard.state is not ShardState.ACTIVE:
                continue
            waiter = Waiter()
            response = await shard.ask(events.ListGroups(states, types, waiter), waiter)
            listed = cast("ListGroupsResponse", response)
            if listed.error_code:
                return listed
            groups += listed.groups
        return ListGroupsResponse(error_code=Code.NONE, groups=groups)

    def _by_partition(self, group_ids: Iterable[str]) -> list[tuple[str, ...]]:
        """Group ids, those of one partition together."""
        by_partition: dict[int, list[str]] = {}
        for group_id in group_ids:
            by_partition.setdefault(self.partition_for(group_id), []).append(group_id)
        return [tuple(ids) for ids in by_partition.values()]


def _join_shape(response: JoinGroupResponse, version: int) -> JoinGroupResponse:
    """Before version 7 a response without a protocol says so by an empty name; since then, an empty name is none."""
    if not response.protocol_name:
        return replace(response, protocol_name=None if version >= PROTOCOL_NULLABLE_SINCE else "")
    return response

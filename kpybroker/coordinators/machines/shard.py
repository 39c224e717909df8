"""All groups and offsets of one partition of `__consumer_offsets`, as one machine.

`step` takes an event and decides. What it decides about persisted state comes out as records; the caller appends them
to the partition's log and hands each back to `apply`, the same function that builds the shard from its log. So the log
and the shard never disagree, and there is nothing to roll back: a decision that the log refuses goes to `refused`.

    effects = shard.step(event, now)
    try:
        offset = log.append(effects.records)
    except Refused as refusal:
        effects = shard.refused(effects, refusal.code, now)     # the replies now say so
    else:
        for record in effects.records: shard.apply(...)
    send(effects.replies)                                       # once the high watermark has come that far
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kpybroker.clock import Now
from kpybroker.coordinators.machines import offset_requests, views
from kpybroker.coordinators.machines.classic_group import ClassicGroup
from kpybroker.coordinators.machines.consumer import state
from kpybroker.coordinators.machines.consumer.group import ConsumerGroup
from kpybroker.coordinators.machines.consumer.groups import ConsumerGroups
from kpybroker.coordinators.machines.deadlines import Deadlines
from kpybroker.coordinators.machines.effects import Tick, coordinator_code
from kpybroker.coordinators.machines.events import (
    CommitOffsets,
    CommitTxnOffsets,
    ConsumerHeartbeat,
    DeleteGroups,
    DeleteOffsets,
    DescribeConsumerGroups,
    DescribeGroups,
    Effects,
    Event,
    FetchOffsets,
    Heartbeat,
    JoinGroup,
    LeaveGroup,
    ListGroups,
    Response,
    SettingsChanged,
    SyncGroup,
    TopicsChanged,
    TopicsDeleted,
)
from kpybroker.coordinators.machines.foreign_group import ForeignGroup, GroupType, type_of
from kpybroker.coordinators.machines.group_records import group_tombstone, modern_offset
from kpybroker.coordinators.machines.offsets import Offsets
from kpybroker.coordinators.machines.rebalance import GroupState
from kpybroker.coordinators.machines.replies import (
    commit_error,
    instead_of,
    join_error,
    leave_unknown,
    sync_error,
)
from kpybroker.coordinators.machines.settings import GroupSettings
from kpybroker.wire.codes import Code
from kpybroker.wire.internal.framing import decode_group_record
from kpybroker.wire.internal.group_records import (
    GroupMetadataKey,
    GroupMetadataValue,
    LegacyOffsetCommitKey,
    LegacyOffsetCommitValue,
    OffsetCommitKey,
    OffsetCommitValue,
)
from kpybroker.wire.messages.delete_groups import DeletableGroupResult, DeleteGroupsResponse
from kpybroker.wire.messages.describe_groups import DescribeGroupsResponse
from kpybroker.wire.messages.heartbeat import HeartbeatResponse
from kpybroker.wire.messages.list_groups import ListGroupsResponse
from kpybroker.wire.messages.offset_delete import OffsetDeleteResponse
from kpybroker.wire.messages.offset_fetch import OffsetFetchResponseGroup
from kpybroker.wire.schema import Message

_CLEAN_UP = ("clean-up",)


class GroupShard:
    """The machine. Its public fields are read, never assigned, by others."""

    def __init__(self, settings: GroupSettings) -> None:
        self.settings = settings
        self.deadlines = Deadlines()
        self.classic: dict[str, ClassicGroup] = {}
        self.foreign: dict[str, ForeignGroup] = {}
        self.consumers = ConsumerGroups(settings, self.deadlines, self.classic, self.foreign)
        self.offsets = Offsets()
        self._steps: dict[type, Callable[[Any, Now, Effects], None]] = {
            JoinGroup: self._join,
            SyncGroup: self._sync,
            Heartbeat: self._heartbeat,
            LeaveGroup: self._leave,
            ConsumerHeartbeat: self._consumer_heartbeat,
            DescribeConsumerGroups: self.consumers.describe_groups,
            CommitOffsets: self._commit_offsets,
            CommitTxnOffsets: self._commit_txn_offsets,
            FetchOffsets: self._fetch_offsets,
            DeleteOffsets: self._delete_offsets,
            DeleteGroups: self._delete_groups,
            DescribeGroups: self._describe_groups,
            ListGroups: self._list_groups,
            TopicsDeleted: self._topics_deleted,
            TopicsChanged: self.consumers.topics_changed,
            SettingsChanged: self.consumers.settings_changed,
            Tick: self._tick,
        }

    @property
    def deadline_s(self) -> float:
        """When the next Tick is due, in monotonic seconds; infinity if never."""
        return self.deadlines.deadline_s

    def step(self, event: Event, now: Now) -> Effects:
        """Decide what an event leads to."""
        out = Effects()
        if self.consumers.downgraded:
            self._begin_as_classic(now, out)
        self._steps[type(event)](event, now, out)
        return out

    def refused(self, effects: Effects, code: Code, now: Now) -> Effects:
        """What takes the place of a decision whose records the log did not take.

        Whoever was to be answered hears of the error. A group whose assignment it was rebalances anew; one that went
        ahead of its records otherwise falls back to what the log says of it; one that the log does not know is gone.
        """
        told = coordinator_code(code)
        out = Effects()
        out.replies = [(token, instead_of(response, told)) for token, response in effects.replies]
        self.consumers.refused(now)
        group = None if effects.group_id is None else self.classic.get(effects.group_id)
        if group is not None:
            if not group.in_log:
                group.abandon(told, out)
                self._forget(group.group_id)
            elif group.state is GroupState.COMPLETING_REBALANCE:
                group.prepare(f"its assignment could not be written: {code.name}", now, out)
            else:
                group.fall_back(told, now, out)
        return out

    def loaded(self, now: Now) -> Effects:
        """The log has been read to its end: sessions begin, clean-up is planned."""
        out = Effects()
        for group in self.classic.values():
            group.loaded(now, out)
        self.consumers.loaded(now)
        if self.classic or self.consumers.groups:
            self._plan_clean_up(now)
        return out

    def unload(self, code: Code) -> Effects:
        """The shard is coordinated elsewhere from now on, or nowhere: everyone who waits is told `code`."""
        out = Effects()
        for group in self.classic.values():
            group.abandon(code, out)
        return out

    def instead_of(self, response: Response, code: Code) -> Response:
        """The response of the same kind that says `code`."""
        return instead_of(response, code)

    # -- records

    def decode(self, key: bytes | memoryview, value: bytes | memoryview | None) -> tuple[Message, Message | None]:
        """A record of `__consumer_offsets`. Raises: UnknownRecord, MalformedMessage."""
        return decode_group_record(key, value)

    def apply(self, record_offset: int, producer_id: int, key: Message, value: Message | None) -> bool:
        """Take over one record of the log, written by `producer_id` in a transaction or by none (-1).

        Returns whether its type is known; others are left alone, as a newer coordinator may have written them.
        """
        match key, value:
            case OffsetCommitKey(), OffsetCommitValue() | None:
                self._apply_offset(record_offset, producer_id, key, value)
            case GroupMetadataKey(group=group_id), GroupMetadataValue() | None:
                self._apply_group(group_id, value)
            case LegacyOffsetCommitKey(), LegacyOffsetCommitValue() | None:
                modern = OffsetCommitKey(group=key.group, topic=key.topic, partition=key.partition)
                self._apply_offset(record_offset, producer_id, modern, modern_offset(value))
            case _:
                group_type = type_of(key)
                if group_type is None:
                    return False
                self._apply_typed(group_type, key, value)
        return True

    def end_transaction(self, producer_id: int, *, committed: bool) -> None:
        """Take over a control batch of the log: a transaction of the producer is committed or aborted."""
        self.offsets.end_transaction(producer_id, committed=committed)

    def _apply_offset(
        self, record_offset: int, producer_id: int, key: OffsetCommitKey, value: OffsetCommitValue | None
    ) -> None:
        if value is not None and not self._has(key.group):
            self.classic[key.group] = ClassicGroup(key.group, self.settings, self.deadlines)
        self.offsets.apply(record_offset, producer_id, key, value)

    def _apply_group(self, group_id: str, value: GroupMetadataValue | None) -> None:
        if value is None:
            self._forget(group_id)
            return
        self.foreign.pop(group_id, None)
        group = self.classic.get(group_id) or self.consumers.downgrades.pop(group_id, None)
        if group is None:
            group = ClassicGroup(group_id, self.settings, self.deadlines)
        self.classic[group_id] = group
        group.apply(value)

    def _has(self, group_id: str) -> bool:
        return group_id in self.classic or group_id in self.consumers.groups or group_id in self.foreign

    def _apply_typed(self, group_type: GroupType, key: Message, value: Message | None) -> None:
        group_id: str = key.group_id  # type: ignore[attr-defined]  # every key of these types has it
        if value is not None:
            # A classic group of that id can only be one made up for offsets that stand earlier in the log.
            self._forget(group_id)
        if group_type is GroupType.CONSUMER:
            self.consumers.apply(group_id, key, value)
        else:
            self._apply_foreign(group_id, group_type, key, value)

    def _apply_foreign(self, group_id: str, group_type: GroupType, key: Message, value: Message | None) -> None:
        group = self.foreign.get(group_id)
        if group is None:
            if value is None:
                return
            group = self.foreign[group_id] = ForeignGroup(group_id, group_type)
        group.apply(key, value)
        if not group.records:
            del self.foreign[group_id]

    def _forget(self, group_id: str) -> None:
        group = self.classic.pop(group_id, None)
        if group is not None:
            group.cancel_deadlines()

    # -- membership

    def _join(self, event: JoinGroup, now: Now, out: Effects) -> None:
        request = event.request
        group = self.classic.get(request.group_id)
        if group is None:
            consumers = self.consumers.groups.get(request.group_id)
            if consumers is not None and not consumers.is_empty:
                self.consumers.join(event, now, out)
                return
            foreign = self.foreign.get(request.group_id)
            if foreign is not None and (foreign.type is GroupType.SHARE or not foreign.is_empty):
                out.replies.append((event.token, join_error(Code.INCONSISTENT_GROUP_PROTOCOL)))
                return
            if request.member_id:
                out.replies.append((event.token, join_error(Code.UNKNOWN_MEMBER_ID, request.member_id)))
                return
            group = self._new_group(request.group_id, consumers or foreign, now, out)
        group.join(event, now, out)

    def _new_group(
        self, group_id: str, instead_of_empty: ConsumerGroup | ForeignGroup | None, now: Now, out: Effects
    ) -> ClassicGroup:
        """A group that is announced in the log with this very step, in place of an empty one of another type."""
        if instead_of_empty is not None:
            out.records.extend(instead_of_empty.tombstones())
        group = self.classic[group_id] = ClassicGroup(group_id, self.settings, self.deadlines, new_at_ms=now.wall_ms)
        out.records.append(group.new_record())
        out.group_id = group_id
        self._plan_clean_up(now)
        return group

    def _sync(self, event: SyncGroup, now: Now, out: Effects) -> None:
        group = self.classic.get(event.request.group_id)
        if event.request.group_id in self.consumers.groups:
            self.consumers.sync(event, now, out)
        elif group is None or group.is_empty:
            out.replies.append((event.token, sync_error(Code.UNKNOWN_MEMBER_ID)))
        else:
            group.sync(event, now, out)

    def _heartbeat(self, event: Heartbeat, now: Now, out: Effects) -> None:
        group = self.classic.get(event.request.group_id)
        if event.request.group_id in self.consumers.groups:
            self.consumers.classic_heartbeat(event, now, out)
        elif group is None:
            out.replies.append((event.token, HeartbeatResponse(error_code=Code.UNKNOWN_MEMBER_ID)))
        else:
            group.heartbeat(event, now, out)

    def _leave(self, event: LeaveGroup, now: Now, out: Effects) -> None:
        group = self.classic.get(event.request.group_id)
        if group is not None:
            group.leave(event, now, out)
            return
        if event.request.group_id in self.consumers.groups:
            self.consumers.leave(event, now, out)
            return
        out.replies.append((event.token, leave_unknown(event.request)))

    def _consumer_heartbeat(self, event: ConsumerHeartbeat, now: Now, out: Effects) -> None:
        self.consumers.heartbeat(event, now, out)
        self._plan_clean_up(now)

    # -- offsets

    def _commit_offsets(self, event: CommitOffsets, now: Now, out: Effects) -> None:
        request = event.request
        group = self.classic.get(request.group_id)
        if group is not None:
            fault = group.commit_fault(request)
        else:
            fault = self._commit_fault(event)
            self._plan_clean_up(now)
        if fault is not None:
            out.replies.append((event.token, commit_error(fault, request.topics)))
            return
        if group is not None and group.state in (GroupState.STABLE, GroupState.PREPARING_REBALANCE):
            group.keep_alive(request.member_id, now)  # a commit is a sign of life
        offset_requests.commit(event, self.settings, now, out)

    def _commit_fault(self, event: CommitOffsets) -> Code | None:
        """Why nobody may commit to what is not a classic group. Who is no member may: that makes a simple group."""
        consumers = self.consumers.groups.get(event.request.group_id)
        if consumers is not None:
            return self.consumers.commit_fault(consumers, event.request, event.version)
        foreign = self.foreign.get(event.request.group_id)
        if foreign is not None:
            return foreign.commit_fault(event.request, event.version)
        if event.request.generation_id_or_member_epoch < 0:
            return None
        return (
            Code.GROUP_ID_NOT_FOUND
            if event.version >= offset_requests.GROUP_NOT_FOUND_SINCE
            else Code.ILLEGAL_GENERATION
        )

    def _commit_txn_offsets(self, event: CommitTxnOffsets, now: Now, out: Effects) -> None:
        request = event.request
        group = self.classic.get(request.group_id) or self.foreign.get(request.group_id)
        consumers = self.consumers.groups.get(request.group_id)
        if group is not None:
            fault = group.txn_commit_fault(request)
        elif consumers is not None:
            fault = self.consumers.commit_fault(consumers, request, None)
        else:
            fault = None if request.generation_id_or_member_epoch < 0 else Code.ILLEGAL_GENERATION
            self._plan_clean_up(now)
        offset_requests.commit_in_transaction(event, fault, self.settings, now, out)

    def _fetch_offsets(self, event: FetchOffsets, now: Now, out: Effects) -> None:  # noqa: ARG002
        group_id = event.request.group_id
        fault: Code | None = None
        if group_id in self.consumers.groups:
            fault = self.consumers.fetch_fault(self.consumers.groups[group_id], event.request)
        elif group_id not in self.classic:
            foreign = self.foreign.get(group_id)
            fault = Code.GROUP_ID_NOT_FOUND if foreign is None else foreign.fetch_fault(event.request)
        if fault not in (None, Code.GROUP_ID_NOT_FOUND):
            response = OffsetFetchResponseGroup(group_id=group_id, topics=[], error_code=fault)
            out.replies.append((event.token, response))
            return
        known = fault is None
        out.replies.append((event.token, offset_requests.fetch(event, self.offsets, known=known)))

    def _delete_offsets(self, event: DeleteOffsets, now: Now, out: Effects) -> None:  # noqa: ARG002
        request = event.request
        group = self.classic.get(request.group_id)
        foreign = self.foreign.get(request.group_id)
        fault = None if group is None else offset_requests.delete_fault(group)
        found: ClassicGroup | ConsumerGroup | ForeignGroup | None = group or self.consumers.groups.get(request.group_id)
        if found is None and foreign is not None and foreign.type is not GroupType.SHARE:
            found = foreign
        if found is None:
            fault = Code.GROUP_ID_NOT_FOUND
        if found is None or fault is not None:
            response = OffsetDeleteResponse(error_code=fault or Code.NONE, throttle_time_ms=0, topics=[])
        else:
            response = offset_requests.delete(request, found, self.offsets, out)
        out.replies.append((event.token, response))

    # -- groups

    def _delete_groups(self, event: DeleteGroups, now: Now, out: Effects) -> None:  # noqa: ARG002
        results = []
        for group_id in event.group_ids:
            fault = self._delete_fault(group_id)
            if fault is None:
                other = self.consumers.groups.get(group_id) or self.foreign.get(group_id)
                out.records.extend(offset_requests.all_tombstones(group_id, self.offsets))
                out.records.extend([group_tombstone(group_id)] if other is None else other.tombstones())
                out.notes.append(f"Group {group_id} was deleted")
            results.append(DeletableGroupResult(group_id=group_id, error_code=fault or Code.NONE))
        out.replies.append((event.token, DeleteGroupsResponse(throttle_time_ms=0, results=results)))

    def _delete_fault(self, group_id: str) -> Code | None:
        group = self.classic.get(group_id)
        if group is not None:
            return None if group.is_empty else Code.NON_EMPTY_GROUP
        if group_id in self.consumers.groups:
            return None if self.consumers.groups[group_id].is_empty else Code.NON_EMPTY_GROUP
        foreign = self.foreign.get(group_id)
        return Code.GROUP_ID_NOT_FOUND if foreign is None else foreign.delete_fault()

    def _describe_groups(self, event: DescribeGroups, now: Now, out: Effects) -> None:  # noqa: ARG002
        groups = []
        for group_id in event.group_ids:
            group = self.classic.get(group_id)
            if group is None:
                groups.append(views.describe_missing(group_id, event.version, known=self._has(group_id)))
            else:
                groups.append(views.describe(group))
        out.replies.append((event.token, DescribeGroupsResponse(groups=groups)))

    def _list_groups(self, event: ListGroups, now: Now, out: Effects) -> None:  # noqa: ARG002
        wanted = views.ListFilter(event.states, event.types)
        groups = [
            views.list_classic(group) for group in self.classic.values() if wanted.takes(group.state, GroupType.CLASSIC)
        ]
        groups += [
            views.list_other(group.group_id, GroupType.CONSUMER, group.state)
            for group in self.consumers.groups.values()
            if wanted.takes(group.state, GroupType.CONSUMER)
        ]
        groups += [
            views.list_other(group.group_id, group.type, group.state)
            for group in self.foreign.values()
            if wanted.takes(group.state, group.type)
        ]
        out.replies.append((event.token, ListGroupsResponse(error_code=Code.NONE, groups=groups)))

    # -- time and topics

    def _topics_deleted(self, event: TopicsDeleted, now: Now, out: Effects) -> None:  # noqa: ARG002
        out.splittable = True
        for name, topic_id in event.topics:
            out.records.extend(offset_requests.of_deleted_topic(name, topic_id, self.offsets))

    def _tick(self, event: Tick, now: Now, out: Effects) -> None:  # noqa: ARG002
        """Handle the one deadline that is due first; nothing if none is."""
        key = self.deadlines.pop_due(now.monotonic_s)
        if key is None:
            return
        if key == _CLEAN_UP:
            self._clean_up(now, out)
            return
        kind, group_id, *rest = key
        if kind in state.KINDS:
            self.consumers.due(kind, group_id, tuple(rest), now, out)
            return
        if kind == state.DOWNGRADED:
            return  # every step begins with what is to be done then
        group = self.classic[group_id]  # a group's deadlines go with it
        match kind:
            case "heartbeat":
                group.session_due(rest[0], now, out)
            case "join":
                group.join_due(now, out)
            case "sync":
                group.sync_due(now, out)

    def _begin_as_classic(self, now: Now, out: Effects) -> None:
        """Groups that the last step made classic ones expect signs of life, and rebalance if they have to."""
        downgraded, self.consumers.downgraded = self.consumers.downgraded, {}
        for group_id, why in downgraded.items():
            group = self.classic[group_id]
            group.loaded(now, out)
            if why is not None:
                group.rebalance(why, now, out)

    def _plan_clean_up(self, now: Now) -> None:
        if _CLEAN_UP not in self.deadlines:
            interval_s = self.settings.offsets_retention_check_interval_ms / 1000
            self.deadlines.set(_CLEAN_UP, now.monotonic_s + interval_s)

    def _clean_up(self, now: Now, out: Effects) -> None:
        """End what has expired: offsets, and empty groups that have none left."""
        out.splittable = True
        for group in self.classic.values():
            nothing_left = offset_requests.expire(group, self.offsets, self.settings.offsets_retention_ms, now, out)
            if nothing_left and group.is_empty:
                out.records.append(group_tombstone(group.group_id))
        for consumers in self.consumers.groups.values():
            nothing_left = offset_requests.expire(consumers, self.offsets, self.settings.offsets_retention_ms, now, out)
            if nothing_left and consumers.is_empty:
                out.records.extend(consumers.tombstones())
        if self.classic or self.consumers.groups:
            self._plan_clean_up(now)

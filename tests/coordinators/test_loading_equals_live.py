"""Whatever happens to a shard: its log, read from the beginning, gives what the live shard says is persisted.

Besides, after every step: the roster's counts are those of its members, no token is answered twice, and when the shard
is unloaded nobody is left waiting.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any
from uuid import UUID

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from kpybroker.clock import Now
from kpybroker.coordinators.machines import events
from kpybroker.coordinators.machines.effects import TxnProducer
from kpybroker.coordinators.machines.events import Effects, Event
from kpybroker.coordinators.machines.rebalance import GroupState, Rebalance
from kpybroker.coordinators.machines.settings import GroupSettings
from kpybroker.coordinators.machines.shard import GroupShard
from kpybroker.wire.codes import Code
from kpybroker.wire.internal.consumer_group_records import (
    ConsumerGroupMemberMetadataKey,
    ConsumerGroupMemberMetadataValue,
    ConsumerGroupMetadataKey,
    ConsumerGroupMetadataValue,
)
from kpybroker.wire.internal.framing import decode_group_record, encode_key, encode_value
from kpybroker.wire.internal.group_records import (
    GroupMetadataKey,
    GroupMetadataValue,
    MemberMetadata,
)
from kpybroker.wire.messages.heartbeat import HeartbeatRequest
from kpybroker.wire.messages.join_group import JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse
from kpybroker.wire.messages.leave_group import LeaveGroupRequest, MemberIdentity
from kpybroker.wire.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
)
from kpybroker.wire.messages.offset_delete import (
    OffsetDeleteRequest,
    OffsetDeleteRequestPartition,
    OffsetDeleteRequestTopic,
)
from kpybroker.wire.messages.sync_group import SyncGroupRequest, SyncGroupRequestAssignment
from kpybroker.wire.messages.txn_offset_commit import (
    TxnOffsetCommitRequest,
    TxnOffsetCommitRequestPartition,
    TxnOffsetCommitRequestTopic,
)
from kpybroker.wire.schema import Message

NO_PRODUCER_ID = -1
WALL_MS = 1_700_000_000_000
GROUPS = ("g", "h")
TOPICS = {"t": b"\1" * 16, "u": b"\2" * 16}
SUBSCRIPTIONS = [b"\0\0" + b"\0\0\0\1\0\1" + topic + b"\xff\xff\xff\xff" for topic in (b"t", b"u")]
"""Two consumers', version 0: one topic, no user data."""


class World:
    """One shard, its log, the members that its answers have named, and the tokens not answered yet."""

    def __init__(self, group_settings: GroupSettings) -> None:
        self.settings = group_settings
        self.shard = GroupShard(group_settings)
        self.log: list[tuple[int, bytes, bytes | None] | tuple[int, bool]] = []
        self.now_s = 0.0
        self.refuse_next: Code | None = None
        self.named: list[tuple[str, str]] = []
        self.waiting: set[int] = set()
        self.tokens = 0

    @property
    def now(self) -> Now:
        return Now(self.now_s, WALL_MS + round(self.now_s * 1000))

    def token(self) -> int:
        self.tokens += 1
        self.waiting.add(self.tokens)
        return self.tokens

    def perform(self, event: Event) -> None:
        effects = self.shard.step(event, self.now)
        if effects.records and self.refuse_next is not None:
            effects, self.refuse_next = self.shard.refused(effects, self.refuse_next, self.now), None
        self.finish(effects)

    def finish(self, effects: Effects) -> None:
        producer_id = NO_PRODUCER_ID if effects.producer is None else effects.producer.id
        for record in effects.records:
            self.write(producer_id, record.key, record.value)
        for token, response in effects.replies:
            assert isinstance(token, int)
            self.waiting.remove(token)
            if isinstance(response, JoinGroupResponse) and response.member_id:
                self.named.append((response.member_id, response.leader))

    def write(self, producer_id: int, key: Message, value: Message | None) -> None:
        self.log.append((producer_id, encode_key(key), None if value is None else encode_value(value)))
        self.replay(self.shard, len(self.log) - 1)

    def mark(self, producer_id: int, *, committed: bool) -> None:
        self.log.append((producer_id, committed))
        self.replay(self.shard, len(self.log) - 1)

    def replay(self, shard: GroupShard, offset: int) -> None:
        match self.log[offset]:
            case producer_id, committed:
                shard.end_transaction(producer_id, committed=committed)
            case producer_id, key, value:
                shard.apply(offset, producer_id, *decode_group_record(key, value))

    def reloaded(self) -> GroupShard:
        return self.loaded(range(len(self.log)))

    def loaded(self, offsets: Iterable[int]) -> GroupShard:
        shard = GroupShard(self.settings)
        for offset in offsets:
            self.replay(shard, offset)
        return shard

    def compacted(self, *, tombstones: bool) -> list[int]:
        """The offsets that a cleaner leaves: each key's latest, with the last tombstones or without.

        It removes what transactions have aborted, and cleans up to the first one that is still open, as Kafka's does.
        """
        open_at: dict[int, list[int]] = {}
        aborted: set[int] = set()
        for offset, entry in enumerate(self.log):
            if len(entry) == 2:
                begun = open_at.pop(entry[0], [])
                aborted |= set() if entry[1] else set(begun)
            elif entry[0] != NO_PRODUCER_ID:
                open_at.setdefault(entry[0], []).append(offset)
        end = min((min(offsets) for offsets in open_at.values()), default=len(self.log))
        latest = {e[1]: at for at, e in enumerate(self.log[:end]) if len(e) == 3 and at not in aborted}
        kept = []
        for offset, entry in enumerate(self.log):
            cleaned = len(entry) == 3 and offset < end
            if cleaned and (latest.get(entry[1]) != offset or not (tombstones or entry[2] is not None)):
                continue
            kept.append(offset)
        return kept

    def member(self, choice: int) -> str:
        """The id of somebody who was named once, or of nobody."""
        return "nobody" if not self.named else self.named[-1 - choice % len(self.named)][0]

    def live(self, group_id: str) -> Rebalance | None:
        return self.shard.classic.get(group_id)

    # -- actions: each takes a group id and three small numbers

    def join(self, group_id: str, who: int, version: int, offer: int) -> None:
        names = (("range",), ("range", "roundrobin"), ("roundrobin",))[offer]
        request = JoinGroupRequest(
            group_id=group_id,
            session_timeout_ms=10_000,
            rebalance_timeout_ms=20_000,
            member_id="" if who % 2 else self.member(who // 2),
            group_instance_id=("one", "two", None, None)[who % 4],
            protocol_type="consumer",
            protocols=[JoinGroupRequestProtocol(name=name, metadata=SUBSCRIPTIONS[who % 2]) for name in names],
        )
        new_id = f"{request.group_instance_id or 'c'}-{UUID(int=self.tokens)}"
        self.perform(events.JoinGroup(request, (3, 8, 9)[version], "c", "/host", new_id, self.token()))

    def sync(self, group_id: str, who: int, what: int, _: int) -> None:
        group = self.live(group_id)
        members = [] if group is None else list(group.roster.members)
        leader = None if group is None else group.roster.leader
        request = SyncGroupRequest(
            group_id=group_id,
            generation_id=0 if group is None else group.generation,
            member_id=leader if leader is not None and who < 6 else self.member(who),
            assignments=[SyncGroupRequestAssignment(member_id=key, assignment=bytes([what])) for key in members[what:]],
        )
        self.perform(events.SyncGroup(request, self.token()))

    def heartbeat(self, group_id: str, who: int, *_: int) -> None:
        group = self.live(group_id)
        generation = 0 if group is None else group.generation
        request = HeartbeatRequest(group_id=group_id, generation_id=generation, member_id=self.member(who))
        self.perform(events.Heartbeat(request, self.token()))

    def leave(self, group_id: str, who: int, *_: int) -> None:
        members = [MemberIdentity(member_id=self.member(who))]
        if who % 3 == 0:
            members.append(MemberIdentity(member_id="", group_instance_id="one"))
        self.perform(events.LeaveGroup(LeaveGroupRequest(group_id=group_id, members=members), self.token()))

    def commit(self, group_id: str, who: int, what: int, _: int) -> None:
        group = self.live(group_id)
        member_id = self.member(who) if who < 6 else ""
        partition = OffsetCommitRequestPartition(
            partition_index=who % 2, committed_offset=self.tokens, committed_metadata=None
        )
        name = "tu"[who % 2]
        request = OffsetCommitRequest(
            group_id=group_id,
            generation_id_or_member_epoch=group.generation if group is not None and member_id else -1,
            member_id=member_id,
            retention_time_ms=5_000 if what == 2 else -1,
            topics=[OffsetCommitRequestTopic(name=name, topic_id=TOPICS[name], partitions=[partition])],
        )
        self.perform(events.CommitOffsets(request, 9, self.token()))

    def transaction(self, group_id: str, who: int, what: int, producer: int) -> None:
        if what == 0:
            self.mark(producer, committed=who % 2 == 0)
            return
        partition = TxnOffsetCommitRequestPartition(
            partition_index=0, committed_offset=self.tokens, committed_metadata=None
        )
        name = "tu"[who % 2]
        request = TxnOffsetCommitRequest(
            transactional_id="t",
            group_id=group_id,
            producer_id=producer,
            producer_epoch=0,
            member_id=self.member(who) if who > 8 else "",
            topics=[TxnOffsetCommitRequestTopic(name=name, topic_id=TOPICS[name], partitions=[partition])],
        )
        self.perform(events.CommitTxnOffsets(request, TxnProducer(producer, 0, None), self.token()))

    def delete(self, group_id: str, who: int, what: int, _: int) -> None:
        if what == 0:
            self.perform(events.DeleteGroups((group_id,), self.token()))
        elif what == 1:
            name = "tu"[who % 2]
            self.perform(events.TopicsDeleted(((name, TOPICS[name]),)))
        else:
            partitions = [OffsetDeleteRequestPartition(partition_index=index) for index in (0, 1)]
            topics = [OffsetDeleteRequestTopic(name="u", partitions=partitions)]
            request = OffsetDeleteRequest(group_id=group_id, topics=topics)
            self.perform(events.DeleteOffsets(request, self.token()))

    def foreign(self, group_id: str, who: int, *_: int) -> None:
        """Another coordinator led the shard for a while and made a consumer group of what was not a classic one."""
        group = self.live(group_id)
        if group is not None and not group.is_simple:
            return
        if group is not None and group.committed is not None:
            self.write(-1, GroupMetadataKey(group=group_id), None)
        self.write(-1, ConsumerGroupMetadataKey(group_id=group_id), ConsumerGroupMetadataValue(epoch=1))
        key = ConsumerGroupMemberMetadataKey(group_id=group_id, member_id="m")
        value = ConsumerGroupMemberMetadataValue(
            instance_id=None,
            rack_id=None,
            client_id="c",
            client_host="/host",
            subscribed_topic_names=["t"],
            subscribed_topic_regex=None,
            server_assignor=None,
            classic_member_metadata=None,
        )
        self.write(-1, key, value)
        if who % 4:
            self.write(-1, key, None)

    def refuse(self, _: str, who: int, *__: int) -> None:
        self.refuse_next = (Code.NOT_ENOUGH_REPLICAS, Code.MESSAGE_TOO_LARGE)[who % 2]

    def wait(self, _: str, who: int, what: int, __: int) -> None:
        until_s = self.now_s + (0.5, 3.0, 9.0)[what] * (1 + who)
        while (due_s := self.shard.deadline_s) <= until_s:
            self.now_s = max(self.now_s, due_s)
            self.perform(events.Tick())
        self.now_s = until_s


ACTIONS: list[Callable[..., None]] = [
    World.join,
    World.join,
    World.join,
    World.sync,
    World.sync,
    World.heartbeat,
    World.leave,
    World.commit,
    World.commit,
    World.transaction,
    World.delete,
    World.foreign,
    World.refuse,
    World.wait,
]


def persisted(shard: GroupShard) -> dict[str, Any]:
    """What a shard says that survives it."""
    return {
        "committed": shard.offsets.committed,
        "pending": {producer: groups for producer, groups in shard.offsets.pending.items() if groups},
        "open": shard.offsets.open_transactions,
        "foreign": {group_id: group.records for group_id, group in shard.foreign.items()},
        "classic": {group_id: group.committed for group_id, group in shard.classic.items()},
    }


def lasting(shard: GroupShard) -> dict[str, Any]:
    """The same without groups that have nothing in the log any more: they wait to be forgotten, or are already."""
    state = persisted(shard)
    offsets = shard.offsets
    state["classic"] = {
        group_id: record
        for group_id, record in state["classic"].items()
        if record is not None or offsets.of_group(group_id) or offsets.has_open_transactions(group_id)
    }
    return state


def at_rest(group: Rebalance) -> dict[str, Any]:
    """A group in which no rebalance is going on, as requests see it."""
    members = group.roster.members.values()
    name = group.protocol_name
    return {
        "state": group.state,
        "generation": group.generation,
        "protocol": (group.roster.protocol_type, name),
        "leader": group.roster.leader,
        "since": group.state_timestamp_ms,
        "subscribed": group.subscribed_topics,
        "static": group.roster.static_ids,
        "members": [
            (m.member_id, m.client_id, m.client_host, m.session_timeout_ms, m.rebalance_timeout_ms, m.assignment)
            for m in members
        ],
        "metadata": [] if name is None else [m.metadata(name) for m in members],
    }


def check_roster(group: Rebalance) -> None:
    roster = group.roster
    assert roster.joining == sum(member.join_token is not None for member in roster.members.values())
    assert (roster.leader is None) == (not roster.members)
    assert roster.leader is None or roster.leader in roster.members
    assert roster.pending_syncs <= roster.members.keys()
    assert not roster.pending_joins & roster.members.keys()
    assert all(roster.members[member_id].group_instance_id == name for name, member_id in roster.static_ids.items())
    for member in roster.members.values():
        assert member.join_token is None or group.state is GroupState.PREPARING_REBALANCE
        assert member.sync_token is None or group.state is GroupState.COMPLETING_REBALANCE
        assert ("heartbeat", group.group_id, member.member_id) in group.deadlines or member.keeps_itself_alive
    if group.state is GroupState.PREPARING_REBALANCE:
        assert ("join", group.group_id) in group.deadlines
    supported = {name for member in roster.members.values() for name, _ in member.protocols}
    for name in supported:
        everyone = all(name in dict(member.protocols) for member in roster.members.values())
        assert roster.supports(roster.protocol_type or "", [name]) == everyone


small, three = st.integers(0, 7), st.integers(0, 2)
actions = st.tuples(
    st.integers(0, len(ACTIONS) - 1), st.sampled_from(GROUPS), small, st.integers(0, 2), st.integers(0, 2)
)


@settings(max_examples=300, deadline=None)
@given(told=st.lists(actions, max_size=60), delay_ms=st.sampled_from([0, 500]))
def test_loading_a_log_equals_the_live_state(told: list[tuple[int, str, int, int, int]], delay_ms: int) -> None:
    world = World(
        GroupSettings(
            session_timeout_ms_min=0,
            session_timeout_ms_max=100_000,
            initial_rebalance_delay_ms=delay_ms,
            members_max=3,
            offset_metadata_chars_max=100,
            offsets_retention_ms=20_000,
            offsets_retention_check_interval_ms=7_000,
            commit_timeout_ms=5_000,
        )
    )
    for number, group_id, *numbers in told:
        ACTIONS[number](world, group_id, *numbers)
        for group in world.shard.classic.values():
            check_roster(group)
    loaded = world.reloaded()
    assert persisted(loaded) == persisted(world.shard)
    for group_id, group in world.shard.classic.items():
        if group.state in (GroupState.STABLE, GroupState.EMPTY) and group.committed is not None:
            assert at_rest(loaded.classic[group_id]) == at_rest(group)
    for tombstones in (True, False):
        cleaned = world.loaded(world.compacted(tombstones=tombstones))
        assert lasting(cleaned) == lasting(world.shard)
    world.finish(world.shard.unload(Code.NOT_COORDINATOR))
    assert not world.waiting


def test_the_subscription_is_one(settings: GroupSettings) -> None:
    world = World(msgspec.structs.replace(settings, members_max=3))
    world.join("g", 3, 0, 0)
    world.wait("g", 0, 0, 0)
    assert world.shard.classic["g"].subscribed_topics == {"u"}


def test_a_member_that_changed_its_protocol_is_loaded_as_it_was_last(settings: GroupSettings) -> None:
    """An upgrade from eager to cooperative rebalancing leaves such a log: one member, two records."""
    world = World(settings)
    for generation, protocol in enumerate(("range", "cooperative"), 1):
        member = MemberMetadata(
            member_id="m",
            group_instance_id=None,
            client_id="c",
            client_host="/host",
            rebalance_timeout=20_000,
            session_timeout=10_000 * generation,
            subscription=SUBSCRIPTIONS[generation - 1],
            assignment=b"",
        )
        value = GroupMetadataValue(
            protocol_type="consumer",
            generation=generation,
            protocol=protocol,
            leader="m",
            current_state_timestamp=WALL_MS,
            members=[member],
        )
        world.write(-1, GroupMetadataKey(group="g"), value)
    group = world.reloaded().classic["g"]
    loaded = group.roster.members["m"]
    assert loaded.protocols == (("cooperative", SUBSCRIPTIONS[1]),)
    assert loaded.session_timeout_ms == 20_000
    assert group.subscribed_topics == {"u"}

"""Transcripts of groups: each file under groups/ is a story told to one shard, with what it does at each step.

    # Prose.
    2.5 join alice group=g protocols=range:one,roundrobin:two
    ----
    append GroupMetadata g generation=0
    alice: MEMBER_ID_REQUIRED member=c-1

A command is a time in seconds, a verb, who asks (the name that the answer goes to), and key=value arguments. Whatever
falls due before a command's time happens first, at its own time, and is shown with that time. What goes to the log of
the broker is shown in parentheses. `--rewrite` puts what the shard does now into the files; keep a difference only if
you can explain each line of it.

Metadata that a member offers is text, or after an @ the topics of a consumer's subscription: `protocols=range:@t+u`.

The log behind the shard is real: `reload` builds the shard anew from the records appended, `refuse CODE` makes the next
append fail, `transaction` and `marker` write what a transactional producer would have written,
`old-group` and `old-offset` what brokers of long ago would have.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kpybroker.clock import Now
from kpybroker.coordinators.machines import events
from kpybroker.coordinators.machines.effects import TxnProducer
from kpybroker.coordinators.machines.events import Effects
from kpybroker.coordinators.machines.settings import GroupSettings
from kpybroker.coordinators.machines.shard import GroupShard
from kpybroker.wire.codec import decode, encode
from kpybroker.wire.codes import Code
from kpybroker.wire.internal.consumer_group_records import (
    ConsumerGroupCurrentMemberAssignmentKey,
    ConsumerGroupCurrentMemberAssignmentValue,
    ConsumerGroupMemberMetadataKey,
    ConsumerGroupMemberMetadataValue,
    ConsumerGroupMetadataKey,
    ConsumerGroupMetadataValue,
)
from kpybroker.wire.internal.consumer_protocol import ConsumerProtocolSubscription
from kpybroker.wire.internal.framing import decode_group_record, encode_key, encode_value
from kpybroker.wire.internal.group_records import (
    GroupMetadataKey,
    GroupMetadataValue,
    MemberMetadata,
    OffsetCommitKey,
    OffsetCommitValue,
)
from kpybroker.wire.internal.share_group_records import ShareGroupMetadataKey, ShareGroupMetadataValue
from kpybroker.wire.messages.delete_groups import DeleteGroupsResponse
from kpybroker.wire.messages.describe_groups import DescribeGroupsResponse
from kpybroker.wire.messages.heartbeat import HeartbeatRequest
from kpybroker.wire.messages.join_group import JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse
from kpybroker.wire.messages.leave_group import LeaveGroupRequest, LeaveGroupResponse, MemberIdentity
from kpybroker.wire.messages.list_groups import ListGroupsResponse
from kpybroker.wire.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
    OffsetCommitResponse,
)
from kpybroker.wire.messages.offset_delete import (
    OffsetDeleteRequest,
    OffsetDeleteRequestPartition,
    OffsetDeleteRequestTopic,
    OffsetDeleteResponse,
)
from kpybroker.wire.messages.offset_fetch import (
    OffsetFetchRequestGroup,
    OffsetFetchRequestTopics,
    OffsetFetchResponseGroup,
)
from kpybroker.wire.messages.sync_group import SyncGroupRequest, SyncGroupRequestAssignment, SyncGroupResponse
from kpybroker.wire.messages.txn_offset_commit import (
    TxnOffsetCommitRequest,
    TxnOffsetCommitRequestPartition,
    TxnOffsetCommitRequestTopic,
    TxnOffsetCommitResponse,
)
from kpybroker.wire.schema import Message

from .transcript import hold

FILES = sorted((Path(__file__).parent / "groups").glob("*.txt"))
SUBSCRIPTION_VERSION = 1
WALL_START_MS = 1_700_000_000_000
TOPIC_IDS = {name: bytes([number]) * 16 for number, name in enumerate("tuvw", 1)}

Arguments = dict[str, str]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_transcript(path: Path, pytestconfig: pytest.Config) -> None:
    hold(path, Story(), pytestconfig)


class Story:
    """One shard, its log, and the time it is."""

    def __init__(self) -> None:
        self.settings = GroupSettings(
            session_timeout_ms_min=0,
            session_timeout_ms_max=2**31 - 1,
            initial_rebalance_delay_ms=0,
            members_max=1000,
            offset_metadata_chars_max=10,
            offsets_retention_ms=60_000,
            offsets_retention_check_interval_ms=10_000_000,
            commit_timeout_ms=5_000,
        )
        self.shard = GroupShard(self.settings)
        self.log: list[tuple[int, bytes, bytes | None] | tuple[int, bool]] = []
        """(producer id, key, value), or (producer id, committed) for a control record; the index is the offset."""
        self.now = Now(0.0, WALL_START_MS)
        self.refusal: Code | None = None
        self.named = 0

    def tell(self, line: str) -> list[str]:
        """Carry out one command; what happens, in lines."""
        when, verb, *words = shlex.split(line)
        lines = list(self._advance(float(when)))
        names = [word for word in words if "=" not in word]
        arguments = dict(word.split("=", 1) for word in words if "=" in word)
        perform: Callable[[list[str], Arguments], Iterator[str]] = getattr(self, "do_" + verb.replace("-", "_"))
        return lines + list(perform(names, arguments))

    def check(self) -> None:
        """Nothing besides what is shown."""

    def _advance(self, to_s: float) -> Iterator[str]:
        assert to_s >= self.now.monotonic_s, "time does not go back"
        while self.shard.deadline_s <= to_s:
            self._set_time(max(self.shard.deadline_s, self.now.monotonic_s))
            yield from (f"at {self.now.monotonic_s:g} {line}" for line in self._perform(events.Tick()))
        self._set_time(to_s)

    def _set_time(self, seconds: float) -> None:
        self.now = Now(seconds, WALL_START_MS + round(seconds * 1000))

    def _perform(self, event: events.Event) -> Iterator[str]:
        effects = self.shard.step(event, self.now)
        if effects.records and self.refusal is not None:
            yield f"refused {len(effects.records)} records"
            effects, self.refusal = self.shard.refused(effects, self.refusal, self.now), None
        yield from self._finish(effects)

    def _finish(self, effects: Effects) -> Iterator[str]:
        for record in effects.records:
            value = None if record.value is None else encode_value(record.value)
            within = "" if effects.producer is None else f" in the transaction of {effects.producer.id}"
            yield "append " + _show_record(record.key, record.value) + within
            producer_id = -1 if effects.producer is None else effects.producer.id
            self._write(producer_id, encode_key(record.key), value)
        yield from (f"{token}: {_show(response)}" for token, response in effects.replies)
        yield from (f"({note})" for note in effects.notes)

    def _write(self, producer_id: int, key: bytes, value: bytes | None) -> None:
        self.log.append((producer_id, key, value))
        self._replay(self.shard, len(self.log) - 1)

    def _replay(self, shard: GroupShard, offset: int) -> None:
        match self.log[offset]:
            case producer_id, committed:
                shard.end_transaction(producer_id, committed=committed)
            case producer_id, key, value:
                shard.apply(offset, producer_id, *decode_group_record(key, value))

    # -- commands about the shard

    def do_config(self, names: list[str], arguments: Arguments) -> Iterator[str]:  # noqa: ARG002
        changes = {name: int(value) for name, value in arguments.items()}
        self.settings = GroupSettings(
            **{**{f: getattr(self.settings, f) for f in self.settings.__struct_fields__}, **changes}
        )
        return self.do_reload([], {})

    def do_reload(self, names: list[str], arguments: Arguments) -> Iterator[str]:  # noqa: ARG002
        for token, response in self.shard.unload(Code.NOT_COORDINATOR).replies:
            yield f"{token}: {_show(response)}"
        self.shard = GroupShard(self.settings)
        for offset in range(len(self.log)):
            self._replay(self.shard, offset)
        yield from self._finish(self.shard.loaded(self.now))

    def do_refuse(self, names: list[str], arguments: Arguments) -> Iterator[str]:  # noqa: ARG002
        self.refusal = Code[names[0]]
        yield from ()

    def do_wait(self, names: list[str], arguments: Arguments) -> Iterator[str]:  # noqa: ARG002
        yield from ()

    def do_deadlines(self, names: list[str], arguments: Arguments) -> Iterator[str]:  # noqa: ARG002
        due = {key: self.shard.deadlines.when_s(key) for key in self.shard.deadlines._due}
        yield from (
            f"{when:g} {' '.join(key)}" for key, when in sorted(due.items(), key=lambda item: (item[1], item[0]))
        )

    def do_transaction(self, names: list[str], arguments: Arguments) -> Iterator[str]:  # noqa: ARG002
        for topic, partition, offset in _offsets(arguments["offsets"]):
            key = OffsetCommitKey(group=arguments["group"], topic=topic, partition=partition)
            value = OffsetCommitValue(
                offset=offset, metadata="", commit_timestamp=self.now.wall_ms, topic_id=TOPIC_IDS[topic]
            )
            self._write(int(arguments["producer"]), encode_key(key), encode_value(value))
        yield from ()

    def do_old_group(self, names: list[str], arguments: Arguments) -> Iterator[str]:  # noqa: ARG002
        """A group with one member, without the times that newer records have."""
        member_id = arguments["member"]
        member = MemberMetadata(
            member_id=member_id,
            client_id="c",
            client_host="/host",
            rebalance_timeout=-1,
            session_timeout=int(arguments.get("session", "10000")),
            subscription=_metadata(arguments.get("offers", "m")),
            assignment=b"A",
        )
        key = GroupMetadataKey(group=arguments["group"])
        value = GroupMetadataValue(
            protocol_type="consumer",
            generation=int(arguments["generation"]),
            protocol="range" if member_id else None,
            leader=member_id or None,
            current_state_timestamp=-1,
            members=[member] if member_id else [],
        )
        self._write(-1, encode_key(key), encode_value(value))
        yield from ()

    def do_old_offset(self, names: list[str], arguments: Arguments) -> Iterator[str]:  # noqa: ARG002
        """Offsets without the id of their topic."""
        for topic, partition, offset in _offsets(arguments["offsets"]):
            key = OffsetCommitKey(group=arguments["group"], topic=topic, partition=partition)
            value = OffsetCommitValue(offset=offset, metadata="", commit_timestamp=self.now.wall_ms)
            self._write(-1, encode_key(key), encode_value(value))
        yield from ()

    def do_marker(self, names: list[str], arguments: Arguments) -> Iterator[str]:
        self.log.append((int(arguments["producer"]), names[0] == "commit"))
        self._replay(self.shard, len(self.log) - 1)
        yield from ()

    def do_foreign(self, names: list[str], arguments: Arguments) -> Iterator[str]:
        """What another coordinator wrote of a group: its type, and members with their epochs."""
        for key, value in _foreign(names[0], arguments):
            self._write(-1, encode_key(key), encode_value(value))
        yield from ()

    # -- commands of clients

    def do_join(self, names: list[str], arguments: Arguments) -> Iterator[str]:
        get = arguments.get
        request = JoinGroupRequest(
            group_id=arguments["group"],
            session_timeout_ms=int(get("session", "10000")),
            rebalance_timeout_ms=int(get("rebalance", "30000")),
            member_id=get("member", ""),
            group_instance_id=get("instance"),
            protocol_type=get("type", "consumer"),
            protocols=[
                JoinGroupRequestProtocol(name=name, metadata=_metadata(metadata))
                for name, metadata in _pairs(get("protocols", "range:m"))
            ],
            reason=get("reason"),
        )
        new_member_id = ""
        if not request.member_id:
            self.named += 1
            new_member_id = f"{request.group_instance_id or get('client', 'c')}-{self.named}"
        version = int(get("v", "9"))
        return self._perform(events.JoinGroup(request, version, get("client", "c"), "/host", new_member_id, names[0]))

    def do_sync(self, names: list[str], arguments: Arguments) -> Iterator[str]:
        request = SyncGroupRequest(
            group_id=arguments["group"],
            generation_id=int(arguments["generation"]),
            member_id=arguments["member"],
            group_instance_id=arguments.get("instance"),
            protocol_type=arguments.get("type", "consumer") or None,
            protocol_name=arguments.get("protocol", "range") or None,
            assignments=[
                SyncGroupRequestAssignment(member_id=member_id, assignment=given.encode())
                for member_id, given in _pairs(arguments.get("assign", ""))
            ],
        )
        return self._perform(events.SyncGroup(request, names[0]))

    def do_heartbeat(self, names: list[str], arguments: Arguments) -> Iterator[str]:
        request = HeartbeatRequest(
            group_id=arguments["group"],
            generation_id=int(arguments["generation"]),
            member_id=arguments["member"],
            group_instance_id=arguments.get("instance"),
        )
        return self._perform(events.Heartbeat(request, names[0]))

    def do_leave(self, names: list[str], arguments: Arguments) -> Iterator[str]:
        """Members are written id, id@instance or @instance."""
        members = []
        for word in arguments["members"].split(","):
            member_id, at, instance = word.partition("@")
            members.append(MemberIdentity(member_id=member_id, group_instance_id=instance if at else None))
        return self._perform(
            events.LeaveGroup(LeaveGroupRequest(group_id=arguments["group"], members=members), names[0])
        )

    def do_commit(self, names: list[str], arguments: Arguments) -> Iterator[str]:
        topics: dict[str, list[OffsetCommitRequestPartition]] = {}
        for topic, partition, offset in _offsets(arguments["offsets"]):
            topics.setdefault(topic, []).append(
                OffsetCommitRequestPartition(
                    partition_index=partition, committed_offset=offset, committed_metadata=arguments.get("metadata")
                )
            )
        request = OffsetCommitRequest(
            group_id=arguments["group"],
            generation_id_or_member_epoch=int(arguments.get("generation", "-1")),
            member_id=arguments.get("member", ""),
            group_instance_id=arguments.get("instance"),
            retention_time_ms=int(arguments.get("retention", "-1")),
            topics=[
                OffsetCommitRequestTopic(name=name, topic_id=TOPIC_IDS[name], partitions=partitions)
                for name, partitions in topics.items()
            ],
        )
        return self._perform(events.CommitOffsets(request, int(arguments.get("v", "9")), names[0]))

    def do_txn_commit(self, names: list[str], arguments: Arguments) -> Iterator[str]:
        """What a transactional producer commits of a group's offsets, its transaction having been verified."""
        topics: dict[str, list[TxnOffsetCommitRequestPartition]] = {}
        for topic, partition, offset in _offsets(arguments["offsets"]):
            topics.setdefault(topic, []).append(
                TxnOffsetCommitRequestPartition(
                    partition_index=partition, committed_offset=offset, committed_metadata=arguments.get("metadata")
                )
            )
        request = TxnOffsetCommitRequest(
            transactional_id="txn",
            group_id=arguments["group"],
            producer_id=int(arguments["producer"]),
            producer_epoch=0,
            generation_id_or_member_epoch=int(arguments.get("generation", "-1")),
            member_id=arguments.get("member", ""),
            group_instance_id=arguments.get("instance"),
            topics=[
                TxnOffsetCommitRequestTopic(name=name, topic_id=TOPIC_IDS[name], partitions=partitions)
                for name, partitions in topics.items()
            ],
        )
        producer = TxnProducer(request.producer_id, request.producer_epoch, None)
        return self._perform(events.CommitTxnOffsets(request, producer, names[0]))

    def do_fetch(self, names: list[str], arguments: Arguments) -> Iterator[str]:
        topics = None
        if "topics" in arguments:
            ids = {**TOPIC_IDS, "": bytes(16)}
            topics = [
                OffsetFetchRequestTopics(
                    name=name,
                    topic_id=ids[arguments.get("id", "")],
                    partition_indexes=[int(index) for index in indexes.split("+")],
                )
                for name, indexes in _pairs(arguments["topics"])
            ]
        request = OffsetFetchRequestGroup(
            group_id=arguments["group"],
            member_id=arguments.get("member"),
            member_epoch=int(arguments.get("epoch", "-1")),
            topics=topics,
        )
        return self._perform(events.FetchOffsets(request, "stable" in names, names[0]))

    def do_delete_offsets(self, names: list[str], arguments: Arguments) -> Iterator[str]:
        topics = [
            OffsetDeleteRequestTopic(
                name=name,
                partitions=[OffsetDeleteRequestPartition(partition_index=int(index)) for index in indexes.split("+")],
            )
            for name, indexes in _pairs(arguments["topics"])
        ]
        return self._perform(
            events.DeleteOffsets(OffsetDeleteRequest(group_id=arguments["group"], topics=topics), names[0])
        )

    def do_delete_groups(self, names: list[str], arguments: Arguments) -> Iterator[str]:
        return self._perform(events.DeleteGroups(tuple(arguments["groups"].split(",")), names[0]))

    def do_describe(self, names: list[str], arguments: Arguments) -> Iterator[str]:
        groups = tuple(arguments["groups"].split(","))
        return self._perform(events.DescribeGroups(groups, int(arguments.get("v", "6")), names[0]))

    def do_list(self, names: list[str], arguments: Arguments) -> Iterator[str]:
        states, types = (tuple(filter(None, arguments.get(what, "").split(","))) for what in ("states", "types"))
        return self._perform(events.ListGroups(states, types, names[0]))

    def do_topic_deleted(self, names: list[str], arguments: Arguments) -> Iterator[str]:
        topic_id = TOPIC_IDS[arguments.get("id", names[0])]
        return self._perform(events.TopicsDeleted(((names[0], topic_id),)))


# -- reading and showing


def _pairs(text: str) -> list[tuple[str, str]]:
    return [(name, value) for name, _, value in (word.partition(":") for word in text.split(",") if word)]


def _metadata(text: str) -> bytes:
    if not text.startswith("@"):
        return text.encode()
    subscription = ConsumerProtocolSubscription(topics=[topic for topic in text[1:].split("+") if topic])
    return SUBSCRIPTION_VERSION.to_bytes(2, "big") + encode(subscription, SUBSCRIPTION_VERSION)


def _shown(metadata: bytes) -> str:
    if metadata[:1] != b"\0":
        return metadata.decode()
    return "@" + "+".join(decode(ConsumerProtocolSubscription, SUBSCRIPTION_VERSION, metadata[2:]).topics)


def _offsets(text: str) -> list[tuple[str, int, int]]:
    """t-0:42,t-1:7 is partition 0 of t at 42, partition 1 at 7."""
    found = []
    for where, offset in _pairs(text):
        topic, _, partition = where.rpartition("-")
        found.append((topic, int(partition), int(offset)))
    return found


def _foreign(kind: str, arguments: Arguments) -> Iterator[tuple[Message, Message]]:
    group_id = arguments["group"]
    if kind == "share":
        yield ShareGroupMetadataKey(group_id=group_id), ShareGroupMetadataValue(epoch=1, metadata_hash=0)
        return
    yield ConsumerGroupMetadataKey(group_id=group_id), ConsumerGroupMetadataValue(epoch=1)
    for member_id, epoch in _pairs(arguments.get("members", "")):
        yield (
            ConsumerGroupMemberMetadataKey(group_id=group_id, member_id=member_id),
            ConsumerGroupMemberMetadataValue(
                instance_id=None,
                rack_id=None,
                client_id="c",
                client_host="/host",
                subscribed_topic_names=["t"],
                subscribed_topic_regex=None,
                server_assignor=None,
                classic_member_metadata=None,
            ),
        )
        yield (
            ConsumerGroupCurrentMemberAssignmentKey(group_id=group_id, member_id=member_id),
            ConsumerGroupCurrentMemberAssignmentValue(
                member_epoch=int(epoch),
                previous_member_epoch=0,
                state=0,
                assigned_partitions=[],
                partitions_pending_revocation=[],
            ),
        )


def _show_record(key: Message, value: Message | None) -> str:
    what = type(key).__name__.removesuffix("Key")
    of = " ".join(str(getattr(key, name)) for name in key.__struct_fields__ if name != "unknown_tags")
    match value:
        case None:
            return f"{what} {of} tombstone"
        case GroupMetadataValue():
            assert isinstance(key, GroupMetadataKey)
            members = "".join(f" {m.member_id}:{_shown(m.subscription)}/{m.assignment.decode()}" for m in value.members)
            kind, protocol, leader = value.protocol_type or "-", value.protocol or "-", value.leader or "-"
            return f"{what} {of} generation={value.generation} type={kind} protocol={protocol} leader={leader}{members}"
        case OffsetCommitValue():
            expires_s = (value.expire_timestamp - WALL_START_MS) / 1000
            expires = "" if value.expire_timestamp == -1 else f" expires={expires_s:g}"
            return f"{what} {of} offset={value.offset}{expires}"
    return f"{what} {of}"


def _show(response: Any) -> str:
    code = Code(getattr(response, "error_code", 0))
    shown = "ok" if code is Code.NONE else code.name
    match response:
        case JoinGroupResponse():
            named = "" if not response.member_id else f" member={response.member_id}"
            if code is not Code.NONE:
                return shown + named
            members = "".join(f" {m.member_id}:{_shown(m.metadata)}" for m in response.members)
            skip = " skip-assignment" if response.skip_assignment else ""
            of = f" generation={response.generation_id} protocol={response.protocol_name} leader={response.leader}"
            return f"{shown}{named}{of}{skip}{members}"
        case SyncGroupResponse():
            return shown if code is not Code.NONE else f"ok assignment={response.assignment.decode()}"
        case LeaveGroupResponse():
            return shown + "".join(
                f" {m.member_id}{'@' + m.group_instance_id if m.group_instance_id else ''}={Code(m.error_code).name}"
                for m in response.members
            )
        case OffsetCommitResponse() | OffsetDeleteResponse() | TxnOffsetCommitResponse():
            if code is not Code.NONE:
                return shown
            return " ".join(
                f"{topic.name}-{p.partition_index}={Code(p.error_code).name}"
                for topic in response.topics
                for p in topic.partitions
            )
        case OffsetFetchResponseGroup():
            return shown + "".join(
                f" {topic.name}-{p.partition_index}={Code(p.error_code).name if p.error_code else p.committed_offset}"
                for topic in response.topics
                for p in topic.partitions
            )
        case DeleteGroupsResponse():
            return " ".join(f"{result.group_id}={Code(result.error_code).name}" for result in response.results)
        case DescribeGroupsResponse():
            return " | ".join(
                f"{g.group_id} {Code(g.error_code).name} {g.group_state} type={g.protocol_type} data={g.protocol_data}"
                + "".join(
                    f" {m.member_id}:{_shown(m.member_metadata)}/{m.member_assignment.decode()}" for m in g.members
                )
                for g in response.groups
            )
        case ListGroupsResponse():
            return " | ".join(
                f"{g.group_id} {g.group_state} type={g.group_type} protocol={g.protocol_type}" for g in response.groups
            )
    return shown

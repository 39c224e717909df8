"""Transcripts of consumer groups (KIP-848): what a shard of groups decides, told in consumer_groups/*.txt.

Each line of a transcript is a time in seconds, a verb and its arguments; below ---- stands what happens. `pytest
--rewrite` writes that anew. After each paragraph a shard that is built from the log alone must be as the live one.
"""

from __future__ import annotations

import shlex
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kpybroker.clock import Now
from kpybroker.cluster.image import BrokerImage, ClusterImage, PartitionImage, TopicImage, TopicsImage
from kpybroker.coordinators.machines import events
from kpybroker.coordinators.machines.consumer.assignors import Assignor
from kpybroker.coordinators.machines.consumer.settings import ConsumerGroupSettings, ConsumerGroupTimes, MigrationPolicy
from kpybroker.coordinators.machines.consumer.topics import Topics
from kpybroker.coordinators.machines.effects import Tick
from kpybroker.coordinators.machines.settings import GroupSettings
from kpybroker.coordinators.machines.shard import GroupShard
from kpybroker.wire.codec import encode
from kpybroker.wire.codes import Code
from kpybroker.wire.internal.consumer_protocol import (
    AssignmentTopicPartition,
    ConsumerProtocolAssignment,
    ConsumerProtocolSubscription,
    SubscriptionTopicPartition,
)
from kpybroker.wire.internal.framing import decode_group_record, encode_key, encode_value
from kpybroker.wire.json_form import to_json
from kpybroker.wire.messages.consumer_group_heartbeat import ConsumerGroupHeartbeatRequest, TopicPartitions
from kpybroker.wire.messages.heartbeat import HeartbeatRequest
from kpybroker.wire.messages.join_group import JoinGroupRequest, JoinGroupRequestProtocol
from kpybroker.wire.messages.leave_group import LeaveGroupRequest, MemberIdentity
from kpybroker.wire.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
)
from kpybroker.wire.messages.sync_group import SyncGroupRequest, SyncGroupRequestAssignment
from kpybroker.wire.primitives import uuid_text
from kpybroker.wire.schema import Message

from .transcript import hold

FILES = sorted((Path(__file__).parent / "consumer_groups").glob("*.txt"))
WALL_START_MS = 1_700_000_000_000
IDS = {name: bytes([ord(name)]) * 16 for name in "tuvwxyz"}
"""Topics have one letter."""
NAMES = {uuid_text(topic_id): name for name, topic_id in IDS.items()}

Arguments = dict[str, str]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_transcript(path: Path, pytestconfig: pytest.Config) -> None:
    hold(path, Story(), pytestconfig)


MEMBERS = st.sampled_from(["a", "b", "c", "d"])
COMMANDS = st.one_of(
    st.tuples(
        st.just("full"), MEMBERS, st.sampled_from(["topics=t", "topics=t,u", "topics=u", "topics=", "regex=t|u"])
    ),
    st.tuples(st.just("static"), MEMBERS, st.sampled_from(["i", "j"])),
    st.tuples(st.just("owning"), MEMBERS, st.just("")),
    st.tuples(st.just("plain"), MEMBERS, st.just("")),
    st.tuples(st.just("leave"), MEMBERS, st.sampled_from(["-1", "-2"])),
    st.tuples(st.just("topics"), st.just(""), st.sampled_from(["t:4", "t:6 u:3", "u:5", "t:2 u:2 v:1"])),
    st.tuples(st.just("pass"), st.just(""), st.sampled_from(["1", "12", "50"])),
    st.tuples(st.just("refuse"), st.just(""), st.just("")),
)


@given(st.lists(COMMANDS, max_size=40), st.sampled_from(["0", "5"]))
@settings(max_examples=60, deadline=None)
def test_whatever_happens(commands: list[tuple[str, str, str]], interval: str) -> None:
    """The log has all of a group that must be kept; and no partition is ever two members'."""
    life = Life(interval)
    for command in commands:
        life.carry_out(*command)


class Life:
    """A group whose members do what they are told, or at least know what they were told last."""

    def __init__(self, interval: str) -> None:
        self.story = Story()
        self.seconds = 0.0
        self.known: dict[str, tuple[str, str, str]] = {}
        """Epoch, what it was given last, and instance, by member."""
        self.sizes = {"t": 4, "u": 2}
        self.tell("topics t:4 u:2")
        self.tell(f"config interval={interval} session=45")

    def tell(self, line: str) -> list[str]:
        return self.story.tell(f"{self.seconds} {line}")

    def carry_out(self, verb: str, member: str, what: str) -> None:
        epoch, owned, instance = self.known.get(member, ("0", "none", ""))
        of = f" instance={instance}" if instance else ""
        match verb:
            case "full" | "static":
                instance = what if verb == "static" else instance
                of = f" instance={instance}" if instance else ""
                self.beat(member, f"epoch=0 {what if verb == 'full' else 'topics=t'}{of}", "none", instance)
            case "owning" | "plain" if epoch != "0":
                self.beat(member, f"epoch={epoch}{f' owned={owned}' if verb == 'owning' else ''}{of}", owned, instance)
            case "leave" if epoch != "0" and (what == "-1" or instance):
                self.tell(f"beat {member} epoch={what}{of}")
                self.known.pop(member)
            case "topics":
                self.tell(f"topics {self._grown(what)}")
            case "pass":
                self.seconds += float(what)
                self.tell("wait")
            case "refuse":
                self.story.refusal = Code.NOT_ENOUGH_REPLICAS
        self.story.check()
        self.check()

    def _grown(self, topics: str) -> str:
        """A topic never gets fewer partitions."""
        for word in topics.split():
            name, _, count = word.partition(":")
            self.sizes[name] = max(self.sizes.get(name, 0), int(count))
        return " ".join(f"{word[0]}:{self.sizes[word[0]]}" for word in topics.split())

    def beat(self, member: str, arguments: str, owned: str, instance: str) -> None:
        for line in self.tell(f"beat {member} {arguments}"):
            if line.startswith(f"{member}: ok"):
                _, _, _, epoch, *given = line.split()
                self.known[member] = (epoch.removeprefix("epoch="), given[0] if given else owned, instance)

    def check(self) -> None:
        for group in self.story.shard.consumers.groups.values():
            has = [
                (topic_id, index)
                for member in group.members.values()
                for partitions in (member.assigned, member.revoking)
                for topic_id, indexes in partitions.items()
                for index in indexes
            ]
            assert len(has) == len(set(has)), "two members have the same partition"
            assert {(i, p) for i, owned in group.owner_epochs.items() for p in owned} == set(has)


class Story:
    """One shard, its log, the cluster's topics, and the time it is."""

    def __init__(self) -> None:
        self.consumer = ConsumerGroupSettings(times=ConsumerGroupTimes(assignment_interval_ms=0))
        self.members_max = 1000
        self.image = ClusterImage()
        self.topics = Topics(self.image)
        self.log: list[tuple[bytes, bytes | None]] = []
        self.now = Now(0.0, WALL_START_MS)
        self.refusal: Code | None = None
        self.hidden: frozenset[str] = frozenset()
        self.named = 0
        self.shard = self._new_shard()

    def _new_shard(self) -> GroupShard:
        settings = GroupSettings(
            session_timeout_ms_min=0,
            session_timeout_ms_max=2**31 - 1,
            initial_rebalance_delay_ms=0,
            members_max=self.members_max,
            offset_metadata_chars_max=10,
            offsets_retention_ms=60_000_000,
            offsets_retention_check_interval_ms=10_000_000,
            commit_timeout_ms=5_000,
            consumer=self.consumer,
        )
        shard = GroupShard(settings)
        shard.step(events.TopicsChanged(self.topics, frozenset(), created=False), self.now)
        return shard

    def tell(self, line: str) -> list[str]:
        when, verb, *words = shlex.split(line)
        lines = list(self._advance(float(when)))
        names = [word for word in words if "=" not in word]
        arguments = dict(word.split("=", 1) for word in words if "=" in word)
        perform: Callable[[list[str], Arguments], Iterator[str]] = getattr(self, "do_" + verb.replace("-", "_"))
        return lines + list(perform(names, arguments))

    def _advance(self, to_s: float) -> Iterator[str]:
        assert to_s >= self.now.monotonic_s, "time does not go back"
        while self.shard.deadline_s <= to_s:
            seconds = max(self.shard.deadline_s, self.now.monotonic_s)
            self.now = Now(seconds, WALL_START_MS + round(seconds * 1000))
            yield from (f"at {seconds:g} {line}" for line in self._perform(Tick()))
        self.now = Now(to_s, WALL_START_MS + round(to_s * 1000))

    def _perform(self, event: events.Event) -> Iterator[str]:
        effects = self.shard.step(event, self.now)
        if effects.records and self.refusal is not None:
            yield f"refused {len(effects.records)} records"
            effects, self.refusal = self.shard.refused(effects, self.refusal, self.now), None
        for record in effects.records:
            yield "append " + _show_record(record.key, record.value)
            self.log.append((encode_key(record.key), None if record.value is None else encode_value(record.value)))
            self.shard.apply(len(self.log) - 1, -1, *decode_group_record(*self.log[-1]))
        yield from (f"{token}: {_show(response)}" for token, response in effects.replies)
        yield from (f"({note})" for note in effects.notes)

    def check(self) -> None:
        """Loading the log gives what the live shard has."""
        loaded = self._new_shard()
        for offset, record in enumerate(self.log):
            loaded.apply(offset, -1, *decode_group_record(*record))
        live = self.shard
        assert _same(loaded, live)
        assert loaded.classic.keys() == live.classic.keys()

    # -- commands about the shard and the cluster

    def do_config(self, names: list[str], arguments: Arguments) -> Iterator[str]:  # noqa: ARG002
        """Settings of consumer groups: times in seconds."""
        get = arguments.get
        times = self.consumer.times
        self.members_max = int(get("classic-size", self.members_max))
        self.consumer = ConsumerGroupSettings(
            times=ConsumerGroupTimes(
                session_timeout_ms=round(float(get("session", times.session_timeout_ms / 1000)) * 1000),
                heartbeat_interval_ms=times.heartbeat_interval_ms,
                assignment_interval_ms=round(float(get("interval", times.assignment_interval_ms / 1000)) * 1000),
            ),
            members_max=int(get("size", self.consumer.members_max)),
            assignors=tuple(Assignor(each) for each in get("assignors", ",".join(self.consumer.assignors)).split(",")),
            migration=MigrationPolicy(get("migration", self.consumer.migration)),
        )
        return self._perform(events.SettingsChanged(self.consumer))

    def do_topics(self, names: list[str], arguments: Arguments) -> Iterator[str]:
        """The cluster's topics, each with its number of partitions; `racks` are those of brokers 0, 1, ..."""
        before = self.image.topics.by_name
        topics = {}
        for word in names:
            name, _, count = word.partition(":")
            partitions = {index: _partition(index % 2) for index in range(int(count))}
            topics[name] = TopicImage(name=name, id=IDS[name], partitions=partitions)
        kept = {name: before[name] if before.get(name) == topic else topic for name, topic in topics.items()}
        racks = arguments.get("racks", "").split(",")
        brokers = {number: _broker(number, rack or None) for number, rack in enumerate(racks)}
        by_id = {topic.id: topic for topic in kept.values()}
        images = TopicsImage(by_name=kept, by_id=by_id)
        self.image = ClusterImage(topics=images, brokers=brokers, offset=self.image.offset + 1)
        self.topics = Topics(self.image, self.topics)
        changed = {name for name in {*before, *kept} if before.get(name) is not kept.get(name)}
        created = bool(kept.keys() - before.keys())
        return self._perform(events.TopicsChanged(self.topics, frozenset(changed), created))

    def do_hide(self, names: list[str], arguments: Arguments) -> Iterator[str]:  # noqa: ARG002
        """Topics that clients may not see."""
        self.hidden = frozenset(names)
        yield from ()

    def do_refuse(self, names: list[str], arguments: Arguments) -> Iterator[str]:  # noqa: ARG002
        self.refusal = Code[names[0]]
        yield from ()

    def do_reload(self, names: list[str], arguments: Arguments) -> Iterator[str]:  # noqa: ARG002
        for token, response in self.shard.unload(Code.NOT_COORDINATOR).replies:
            yield f"{token}: {_show(response)}"
        self.shard = self._new_shard()
        for offset, record in enumerate(self.log):
            self.shard.apply(offset, -1, *decode_group_record(*record))
        self.shard.loaded(self.now)

    def do_wait(self, names: list[str], arguments: Arguments) -> Iterator[str]:  # noqa: ARG002
        yield from ()

    # -- commands of clients

    def do_beat(self, names: list[str], arguments: Arguments) -> Iterator[str]:
        """A ConsumerGroupHeartbeat; epoch 0 says what it must by itself."""
        get = arguments.get
        epoch = int(get("epoch", "0"))
        topics = None if "topics" not in arguments else [name for name in arguments["topics"].split(",") if name]
        owned = _owned(arguments["owned"]) if "owned" in arguments else ([] if epoch == 0 else None)
        self.named += 1
        request = ConsumerGroupHeartbeatRequest(
            group_id=get("group", "g"),
            member_id=get("member", names[0]),
            member_epoch=epoch,
            instance_id=get("instance"),
            rack_id=get("rack"),
            rebalance_timeout_ms=int(get("rebalance", "30000" if epoch == 0 else "-1")),
            subscribed_topic_names=topics,
            subscribed_topic_regex=get("regex"),
            server_assignor=get("assignor"),
            topic_partitions=owned,
        )
        visible = lambda topic: topic not in self.hidden  # noqa: E731
        event = events.ConsumerHeartbeat(request, "c", "/host", f"new-{self.named}", visible, names[0])
        return self._perform(event)

    def do_describe(self, names: list[str], arguments: Arguments) -> Iterator[str]:  # noqa: ARG002
        return self._perform(events.DescribeConsumerGroups(tuple(names or ["g"]), "admin"))

    def do_list(self, names: list[str], arguments: Arguments) -> Iterator[str]:  # noqa: ARG002
        return self._perform(events.ListGroups((), (), "admin"))

    def do_delete(self, names: list[str], arguments: Arguments) -> Iterator[str]:  # noqa: ARG002
        return self._perform(events.DeleteGroups(tuple(names), "admin"))

    def do_commit(self, names: list[str], arguments: Arguments) -> Iterator[str]:
        get = arguments.get
        topic, _, indexes = arguments["partitions"].partition(":")
        partitions = [
            OffsetCommitRequestPartition(partition_index=int(index), committed_offset=7, committed_metadata="")
            for index in indexes.split(",")
        ]
        request = OffsetCommitRequest(
            group_id=get("group", "g"),
            generation_id_or_member_epoch=int(get("epoch", "-1")),
            member_id=get("member", names[0]),
            retention_time_ms=-1,
            topics=[OffsetCommitRequestTopic(name=topic, topic_id=IDS[topic], partitions=partitions)],
        )
        return self._perform(events.CommitOffsets(request, int(get("v", "9")), names[0]))

    def do_join(self, names: list[str], arguments: Arguments) -> Iterator[str]:
        """A JoinGroup of a classic consumer."""
        get = arguments.get
        self.named += 1
        owned = [(each.topic_id, each.partitions) for each in _owned(get("owned", ""))]
        named = {topic_id: name for name, topic_id in IDS.items()}
        subscription = ConsumerProtocolSubscription(
            topics=get("topics", "t").split(","),
            owned_partitions=[SubscriptionTopicPartition(topic=named[i], partitions=some) for i, some in owned],
        )
        metadata = struct.pack(">h", 1) + encode(subscription, 1)
        request = JoinGroupRequest(
            group_id=get("group", "g"),
            session_timeout_ms=int(get("session", "10000")),
            rebalance_timeout_ms=int(get("rebalance", "20000")),
            member_id=get("member", names[0]) if "new" not in arguments else "",
            group_instance_id=get("instance"),
            protocol_type=get("type", "consumer"),
            protocols=[
                JoinGroupRequestProtocol(name=name, metadata=metadata) for name in get("offers", "range").split()
            ],
        )
        new_id = f"{names[0]}-00000000-0000-0000-0000-{self.named:012}"
        event = events.JoinGroup(request, int(get("v", "3")), "c", "/host", new_id, names[0])
        return self._perform(event)

    def do_sync(self, names: list[str], arguments: Arguments) -> Iterator[str]:
        """A SyncGroup; `gives` is what a leader of a classic group gives: member=topic:partitions."""
        get = arguments.get
        assignments = []
        for item in get("gives", "").split(";"):
            member, _, owned = item.partition("/")
            if member:
                topics = [
                    AssignmentTopicPartition(topic=word.split(":")[0], partitions=list(map(int, word.split(":")[1])))
                    for word in owned.split("+")
                ]
                message = ConsumerProtocolAssignment(assigned_partitions=topics)
                data = struct.pack(">h", 1) + encode(message, 1)
                assignments.append(SyncGroupRequestAssignment(member_id=member, assignment=data))
        request = SyncGroupRequest(
            group_id=get("group", "g"),
            generation_id=int(arguments["generation"]),
            member_id=get("member", names[0]),
            group_instance_id=get("instance"),
            protocol_type="consumer",
            protocol_name=get("protocol", "range"),
            assignments=assignments,
        )
        return self._perform(events.SyncGroup(request, names[0]))

    def do_heartbeat(self, names: list[str], arguments: Arguments) -> Iterator[str]:
        request = HeartbeatRequest(
            group_id=arguments.get("group", "g"),
            generation_id=int(arguments["generation"]),
            member_id=arguments.get("member", names[0]),
            group_instance_id=arguments.get("instance"),
        )
        return self._perform(events.Heartbeat(request, names[0]))

    def do_leave(self, names: list[str], arguments: Arguments) -> Iterator[str]:
        member = MemberIdentity(
            member_id=arguments.get("member", names[0]), group_instance_id=arguments.get("instance")
        )
        request = LeaveGroupRequest(group_id=arguments.get("group", "g"), members=[member])
        return self._perform(events.LeaveGroup(request, names[0]))


def _same(loaded: GroupShard, live: GroupShard) -> bool:
    """Whether two shards have the same consumer groups, in whatever order their members came."""
    groups, others = loaded.consumers.groups, live.consumers.groups
    assert groups.keys() == others.keys()
    for name, group in groups.items():
        for field, value in vars(group).items():
            other = getattr(others[name], field)
            if field == "subscriptions":
                assert (value.names, value.matched) == (other.names, other.matched), field
            elif field != "_most_members":
                assert value == other, field
    return True


def _partition(broker: int) -> PartitionImage:
    return PartitionImage(
        replicas=(broker,), directories=(bytes(16),), isr=(broker,), leader=broker, leader_epoch=0, partition_epoch=0
    )


def _broker(number: int, rack: str | None) -> BrokerImage:
    return BrokerImage(
        id=number,
        epoch=0,
        incarnation_id=bytes(16),
        endpoints=(),
        features={},
        rack=rack,
        fenced=False,
        in_controlled_shutdown=False,
        directories=(),
        cordoned_directories=None,
    )


def _owned(text: str) -> list[TopicPartitions]:
    """t:012+u:3: single digits."""
    words = [word.split(":") for word in text.split("+") if word and word != "none"]
    return [TopicPartitions(topic_id=IDS[name], partitions=list(map(int, digits))) for name, digits in words]


def _digits(topics: list[dict[str, Any]]) -> str:
    return _shares({topic["topicId"]: topic["partitions"] for topic in topics})


def _given(assignment: Any) -> str:
    return _shares({uuid_text(topic.topic_id): topic.partitions for topic in assignment.topic_partitions})


def _shares(partitions: dict[str, list[int]]) -> str:
    return "+".join(sorted(f"{NAMES[i]}:{''.join(map(str, sorted(some)))}" for i, some in partitions.items())) or "none"


def _show_record(key: Message, value: Message | None) -> str:
    what = type(key).__name__.removesuffix("Key").removeprefix("ConsumerGroup")
    of = " ".join(str(getattr(key, name)) for name in key.__struct_fields__ if name != "unknown_tags")
    if value is None:
        return f"{what} {of} tombstone"
    fields = to_json(value, 0 if "Group" not in type(value).__name__[:5] else 3 if what == "GroupMetadata" else 0)
    match what:
        case "MemberMetadata":
            return f"{what} {of} {_subscription(fields)}"
        case "CurrentMemberAssignment":
            parts = [_digits(fields["assignedPartitions"]), _digits(fields["partitionsPendingRevocation"])]
            epochs = f"epoch={fields['memberEpoch']} previous={fields['previousMemberEpoch']}"
            state = ("stable", "unrevoked", "unreleased")[fields["state"]]
            since = {epoch for topic in fields["assignedPartitions"] for epoch in topic.get("assignmentEpochs") or ()}
            return f"{what} {of} {epochs} {state} has={parts[0]} since={sorted(since)} gives-up={parts[1]}"
        case "TargetAssignmentMember":
            return f"{what} {of} {_digits(fields['topicPartitions'])}"
        case "TargetAssignmentMetadata":
            return f"{what} {of} epoch={fields['assignmentEpoch']}"
        case "Metadata":
            return f"{what} {of} epoch={fields['epoch']} {'hash' if fields.get('metadataHash') else 'no-hash'}"
        case "RegularExpression":
            return f"{what} {of} topics={','.join(fields['topics'])} version={fields['version']}"
        case "GroupMetadata":
            members = " ".join(member["memberId"] for member in fields["members"])
            return f"{what} {of} generation={fields['generation']} protocol={fields['protocol']} {members}".rstrip()
    return f"{what} {of}"


def _subscription(fields: dict[str, Any]) -> str:
    said = {
        "topics": ",".join(fields["subscribedTopicNames"]),
        "regex": fields["subscribedTopicRegex"],
        "instance": fields["instanceId"],
        "rack": fields["rackId"],
        "assignor": fields["serverAssignor"],
        "classic": ("classicMemberMetadata" in fields and fields["classicMemberMetadata"] is not None) or None,
    }
    return " ".join(f"{name}={value}" for name, value in said.items() if value)


def _show(response: Any) -> str:
    name = type(response).__name__
    code = Code(getattr(response, "error_code", 0))
    if code is not Code.NONE:
        message = getattr(response, "error_message", None)
        return code.name + (f" ({message})" if message else "")
    match name:
        case "ConsumerGroupHeartbeatResponse":
            given = response.assignment
            shown = "" if given is None else " " + _given(given)
            return f"ok {response.member_id} epoch={response.member_epoch}{shown}"
        case "ConsumerGroupDescribeResponse":
            return " | ".join(map(_described, response.groups))
        case "JoinGroupResponse":
            return f"ok {response.member_id} generation={response.generation_id} leader={response.leader or '-'}"
        case "SyncGroupResponse":
            return f"ok assignment={_embedded(response.assignment)}"
        case "OffsetCommitResponse":
            return " ".join(
                f"{topic.name}-{p.partition_index}={Code(p.error_code).name}"
                for topic in response.topics
                for p in topic.partitions
            )
        case "LeaveGroupResponse":
            return " ".join(Code(member.error_code).name for member in response.members)
        case "DeleteGroupsResponse":
            return " ".join(f"{each.group_id}={Code(each.error_code).name}" for each in response.results)
        case "ListGroupsResponse":
            return " | ".join(f"{group.group_id} {group.group_state} {group.group_type}" for group in response.groups)
    return "ok"


def _embedded(data: bytes) -> str:
    from kpybroker.wire.codec import decode

    topics = decode(ConsumerProtocolAssignment, 1, data[2:]).assigned_partitions if data else []
    return "+".join(f"{topic.topic}:{''.join(map(str, topic.partitions))}" for topic in topics) or "none"


def _described(group: Any) -> str:
    if group.error_code:
        return f"{Code(group.error_code).name} ({group.error_message})"
    members = [
        f"{m.member_id}@{m.member_epoch} {_given(m.assignment)}"
        f" of {_given(m.target_assignment)}{' classic' if m.member_type == 0 else ''}"
        for m in sorted(group.members, key=lambda member: member.member_id)
    ]
    head = f"{group.group_id} {group.group_state} epoch={group.group_epoch} assigned={group.assignment_epoch}"
    return ", ".join([f"{head} {group.assignor_name}", *members])

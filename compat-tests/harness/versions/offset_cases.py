"""Corners of committed offsets and of the administration of groups, and what both leave in __consumer_offsets."""

from __future__ import annotations

from typing import Any

from harness.versions.group_cases import commit, fetch_offsets
from harness.versions.log_cases import UNKNOWN_ID
from harness.versions.party import Party, protocols, subscription
from harness.versions.world import Answer, World
from kpybroker.coordinators.coordinator import partition_of
from kpybroker.wire.api_keys import ApiKey
from kpybroker.wire.codes import Code
from kpybroker.wire.internal.framing import decode_group_record
from kpybroker.wire.json_form import to_json
from kpybroker.wire.records.batch import iter_headers, iter_records

OFFSETS_PARTITIONS = 50
STAMPS = ("commitTimestamp", "expireTimestamp", "currentStateTimestamp", "assignmentTimestamp")


def _partition(index: int, offset: int, metadata: str | None = "m", epoch: int = -1) -> dict[str, Any]:
    return {
        "partition_index": index,
        "committed_offset": offset,
        "committed_leader_epoch": epoch,
        "committed_metadata": metadata,
    }


def commit_corners(world: World, version: int) -> Answer:
    """Odd values, odd lists, and every kind of sender to a group without members."""
    topic = world.topic(f"commit-corners-{version}", partitions=3)
    group_id = world.name(f"commit-corners-{version}")

    def topics(*partitions: dict[str, Any], name: str = topic) -> list[dict[str, Any]]:
        return [{"name": name, "topic_id": world.ids.get(name, UNKNOWN_ID), "partitions": list(partitions)}]

    def ask(*partitions: dict[str, Any], **request: Any) -> Answer:
        defaults = {
            "group_id": group_id,
            "generation_id_or_member_epoch": -1,
            "retention_time_ms": -1,
            "topics": topics(*partitions),
        }
        return world.ask(ApiKey.OFFSET_COMMIT, version, **{**defaults, **request})

    answers = {
        "below zero": ask(_partition(0, -1), _partition(1, -5)),
        "largest": ask(_partition(0, 2**63 - 1, epoch=7)),
        "longest metadata": ask(_partition(1, 1, "m" * 4096)),
        "longer metadata": ask(_partition(1, 2, "m" * 4097), _partition(2, 2)),
        "longest by characters": ask(_partition(2, 3, "ü" * 4096)),
        "longer by characters": ask(_partition(2, 4, "😀" * 2049)),
        "a partition twice": ask(_partition(0, 10), _partition(0, 11)),
        "a topic twice": ask(topics=topics(_partition(0, 12)) + topics(_partition(0, 13))),
        "a partition below zero": ask(_partition(-1, 1)),
        "some partitions that are not there": ask(_partition(9, 1), _partition(1, 14), _partition(8, 1)),
        "some topics that are not there": ask(
            topics=topics(_partition(0, 1), name=world.name("no-topic")) + topics(_partition(1, 15))
        ),
        "no partitions": ask(),
        "no topics": ask(topics=[]),
        "a member id without a generation": ask(_partition(0, 16), member_id="somebody"),
        "an instance id without a generation": ask(_partition(0, 17), group_instance_id="i") if version >= 7 else None,
        "a generation without a member": ask(_partition(0, 18), generation_id_or_member_epoch=0),
        "a far generation below zero": ask(_partition(0, 19), generation_id_or_member_epoch=-7),
        "then": fetch_offsets(world, 9, group_id, topic, 0, 1, 2),
        "a group of no name": ask(_partition(0, 20), group_id=""),
    }
    if version <= 4:
        answers["kept for an hour"] = ask(_partition(0, 21), retention_time_ms=3_600_000)
        answers["not kept"] = ask(_partition(1, 22), retention_time_ms=0)
        answers["with a retention"] = fetch_offsets(world, 9, group_id, topic, 0, 1)
    return answers


def fetch_corners(world: World, version: int) -> Answer:
    topic = world.topic(f"fetch-corners-{version}", partitions=2)
    gone = world.topic(f"fetch-corners-gone-{version}")
    group_id, other = world.name(f"fetch-corners-{version}"), world.name(f"fetch-corners-other-{version}")
    commit(world, 9, group_id, topic, (0, 5), (1, 6))
    commit(world, 9, other, topic, (1, 7), metadata="")
    commit(world, 9, group_id, gone, (0, 1))
    world.ask(ApiKey.DELETE_TOPICS, 5, topic_names=[gone], timeout_ms=60_000)

    def of_all() -> Answer:
        return fetch_offsets(world, 9, group_id, None)

    world.until(lambda: len(of_all()["groups"][0]["topics"]) == 1)

    def asked(*partitions: int, name: str = topic) -> dict[str, Any]:
        return {"name": name, "topic_id": world.ids.get(name, UNKNOWN_ID), "partition_indexes": list(partitions)}

    def ask(*topics: dict[str, Any], group: str = group_id, **request: Any) -> Answer:
        if version >= 8:
            groups = [{"group_id": group, "member_id": None, "member_epoch": -1, "topics": list(topics)}]
            return world.ask(ApiKey.OFFSET_FETCH, version, groups=groups, **request)
        old = [{key: value for key, value in each.items() if key != "topic_id"} for each in topics]
        return world.ask(ApiKey.OFFSET_FETCH, version, group_id=group, topics=old, **request)

    answers = {
        "no partitions": ask(asked()),
        "no topics": ask(),
        "a partition twice": ask(asked(0, 0)),
        "a topic twice": ask(asked(0), asked(1)),
        "below zero": ask(asked(-1)),
        "a deleted topic": ask(asked(0, name=gone)),
        "a deleted topic among others": ask(asked(0, name=gone), asked(0)),
        "empty metadata": ask(asked(1), group=other),
    }
    if version >= 7:
        answers["stable ones only"] = ask(asked(0, 1), require_stable=True)
    if version >= 8:
        groups = [
            {"group_id": each, "member_id": None, "member_epoch": -1, "topics": topics}
            for each, topics in (
                (group_id, [asked(0)]),
                (other, None),
                (world.name("no-group"), [asked(0)]),
                ("", None),
            )
        ]
        answers["many"] = world.ask(ApiKey.OFFSET_FETCH, version, groups=groups)
        answers["one twice"] = world.ask(ApiKey.OFFSET_FETCH, version, groups=[groups[0], groups[0]])
        answers["none"] = world.ask(ApiKey.OFFSET_FETCH, version, groups=[])
    return answers


def offset_delete_corners(world: World, version: int) -> Answer:
    """Offsets of what members read can't be deleted; of what they only might, neither (KIP-496)."""
    topic, other = (world.topic(f"delete-corners-{what}", partitions=2) for what in ("read", "other"))
    party = Party(world, 9, "delete-corners")
    member = party.member("reader")
    member.joined(protocols=[{"name": "range", "metadata": subscription(topic)}])
    member.sync(member)
    for name in (topic, other):
        member.commit(name)

    def ask(*names: str, group: str = party.group_id, partitions: tuple[int, ...] = (0,)) -> Answer:
        topics = [{"name": name, "partitions": [{"partition_index": index} for index in partitions]} for name in names]
        return world.ask(ApiKey.OFFSET_DELETE, version, group_id=group, topics=topics)

    answers = {
        "one that is read, one that is not": ask(topic, other),
        "again": ask(other),
        "nothing committed there": ask(other, partitions=(1,)),
        "not there": ask(topic, world.name("no-topic"), partitions=(0, 9)),
        "a partition twice": ask(other, partitions=(0, 0)),
        "a topic twice": ask(other, other),
        "no partitions": ask(topic, partitions=()),
        "no topics": ask(),
        "no group": ask(topic, group=""),
        "then": fetch_offsets(world, 9, party.group_id, None),
    }
    member.join(protocols=protocols("range"))
    member.sync(member)
    answers["members that say nothing readable"] = ask(other)
    member.leave()
    answers["an empty group"] = ask(topic, other)
    connect = Party(world, 9, "delete-corners-connect")
    worker = connect.member("worker")
    worker.joined(protocol_type="connect")
    worker.sync(worker, protocol_type="connect")
    answers["another type of members"] = ask(topic, group=connect.group_id)
    answers["another type of members, no topics"] = ask(group=connect.group_id)
    for each in (party, connect):
        each.end()
    return answers


def delete_corners(world: World, version: int) -> Answer:
    topic = world.topic(f"group-corners-{version}")
    party = Party(world, 9, f"group-corners-{version}")
    member = party.member("member")
    names = [world.name(f"group-corners-{version}-{number}") for number in range(3)]
    for name in names:
        commit(world, 9, name, topic, (0, 1))

    def ask(*groups: str) -> Answer:
        return world.ask(ApiKey.DELETE_GROUPS, version, groups_names=list(groups))

    member.join()
    answers = {
        "nothing": ask(),
        "one twice": ask(names[0], names[0]),
        "several": ask(names[1], party.group_id, world.name("no-group"), "", names[2]),
        "the id that was handed out": member.join(),
    }
    member.member_id = ""
    answers["made anew"] = member.joined()
    answers["completing"] = ask(party.group_id)
    member.leave()
    answers["left"] = ask(party.group_id)
    party.end()
    return answers


def describe_corners(world: World, version: int) -> Answer:
    party = Party(world, 9, f"describe-corners-{version}")
    member = party.member("member", group_instance_id="i")
    simple = world.name(f"describe-corners-simple-{version}")
    commit(world, 9, simple, world.topic(f"describe-corners-{version}"), (0, 1))
    member.joined(protocol_type="connect")
    member.sync(member, protocol_type="connect")

    def ask(*groups: str, **request: Any) -> Answer:
        return world.ask(ApiKey.DESCRIBE_GROUPS, version, groups=list(groups), **request)

    answers = {
        "none": ask(),
        "one twice": ask(simple, simple),
        "all kinds": ask(party.group_id, simple, world.name("no-group"), ""),
        "with operations": ask(party.group_id, simple, world.name("no-group"), "", include_authorized_operations=True),
    }
    member.leave()
    answers["left"] = ask(party.group_id)
    party.end()
    return answers


def what_is_written(world: World, version: int) -> Answer:
    """The records of a group's life, byte by byte but for ids and times."""
    party = Party(world, version, "written")
    topic, gone = world.topic("written", partitions=2), world.topic("written-gone")
    simple = world.name("written-simple")
    party.world.until(lambda: party.describe()["errorCode"] == Code.NONE)
    commit(world, 9, simple, topic, (0, 1), (1, 2))
    world.ask(
        ApiKey.OFFSET_COMMIT,
        4,
        group_id=simple,
        generation_id_or_member_epoch=-1,
        retention_time_ms=60_000,
        topics=[{"name": topic, "partitions": [_partition(0, 3, None)]}],
    )
    first, second = party.member("first"), party.member("second", group_instance_id="two")
    first.joined()
    first.sync(first)
    second.post_join()
    party.until("PreparingRebalance", 2)
    first.post_join()
    first.taken(), second.taken()
    second.post_sync()
    first.sync(first)
    second.taken()
    second.commit(topic, topics=[{"name": topic, "partitions": [_partition(0, 5, epoch=2), _partition(1, 6, "")]}])
    second.commit(gone)
    again = party.member("again", group_instance_id="two")
    again.join()
    world.ask(ApiKey.DELETE_TOPICS, 5, topic_names=[gone], timeout_ms=60_000)
    world.until(lambda: len(fetch_offsets(world, 9, party.group_id, None)["groups"][0]["topics"]) == 1)
    first.leave()
    again.join()
    again.sync(again)
    again.leave()
    partition = [{"partition_index": 1}]
    world.ask(ApiKey.OFFSET_DELETE, 0, group_id=party.group_id, topics=[{"name": topic, "partitions": partition}])
    world.ask(ApiKey.DELETE_GROUPS, 2, groups_names=[party.group_id])
    world.ask(ApiKey.DELETE_GROUPS, 2, groups_names=[simple])
    party.end()
    return {what: records_of(world, group) for what, group in (("simple", simple), ("members", party.group_id))}


def records_of(world: World, group_id: str) -> Answer:
    """What __consumer_offsets has of a group: keys and values, and the versions they are written in."""
    asked = {"partition": partition_of(group_id, OFFSETS_PARTITIONS), "partition_max_bytes": 1 << 20}
    topics = [{"topic": "__consumer_offsets", "partitions": [asked]}]
    response = world.raw(
        ApiKey.FETCH, 11, replica_id=-1, max_wait_ms=0, min_bytes=0, max_bytes=1 << 20, session_epoch=-1, topics=topics
    )
    data = response.responses[0].partitions[0].records
    shown = []
    for position, header in iter_headers(data):
        for record in () if header.is_control else iter_records(data, position):
            assert record.key is not None
            key, value = decode_group_record(record.key, record.value)
            if group_id in (getattr(key, "group", None), getattr(key, "group_id", None)):
                shown.append(_shown(world, record.key, key, record.value, value))
    return shown


def _shown(world: World, raw_key: bytes, key: Any, raw_value: bytes | None, value: Any) -> Answer:
    answer = {"type": raw_key[1], "key": world.normal(to_json(key, 0)), "value": None}
    if raw_value is not None:
        version = raw_value[1]
        fields = to_json(value, version)
        for name in STAMPS:
            if fields.get(name, -1) > 0:
                fields[name] = "<time>"
        if fields.get("metadataHash"):
            fields["metadataHash"] = "<hash>"
        answer |= {"version": version, "value": world.normal(fields)}
    return answer

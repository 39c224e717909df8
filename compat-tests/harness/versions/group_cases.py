"""Cases of the classic group protocol, of offsets, and of the administration of groups."""

from __future__ import annotations

from typing import Any

from harness.versions.log_cases import UNKNOWN_ID
from harness.versions.party import await_coordinator
from harness.versions.world import Answer, World
from kpybroker.wire.api_keys import ApiKey
from kpybroker.wire.json_form import to_json

LAST_SYNC, LAST_HEARTBEAT, LAST_LEAVE = 5, 4, 5
RANGE = [{"name": "range", "metadata": b"\x00\x01"}]


def find_coordinator(world: World, version: int) -> Answer:
    def ask(kind: int, *keys: str) -> Answer:
        request: dict[str, Any] = {"coordinator_keys": list(keys)} if version >= 4 else {"key": keys[0]}
        return world.ask(ApiKey.FIND_COORDINATOR, version, key_type=kind, **request)

    answers = {"group": ask(0, world.name("group")), "empty": ask(0, "")}
    if version >= 1:
        answers["unknown kind"] = ask(9, world.name("group"))
    if version >= 4:
        answers["two"] = ask(0, world.name("group"), world.name("other"))
    return answers


class Group:
    """A member's requests, at a version of JoinGroup and the others' nearest."""

    def __init__(self, world: World, version: int, what: str) -> None:
        self.world = world
        self.version = version
        self.group_id = world.name(f"{what}-{version}")
        await_coordinator(world, self.group_id)

    def join(self, member_id: str = "", **request: Any) -> Any:
        defaults: dict[str, Any] = {
            "group_id": self.group_id,
            "session_timeout_ms": 30_000,
            "rebalance_timeout_ms": 30_000,
            "protocol_type": "consumer",
            "protocols": RANGE,
        }
        return self.world.raw(ApiKey.JOIN_GROUP, self.version, member_id=member_id, **{**defaults, **request})

    def joined(self, **request: Any) -> Any:
        """Join as a new member, with the second request that KIP-394 asks for."""
        response = self.join(**request)
        return self.join(response.member_id, **request) if response.error_code == 79 else response

    def normal(self, response: Any) -> Answer:
        return self.world.normal(to_json(response, self.version))

    def sync(self, member_id: str, generation: int, *assigned: str, **request: Any) -> Answer:
        defaults = {"group_id": self.group_id, "protocol_type": "consumer", "protocol_name": "range"}
        assignments = [{"member_id": each, "assignment": b"share"} for each in assigned]
        return self.world.ask(
            ApiKey.SYNC_GROUP,
            min(self.version, LAST_SYNC),
            generation_id=generation,
            member_id=member_id,
            assignments=assignments,
            **{**defaults, **request},
        )

    def heartbeat(self, member_id: str, generation: int, **request: Any) -> Answer:
        return self.world.ask(
            ApiKey.HEARTBEAT,
            min(self.version, LAST_HEARTBEAT),
            **{"group_id": self.group_id, "generation_id": generation, "member_id": member_id, **request},
        )

    def leave(self, member_id: str, **identity: Any) -> Answer:
        version = min(self.version, LAST_LEAVE)
        request: dict[str, Any] = {"member_id": member_id}
        if version >= 3:
            request = {"members": [{"member_id": member_id, **identity}]}
        return self.world.ask(ApiKey.LEAVE_GROUP, version, group_id=self.group_id, **request)


def a_members_life(world: World, version: int) -> Answer:
    group = Group(world, version, "life")
    first = group.join()
    member = first if first.error_code == 0 else group.join(first.member_id)
    me, generation = member.member_id, member.generation_id
    return {
        "first join": group.normal(first),
        "joined": group.normal(member),
        "heartbeat before sync": group.heartbeat(me, generation),
        "sync": group.sync(me, generation, me),
        "sync again": group.sync(me, generation, me),
        "heartbeat": group.heartbeat(me, generation),
        "heartbeat of another generation": group.heartbeat(me, generation + 1),
        "heartbeat of a stranger": group.heartbeat("nobody", generation),
        "sync of a stranger": group.sync("nobody", generation),
        "sync of another generation": group.sync(me, generation + 1),
        "sync of another protocol": group.sync(me, generation, protocol_name="roundrobin"),
        "commit": _commit(group, me, generation),
        "commit of another generation": _commit(group, me, generation + 1),
        "commit of a stranger": _commit(group, "nobody", generation),
        "commit of nobody": _commit(group, "", -1),
        "leave": group.leave(me),
        "leave again": group.leave(me),
        "heartbeat after it": group.heartbeat(me, generation),
    }


def _commit(group: Group, member_id: str, generation: int) -> Answer:
    topic = group.world.name("committed-by-members")
    if topic not in group.world.ids:
        group.world.topic("committed-by-members")
    return commit(group.world, 9, group.group_id, topic, (0, 5), member_id=member_id, generation=generation)


def joining_refused(world: World, version: int) -> Answer:
    group = Group(world, version, "refused")
    return {
        "no group": group.normal(group.join(group_id="")),
        "short session": group.normal(group.join(session_timeout_ms=1)),
        "long session": group.normal(group.join(session_timeout_ms=10_000_000)),
        "no protocols": group.normal(group.join(protocols=[])),
        "no protocol type": group.normal(group.join(protocol_type="")),
        "a stranger": group.normal(group.join("nobody")),
        "heartbeat of no group": group.heartbeat("nobody", 1),
        "sync of no group": group.sync("nobody", 1),
        "leave of no group": group.leave("nobody"),
        "heartbeat without a name": group.heartbeat("nobody", 1, group_id=""),
    }


def another_protocol(world: World, version: int) -> Answer:
    """A member that shares no protocol with the group, or is of another type, is refused."""
    group = Group(world, version, "protocols")
    member = group.joined()
    group.sync(member.member_id, member.generation_id, member.member_id)
    return {
        "other protocols": group.normal(group.join(protocols=[{"name": "sticky", "metadata": b""}])),
        "other type": group.normal(group.join(protocol_type="connect")),
    }


def static_members(world: World, version: int) -> Answer:
    """KIP-345, from version 5 of JoinGroup on."""
    group = Group(world, version, "static")
    static = {"group_instance_id": "i"}
    first = group.join(**static)
    synced = group.sync(first.member_id, first.generation_id, first.member_id, **static)
    again = group.join(**static)
    return {
        "joined": group.normal(first),
        "sync": synced,
        "back again": group.normal(again),
        "the same id": first.member_id == again.member_id,
        "the first is fenced": group.heartbeat(first.member_id, again.generation_id, **static),
        "the second is not": group.heartbeat(again.member_id, again.generation_id, **static),
        "unknown instance": group.heartbeat(again.member_id, again.generation_id, group_instance_id="other"),
        "leave by instance": group.leave("", **static),
        "leave by unknown instance": group.leave("", **static),
    }


def commit(
    world: World,
    version: int,
    group_id: str,
    topic: str,
    *offsets: tuple[int, int],
    member_id: str = "",
    generation: int = -1,
    metadata: str | None = "m",
) -> Answer:
    partitions = [
        {"partition_index": index, "committed_offset": offset, "committed_metadata": metadata}
        for index, offset in offsets
    ]
    topics = [{"name": topic, "topic_id": world.ids.get(topic, UNKNOWN_ID), "partitions": partitions}]
    identity = {"member_id": member_id, "generation_id_or_member_epoch": generation}
    return world.ask(ApiKey.OFFSET_COMMIT, version, group_id=group_id, topics=topics, **identity)


def fetch_offsets(
    world: World, version: int, group_id: str, topic: str | None, *partitions: int, **more: Any
) -> Answer:
    """The committed offsets of one group; of all topics when `topic` is None."""
    if version >= 8:
        topic_id = world.ids.get(topic or "", UNKNOWN_ID)
        asked = None if topic is None else [{"name": topic, "topic_id": topic_id, "partition_indexes": partitions}]
        request: dict[str, Any] = {"groups": [{"group_id": group_id, "member_id": None, "topics": asked, **more}]}
    else:
        old = None if topic is None else [{"name": topic, "partition_indexes": partitions}]
        request = {"group_id": group_id, "topics": old}
    return world.ask(ApiKey.OFFSET_FETCH, version, **request)


def offset_commit(world: World, version: int) -> Answer:
    topic = world.topic(f"committed-{version}", partitions=2)
    group_id = world.name(f"commits-{version}")
    return {
        "committed": commit(world, version, group_id, topic, (0, 5), (1, 7)),
        "no metadata": commit(world, version, group_id, topic, (0, 6), metadata=None),
        "much metadata": commit(world, version, group_id, topic, (0, 7), metadata="m" * 5000),
        "no such partition": commit(world, version, group_id, topic, (9, 1)),
        "no such topic": commit(world, version, group_id, world.name("not-there"), (0, 1)),
        "no group": commit(world, version, "", topic, (0, 1)),
        "as a stranger": commit(world, version, group_id, topic, (0, 1), member_id="nobody", generation=3),
        "then": fetch_offsets(world, 9, group_id, topic, 0, 1),
    }


def offset_fetch(world: World, version: int) -> Answer:
    topic = world.topic(f"fetched-{version}", partitions=2)
    group_id = world.name(f"fetches-{version}")
    commit(world, 9, group_id, topic, (0, 5))
    answers = {
        "one and none": fetch_offsets(world, version, group_id, topic, 0, 1),
        "no such partition": fetch_offsets(world, version, group_id, topic, 9),
        "no such topic": fetch_offsets(world, version, group_id, world.name("not-there"), 0),
        "no such group": fetch_offsets(world, version, world.name("nobodys"), topic, 0),
        "no group": fetch_offsets(world, version, "", topic, 0),
    }
    if version >= 2:
        answers["all"] = fetch_offsets(world, version, group_id, None)
        answers["all of no group"] = fetch_offsets(world, version, world.name("nobodys"), None)
    if version >= 9:
        answers["as a stranger"] = fetch_offsets(world, version, group_id, topic, 0, member_id="nobody", member_epoch=3)
    return answers


def describe_groups(world: World, version: int) -> Answer:
    group = Group(world, 9, f"described-{version}")
    member = group.joined()
    group.sync(member.member_id, member.generation_id, member.member_id)
    empty, missing = world.name(f"empty-{version}"), world.name("nobodys")
    commit(world, 9, empty, world.topic(f"described-offsets-{version}"), (0, 1))

    def ask(*groups: str, **request: Any) -> Answer:
        return world.ask(ApiKey.DESCRIBE_GROUPS, version, groups=list(groups), **request)

    answers = {"stable": ask(group.group_id), "empty": ask(empty), "missing": ask(missing), "no name": ask("")}
    if version >= 3:
        answers["operations"] = ask(empty, include_authorized_operations=True)
    group.leave(member.member_id)
    return answers


def list_groups(world: World, version: int) -> Answer:
    group = Group(world, 9, f"listed-{version}")
    member = group.joined()
    group.sync(member.member_id, member.generation_id, member.member_id)
    empty = world.name(f"listed-empty-{version}")
    commit(world, 9, empty, world.topic(f"listed-offsets-{version}"), (0, 1))

    def ask(**request: Any) -> Answer:
        """Of all groups those of this case: other tests have theirs."""
        answer = world.normal(to_json(world.raw(ApiKey.LIST_GROUPS, version, **request), version))
        mine = (group.group_id.removeprefix(world.prefix), empty.removeprefix(world.prefix))
        answer["groups"] = [each for each in answer["groups"] if each["groupId"] in mine]
        return answer

    world.until(lambda: len(ask()["groups"]) == 2)
    answers = {"all": ask()}
    if version >= 4:
        answers["stable"] = ask(states_filter=["Stable"])
        answers["empty"] = ask(states_filter=["Empty"])
        answers["no such state"] = ask(states_filter=["Bored"])
    if version >= 5:
        answers["classic"] = ask(types_filter=["classic"])
        answers["share"] = ask(types_filter=["share"])
    group.leave(member.member_id)
    return answers


def delete_groups(world: World, version: int) -> Answer:
    topic = world.topic(f"deleted-offsets-{version}")
    empty = world.name(f"deleted-{version}")
    commit(world, 9, empty, topic, (0, 1))
    group = Group(world, 9, f"busy-{version}")
    member = group.joined()
    group.sync(member.member_id, member.generation_id, member.member_id)

    def ask(*groups: str) -> Answer:
        return world.ask(ApiKey.DELETE_GROUPS, version, groups_names=list(groups))

    answers = {
        "empty": ask(empty),
        "again": ask(empty),
        "busy": ask(group.group_id),
        "missing": ask(world.name("nobodys")),
        "no name": ask(""),
        "its offsets": fetch_offsets(world, 9, empty, None),
    }
    group.leave(member.member_id)
    return answers


def offset_delete(world: World, version: int) -> Answer:
    topic = world.topic(f"forgotten-{version}", partitions=2)
    group_id = world.name(f"forgets-{version}")
    commit(world, 9, group_id, topic, (0, 5), (1, 6))

    def ask(group: str, name: str, *partitions: int) -> Answer:
        topics = [{"name": name, "partitions": [{"partition_index": index} for index in partitions]}]
        return world.ask(ApiKey.OFFSET_DELETE, version, group_id=group, topics=topics)

    return {
        "deleted": ask(group_id, topic, 0),
        "no such partition": ask(group_id, topic, 9),
        "no such topic": ask(group_id, world.name("not-there"), 0),
        "no such group": ask(world.name("nobodys"), topic, 0),
        "then": fetch_offsets(world, 9, group_id, None),
    }

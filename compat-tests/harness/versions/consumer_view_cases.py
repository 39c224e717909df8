"""Stories of consumer groups (KIP-848) as others see them: offsets, who may commit, deletion, lists, descriptions."""

from __future__ import annotations

from typing import Any

from harness.versions.consumer_party import ConsumerParty
from harness.versions.world import Answer, World
from kpybroker.wire.api_keys import ApiKey
from kpybroker.wire.primitives import ZERO_UUID


def consumers_commit(world: World, version: int) -> Answer:
    """Who may commit and fetch offsets, in which epoch (KIP-1251)."""
    party = ConsumerParty(world, version, "commits")
    topic = world.topic(f"commits-{version}", partitions=4)
    one, two = party.consumer("one", topic), party.consumer("two", topic)
    answers = {
        "before there is a group": one.commit(topic, 0, generation_id_or_member_epoch=-1, member_id=""),
        "with an epoch before there is a group": one.commit(topic, 0, generation_id_or_member_epoch=5),
        "one joins": one.join(),
        "one commits": one.commit(topic, 0, 1, 2, 3),
        "a partition that is not there": one.commit(topic, 0, 9),
        "before version 9": one.commit(topic, 0, version=8),
        "by id": one.commit(topic, 0, version=10),
        "by nobody": one.commit(topic, 0, generation_id_or_member_epoch=-1, member_id=""),
        "by a stranger": one.commit(topic, 0, member_id="three"),
        "ahead": one.commit(topic, 0, generation_id_or_member_epoch=one.epoch + 1),
        "behind": one.commit(topic, 0, generation_id_or_member_epoch=one.epoch - 1),
        "fetches": one.committed(topic, 0, 1),
        "fetches ahead": one.committed(topic, 0, member_epoch=one.epoch + 1),
        "fetches behind": one.committed(topic, 0, member_epoch=one.epoch - 1),
        "a stranger fetches": one.committed(topic, 0, member_id="three"),
        "nobody fetches": one.committed(topic, 0, member_id=None, member_epoch=-1),
        "nobody with an epoch fetches": one.committed(topic, 0, member_id=None, member_epoch=1),
        "fetches by id": one.committed(topic, 0, version=10),
        "fetches an unknown id": one.committed(topic, 0, version=10, topics=[{"topic_id": b"\7" * 16}]),
    }
    before = one.epoch
    answers |= {"two joins": two.join(), "one revokes": one.beat()}
    kept = sorted(one.owned[0]["partitions"])
    given = sorted({0, 1, 2, 3} - set(kept))
    answers |= {
        "commits what it gives up": one.commit(topic, *given),
        "has given up": one.tell(),
        "commits what it kept": one.commit(topic, *kept, generation_id_or_member_epoch=before),
        "commits what it kept by id": one.commit(topic, *kept, version=10, generation_id_or_member_epoch=before),
        "commits what it gave up, behind": one.commit(topic, *given, generation_id_or_member_epoch=before),
        "commits both, behind": one.commit(topic, *kept, *given, generation_id_or_member_epoch=before),
        "commits what it gave up, in time": one.commit(topic, *given),
        "two gets some": two.tell(),
        "two commits behind": two.commit(topic, *given, generation_id_or_member_epoch=before),
        "metadata that is too long": two.commit(
            topic, topics=[_commit(topic, 0, metadata="x" * 5000), _commit(topic, 1)]
        ),
    }
    return answers


def _commit(topic: str, *partitions: int, metadata: str = "m") -> dict[str, Any]:
    asked = [{"partition_index": each, "committed_offset": 3, "committed_metadata": metadata} for each in partitions]
    return {"name": topic, "topic_id": ZERO_UUID, "partitions": asked}


def offsets_and_deletion(world: World, version: int) -> Answer:
    """Offsets of topics that are consumed can't be deleted, nor groups with members; then they can."""
    party = ConsumerParty(world, version, "deleted")
    topic, other = world.topic(f"deletes-{version}"), world.topic(f"deletes-b-{version}")
    one = party.consumer("one", topic)
    one.join()
    one.commit(topic, 0)
    one.commit(other, 0)

    def delete(*names: str) -> Answer:
        topics = [{"name": name, "partitions": [{"partition_index": 0}]} for name in names]
        return world.ask(ApiKey.OFFSET_DELETE, 0, group_id=party.group_id, topics=topics)

    return {
        "deletes offsets": delete(topic, other),
        "what is left": one.committed(topic, 0),
        "what is left of the other": one.committed(other, 0),
        "deletes the group": world.ask(ApiKey.DELETE_GROUPS, 2, groups_names=[party.group_id]),
        "described the classic way": world.ask(ApiKey.DESCRIBE_GROUPS, 6, groups=[party.group_id]),
        "described the old classic way": world.ask(ApiKey.DESCRIBE_GROUPS, 5, groups=[party.group_id]),
        "leaves": one.leave(),
        "deletes offsets of an empty group": delete(topic),
        "by nobody": one.commit(topic, 0, generation_id_or_member_epoch=-1, member_id=""),
        "listed": _listed(party),
        "listed as empty": _listed(party, states_filter=["empty"]),
        "listed as stable": _listed(party, states_filter=["Stable"]),
        "listed as consumer": _listed(party, types_filter=["Consumer"]),
        "listed as classic": _listed(party, types_filter=["classic"]),
        "deletes the empty group": world.ask(ApiKey.DELETE_GROUPS, 2, groups_names=[party.group_id]),
        "described after that": party.describe(),
        "offsets after that": one.committed(topic, 0, member_id=None, member_epoch=-1),
        "listed after that": _listed(party),
    }


def _listed(party: ConsumerParty, **filters: Any) -> Answer:
    asked = {"states_filter": [], "types_filter": [], **filters}
    answer = party.world.ask(ApiKey.LIST_GROUPS, 5, **asked)
    name = party.group_id.removeprefix(party.world.prefix)
    return [group for group in answer["groups"] if group["groupId"] == name]


def described(world: World, version: int) -> Answer:
    """ConsumerGroupDescribe at each of its versions, of groups of all sorts."""
    party = ConsumerParty(world, 1, f"described-{version}")
    topic = world.topic(f"describes-{version}", partitions=3)
    one, two = party.consumer("one", topic, instance_id="i", rack_id="r"), party.consumer("two", topic)
    simple = world.name(f"described-simple-{version}")
    world.ask(
        ApiKey.OFFSET_COMMIT,
        9,
        group_id=simple,
        generation_id_or_member_epoch=-1,
        retention_time_ms=-1,
        topics=[_commit(topic, 0)],
    )

    def describe(*group_ids: str, operations: bool = False) -> Answer:
        return world.ask(
            ApiKey.CONSUMER_GROUP_DESCRIBE,
            version,
            group_ids=list(group_ids),
            include_authorized_operations=operations,
        )

    answers = {"not there": describe(party.group_id), "none": describe(), "no name": describe("", party.group_id)}
    one.join()
    two.join()
    return {
        **answers,
        "assigning or reconciling": describe(party.group_id),
        "with operations": describe(party.group_id, operations=True),
        "a simple group": describe(simple),
        "twice": describe(party.group_id, party.group_id, simple),
    }

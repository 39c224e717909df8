"""Stories of groups that change between the classic and the consumer protocol with members in them (KIP-848)."""

from __future__ import annotations

import json
import struct
from itertools import groupby
from typing import Any

from harness.versions.consumer_party import LEAVE_FOR_A_WHILE, Consumer, ConsumerParty, subscription
from harness.versions.offset_cases import records_of
from harness.versions.party import PartyMember, protocols
from harness.versions.world import Answer, World
from kpybroker.wire.api_keys import ApiKey
from kpybroker.wire.codec import encode
from kpybroker.wire.internal.consumer_protocol import AssignmentTopicPartition, ConsumerProtocolAssignment

Answers = dict[str, Answer]


def embedded(user_data: bytes | None = None, **partitions: list[int]) -> bytes:
    """An assignment as a classic leader gives it."""
    topics = [AssignmentTopicPartition(topic=name, partitions=some) for name, some in partitions.items()]
    return struct.pack(">h", 1) + encode(ConsumerProtocolAssignment(assigned_partitions=topics, user_data=user_data), 1)


def _stable_classic(
    party: ConsumerParty, topic: str, partitions: list[int], user_data: bytes | None = None, **identity: Any
) -> PartyMember:
    """A classic group of one member that has all partitions."""
    party.wait_for_topics([topic])
    member = party.classic_member("classic", **identity)
    member.joined(protocols=protocols("range", metadata=subscription(topic)))
    share = {"member_id": member.member_id, "assignment": embedded(user_data, **{topic: partitions})}
    member.sync(assignments=[share])
    return member


def _rejoin(member: PartyMember, topic: str, *owned: int) -> Answer:
    metadata = subscription(topic, owned={topic: list(owned)})
    joined = member.join(protocols=protocols("range", metadata=metadata))
    return {"joins": joined, "syncs": member.sync()}


def upgrade(world: World, version: int) -> Answer:
    """A consumer of the newer protocol joins a classic group: classic members go on in a consumer group."""
    party = ConsumerParty(world, version, "up")
    topic = world.topic(f"up-{version}", partitions=4)
    old, new = _stable_classic(party, topic, [0, 1, 2, 3]), party.consumer("new", topic)
    answers = {
        "new joins": new.join(),
        "described": _described(party),
        "described the classic way": party.classic.describe(),
        "old hears of it": old.heartbeat(),
        "old syncs instead": old.sync(),
        "old has the wrong generation": old.heartbeat(generation_id=77),
        "old joins again": _rejoin(old, topic, 0, 1, 2, 3),
        "old is to give up": old.heartbeat(),
        "old has given up": _rejoin(old, topic, 0, 1),
        "old is fine": old.heartbeat(),
        "new gets some": new.tell(),
        "described stable": _described(party),
        "old commits": old.commit(topic),
        "old commits in another generation": old.commit(topic, generation_id_or_member_epoch=99),
        "old syncs another protocol": old.sync(protocol_name="sticky"),
        "old syncs another type": old.sync(protocol_type="connect"),
        "new leaves": new.leave(),
        "old finds itself in a classic group": party.classic.describe(),
        "old is told to join": old.heartbeat(),
        "new is not there": new.beat(member_epoch=9),
    }
    party.end()
    return answers


def upgrade_refused_after_all(world: World, version: int) -> Answer:
    """A pattern that is none is found out when the classic group is on its way already: who waits is told to join."""
    party = ConsumerParty(world, version, "up-for-nothing")
    topic = world.topic(f"up-for-nothing-{version}", partitions=2)
    first = _stable_classic(party, topic, [0, 1])
    second = party.classic_member("second")
    offered = protocols("range", metadata=subscription(topic))
    second.post_join(protocols=offered)
    party.classic.until("PreparingRebalance")
    answers = {
        "a consumer joins": party.consumer("new", topic).join(subscribed_topic_regex="["),
        "who waited": second.taken(),
        "described": party.describe(),
        "the state is still": party.classic.describe()["groupState"],
        "first hears": first.heartbeat(),
    }
    second.post_join(protocols=offered)
    answers["first joins"] = first.join(protocols=offered)["errorCode"]
    answers["second has joined"] = second.taken()["errorCode"]
    party.end()
    return answers


def _described(party: ConsumerParty) -> Answer:
    """Members of the classic protocol have ids of the run, which decide who gets what: only counts are told."""
    group = party.describe()
    for member in group["members"]:
        for which in ("assignment", "targetAssignment"):
            member[which] = [len(each["partitions"]) for each in member[which]["topicPartitions"]]
    return group


def upgrade_refused(world: World, version: int) -> Answer:
    """Classic groups that can't become consumer groups."""
    topic = world.topic(f"noup-{version}", partitions=2)
    answers: Answers = {}

    def ask(what: str, party: ConsumerParty) -> None:
        answers[what] = party.consumer("new", topic).join()
        answers[f"{what}: later"] = party.consumer("new", topic).beat(member_epoch=1)
        answers[f"{what}: leaving"] = party.consumer("new", topic).leave()
        answers[f"{what}: described"] = party.describe()
        party.end()

    connect = ConsumerParty(world, version, "noup-connect")
    connect.classic_member("c").joined(protocol_type="connect")
    ask("another protocol type", connect)
    custom = ConsumerParty(world, version, "noup-custom")
    _stable_classic(custom, topic, [0, 1], b"mine")
    ask("an assignor of its own", custom)
    broken = ConsumerParty(world, version, "noup-broken")
    broken.classic_member("b").joined(protocols=protocols("range", metadata=b"\0"))
    ask("metadata of another make", broken)
    garbage = ConsumerParty(world, version, "noup-garbage")
    member = garbage.classic_member("g")
    member.joined(protocols=protocols("range", metadata=subscription(topic)))
    member.sync(member)
    ask("an assignment of another make", garbage)
    return answers


def upgrade_while_rebalancing(world: World, version: int) -> Answer:
    """Who waits in the classic group is told that there is another rebalance."""
    party = ConsumerParty(world, version, "up-waiting")
    topic = world.topic(f"up-waiting-{version}", partitions=2)
    offer = protocols("range", metadata=subscription(topic))
    first, second = _stable_classic(party, topic, [0, 1]), party.classic_member("second")
    second.post_join(protocols=offer)
    party.classic.until("PreparingRebalance", 2)
    new = party.consumer("new", topic)
    answers = {
        "new joins": new.join(),
        "second had waited": second.taken(),
        "first's heartbeat": first.heartbeat(),
        "second's heartbeat": second.heartbeat(),
        "second joins again": second.join(protocols=offer),
        "described": len(party.describe()["members"]),
    }
    party.end()
    return answers


def classic_joins_consumers(world: World, version: int) -> Answer:
    """Classic members join a group of consumers, with offers right and wrong."""
    party = ConsumerParty(world, version, "mixed")
    topic = world.topic(f"mixed-{version}", partitions=4)
    new, old = party.consumer("new", topic), party.classic_member("old")
    offer = protocols("range", metadata=subscription(topic))
    answers = {
        "new joins": new.join(),
        "another type": old.join(protocol_type="connect", protocols=offer),
        "no protocols": old.join(protocols=[]),
        "metadata of another make": old.join(protocols=protocols("range", metadata=b"\0"), member_id="a-b"),
        "an id first": old.join(protocols=offer),
        "old joins": old.join(protocols=offer),
        "old syncs": old.sync(),
        "described": _described(party),
        "new is to give up": len(new.beat()["assignment"]["topicPartitions"][0]["partitions"]),
        "new has given up": new.tell(),
        "old hears of it": old.heartbeat(),
        "old joins again": _lengths(_rejoin(old, topic)),
        "old is fine": old.heartbeat(),
        "a stranger's heartbeat": old.heartbeat(member_id="nobody"),
        "new's heartbeat the classic way": old.heartbeat(member_id="new"),
        "new's sync the classic way": old.sync(member_id="new"),
        "an unknown instance": old.heartbeat(group_instance_id="i"),
        "somebody with another protocol": party.classic_member("other").join(
            protocols=protocols("sticky", metadata=subscription(topic))
        ),
        "old leaves": old.leave(),
        "old leaves again": old.leave(),
        "described after that": _described(party),
    }
    party.end()
    return answers


def _lengths(answer: Answer) -> Answer:
    """Which partitions a random id got is not told."""
    answer["syncs"]["assignment"] = len(answer["syncs"]["assignment"])
    return answer


def static_downgrade(world: World, version: int) -> Answer:
    """A classic process takes a static consumer's place, and only classic members are left."""
    party = ConsumerParty(world, version, "down")
    topic = world.topic(f"down-{version}", partitions=2)
    new, old = party.consumer("new", topic, instance_id="i"), party.classic_member("old", group_instance_id="i")
    offer = protocols("range", metadata=subscription(topic, owned={topic: [0, 1]}))
    answers = {"new joins": new.join(), "new owns": new.tell(), "old joins": old.join(protocols=offer)}
    party.classic.until("Stable")
    answers |= {
        "described": party.classic.describe(),
        "old syncs": old.sync(),
        "old is fine": old.heartbeat(),
        "new is gone": new.beat(),
    }
    party.end()
    return answers


def static_upgrade(world: World, version: int) -> Answer:
    """A consumer of the newer protocol takes a static classic member's place."""
    party = ConsumerParty(world, version, "up-static")
    topic = world.topic(f"up-static-{version}", partitions=2)
    old = _stable_classic(party, topic, [0, 1], group_instance_id="i")
    new = party.consumer("new", topic, instance_id="i")
    answers = {
        "new joins": new.join(),
        "new has all": new.tell(),
        "described": party.describe(),
        "old is fenced": old.heartbeat(),
        "old can't sync": old.sync(),
        "old can't leave": old.leave(),
        "new leaves for a while": new.leave(LEAVE_FOR_A_WHILE),
        "described while it is away": party.describe(),
    }
    party.end()
    return answers


def empty_groups(world: World, version: int) -> Answer:
    """Empty groups change their type for whoever joins them."""
    party = ConsumerParty(world, version, "empty")
    topic = world.topic(f"empty-{version}", partitions=2)
    old = _stable_classic(party, topic, [0, 1])
    old.commit(topic)
    old.leave()
    new: Consumer = party.consumer("new", topic)
    again = party.classic_member("again")
    answers = {
        "new joins": new.join(),
        "described": party.describe(),
        "offsets are kept": new.committed(topic, 0),
        "old is not there": old.heartbeat(),
        "new leaves": new.leave(),
        "a former member joins": again.join(member_id="new"),
        "again joins": again.joined(protocols=protocols("range", metadata=subscription(topic))),
        "again syncs": again.sync(again),
        "described the classic way": party.classic.describe(),
        "described the newer way": party.describe(),
        "new is not there": new.beat(member_epoch=2),
    }
    simple = ConsumerParty(world, version, "empty-simple")
    consumer = simple.consumer("one", topic)
    answers |= {
        "somebody commits": consumer.commit(topic, 0, generation_id_or_member_epoch=-1, member_id=""),
        "a consumer joins": consumer.join(),
        "its offsets": consumer.committed(topic, 0),
    }
    party.end()
    simple.end()
    return answers


def what_migration_writes(world: World, version: int) -> Answer:
    """The records of a group that goes up and down, field by field."""
    party = ConsumerParty(world, version, "migrated")
    topic = world.topic(f"migrated-{version}", partitions=2)
    old = _stable_classic(party, topic, [0, 1], group_instance_id="i")
    new = party.consumer("new", topic)
    new.join()
    metadata = subscription(topic, owned={topic: [0, 1]})
    old.join(protocols=protocols("range", metadata=metadata), member_id="")
    party.end()
    new.leave()
    party.classic.until("PreparingRebalance")
    written = [_without_shares(record) for record in records_of(world, party.group_id)]
    runs = groupby(written, key=lambda record: record["type"])  # the order of members is that of random ids
    return [record for _, run in runs for record in sorted(run, key=json.dumps)]


def _without_shares(record: Answer) -> Answer:
    """Who has which partitions is decided by random ids."""
    value = record["value"]
    for name in ("topicPartitions", "assignedPartitions", "partitionsPendingRevocation") if value else ():
        if name in value:
            value[name] = [len(each["partitions"]) for each in value[name]]
    return record


def admin_leaves(world: World, version: int) -> Answer:
    """An administrator takes members out by LeaveGroup, of either protocol."""
    party = ConsumerParty(world, version, "removed")
    topic = world.topic(f"removed-{version}", partitions=2)
    one, two = party.consumer("one", topic), party.consumer("two", topic, instance_id="i")
    one.join()
    two.join()

    def leave(*members: dict[str, Any]) -> Answer:
        return world.ask(ApiKey.LEAVE_GROUP, 5, group_id=party.group_id, members=list(members))

    return {
        "nobody": leave({"member_id": "three"}, {"group_instance_id": "j"}),
        "another's instance": leave({"member_id": "one", "group_instance_id": "i"}),
        "no one": leave(),
        "by instance": leave({"group_instance_id": "i"}),
        "by id": leave({"member_id": "one"}),
        "described": party.describe(),
    }

"""Stories of consumer groups (KIP-848): joining, epochs, fencing, reconciliation, static members, patterns, records."""

from __future__ import annotations

from typing import Any

from harness.versions.consumer_party import LEAVE_FOR_A_WHILE, ConsumerParty
from harness.versions.offset_cases import records_of
from harness.versions.txn_actor import TxnActor
from harness.versions.world import Answer, World
from kpybroker.wire.api_keys import ApiKey

Answers = dict[str, Answer]


def joining_refused(world: World, version: int) -> Answer:
    """Everything that a heartbeat can get wrong by itself."""
    party = ConsumerParty(world, version, "modern-refused")
    topic = world.topic(f"modern-refused-{version}")
    one = party.consumer("one", topic)
    wrong: dict[str, dict[str, Any]] = {
        "no group": {"group_id": ""},
        "a blank group": {"group_id": "  "},
        "no member": {"member_id": ""},
        "a blank instance": {"instance_id": " "},
        "a blank rack": {"rack_id": ""},
        "no rebalance timeout": {"rebalance_timeout_ms": -1},
        "no partitions said": {"topic_partitions": None},
        "partitions owned": {"topic_partitions": [{"topic_id": world.ids[topic], "partitions": [0]}]},
        "no subscription": {"subscribed_topic_names": None},
        "another assignor": {"server_assignor": "sticky"},
        "an empty assignor": {"server_assignor": ""},
        "an epoch of the past": {"member_epoch": -3},
        "away for a while without an instance": {"member_epoch": -2},
        "leaves a group that is not there": {"member_epoch": -1},
        "an epoch in a group that is not there": {"member_epoch": 1},
    }
    if version == 0:
        del wrong["no member"]  # whom the broker names, see below
    answers = {what: one.join(**request) for what, request in wrong.items()}
    answers["still no group"] = party.describe()
    answers["joins"] = one.join(server_assignor="range", rack_id="r")
    answers["described"] = party.describe()
    return answers


def named_by_the_broker(world: World, version: int) -> Answer:
    """Before version 1 the coordinator makes the member id."""
    party = ConsumerParty(world, version, "named")
    topic = world.topic(f"named-{version}", partitions=2)
    one = party.consumer("", topic)
    answers = {"joins": one.join(), "stays": one.beat(), "says all": one.full(), "leaves": one.leave()}
    return {**answers, "described": party.describe()}


def two_consumers(world: World, version: int) -> Answer:
    """One has all partitions and gives half of them to another, step by step."""
    party = ConsumerParty(world, version, "pair")
    topic = world.topic(f"pair-{version}", partitions=4)
    one, two = party.consumer("one", topic), party.consumer("two", topic)
    answers = {
        "one joins": one.join(),
        "one stays": one.beat(),
        "one owns": one.tell(),
        "described alone": party.describe(),
        "two joins": two.join(),
        "described with two": party.describe(),
        "two has to wait": two.beat(),
        "one is told to give up": one.beat(),
        "one stays and says nothing": one.beat(),
        "described revoking": party.describe(),
        "one still has all": one.beat(topic_partitions=[{"topic_id": world.ids[topic], "partitions": [0, 1, 2, 3]}]),
        "one has given up": one.tell(),
        "two gets some": two.beat(),
        "described stable": party.describe(),
        "two says all": two.full(),
        "one leaves": one.leave(),
        "two gets the rest": two.beat(),
        "one is not there any more": one.beat(member_epoch=3),
        "one can't leave again": one.leave(),
        "two leaves": two.leave(),
        "described empty": party.describe(),
        "two comes back": two.join(),
    }
    return {**answers, "described again": party.describe()}


def fenced_by_epoch(world: World, version: int) -> Answer:
    """Epochs ahead and behind; the last one will do where an answer may have been lost."""
    party = ConsumerParty(world, version, "epochs")
    topic = world.topic(f"epochs-{version}", partitions=3)
    one, two = party.consumer("one", topic), party.consumer("two", topic)
    answers = {"one joins": one.join(), "ahead": one.beat(member_epoch=one.epoch + 1)}
    first = one.epoch
    answers |= {"two joins": two.join(), "one revokes": one.beat(), "one has revoked": one.tell()}
    kept = one.owned
    all_of_it = [{"topic_id": world.ids[topic], "partitions": [0, 1, 2]}]
    other = [{"topic_id": b"\7" * 16, "partitions": [0]}]
    answers |= {
        "the last epoch": one.beat(member_epoch=first),
        "the last epoch, owning too much": one.beat(member_epoch=first, topic_partitions=all_of_it),
        "the last epoch, owning something else": one.beat(member_epoch=first, topic_partitions=other),
        "the last epoch, owning what it has": one.beat(member_epoch=first, topic_partitions=kept),
        "the last epoch, owning nothing": one.beat(member_epoch=first, topic_partitions=[]),
        "an older epoch": one.beat(member_epoch=1, topic_partitions=[]),
        "an unknown member": one.beat(member_id="three"),
        "an unknown instance": one.beat(instance_id="i"),
        "joins again with what it had": one.join(),
        "leaves with whatever epoch": one.leave(),
        "described": party.describe(),
    }
    return answers


def static_consumers(world: World, version: int) -> Answer:
    """Static members leave for a while, come back, are fenced and leave for good."""
    party = ConsumerParty(world, version, "static")
    topic = world.topic(f"static-{version}", partitions=4)
    one, two = party.consumer("one", topic, instance_id="i1"), party.consumer("two", topic)
    three, stranger = party.consumer("three", topic, instance_id="i1"), party.consumer("four", topic, instance_id="i2")
    return {
        "one joins": one.join(),
        "two joins": two.join(),
        "one revokes": one.beat(),
        "one has revoked": one.tell(),
        "two gets some": two.beat(),
        "another with its instance": three.join(),
        "another without the epoch": three.beat(member_epoch=one.epoch),
        "one leaves for a while": one.leave(LEAVE_FOR_A_WHILE),
        "described while it is away": party.describe(),
        "a stranger leaves for a while": stranger.leave(LEAVE_FOR_A_WHILE),
        "one asks while away": one.beat(member_epoch=3),
        "another takes its place": three.join(),
        "described with another": party.describe(),
        "one is fenced": one.beat(),
        "one can't leave": one.leave(),
        "two did not notice": two.beat(),
        "the other one stays": three.tell(),
        "commits in an old epoch": three.commit(topic, 0, 1, 2, 3, generation_id_or_member_epoch=0),
        "leaves for a while again": three.leave(LEAVE_FOR_A_WHILE),
        "comes back as itself": three.join(),
        "leaves for good": three.leave(),
        "two gets all": two.beat(),
        "described": party.describe(),
    }


def static_with_another_subscription(world: World, version: int) -> Answer:
    """Who takes a static member's place may want other topics."""
    party = ConsumerParty(world, version, "restatic")
    topic, other = world.topic(f"restatic-{version}", partitions=2), world.topic(f"restatic-b-{version}", partitions=3)
    one, again = party.consumer("one", topic, instance_id="i"), party.consumer("again", other, instance_id="i")
    return {
        "joins": one.join(),
        "leaves for a while": one.leave(LEAVE_FOR_A_WHILE),
        "comes back for others": again.join(),
        "stays": again.tell(),
        "described": party.describe(),
        "without its instance": again.beat(instance_id=None),
        "leaves": again.leave(),
        "described empty": party.describe(),
    }


def subscriptions(world: World, version: int) -> Answer:
    """Members change what they subscribe to; some of it does not exist, or not yet."""
    party = ConsumerParty(world, version, "subs")
    first, second = world.topic(f"subs-a-{version}", partitions=2), world.topic(f"subs-b-{version}", partitions=5)
    late = world.name(f"subs-late-{version}")
    one, two = party.consumer("one", first), party.consumer("two", second)
    answers = {
        "one joins": one.join(),
        "two joins": two.join(),
        "one wants both": one.full(subscribed_topic_names=[first, second]),
        "one gets nothing of the second yet": one.tell(),
        "two revokes": two.beat(),
        "two has revoked": two.tell(),
        "one gets some": one.tell(),
        "described": party.describe(),
        "one wants the second only": one.full(subscribed_topic_names=[second]),
        "one has given up the first": one.tell(),
        "one wants nothing": one.beat(subscribed_topic_names=[]),
        "one has nothing": one.beat(topic_partitions=[]),
        "two gets all of it": two.beat(),
        "one wants what is not there": one.beat(subscribed_topic_names=[late]),
        "described before it is there": party.describe(),
    }
    world.topic(f"subs-late-{version}", partitions=2)
    world.until(lambda: one.beat()["memberEpoch"] and bool(one.owned))
    answers["described when it is there"] = party.describe()
    return {**answers, "two says the same again": two.full(), "described": party.describe()}


def topics_change(world: World, version: int) -> Answer:
    """Partitions are added to a topic, and a topic is deleted."""
    party = ConsumerParty(world, version, "topics")
    topic, gone = world.topic(f"topics-{version}", partitions=1), world.topic(f"topics-gone-{version}", partitions=2)
    one = party.consumer("one", topic, gone)
    answers = {"joins": one.join()}
    more = [{"name": topic, "count": 3, "assignments": None}]
    world.ask(ApiKey.CREATE_PARTITIONS, 3, topics=more, timeout_ms=60_000, validate_only=False)

    def owns(name: str, count: int) -> bool:
        one.tell()
        return any(len(each["partitions"]) == count for each in one.owned if each["topic_id"] == world.ids[name])

    world.until(lambda: owns(topic, 3))
    answers["described with more partitions"] = party.describe()
    world.ask(ApiKey.DELETE_TOPICS, 5, topic_names=[gone], timeout_ms=60_000)
    world.until(lambda: "errorCode" in one.tell() and len(one.owned) == 1)
    answers["described without the topic"] = party.describe()
    return answers


def assignors(world: World, version: int) -> Answer:
    """Members choose assignors; what most of them choose is used from the next assignment on."""
    party = ConsumerParty(world, version, "assignors")
    topic = world.topic(f"assignors-{version}", partitions=7)
    members = [party.consumer(name, topic) for name in ("ann", "bob", "cid", "dan")]
    answers: Answers = {}
    for number, member in enumerate(members):
        answers[f"{member.member_id} joins"] = member.join(server_assignor="range" if number else "uniform")
        _settle(members[: number + 1])
        answers[f"described with {member.member_id}"] = party.describe()
    for member in members[1:3]:
        answers[f"{member.member_id} changes"] = member.beat(server_assignor="uniform")
        answers[f"described after {member.member_id}"] = party.describe()
    members[0].leave()
    _settle(members[1:])
    return {**answers, "described in the end": party.describe()}


def _settle(members: list[Any]) -> None:
    """Let every member give up and take until nothing changes any more."""
    for _ in range(2 * len(members) + 2):
        for member in members:
            member.tell()


def crowd(world: World, version: int) -> Answer:
    """Twelve members come and go by twos, in a topic of thirty partitions."""
    party = ConsumerParty(world, version, "crowd")
    topic = world.topic(f"crowd-{version}", partitions=30)
    members = [party.consumer(f"member-{number}", topic) for number in range(12)]
    answers: Answers = {}
    for count in range(2, 13, 2):
        for member in members[count - 2 : count]:
            member.join()
        _settle(members[:count])
        answers[f"{count} members"] = party.describe()
    for count in range(2, 12, 3):
        members[count].leave()
        _settle([member for number, member in enumerate(members) if number not in range(2, count + 1, 3)])
        answers[f"without {count}"] = party.describe()
    return answers


def crowd_of_tastes(world: World, version: int) -> Answer:
    """Members with different subscriptions: topics of many sizes, so that no tie is broken by a random id."""
    party = ConsumerParty(world, version, "tastes")
    topics = [world.topic(f"tastes-{size}-{version}", partitions=size) for size in (1, 3, 8, 17)]
    members = [
        party.consumer(f"member-{number}", *(topic for bit, topic in enumerate(topics) if (number + 1) >> bit & 1))
        for number in range(11)
    ]
    answers: Answers = {}
    for count in (1, 3, 6, 11):
        for member in members[:count]:
            if not member.epoch:
                member.join()
        _settle(members[:count])
        answers[f"{count} members"] = party.describe()
    for member in members[2:5]:
        member.leave()
    _settle(members[:2] + members[5:])
    return {**answers, "three left": party.describe()}


def batched(world: World, version: int) -> Answer:
    """Between two assignments passes the group's assignment interval."""
    party = ConsumerParty(world, version, "batched", consumer_assignment_interval_ms="15000")
    topic = world.topic(f"batched-{version}", partitions=4)
    one, two, three = (party.consumer(name, topic) for name in ("one", "two", "three"))
    answers = {
        "one joins": one.join(),
        "two joins": two.join(),
        "one does not notice": one.beat(),
        "described": party.describe(),
        "three joins": three.join(),
        "two leaves": two.leave(),
        "described again": party.describe(),
    }
    party.configure(consumer_assignment_interval_ms="0")
    world.until(lambda: "errorCode" in one.tell() and len(one.owned[0]["partitions"]) == 2)
    return {**answers, "three": three.tell(), "described after that": party.describe()}


def revoked_too_late(world: World, version: int) -> Answer:
    """Who does not give up its partitions within its rebalance timeout is fenced."""
    party = ConsumerParty(world, version, "late")
    topic = world.topic(f"late-{version}", partitions=2)
    one, two = party.consumer("one", topic), party.consumer("two", topic)
    answers = {
        "one joins": one.join(rebalance_timeout_ms=500),
        "two joins": two.join(),
        "one is told": one.beat(),
    }
    world.until(lambda: len(party.describe()["members"]) == 1)
    return {
        **answers,
        "described": party.describe(),
        "one is out": one.tell(),
        "one leaves": one.leave(),
        "two gets all": two.tell(),
        "one joins again": one.join(),
    }


def group_times(world: World, version: int) -> Answer:
    """A group's own settings, within the broker's bounds."""
    party = ConsumerParty(world, version, "times", consumer_heartbeat_interval_ms="7000")
    topic = world.topic(f"times-{version}")
    one = party.consumer("one", topic)
    answers = {"joins": one.join()}
    party.configure(consumer_heartbeat_interval_ms="5000")
    world.until(lambda: one.beat()["heartbeatIntervalMs"] == 5000)
    for name, value in (
        ("consumer.heartbeat.interval.ms", "100"),
        ("consumer.heartbeat.interval.ms", "20000"),
        ("consumer.session.timeout.ms", "1000"),
        ("consumer.assignment.interval.ms", "16000"),
        ("consumer.assignment.interval.ms", "-1"),
        ("consumer.no.such.ms", "1"),
    ):
        configs = [{"name": name, "config_operation": 0, "value": value}]
        resource = {"resource_type": 32, "resource_name": party.group_id, "configs": configs}
        answers[f"{name}={value}"] = world.ask(
            ApiKey.INCREMENTAL_ALTER_CONFIGS, 1, resources=[resource], validate_only=False
        )
    return answers


def patterns(world: World, version: int) -> Answer:
    """Subscriptions by regular expression, resolved by the broker."""
    party = ConsumerParty(world, version, "patterns")
    stem = world.name(f"patterns-{version}")
    first, second = world.topic(f"patterns-{version}-a", partitions=3), world.topic(f"others-{version}", partitions=2)
    party.wait_for_topics([first, second])
    one, two = party.consumer("one"), party.consumer("two")
    answers: Answers = {}
    for pattern in ("[", "(", "a**", "*", "a{2000}", "\\", "(?=a)", "[z-a]", "(?P<n", "\\8", "a)"):
        answers[f"bad pattern {pattern}"] = one.join(subscribed_topic_names=None, subscribed_topic_regex=pattern)
    answers["still no group"] = party.describe()
    answers["one joins"] = one.join(subscribed_topic_names=None, subscribed_topic_regex=f"{stem}-.*")
    world.until(lambda: "errorCode" in one.tell() and bool(one.owned))
    answers["described"] = party.describe()
    answers["two joins by the same"] = two.join(subscribed_topic_names=None, subscribed_topic_regex=f"{stem}-.*")
    _settle([one, two])
    answers["described with two"] = party.describe()
    answers["two joins by name too"] = two.full(subscribed_topic_names=[second], subscribed_topic_regex=f"{stem}-.*")
    _settle([one, two])
    answers["described by name and by pattern"] = _loads(party)
    answers["a bad change"] = two.beat(subscribed_topic_regex="(")["errorMessage"]
    two.beat(subscribed_topic_names=[second], subscribed_topic_regex="")
    _settle([one, two])
    answers["described by one each"] = party.describe()
    answers["one leaves"] = one.leave()
    _settle([two])
    answers["described by name"] = party.describe()
    answers["one joins by nothing"] = one.join(subscribed_topic_names=None, subscribed_topic_regex="")
    return {**answers, "described in the end": party.describe()}


def _loads(party: ConsumerParty) -> Answer:
    """How many partitions the members have: who has those of which topic is decided by random ids."""
    return [
        sum(len(topic["partitions"]) for topic in member["assignment"]["topicPartitions"])
        for member in party.describe()["members"]
    ]


def new_topics_match(world: World, version: int) -> Answer:
    """A topic that comes later is found by a pattern, ten seconds after the last look at the earliest."""
    party = ConsumerParty(world, version, "later")
    stem = world.name(f"later-{version}")
    world.topic(f"later-{version}-a")
    one = party.consumer("one")
    one.join(subscribed_topic_names=None, subscribed_topic_regex=f"{stem}-.*")
    world.until(lambda: "errorCode" in one.tell() and len(one.owned) == 1)
    world.topic(f"later-{version}-b")
    answers = {"not at once": one.tell(), "described": party.describe()}
    world.until(lambda: "errorCode" in one.tell() and len(one.owned) == 2)
    return {**answers, "described when it is found": party.describe()}


def what_consumers_write(world: World, version: int) -> Answer:
    """The records of a consumer group's life, field by field."""
    party = ConsumerParty(world, version, "modern-written")
    topic = world.topic(f"modern-written-{version}", partitions=3)
    one, two = party.consumer("one", topic, rack_id="r"), party.consumer("two", topic, instance_id="i")
    one.join(server_assignor="uniform")
    two.join()
    _settle([one, two])
    one.commit(topic, 0, version=10)
    two.leave(LEAVE_FOR_A_WHILE)
    again = party.consumer("three", topic, instance_id="i")
    again.join()
    _settle([one, again])
    one.beat(subscribed_topic_names=[])
    one.beat(topic_partitions=[])
    _settle([again])
    one.leave()
    again.leave()
    world.ask(ApiKey.DELETE_GROUPS, 2, groups_names=[party.group_id])
    return records_of(world, party.group_id)


def in_a_transaction(world: World, version: int) -> Answer:
    """Offsets of consumers committed in a transaction: by member and epoch, an older one included (KIP-1251)."""
    actor = TxnActor(world, f"modern-txn-{version}", 12)
    party = ConsumerParty(world, version, "modern-txn")
    one, two = party.consumer("one", actor.topic), party.consumer("two", actor.topic)
    one.join()
    actor.init()
    before = one.epoch

    def of(member_id: str, epoch: int, *indexes: int) -> Answer:
        offsets = [(index, 4) for index in indexes]
        who = {"member_id": member_id, "generation_id_or_member_epoch": epoch}
        return actor.commit_offsets(5, party.group_id, *offsets, **who)

    answers = {
        "the member": of("one", before, 0, 1),
        "nobody": of("", -1, 0),
        "an epoch of nobody": of("", before, 0),
        "a stranger": of("two", before, 0),
        "ahead": of("one", before + 1, 0),
        "behind": of("one", before - 1, 0),
        "no epoch": of("one", -1, 0),
    }
    two.join()
    _settle([one, two])
    kept, given = one.owned[0]["partitions"], two.owned[0]["partitions"]
    answers |= {
        "what it kept, behind": of("one", before, *kept),
        "what it gave up, behind": of("one", before, *given),
        "what the other has got, behind": of("two", before, *given),
        "stable offsets": one.committed(actor.topic, 0, 1, version=9),
    }
    actor.end(committed=True)
    answers["committed"] = one.committed(actor.topic, 0, 1)
    actor.end(committed=False)
    return answers

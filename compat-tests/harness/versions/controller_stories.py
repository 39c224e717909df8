"""Stories of scripted brokers and a controller: who leads and who is in sync as brokers come, go and lose data.

Each is a sequence of requests, as a cluster of brokers would send them; told is what was answered and written for each.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from harness.versions.controller_cases import BROKER, TOPIC, assign
from harness.versions.controller_world import FAR, ControllerWorld, features, uuid
from harness.versions.world import Answer
from kpybroker.wire.api_keys import ApiKey
from kpybroker.wire.json_form import to_json

MIN_ISR = "min_insync_replicas"


def eligible_leaders(world: ControllerWorld) -> Answer:
    """KIP-966: who falls out of a small ISR stays eligible, until it has lost its data."""
    world.serve(1, 2, 3)
    topic = world.place("elr", [1, 2, 3])
    return {
        "one goes": world.fence(1),
        "two go": world.fence(2),
        "the last goes": world.fence(3),
        "none but the preferred": world.elect(topic, 0),
        "one comes back": world.unfence(1),
        "it grows": world.alter(topic, 1, [1], leader_epoch=9, partition_epoch=9),
        "the others": world.unfence(2, 3),
        "in sync": world.alter(topic, 1, [1, 2], leader_epoch=4, partition_epoch=4),
        "in sync, whichever": _grown(world, topic, [1, 2, 3]),
        "all go": world.fence(1, 2, 3),
        "the last comes unclean": [world.register(3), world.unfence(3)],
        "another comes unclean": [world.register(1), world.unfence(1)],
        "unclean": [world.elect(topic, kind) for kind in (0, 1)],
        "the last one comes": world.unfence(2),
        "unclean again": [world.elect(topic, kind) for kind in (0, 1)],
    }


def _grown(world: ControllerWorld, topic: str, isr: list[int]) -> Answer:
    """Whatever the epochs are by now: each that may be is tried."""
    for leader in (1, 2, 3, 4):
        if leader not in world.epochs:
            continue
        for leader_epoch in range(12):
            for partition_epoch in range(20):
                told = world.alter(topic, leader, isr, leader_epoch=leader_epoch, partition_epoch=partition_epoch)
                if told["written"]:
                    return [leader, leader_epoch, partition_epoch, told]
                code = told["answer"]["topics"][0]["partitions"][0]["errorCode"]
                if code == 42 or code == 41:
                    break
            if code == 42:
                break
    return "nobody may"


def min_insync_replicas_change(world: ControllerWorld) -> Answer:
    """A change of min.insync.replicas empties the ELR of the topics that it is about."""
    world.serve(1, 2, 3)
    own, common = world.place("own", [1, 2, 3], min_insync_replicas="3"), world.place("common", [1, 2, 3], [3, 2, 1])
    answers: dict[str, Answer] = {"two go": world.fence(1, 2)}
    answers["the topic's, lower"] = world.configure(TOPIC, own, min_insync_replicas="2")
    answers["the topic's, the same"] = world.configure(TOPIC, own, min_insync_replicas="2")
    answers["the topic's, another setting"] = world.configure(TOPIC, own, retention_ms="1000")
    answers["back"] = [world.unfence(1, 2), world.fence(1, 2)]
    answers["the topic's, none"] = world.configure(TOPIC, own, min_insync_replicas=None)
    answers["the cluster's, lower"] = world.configure(BROKER, "", min_insync_replicas="1")
    answers["the cluster's, higher"] = world.configure(BROKER, "", min_insync_replicas="3")
    answers["the rest goes"] = world.fence(3)
    answers["the cluster's, none"] = world.configure(BROKER, "", min_insync_replicas=None)
    answers["a broker's"] = world.configure(BROKER, "1", min_insync_replicas="2")
    answers["a stranger's"] = world.configure(BROKER, "9", min_insync_replicas="2")
    answers["too low"] = world.configure(TOPIC, own, min_insync_replicas="0")
    answers["together"] = world.configure(TOPIC, common, min_insync_replicas="1", retention_ms="1")
    answers["all replaced"] = world.done(
        world.ask(
            ApiKey.ALTER_CONFIGS,
            2,
            resources=[{"resource_type": TOPIC, "resource_name": common, "configs": []}],
            validate_only=False,
        )
    )
    world.configure(BROKER, "", min_insync_replicas="2")
    return answers


def unclean_elections(world: ControllerWorld) -> Answer:
    """unclean.leader.election.enable: at once when it is set, by the topic's or the cluster's setting."""
    world.serve(1, 2, 3)
    topic = world.place("unclean", [1, 2], [2, 3], min_insync_replicas="1", unclean_leader_election_enable="true")
    clean = world.place("clean", [1, 2], min_insync_replicas="1")
    answers: dict[str, Answer] = {"one after the other": world.fence(2, 1)}
    answers["who was out comes back"] = world.unfence(2)
    answers["recovered"] = _told(world, topic, 2, [2], recovery=0)
    answers["the other comes back"] = world.unfence(1)
    answers["once more"] = world.fence(2, 1, 3)
    answers["unclean now"] = world.unfence(2)
    answers["set for the other"] = world.configure(TOPIC, clean, unclean_leader_election_enable="true")
    answers["unset"] = world.configure(TOPIC, clean, unclean_leader_election_enable=None)
    answers["for the cluster"] = world.configure(BROKER, "", unclean_leader_election_enable="true")
    answers["asked for"] = [world.elect(each, 1, (0, 1)) for each in (topic, clean)]
    answers["not for the cluster"] = world.configure(BROKER, "", unclean_leader_election_enable=None)
    answers["all back"] = world.unfence(1, 3)
    answers["preferred"] = [world.elect(each, 0, (0, 1)) for each in (topic, clean)]
    return answers


def _told(world: ControllerWorld, topic: str, leader: int, isr: list[int], *, recovery: int) -> Answer:
    """A leader tells of its recovery, at epochs from 0 on."""
    return [
        world.alter(topic, leader, isr, leader_epoch=epoch, partition_epoch=epoch, leader_recovery_state=recovery)
        for epoch in range(6)
    ]


def controlled_shutdown(world: ControllerWorld) -> Answer:
    """Leaders move away, and who leaves waits for the others to hear of it; the last replica keeps what it has."""
    world.serve(1, 2, 3)
    world.place("led", [1, 2, 3], [1, 3, 2], [2, 1, 3])
    world.place("alone", [1], [2])

    def leave(broker_id: int, **request: Any) -> Answer:
        return world.heartbeat(broker_id, want_shut_down=True, **request)

    def behind(*broker_ids: int) -> None:
        for broker_id in broker_ids:
            world.heartbeat(broker_id, current_metadata_offset=1)

    behind(2, 3)
    answers: dict[str, Answer] = {"leads the last": [leave(1), leave(1)]}
    answers["its topic goes"] = world.done(
        world.ask(ApiKey.DELETE_TOPICS, 5, topic_names=[world.name("alone")], timeout_ms=30_000)
    )
    answers["the others are behind"] = leave(1)
    answers["another one of its id"] = world.register(1)
    world.heartbeat(2, current_metadata_offset=FAR)
    answers["one is"] = leave(1)
    answers["one of them goes"] = [world.heartbeat(3, want_fence=True), leave(1)]
    answers["gone"] = [leave(1), world.unfence(1)]
    answers["the second leaves"] = [leave(2), leave(2)]
    answers["fenced meanwhile"] = world.heartbeat(2, want_fence=True)
    answers["all back"] = world.unfence(1, 2, 3)
    answers["two leave at once"] = [leave(1), leave(2), leave(1), leave(2)]
    answers["the third too"] = [leave(3), leave(1), leave(2), leave(3)]
    return answers


def reassignments(world: ControllerWorld) -> Answer:
    """Moves: finished by the ISR, cancelled, changed, and while brokers fail."""
    world.serve(1, 2, 3, 4, 5)
    topic = world.place("moved", [1, 2, 3])

    def alter(leader: int, isr: list[int], leader_epoch: int, partition_epoch: int) -> Answer:
        return world.alter(topic, leader, isr, leader_epoch=leader_epoch, partition_epoch=partition_epoch)

    answers: dict[str, Answer] = {
        "begun": world.move(topic, [4, 5, 1]),
        "one in sync": alter(1, [1, 2, 3, 4], 0, 1),
        "both in sync": alter(1, [1, 2, 3, 4, 5], 0, 2),
        "away from the leader": world.move(topic, [2, 3]),
        "in sync": [alter(1, [1, 4, 5, 2], epoch, epoch + 3) for epoch in range(3)],
        "done": [alter(1, [1, 4, 5, 2, 3], epoch, at) for epoch in range(3) for at in range(4, 7)],
    }
    answers["another move"] = world.move(topic, [1, 4])
    answers["the leader fails"] = world.fence(2, 3)
    answers["cancelled, nobody left"] = world.move(topic, None)
    answers["they come back"] = world.unfence(2, 3)
    answers["cancelled"] = world.move(topic, None)
    answers["away"] = world.move(topic, [4, 5])
    answers["the new ones fail"] = world.fence(4, 5)
    answers["to others"] = world.move(topic, [1, 4])
    answers["cancelled after all"] = [world.move(topic, None), world.move(topic, None)]
    small = world.place("small", [1])
    answers["more"] = world.move(small, [1, 2])
    answers["a replica that moves fails"] = world.fence(2)
    answers["is unregistered"] = world.done(world.ask(ApiKey.UNREGISTER_BROKER, 0, broker_id=2))
    answers["cancelled then"] = world.move(small, None)
    answers["deleted while it moves"] = [
        world.move(small, [3]),
        world.done(world.ask(ApiKey.DELETE_TOPICS, 5, topic_names=[small], timeout_ms=30_000)),
        world.ask(ApiKey.LIST_PARTITION_REASSIGNMENTS, 0, timeout_ms=30_000, topics=None),
    ]
    return answers


def alterations(world: ControllerWorld) -> Answer:
    """AlterPartition below min.insync.replicas, in a controlled shutdown, during a move, and twice at once."""
    world.serve(1, 2, 3, 4)
    topic, moving = world.place("altered", [1, 2, 3]), world.place("on-its-way", [1, 2])

    def alter(isr: list[int], at: tuple[int, int], leader: int = 1, of: str = topic, **request: Any) -> Answer:
        return world.alter(of, leader, isr, leader_epoch=at[0], partition_epoch=at[1], **request)

    def twice(*changes: tuple[list[int], int]) -> Answer:
        partitions = [
            {
                "partition_index": 0,
                "leader_epoch": 0,
                "partition_epoch": partition_epoch,
                "new_isr_with_epochs": [{"broker_id": each, "broker_epoch": world.epochs[each]} for each in isr],
            }
            for isr, partition_epoch in changes
        ]
        topics = [{"topic_id": world.ids[topic], "partitions": partitions}]
        asked = {"broker_id": 1, "broker_epoch": world.epochs[1], "topics": topics}
        return world.done(world.ask(ApiKey.ALTER_PARTITION, 3, **asked))

    answers: dict[str, Answer] = {
        "below": [alter([1], (0, 0)), alter([1, 3], (0, 1)), alter([1], (0, 2)), alter([1, 2, 3], (0, 3))],
        "twice at once": [twice(([1, 2], 4), ([1, 3], 4)), twice(([1, 2, 3], 6), ([1, 2], 7))],
        "as it is now": [alter([1, 2, 3], (0, each)) for each in (5, 6, 7)],
    }
    world.heartbeat(4, current_metadata_offset=1)
    answers["one leaves"] = world.heartbeat(2, want_shut_down=True)
    answers["who leaves"] = [alter([1, 2, 3], (0, each)) for each in (7, 8, 9)]
    answers["the leader leaves"] = world.heartbeat(1, want_shut_down=True)
    answers["and asks"] = [alter([1], (0, 9)), alter([1, 3], (1, 9)), alter([1, 3], (1, 10), leader=3)]
    answers["a move"] = world.move(moving, [3, 4])
    answers["all are in sync but one"] = [
        alter(isr, at, leader, moving)
        for isr in ([3, 4], [1, 3, 4])
        for leader, at in ((1, (0, 1)), (1, (1, 2)), (1, (1, 3)), (3, (1, 3)))
    ]
    answers["fenced"] = world.fence(3)
    answers["with one that is fenced"] = [alter([1, 3, 4], (each, each + 1), 1, moving) for each in range(4)]
    return answers


def folders_fail(world: ControllerWorld) -> Answer:
    """KIP-858: the leaders in a folder that fails move, those elsewhere stay; a folder that is back changes nothing."""
    for broker_id in (1, 2):
        world.register(broker_id, log_dirs=[world.directory(broker_id), world.directory(broker_id, 1)])
        world.heartbeat(broker_id)
    world.serve(3)
    topic = world.place("in-folders", [1, 2, 3], [2, 1, 3], [1, 3, 2])
    answers: dict[str, Answer] = {
        "of one": assign(world, 1, (world.directory(1), topic, [0, 2]), (world.directory(1, 1), topic, [1])),
        "of the other": assign(world, 2, (world.directory(2), topic, [0, 1])),
        "one fails": world.heartbeat(1, offline_log_dirs=[world.directory(1)]),
        "as it is fenced": world.heartbeat(1, want_fence=True, offline_log_dirs=[world.directory(1)]),
        "and unfenced": world.heartbeat(1, offline_log_dirs=[world.directory(1)]),
        "elected into it": [world.elect(topic, kind, (0, 1, 2)) for kind in (0, 1)],
        "moved to the other": assign(world, 1, (world.directory(1, 1), topic, [0])),
        "in sync there": [
            world.alter(topic, 2, [1, 2, 3], leader_epoch=each, partition_epoch=each + 3) for each in range(4)
        ],
        "the other's leader's fails": world.heartbeat(2, offline_log_dirs=[world.directory(2)]),
        "registered anew": [world.fence(1), world.register(1, log_dirs=[world.directory(1), world.directory(1, 1)])],
        "back": [world.unfence(1), [world.elect(topic, kind, (0, 1, 2)) for kind in (0, 1)]],
        "unclean with a new folder": [
            world.fence(1),
            world.register(1, log_dirs=[world.directory(1, 5)]),
            world.unfence(1),
        ],
        "lost": [world.elect(topic, kind, (0, 1, 2)) for kind in (0, 1)],
    }
    return answers


def placement(world: ControllerWorld) -> Answer:
    """Where new partitions go is chance; that they can't go, or can go one way only, is not."""
    topics: list[str] = []

    def create(what: str, partitions: int = 1, factor: int = 1, **request: Any) -> Answer:
        name = world.name(what)
        asked = {"name": name, "num_partitions": partitions, "replication_factor": factor, **request}
        response = world.raw(ApiKey.CREATE_TOPICS, 7, topics=[asked], timeout_ms=30_000)
        if response.topics[0].error_code == 0:
            world.know(name, response.topics[0].topic_id)
        topics.append(name)
        written = world.written()
        world.created(name, response.topics[0].topic_id)
        (made,) = response.topics
        return [made.error_code, made.error_message, made.num_partitions, made.replication_factor, written]

    answers: dict[str, Answer] = {"nobody": [create("none"), create("none", -1, -1)]}
    world.register(1, log_dirs=[world.directory(1), world.directory(1, 1)])
    answers["all fenced"] = create("fenced")
    answers["one fenced of two"] = [world.unfence(1), world.register(2), create("two", 1, 2)]
    answers["more than there are"] = [create("many", 1, 3), create("zero", 1, 0), create("none", 0, 1), create("d", -1)]
    world.unfence(2)
    answers["cordoned"] = [
        world.heartbeat(1, cordoned_log_dirs=[world.directory(1), world.directory(1, 1)]),
        create("around", 3),
        create("too many", 1, 2),
        create("two", 2, 2),
    ]
    answers["by hand, cordoned"] = create("by-hand", -1, -1, assignments=[{"partition_index": 0, "broker_ids": [1]}])
    answers["half of it"] = [world.heartbeat(1, cordoned_log_dirs=[world.directory(1)]), create("one", 1, 3)]
    answers["all cordoned"] = [
        world.heartbeat(1, cordoned_log_dirs=[world.directory(1), world.directory(1, 1)]),
        world.heartbeat(2, cordoned_log_dirs=[world.directory(2)]),
        create("nowhere"),
    ]
    answers["moved to the cordoned"] = world.move(topics[-1], [1])
    answers["uncordoned"] = [world.heartbeat(1, cordoned_log_dirs=[]), create("there", 2)]
    answers["by hand"] = [
        create(f"hand-{number}", partitions, factor, assignments=assignments)
        for number, (partitions, factor, assignments) in enumerate(
            (
                (-1, -1, [_at(0, 1, 2), _at(1, 2)]),
                (-1, -1, [_at(0, 1, 1)]),
                (-1, -1, [_at(0)]),
                (-1, -1, [_at(1, 1)]),
                (-1, -1, [_at(0, 1), _at(0, 2)]),
                (-1, -1, [_at(0, 9)]),
                (-1, -1, [_at(0, -1)]),
                (1, -1, [_at(0, 1)]),
                (-1, 1, [_at(0, 1)]),
            )
        )
    ]
    answers["more partitions"] = [
        _partitions(world, "there", count, places)
        for count, places in ((3, [[1, 2]]), (3, [[1]]), (2, [[1]]), (4, [[1], [2]]), (5, [[9]]), (5, [[]]), (1, None))
    ]
    world.fence(1)
    answers["by hand, fenced"] = [
        create("to-the-fenced", -1, -1, assignments=[_at(0, 1, 2), _at(1, 2, 1)]),
        create("only-fenced", -1, -1, assignments=[_at(0, 1)]),
        _partitions(world, "there", 6, [[1], [1]]),
    ]
    return answers


def _at(index: int, *broker_ids: int) -> dict[str, Any]:
    return {"partition_index": index, "broker_ids": list(broker_ids)}


def _partitions(world: ControllerWorld, what: str, count: int, places: list[list[int]] | None) -> Answer:
    asked = None if places is None else [{"broker_ids": each} for each in places]
    topics = [{"name": world.name(what), "count": count, "assignments": asked}]
    return world.done(world.ask(ApiKey.CREATE_PARTITIONS, 3, topics=topics, timeout_ms=30_000, validate_only=False))


def racks(world: ControllerWorld) -> Answer:
    """In how many racks a partition is, and what fenced brokers get; which broker it is is chance."""
    rack_of: dict[int, str | None] = {}
    away: set[int] = set()

    def serve(rack: str | None, *broker_ids: int) -> None:
        rack_of.update(dict.fromkeys(broker_ids, rack))
        world.serve(*broker_ids, rack=rack)

    def spread(what: str, partitions: int, factor: int) -> Answer:
        name = world.name(what)
        asked = {"name": name, "num_partitions": partitions, "replication_factor": factor}
        (made,) = world.raw(ApiKey.CREATE_TOPICS, 7, topics=[asked], timeout_ms=30_000).topics
        places = [record["replicas"] for kind, record in world.written() if kind.startswith("PartitionRecord")]
        world.created(name, made.topic_id)
        told: dict[str, Answer] = {
            "racks of a partition": sorted({len({rack_of[each] for each in replicas}) for replicas in places}),
            "fenced, and leads": sorted({replicas[0] for replicas in places} & away),
            "fenced, and has replicas": sorted({each for replicas in places for each in replicas} & away),
        }
        if len(set(Counter(rack_of.values()).values())) == 1:  # of racks that are not alike, how many is chance too
            told["leaders in racks"] = dict(sorted(Counter(rack_of[each[0]] or "-" for each in places).items()))
            in_racks = Counter(rack_of[broker_id] or "-" for replicas in places for broker_id in replicas)
            told["replicas in racks"] = dict(sorted(in_racks.items()))
        return told

    answers: dict[str, Answer] = {}
    serve("a", 1, 2)
    serve("b", 3, 4)
    answers["two and two"] = [spread(f"even-{factor}", 16, factor) for factor in (1, 2, 3, 4)]
    serve("c", 5, 6)
    answers["three of two"] = [spread(f"three-{factor}", 24, factor) for factor in (1, 2, 3, 6)]
    serve("c", 7, 8)
    answers["one of four"] = [spread(f"uneven-{factor}", 24, factor) for factor in (1, 3)]
    serve(None, 9)
    answers["one without a rack"] = [spread(f"none-{factor}", 36, factor) for factor in (1, 4)]
    world.fence(1, 5)
    away |= {1, 5}
    answers["fenced ones"] = [spread(f"fenced-{factor}", 28, factor) for factor in (1, 3)]
    world.fence(3, 4)
    away |= {3, 4}
    answers["a rack fenced"] = [spread(f"away-{factor}", 20, factor) for factor in (1, 3)]
    return answers


def features_of_all(world: ControllerWorld, version: int) -> Answer:
    """UpdateFeatures: what a registered broker does not support can't be finalized, be it fenced or not."""

    def ask(name: str, level: int, kind: int = 1, **request: Any) -> Answer:
        update = {"feature": name, "max_version_level": level, "upgrade_type": kind, "allow_downgrade": kind != 1}
        return world.done(
            world.ask(ApiKey.UPDATE_FEATURES, version, feature_updates=[update], timeout_ms=30_000, **request)
        )

    down = 2
    answers: dict[str, Answer] = {"as it is": ask("group.version", 1)}
    world.register(1, features=features(group_version=(1, 1), transaction_version=(1, 2), metadata_version=(29, 30)))
    world.register(2, features=features(share_version=(1, 1)))
    answers["lower than one can"] = [
        ask("group.version", 0, down),
        ask("transaction.version", 0, down),
        ask("transaction.version", 1, down),
        ask("transaction.version", 2),
        ask("share.version", 0, down),
        ask("metadata.version", 28, down),
        ask("streams.version", 0, down, validate_only=True),
    ]
    world.heartbeat(1)
    answers["in service"] = ask("group.version", 0, down)
    world.raw(ApiKey.UNREGISTER_BROKER, 0, broker_id=1)
    world.written()
    answers["one is gone"] = [ask("group.version", 0, down), ask("group.version", 1)]
    world.epochs.pop(1)
    answers["ELR"] = [ask("eligible.leader.replicas.version", level, kind) for level, kind in ((0, down), (1, 1))]
    return answers


def elr_is_disabled(world: ControllerWorld, version: int) -> Answer:
    """Eligible leaders go with the feature."""
    world.serve(1, 2)
    topic = world.place("was-elr", [1, 2])
    feature = "eligible.leader.replicas.version"

    def ask(level: int, kind: int) -> Answer:
        update = {"feature": feature, "max_version_level": level, "upgrade_type": kind}
        return world.done(world.ask(ApiKey.UPDATE_FEATURES, version, feature_updates=[update], timeout_ms=30_000))

    answers: dict[str, Answer] = {"one goes": world.fence(1), "disabled": ask(0, 2)}
    answers["the rest"] = [world.fence(2), world.unfence(1), world.unfence(2), world.fence(1)]
    answers["settings"] = [
        world.configure(BROKER, "1", min_insync_replicas="2"),
        world.configure(BROKER, "", min_insync_replicas=None),
    ]
    answers["enabled"] = ask(1, 1)
    answers["a setting"] = world.configure(BROKER, "2", min_insync_replicas="2")
    answers["then"] = [world.fence(2), world.elect(topic, 1)]
    world.configure(BROKER, "", min_insync_replicas="2")
    return answers


def over_the_controllers_listener(world: ControllerWorld) -> Answer:
    """KIP-919: what clients ask of a controller without a broker between them."""
    world.serve(1, 2)
    topic = world.place("asked-for", [1, 2])

    def describe(resource_type: int, name: str, *keys: str) -> Answer:
        resources = [{"resource_type": resource_type, "resource_name": name, "configuration_keys": list(keys) or None}]
        response = world.raw(ApiKey.DESCRIBE_CONFIGS, 4, resources=resources, include_synonyms=bool(keys))
        answer = to_json(response, 4)
        if not keys:  # a controller has paths and ports among them
            for result in answer["results"]:
                result["configs"] = sorted(each["name"] for each in result["configs"])
        return world.normal(answer)

    def delete(**request: Any) -> Answer:
        return world.done(world.ask(ApiKey.DELETE_TOPICS, 6, timeout_ms=30_000, **request))

    return {
        "a topic's": describe(TOPIC, topic, "min.insync.replicas", "retention.ms", "no.such"),
        "no such topic's": [describe(TOPIC, name, "retention.ms") for name in ("not-there", "", "a b")],
        "brokers'": describe(BROKER, "", "min.insync.replicas"),
        "a broker's": [describe(BROKER, each, "min.insync.replicas") for each in ("1", "9", "x", "-1")],
        "its own": [describe(BROKER, "1", "node.id", "process.roles", "broker.session.timeout.ms")],
        "of other kinds": [describe(kind, "x", "y") for kind in (0, 8, 16, 32, 77)],
        "set": [
            world.configure(TOPIC, topic, retention_ms="1"),
            world.configure(TOPIC, topic, no_such="1"),
            world.configure(TOPIC, "not-there", retention_ms="1"),
            world.configure(BROKER, "1", log_retention_ms="10000"),
            world.configure(BROKER, "77", log_retention_ms="10000"),
            world.configure(BROKER, "x", log_retention_ms="10000"),
            world.configure(BROKER, "1", log_retention_ms=None),
            world.configure(BROKER, "77", log_retention_ms=None),
            world.configure(BROKER, "1", listeners="PLAINTEXT://:1"),
            world.configure(8, "1", kafka="DEBUG"),
            world.configure(16, "metrics", interval_ms="1000"),
            world.configure(16, "metrics", interval_ms=None),
            world.configure(32, "group", consumer_session_timeout_ms="50000"),
            world.configure(32, "group", consumer_session_timeout_ms=None),
            world.configure(0, "x", y="z"),
        ],
        "deleted": [
            delete(topics=[{"name": "not-there", "topic_id": bytes(16)}]),
            delete(topics=[{"name": None, "topic_id": world.ids[topic]}]),
            delete(topics=[{"name": None, "topic_id": world.ids[topic]}]),
            delete(topics=[{"name": None, "topic_id": bytes(16)}]),
        ],
    }


def other_controllers(world: ControllerWorld, version: int) -> Answer:
    """ControllerRegistration, of controllers that are no voters; what they support counts from then on."""

    def ask(controller_id: int, **request: Any) -> Answer:
        asked = {
            "controller_id": controller_id,
            "incarnation_id": uuid(90_000 + controller_id % 1000),
            "zk_migration_ready": False,
            "listeners": [{"name": "CONTROLLER", "host": "127.0.0.1", "port": 1, "security_protocol": 0}],
            "features": features(),
        }
        return world.done(world.ask(ApiKey.CONTROLLER_REGISTRATION, version, **{**asked, **request}))

    def update(name: str, level: int, kind: int) -> Answer:
        asked = {"feature": name, "max_version_level": level, "upgrade_type": kind}
        return world.done(world.ask(ApiKey.UPDATE_FEATURES, 2, feature_updates=[asked], timeout_ms=30_000))

    return {
        "another": ask(7),
        "again": ask(7),
        "on another listener": ask(8, listeners=[{"name": "X", "host": "h", "port": 1, "security_protocol": 0}]),
        "without listeners": ask(9, listeners=[]),
        "without features": ask(10, features=[]),
        "ready to migrate": ask(11, zk_migration_ready=True),
        "odd": [
            ask(-1, features=features(metadata_version=(7, 29))),
            ask(2**31 - 1, features=features(metadata_version=(7, 29))),
        ],
        "repaired": [ask(each) for each in (-1, 2**31 - 1)],
        "described": world.ask(ApiKey.DESCRIBE_CLUSTER, 1, endpoint_type=2),
        "features": [update("group.version", 0, 2), update("group.version", 1, 1), update("metadata.version", 30, 1)],
        "with its features": ask(10),
        "features then": [update("group.version", 0, 2), update("group.version", 1, 1)],
        "one that supports less": ask(7, features=features(group_version=(1, 1))),
        "features at last": update("group.version", 0, 2),
    }


def upgrades(world: ControllerWorld) -> Answer:
    """metadata.version is raised from 3.9-IV0 level by level; what a level brings is written from then on."""

    def update(name: str, level: int, kind: int = 1) -> Answer:
        asked = {"feature": name, "max_version_level": level, "upgrade_type": kind}
        return world.done(world.ask(ApiKey.UPDATE_FEATURES, 2, feature_updates=[asked], timeout_ms=30_000))

    elr, metadata = "eligible.leader.replicas.version", "metadata.version"
    world.register(1, log_dirs=[world.directory(1), world.directory(1, 1)])
    world.heartbeat(1, cordoned_log_dirs=[world.directory(1)])
    world.serve(2, 3)
    topic = world.place("grown-up", [1, 2, 3], min_insync_replicas="2")
    answers: dict[str, Answer] = {
        "down": [update(metadata, level, kind) for level, kind in ((20, 2), (17, 2), (16, 3), (21, 1), (31, 1))],
        "ELR too early": update(elr, 1),
        "other features": [update("group.version", 1), update("transaction.version", 2), update("share.version", 1)],
        "cordoned too early": world.heartbeat(1, cordoned_log_dirs=[world.directory(1)]),
        "one goes": world.fence(3),
        "a new topic": _created(world, "at-21", [1, 2]),
    }
    for level in range(22, 31):
        answers[f"to {level}"] = update(metadata, level)
        if level in (23, 24):
            answers[f"ELR at {level}"] = update(elr, 1)
            answers[f"two go at {level}"] = [world.fence(2), world.unfence(2)]
        if level in (22, 23, 29, 30):
            answers[f"a new topic at {level}"] = _created(world, f"at-{level}", [1, 2])
            answers[f"registered at {level}"] = world.register(4)
    answers["cordoned at last"] = world.heartbeat(1, cordoned_log_dirs=[world.directory(1)])
    answers["all come and go"] = [world.unfence(3), world.fence(1, 2, 3), world.unfence(3), world.elect(topic, 1)]
    answers["down again"] = [update(metadata, level, kind) for level, kind in ((29, 2), (29, 3), (22, 2))]
    return answers


def _created(world: ControllerWorld, what: str, replicas: list[int]) -> Answer:
    name = world.name(what)
    asked = {"name": name, "num_partitions": -1, "replication_factor": -1, "assignments": [_at(0, *replicas)]}
    (made,) = world.raw(ApiKey.CREATE_TOPICS, 7, topics=[asked], timeout_ms=30_000).topics
    world.know(name, made.topic_id)
    written = world.written()
    world.created(name, made.topic_id)
    return [made.error_code, written]

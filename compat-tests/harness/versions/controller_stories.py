"""Stories of scripted brokers and a controller: who leads and who is in sync as brokers come, go and lose data.

Each is a sequence of requests, as a cluster of brokers would send them; told is what was answered and written for each.
"""

from __future__ import annotations

from typing import Any

from harness.versions.controller_cases import BROKER, TOPIC, assign
from harness.versions.controller_world import FAR, ControllerWorld
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

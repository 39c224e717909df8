"""Cases of the APIs that only a controller has, as it answers scripted brokers: what is said and what is written."""

from __future__ import annotations

from typing import Any

from harness.versions.controller_world import (
    FAR,
    ControllerWorld,
    features,
    listeners,
    uuid,
)
from harness.versions.log_cases import UNKNOWN_ID
from harness.versions.world import Answer
from kpybroker.wire.api_keys import APIS, ApiKey
from kpybroker.wire.codec import encode
from kpybroker.wire.headers import RequestHeader
from kpybroker.wire.primitives import ZERO_UUID, uuid_text

TOPIC, BROKER = 2, 4
_METADATA = {"topic_name": "__cluster_metadata", "partitions": [{"partition_index": 0}]}
UNASSIGNED, LOST = (1).to_bytes(16, "big"), (2).to_bytes(16, "big")


def broker_registration(world: ControllerWorld, version: int) -> Answer:
    def ask(broker_id: int = 1, **request: Any) -> Answer:
        return world.register(broker_id, version, **request)

    answers = {
        "another cluster": ask(cluster_id="another"),
        "no cluster": ask(cluster_id=""),
        "no features": ask(features=[]),
        "no metadata.version": ask(features=features(metadata_version=None)),
        "too old": ask(features=features(metadata_version=(7, 29))),
        "too new": ask(features=features(metadata_version=(31, 40))),
        "a feature too little": ask(features=features(group_version=None)),
        "no kraft.version": ask(features=features(kraft_version=None)),
        "ELR, which it can't": ask(features=features(eligible_leader_replicas_version=(0, 0))),
        "the wrong way round": ask(features=features(metadata_version=(30, 7))),
        "a migrating broker": ask(is_migrating_zk_broker=True),
        "first": ask(),
        "again": ask(),
        "the same incarnation": [ask(incarnation_id=uuid(7)), ask(incarnation_id=uuid(7), rack="r2")],
        "no listeners": ask(2, listeners=[]),
        "a listener twice": ask(3, listeners=[*listeners(3), *listeners(3)]),
        "odd listeners": ask(
            4,
            listeners=[
                {"name": "_", "host": " h", "port": 1, "security_protocol": 0},
                {"name": "x y", "host": "::1", "port": 65535, "security_protocol": 3},
            ],
        ),
        "a feature of its own": ask(5, features=[*features(), *features_named(("mine", 1, 9))]),
        "a feature of its own from 0": ask(5, features=[*features(), *features_named(("mine", 0, 9))]),
        "a feature twice": ask(6, features=[*features(), *features_named(("group.version", 0, 0))]),
        "an empty rack": ask(6, rack=""),
        "odd ids": [ask(-1), ask(2**31 - 1), ask(100)],
    }
    if version >= 2:
        answers["no directories"] = ask(7, log_dirs=[])
        answers["reserved directories"] = [ask(7, log_dirs=[each]) for each in (ZERO_UUID, UNASSIGNED, LOST)]
        answers["the last reserved one"] = [ask(7, log_dirs=[(each).to_bytes(16, "big")]) for each in (99, 100)]
        answers["a directory twice"] = ask(7, log_dirs=[world.directory(7), world.directory(7)])
        answers["another's directory"] = ask(7, log_dirs=[world.directory(7), world.directory(3)])
        answers["two directories"] = ask(7, log_dirs=[world.directory(7), world.directory(7, 1)])
    return answers


def features_named(*levels: tuple[str, int, int]) -> list[dict[str, Any]]:
    return [{"name": name, "min_supported_version": low, "max_supported_version": high} for name, low, high in levels]


def former_incarnations(world: ControllerWorld, version: int) -> Answer:
    """A broker that registers again: when the former one lives, what it held, and whether it stopped cleanly."""
    answers: dict[str, Answer] = {}
    world.serve(1, 2, 3)
    topics = [world.place("both", [1, 2]), world.place("alone", [1]), world.place("three", [3, 1, 2])]
    answers["while it lives"] = world.register(1, version)
    answers["fenced"] = world.fence(1)
    answers["unclean"] = world.register(1, version)
    answers["in service"] = world.unfence(1)
    former = world.epochs[1]
    answers["clean, alive"] = world.register(1, version, previous_broker_epoch=former)
    answers["fenced again"] = world.fence(1)
    answers["clean"] = world.register(1, version, previous_broker_epoch=former)
    answers["back"] = world.unfence(1)
    answers["fenced for a third time"] = world.fence(1)
    answers["an epoch long ago"] = world.register(1, version, previous_broker_epoch=former)
    answers["all gone"] = world.fence(2, 3)
    answers["the last one, unclean"] = [world.register(each, version) for each in (3, 2)]
    answers["they come back"] = world.unfence(1, 2, 3)
    answers["leaders sought"] = [world.elect(topic, kind) for topic in topics for kind in (0, 1)]
    answers["the same incarnation in service"] = [
        world.register(4, version, incarnation_id=uuid(8)),
        world.unfence(4),
        world.register(4, version, incarnation_id=uuid(8), rack="r"),
        world.register(4, version, incarnation_id=uuid(8), features=[]),
    ]
    return answers


def broker_heartbeat(world: ControllerWorld, version: int) -> Answer:
    def ask(broker_id: int = 1, **request: Any) -> Answer:
        return world.heartbeat(broker_id, version, **request)

    answers = {
        "a stranger": [ask(1), ask(-1), ask(1, broker_epoch=0)],
        "registered": world.register(1),
        "another epoch": [ask(broker_epoch=world.epochs[1] + step) for step in (-1, 1)],
        "wants to stay fenced": ask(want_fence=True),
        "not caught up": [ask(current_metadata_offset=each) for each in (-1, 0, world.epochs[1] - 1)],
        "fenced, wants to go": ask(want_shut_down=True),
        "fenced, wants both": ask(want_shut_down=True, want_fence=True),
        "caught up": ask(current_metadata_offset=FAR),
        "again": ask(),
        "behind again": ask(current_metadata_offset=0),
        "fenced": ask(want_fence=True),
        "unfenced": ask(),
        "leads nothing, wants to go": ask(want_shut_down=True),
        "stays": ask(),
        "wants both": [ask(), ask(want_shut_down=True, want_fence=True), ask()],
    }
    world.serve(2, 3)
    world.place("led", [1, 2], [2, 1])
    world.place("alone", [1])
    answers["leads, wants both"] = ask(want_shut_down=True, want_fence=True)
    answers["back"] = ask()
    answers["leads, wants to go"] = [ask(want_shut_down=True) for _ in range(2)]
    answers["changes its mind"] = [ask(), ask(), ask(want_shut_down=True)]
    answers["wants to be fenced"] = ask(want_fence=True)
    answers["back again"] = ask()
    return answers


def directories_in_heartbeats(world: ControllerWorld, version: int) -> Answer:
    """KIP-858, KIP-1066: folders that fail, and such as take no new partitions."""

    def ask(broker_id: int = 1, **request: Any) -> Answer:
        return world.heartbeat(broker_id, version, **request)

    world.register(1, log_dirs=[world.directory(1), world.directory(1, 1), world.directory(1, 2)])
    world.heartbeat(1)
    world.serve(2)
    moved, kept = world.place("moved", [1, 2], [2, 1], [1, 2]), world.place("kept", [1])
    answers = {
        "where they are": assign(world, 1, (world.directory(1, 1), moved, [0, 1, 2]), (world.directory(1), kept, [0]))
    }
    answers |= {
        "a stranger's fails": ask(offline_log_dirs=[uuid(4000)]),
        "an empty one fails": ask(offline_log_dirs=[world.directory(1, 2)]),
        "and again": ask(offline_log_dirs=[world.directory(1, 2)]),
        "one fails": ask(offline_log_dirs=[world.directory(1, 1), world.directory(1, 2)]),
        "reserved ones": ask(offline_log_dirs=[ZERO_UUID, UNASSIGNED, LOST]),
        "it comes back": ask(offline_log_dirs=[]),
        "leaders sought": [world.elect(topic, kind) for topic in (moved, kept) for kind in (0, 1)],
        "cordoned": ask(cordoned_log_dirs=[world.directory(1)]),
        "the same": ask(cordoned_log_dirs=[world.directory(1)]),
        "unknown": ask(cordoned_log_dirs=None),
        "a stranger's": ask(cordoned_log_dirs=[uuid(4000)]),
        "twice": ask(cordoned_log_dirs=[world.directory(1), world.directory(1)]),
        "none": ask(cordoned_log_dirs=[]),
        "none again": ask(cordoned_log_dirs=[]),
        "the last fails": ask(offline_log_dirs=[world.directory(1)]),
        "and is fenced": ask(want_fence=True, offline_log_dirs=[world.directory(1)]),
        "registered with one": world.register(1, log_dirs=[world.directory(1, 1)]),
        "fails as it comes": ask(offline_log_dirs=[world.directory(1, 1)]),
        "cordoned as it goes": ask(want_shut_down=True, cordoned_log_dirs=[world.directory(1, 1)]),
    }
    return answers


def assign(
    world: ControllerWorld, broker_id: int, *places: tuple[bytes, str | bytes, list[int]], **more: Any
) -> Answer:
    """AssignReplicasToDirs."""
    asked = [
        {
            "id": where,
            "topics": [
                {
                    "topic_id": topic if isinstance(topic, bytes) else world.ids[topic],
                    "partitions": [{"partition_index": index} for index in indexes],
                }
            ],
        }
        for where, topic, indexes in places
    ]
    request = {"broker_id": broker_id, "broker_epoch": world.epochs.get(broker_id, -1), "directories": asked, **more}
    return world.done(world.ask(ApiKey.ASSIGN_REPLICAS_TO_DIRS, 0, **request))


def assign_replicas_to_dirs(world: ControllerWorld, version: int) -> Answer:
    assert version == 0
    world.register(1, log_dirs=[world.directory(1), world.directory(1, 1)])
    world.heartbeat(1)
    world.serve(2, 3)
    topic, other = world.place("there", [1, 2], [2, 1], [2, 3]), world.place("other", [1])
    first, second = world.directory(1), world.directory(1, 1)
    return {
        "a stranger": assign(world, 3, (first, topic, [0])),
        "another epoch": assign(world, 1, (first, topic, [0]), broker_epoch=world.epochs[1] + 1),
        "nothing": [assign(world, 1), assign(world, 1, (first, topic, []))],
        "one": assign(world, 1, (first, topic, [0])),
        "the same": assign(world, 1, (first, topic, [0])),
        "the other folder": assign(world, 1, (second, topic, [0])),
        "several": assign(world, 1, (first, topic, [0, 1]), (second, other, [0])),
        "in two at once": assign(world, 1, (first, topic, [0]), (second, topic, [0])),
        "not its replica": assign(world, 1, (first, topic, [2])),
        "no such partition": assign(world, 1, (first, topic, [9, -1])),
        "no such topic": [assign(world, 1, (first, each, [0])) for each in (UNKNOWN_ID, ZERO_UUID)],
        "another's folder": assign(world, 1, (world.directory(2), topic, [0])),
        "an unknown folder": assign(world, 1, (uuid(4000), topic, [0])),
        "a leader in an unknown folder": [assign(world, 1, (uuid(4000), other, [0])), world.elect(other)],
        "reserved folders": [assign(world, 1, (each, topic, [0])) for each in (ZERO_UUID, UNASSIGNED, LOST)],
        "some good, some bad": assign(world, 1, (first, topic, [0, 9]), (second, UNKNOWN_ID, [0])),
        "named twice": assign(world, 1, (first, topic, [0, 0]), (first, topic, [1])),
        "too many": too_many(world, first, topic),
    }


def too_many(world: ControllerWorld, where: bytes, topic: str) -> Answer:
    """Kafka takes 2,250 at a time."""
    world.ask(ApiKey.ASSIGN_REPLICAS_TO_DIRS, 0, broker_id=1, broker_epoch=world.epochs[1], directories=[])
    answer = assign(world, 1, (where, topic, list(range(100, 2401))))
    answer["answer"].pop("directories", None)
    return answer


def alter_partition(world: ControllerWorld, version: int) -> Answer:
    world.serve(1, 2, 3)
    topic, missing = world.place("led", [1, 2, 3]), UNKNOWN_ID

    def ask(isr: list[int], at: tuple[int, int], leader: int = 1, **request: Any) -> Answer:
        leader_epoch, partition_epoch = at
        return world.alter(
            topic, leader, isr, version, leader_epoch=leader_epoch, partition_epoch=partition_epoch, **request
        )

    return {
        "as it is": ask([1, 2, 3], (0, 0)),
        "smaller": ask([1, 2], (0, 1)),
        "from before": ask([1], (0, 1)),
        "from ahead": [ask([1], (1, 2)), ask([1], (0, 9))],
        "negative epochs": [ask([1], (-1, 2)), ask([1], (0, -1))],
        "the leader alone": ask([1], (0, 2)),
        "without the leader": ask([2, 3], (0, 3)),
        "nobody": ask([], (0, 3)),
        "one twice": ask([1, 2, 2], (0, 3)),
        "a stranger": [ask([1, 4], (0, 3)), ask([1, -1], (0, 3))],
        "in another order": ask([3, 1], (0, 3)),
        "not the leader": ask([1, 2], (0, 4), leader=2),
        "recovering": ask([1], (0, 4), leader_recovery_state=1),
        "no such state": ask([1], (0, 4), leader_recovery_state=7),
        "no such partition": [ask([1], (0, 4), partition_index=each) for each in (1, -1)],
        "no such topic": world.ask(
            ApiKey.ALTER_PARTITION,
            version,
            broker_id=1,
            broker_epoch=world.epochs[1],
            topics=[{"topic_id": each, "partitions": [{"partition_index": 0}]} for each in (missing, ZERO_UUID)],
        ),
        "stale": [
            world.ask(ApiKey.ALTER_PARTITION, version, broker_id=each, broker_epoch=epoch, topics=[])
            for each, epoch in ((1, -1), (1, world.epochs[1] + 1), (9, 0), (-1, -1))
        ],
        "nothing": world.ask(ApiKey.ALTER_PARTITION, version, broker_id=1, broker_epoch=world.epochs[1], topics=[]),
        "a follower of another epoch": [ask([1, 2], (0, 4), epochs={2: each}) for each in (0, -1)],
        "then": ask([1, 3], (0, 5)),
        "fenced": world.fence(3),
        "with one that is fenced": ask([1, 3], (1, 6)),
        "who is unfenced": world.unfence(3),
        "with that one": [ask([1, 2, 3], (epoch, 6)) for epoch in (0, 1)],
    }


def allocate_producer_ids(world: ControllerWorld, version: int) -> Answer:
    world.serve(1)

    def ask(broker_id: int, epoch: int) -> Answer:
        return world.done(world.ask(ApiKey.ALLOCATE_PRODUCER_IDS, version, broker_id=broker_id, broker_epoch=epoch))

    epoch = world.epochs[1]
    fine = [ask(1, epoch), ask(1, epoch)]
    world.fence(1)
    return {
        "fine": fine,
        "fenced": ask(1, epoch),
        "stale": [ask(1, epoch - 1), ask(1, epoch + 1), ask(1, -1)],
        "a stranger": [ask(2, -1), ask(-1, -1), ask(2**31 - 1, epoch)],
    }


def unregister_broker(world: ControllerWorld, version: int) -> Answer:
    world.serve(1, 2, 3)
    both, alone, other = world.place("both", [1, 2, 3]), world.place("alone", [1]), world.place("other", [2, 3])

    def ask(broker_id: int) -> Answer:
        return world.done(world.ask(ApiKey.UNREGISTER_BROKER, version, broker_id=broker_id))

    return {
        "a stranger": [ask(each) for each in (4, -1, -(2**31), 2**31 - 1)],
        "the controller": ask(100),
        "in service": ask(1),
        "twice": ask(1),
        "its heartbeat": world.heartbeat(1),
        "its change": world.alter(other, 1, [2, 3]),
        "it registers": [world.register(1), world.unfence(1)],
        "fenced": [world.fence(2), ask(2)],
        "the last": [ask(3), [world.elect(each, kind) for each in (both, alone, other) for kind in (0, 1)]],
        "its ids": world.ask(ApiKey.ALLOCATE_PRODUCER_IDS, 0, broker_id=3, broker_epoch=-1),
    }


def elect_leaders(world: ControllerWorld, version: int) -> Answer:
    world.serve(1, 2, 3)
    topic, alone = world.place("led", [1, 2, 3], [2, 1, 3], [3, 1, 2]), world.place("alone", [3])

    def ask(*topics: tuple[str, list[int]], kind: int = 0, timeout_ms: int = 30_000, every: bool = False) -> Answer:
        asked = None if every else [{"topic": name, "partitions": indexes} for name, indexes in topics]
        request = {"election_type": kind, "topic_partitions": asked, "timeout_ms": timeout_ms}
        return world.done(world.ask(ApiKey.ELECT_LEADERS, version, **request))

    kinds = (0, 1) if version >= 1 else (0,)
    answers: dict[str, Answer] = {"as it is": [ask((topic, [0, 1, 2]), kind=kind) for kind in kinds]}
    world.fence(1)
    answers["the first fenced"] = [ask((topic, [0, 1, 2]), kind=kind) for kind in kinds]
    world.unfence(1)
    answers["back, not in sync"] = [ask((topic, [0, 1]), kind=kind) for kind in kinds]
    answers["in sync"] = world.alter(topic, 2, [1, 2, 3], leader_epoch=1, partition_epoch=1)
    answers["all"] = [ask(every=True, kind=kind) for kind in kinds]
    answers["all again"] = [ask(every=True, kind=kind) for kind in kinds]
    world.fence(3)
    answers["one without a leader"] = [ask((topic, [2]), (alone, [0]), kind=kind) for kind in kinds]
    answers["odd"] = [
        ask((topic, [0, 9, -1])),
        ask((topic, [0, 0]), (topic, [0])),
        ask((world.name("not-there"), [0]), ("", [0])),
        ask(),
        ask((topic, [])),
        ask((topic, [0]), timeout_ms=-1),
    ]
    if version >= 1:
        answers["no such kind"] = [ask((topic, [0]), kind=kind) for kind in (2, -1, 127)]
    return answers


def alter_partition_reassignments(world: ControllerWorld, version: int) -> Answer:
    world.serve(1, 2, 3, 4)
    topic, missing = world.place("moved", [1, 2], [2, 1], [3, 4]), world.name("not-there")

    def ask(*topics: tuple[str, list[tuple[int, list[int] | None]]], **request: Any) -> Answer:
        asked = [
            {"name": name, "partitions": [{"partition_index": index, "replicas": ids} for index, ids in places]}
            for name, places in topics
        ]
        defaults = {"timeout_ms": 30_000, "allow_replication_factor_change": True}
        response = world.ask(ApiKey.ALTER_PARTITION_REASSIGNMENTS, version, **{**defaults, **request, "topics": asked})
        return world.done(response)

    def listed() -> Answer:
        return world.ask(ApiKey.LIST_PARTITION_REASSIGNMENTS, 0, timeout_ms=30_000, topics=None)

    answers: dict[str, Answer] = {
        "to where it is": ask((topic, [(0, [1, 2])])),
        "in another order": ask((topic, [(0, [2, 1])])),
        "elsewhere": [ask((topic, [(0, [3, 4])])), listed()],
        "elsewhere still": [ask((topic, [(0, [1, 4])])), listed()],
        "back": [ask((topic, [(0, [2, 1])])), listed()],
        "more": [ask((topic, [(1, [2, 1, 3, 4])])), listed()],
        "fewer": [ask((topic, [(1, [1])])), listed()],
        "cancelled": [ask((topic, [(0, None), (1, None), (2, None)])), listed()],
        "nobody": ask((topic, [(0, [])])),
        "strangers": [ask((topic, [(0, ids)])) for ids in ([1, 9], [-1], [1, -1], [1, 1], [9, 9])],
        "no such partition": ask((topic, [(9, [1]), (-1, None)])),
        "missing": ask((missing, [(0, [1]), (0, None)])),
        "twice": [ask((topic, [(2, [1]), (2, [2])]), (topic, [(2, [4])])), listed(), ask((topic, [(2, None)]))],
        "nothing": [ask(), ask((topic, []))],
        "no time": ask((topic, [(0, [1, 2])]), timeout_ms=-1),
        "one good, one bad": ask((topic, [(2, [4]), (9, [1])])),
    }
    if version >= 1:
        fixed = {"allow_replication_factor_change": False}
        answers["no other factor"] = [
            ask((topic, [(0, ids)]), **fixed) for ids in ([1], [1, 2, 3], [3, 4], [1, 3, 4], [2, 1])
        ]
    world.fence(4)
    answers["to one that is fenced"] = ask((topic, [(0, [4])]))
    answers["listed"] = [
        world.ask(ApiKey.LIST_PARTITION_REASSIGNMENTS, 0, timeout_ms=30_000, topics=topics)
        for topics in (
            [],
            [{"name": topic, "partition_indexes": [0, 1, 9]}],
            [{"name": missing, "partition_indexes": [0]}],
            [{"name": topic, "partition_indexes": []}],
        )
    ]
    return answers


def envelope(world: ControllerWorld, version: int) -> Answer:
    """KIP-590. There is no authorizer, so anybody may forward."""
    principal = b"\x00\x00\x05User\x06alice\x00\x00"
    address = b"\x7f\x00\x00\x01"

    def ask(data: bytes, who: bytes | None = principal, where: bytes = address) -> Answer:
        request = {"request_data": data, "request_principal": who, "client_host_address": where}
        response = world.raw(ApiKey.ENVELOPE, version, **request)
        if response is None:
            return "closed"
        return [response.error_code, None if response.response_data is None else bytes(response.response_data).hex()]

    def embedded(key: ApiKey, at: int, body: bytes | None = None, **given: Any) -> bytes:
        api = APIS[key]
        header = RequestHeader(request_api_key=key, request_api_version=at, correlation_id=77, client_id="inner")
        if body is None:
            body = encode(api.request_class()(**given), at)
        return encode(header, api.request_header_version(at)) + body

    unknown = embedded(ApiKey.UNREGISTER_BROKER, 0, broker_id=4711)
    return {
        "fine": ask(unknown),
        "over IPv6": ask(unknown, where=bytes(15) + b"\x01"),
        "no principal": [ask(unknown, who=None), ask(unknown, who=b"")],
        "an odd principal": [ask(unknown, who=each) for each in (b"\x00\x07abc", b"\x00\x00", b"\xff" * 9)],
        "no address": ask(unknown, where=b""),
        "an odd address": [ask(unknown, where=bytes(each)) for each in (3, 5, 17)],
        "no request": ask(b""),
        "half a header": ask(unknown[:5]),
        "no body": ask(unknown[:-5]),
        "more than a body": ask(unknown + b"\x00"),
        "not to be forwarded": [
            ask(embedded(ApiKey.METADATA, 12, b"")),
            ask(embedded(ApiKey.BROKER_HEARTBEAT, 0, b"")),
            ask(embedded(ApiKey.DESCRIBE_CLUSTER, 0, b"\x00\x00")),
        ],
        "an unknown version": ask(unknown[:2] + b"\x00\x63" + unknown[4:]),
        "an unknown API": ask(b"\x03\xe7" + unknown[2:]),
    }


def describe_cluster(world: ControllerWorld, version: int) -> Answer:
    world.serve(1, 2)
    world.fence(2)

    def ask(**request: Any) -> Answer:
        return world.ask(ApiKey.DESCRIBE_CLUSTER, version, **request)

    return {
        "of the type": [ask(endpoint_type=each) for each in ((0, 1, 2, 3, -1) if version else (0,))],
        "authorized": ask(endpoint_type=2, include_cluster_authorized_operations=True),
        "fenced too": ask(endpoint_type=2, include_fenced_brokers=True) if version >= 2 else None,
    }


def voters_refused(world: ControllerWorld, version: int) -> Answer:
    """AddRaftVoter, RemoveRaftVoter and UpdateRaftVoter, of which nothing comes."""
    point = [{"name": "CONTROLLER", "host": "127.0.0.1", "port": 1}]
    mine = world.cluster_id

    def add(**request: Any) -> Answer:
        asked = {"cluster_id": mine, "timeout_ms": 3000, "voter_id": 5, "voter_directory_id": uuid(1), "listeners": []}
        return world.ask(ApiKey.ADD_RAFT_VOTER, 1, **{**asked, **request})

    def remove(**request: Any) -> Answer:
        asked = {"cluster_id": mine, "voter_id": 5, "voter_directory_id": uuid(1)}
        return world.ask(ApiKey.REMOVE_RAFT_VOTER, 0, **{**asked, **request})

    def update(**request: Any) -> Answer:
        asked = {
            "cluster_id": mine,
            "current_leader_epoch": 1,
            "voter_id": 5,
            "voter_directory_id": uuid(1),
            "listeners": point,
            "kraft_version_feature": {"min_supported_version": 0, "max_supported_version": 1},
        }
        return world.ask(ApiKey.UPDATE_RAFT_VOTER, version, **{**asked, **request})

    own = world.raw(ApiKey.DESCRIBE_QUORUM, 2, topics=[_METADATA]).topics[0].partitions[0].current_voters[0]
    world.hide(uuid_text(own.replica_directory_id), "<voter>")
    return {
        "add": [add(cluster_id="another"), add(listeners=[]), add(voter_id=1, listeners=point)],
        "remove": [remove(), remove(cluster_id="another"), remove(voter_id=1), remove(voter_id=-1)],
        "update": [
            update(),
            update(cluster_id="another"),
            update(current_leader_epoch=0),
            update(current_leader_epoch=99),
            update(voter_id=1),
            update(voter_id=-1),
            update(listeners=[]),
        ],
    }

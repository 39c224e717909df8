"""Cases of the APIs that administer logs and the cluster, as a single node answers them."""

from __future__ import annotations

import json
from typing import Any

from harness.versions.log_cases import UNKNOWN_ID, batch, fetch, new_producer_id, produce, stored
from harness.versions.world import Answer, World
from kpybroker.wire.api_keys import ApiKey
from kpybroker.wire.json_form import to_json
from kpybroker.wire.primitives import ZERO_UUID, uuid_text

HIGH_WATERMARK = -1
LONG_NAME = "x" * 213
"""The longest name of a topic of which a partition can move to another folder."""

HOSTILE = ("", ".", "..", "a b", "../../etc", "\u2603", "__cluster_metadata", "x" * 300)
"""Names that no topic has."""


def delete_records(world: World, version: int) -> Answer:
    topic = stored(world, f"deleted-from-{version}")
    compacted = world.topic(f"kept-{version}", cleanup_policy="compact")
    both = world.topic(f"kept-a-while-{version}", cleanup_policy="compact,delete")
    missing = world.name("not-there")

    def ask(*topics: tuple[str, list[tuple[int, int]]], timeout_ms: int = 30_000) -> Answer:
        asked = [
            {"name": name, "partitions": [{"partition_index": index, "offset": offset} for index, offset in places]}
            for name, places in topics
        ]
        return world.ask(ApiKey.DELETE_RECORDS, version, topics=asked, timeout_ms=timeout_ms)

    return {
        "nothing": ask((topic, [(0, 0)])),
        "within a batch": ask((topic, [(0, 3)])),
        "earliest": _offset(world, topic, -2),
        "read below it": fetch(world, 11, topic, {"partition": 0, "fetch_offset": 2}),
        "read within it": fetch(world, 11, topic, {"partition": 0, "fetch_offset": 3})["responses"][0]["partitions"][0][
            "logStartOffset"
        ],
        "lower again": ask((topic, [(0, 1)])),
        "beyond the end": ask((topic, [(0, 7)])),
        "far beyond": ask((topic, [(0, 2**63 - 1)])),
        "negative": ask((topic, [(0, -2)]), (compacted, [(0, -(2**63))])),
        "to the end": ask((topic, [(0, HIGH_WATERMARK), (1, HIGH_WATERMARK)])),
        "earliest then": _offset(world, topic, -2),
        "latest then": _offset(world, topic, -1),
        "produced after it": produce(world, 9, topic, (0, batch(1))),
        "no such partitions": ask((topic, [(9, 0), (-1, 0), (1, 0)])),
        "named twice": ask((topic, [(1, 0), (1, 5)])),
        "compacted": ask((compacted, [(0, 0)])),
        "compacted and deleted": ask((both, [(0, 0)])),
        "internal": ask(("__consumer_offsets", [(0, HIGH_WATERMARK)])),
        "missing": ask((missing, [(0, 0)])),
        "hostile names": ask(*((name, [(0, 0)]) for name in HOSTILE)),
        "no topics": ask(),
        "no partitions": ask((topic, [])),
        "no time": ask((topic, [(0, HIGH_WATERMARK)]), timeout_ms=-5),
    }


def _offset(world: World, topic: str, timestamp: int) -> Answer:
    asked = [{"partition_index": 0, "timestamp": timestamp, "current_leader_epoch": -1}]
    return world.ask(ApiKey.LIST_OFFSETS, 7, replica_id=-1, topics=[{"name": topic, "partitions": asked}])


def describe_log_dirs(world: World, version: int) -> Answer:
    topic, other = stored(world, f"measured-{version}"), world.topic(f"measured-too-{version}")

    def ask(*topics: tuple[str, list[int]]) -> Answer:
        asked = [{"topic": name, "partitions": indexes} for name, indexes in topics]
        return world.ask(ApiKey.DESCRIBE_LOG_DIRS, version, topics=asked)

    everything = to_json(world.raw(ApiKey.DESCRIBE_LOG_DIRS, version, topics=None), version)
    for result in everything["results"]:  # other tests have topics too
        result["topics"] = [each for each in result["topics"] if each["name"] in (topic, other)]
    return {
        "one": ask((topic, [0, 1])),
        "two": ask((topic, [0]), (other, [0])),
        "twice": ask((topic, [0, 0]), (topic, [0])),
        "no such partition": ask((topic, [9, -1])),
        "hostile names": ask(*((name, [0]) for name in HOSTILE)),
        "no partitions": ask((topic, [])),
        "no topics": ask(),
        "all": world.normal(everything),
    }


def log_dir(world: World) -> str:
    """The broker's data folder."""
    path: str = world.raw(ApiKey.DESCRIBE_LOG_DIRS, 4, topics=[]).results[0].log_dir
    return path


def alter_replica_log_dirs(world: World, version: int) -> Answer:
    topic, home = world.topic(f"staying-{version}", partitions=2), log_dir(world)

    def ask(*folders: tuple[str, list[tuple[str, list[int]]]]) -> Answer:
        asked = [
            {"path": path, "topics": [{"name": name, "partitions": indexes} for name, indexes in topics]}
            for path, topics in folders
        ]
        return world.ask(ApiKey.ALTER_REPLICA_LOG_DIRS, version, dirs=asked)

    return {
        "where it is": ask((home, [(topic, [0, 1])])),
        "elsewhere": ask(("/nowhere", [(topic, [0, 1, 9]), (world.name("not-there"), [0])])),
        "the same in other words": [ask((path, [(topic, [0])])) for path in (f"{home}/", f"{home}/.", f"{home}/../x")],
        "relative": ask(("data", [(topic, [0])]), ("", [(topic, [1])])),
        "no such partition": ask((home, [(topic, [9, -1])])),
        "missing": ask((home, [(world.name("not-there"), [0])])),
        "hostile names": ask((home, [(name, [0]) for name in HOSTILE])),
        "long names": ask((home, [(LONG_NAME, [0]), (f"{LONG_NAME}x", [0]), (LONG_NAME, [10])])),
        "here and there": ask((home, [(topic, [0])]), ("/nowhere", [(topic, [0])])),
        "nothing": [ask(), ask((home, [])), ask((home, [(topic, [])]))],
    }


def describe_producers(world: World, version: int) -> Answer:
    topic = world.topic("producers", partitions=2)
    _, first, second = (new_producer_id(world) for _ in range(3))  # a cluster's first id is 0, which has no placeholder

    def ask(*topics: tuple[str, list[int]]) -> Answer:
        asked = [{"name": name, "partition_indexes": indexes} for name, indexes in topics]
        return world.ask(ApiKey.DESCRIBE_PRODUCERS, version, topics=asked)

    def write(producer_id: int, index: int, sequence: int, epoch: int = 0) -> None:
        header = {"producer_id": producer_id, "producer_epoch": epoch, "base_sequence": sequence}
        produce(world, 9, topic, (index, batch(3, start=sequence * 1000, **header)))

    answers = {"nobody": ask((topic, [0, 1]))}
    write(first, 0, 0)
    answers["one"] = ask((topic, [0, 1]))
    write(first, 0, 3)
    answers["more of it"] = ask((topic, [0]))
    write(first, 0, 0, epoch=1)
    answers["another epoch"] = ask((topic, [0]))
    write(second, 1, 0)
    answers["another partition"] = ask((topic, [0, 1]))
    produce(world, 9, topic, (0, batch(1)))
    answers["one without an id"] = ask((topic, [0]))
    request = {"name": topic, "partitions": [{"partition_index": 0, "offset": HIGH_WATERMARK}]}
    world.ask(ApiKey.DELETE_RECORDS, 2, topics=[request], timeout_ms=30_000)
    answers["its records deleted"] = ask((topic, [0]))
    answers["no such partition"] = ask((topic, [7, -1]))
    answers["twice"] = ask((topic, [1, 1]), (topic, [1]))
    answers["missing"] = ask((world.name("not-there"), [0, 1]))
    answers["hostile names"] = ask(*((name, [0]) for name in HOSTILE))
    answers["nothing"] = [ask(), ask((topic, []))]
    return answers


def elect_leaders(world: World, version: int) -> Answer:
    topic, missing = world.topic(f"led-{version}", partitions=2), world.name("not-there")

    def ask(*topics: tuple[str, list[int]], kind: int = 0, timeout_ms: int = 30_000) -> Answer:
        asked = [{"topic": name, "partitions": indexes} for name, indexes in topics]
        return world.ask(
            ApiKey.ELECT_LEADERS, version, election_type=kind, topic_partitions=asked, timeout_ms=timeout_ms
        )

    def everywhere(kind: int) -> Answer:
        """Those of this case: other tests have theirs."""
        request: dict[str, Any] = {"election_type": kind, "topic_partitions": None, "timeout_ms": 30_000}
        answer = to_json(world.raw(ApiKey.ELECT_LEADERS, version, **request), version)
        mine = [each for each in answer["replicaElectionResults"] if each["topic"] == topic]
        return world.normal({**answer, "replicaElectionResults": mine})

    answers = {
        "preferred": ask((topic, [0, 1])),
        "no such partition": ask((topic, [0, 9, -1])),
        "missing": ask((missing, [0, 1])),
        "hostile names": ask(*((name, [0]) for name in HOSTILE)),
        "named twice": ask((topic, [0, 0]), (topic, [0])),
        "nothing": [ask(), ask((topic, []))],
        "no time": [ask((topic, [0]), timeout_ms=time) for time in (0, -1, -(2**31))],
        "nothing and no time": ask(timeout_ms=-1),
        "all": everywhere(0),
    }
    if version >= 1:
        answers["unclean"] = ask((topic, [0, 9]), (missing, [0]), kind=1)
        answers["all unclean"] = everywhere(1)
        answers["unknown kind"] = [ask((topic, [0, 9]), kind=kind) for kind in (2, -1)]
        answers["unknown kind of nothing"] = ask(kind=7)
        answers["all of an unknown kind"] = everywhere(7)
    return answers


def alter_partition_reassignments(world: World, version: int) -> Answer:
    topic, missing = world.topic(f"moved-{version}", partitions=2), world.name("not-there")

    def ask(*topics: tuple[str, list[tuple[int, list[int] | None]]], **request: Any) -> Answer:
        asked = [
            {"name": name, "partitions": [{"partition_index": index, "replicas": ids} for index, ids in places]}
            for name, places in topics
        ]
        defaults = {"timeout_ms": 30_000, "allow_replication_factor_change": True}
        return world.ask(ApiKey.ALTER_PARTITION_REASSIGNMENTS, version, topics=asked, **{**defaults, **request})

    fixed = {"allow_replication_factor_change": False}
    return {
        "where it is": ask((topic, [(0, [1]), (1, [1])])),
        "cancelled": ask((topic, [(0, None)])),
        "nobody": ask((topic, [(0, [])])),
        "unknown broker": ask((topic, [(0, [2]), (1, [1, 2])])),
        "negative broker": ask((topic, [(0, [-1]), (1, [1, -(2**31)])])),
        "broker twice": ask((topic, [(0, [1, 1])])),
        "no such partition": ask((topic, [(9, [1]), (-1, None)])),
        "missing": ask((missing, [(0, [1]), (1, None)])),
        "hostile names": ask(*((name, [(0, [1])]) for name in HOSTILE)),
        "named twice": ask((topic, [(0, [1]), (0, [1])]), (topic, [(0, None)])),
        "as many replicas": ask((topic, [(0, [1])]), **fixed) if version >= 1 else None,
        "more replicas": ask((topic, [(0, [1, 2])]), **fixed) if version >= 1 else None,
        "no replicas": ask((topic, [(0, [])]), **fixed) if version >= 1 else None,
        "nothing": [ask(), ask((topic, []))],
        "nothing, as many replicas": ask(**fixed) if version >= 1 else None,
        "no time": [ask((topic, [(0, [1])]), timeout_ms=time) for time in (0, -1)],
        "nothing and no time": ask(timeout_ms=-1),
    }


def list_partition_reassignments(world: World, version: int) -> Answer:
    topic = world.topic("not-moving", partitions=2)

    def ask(*topics: tuple[str, list[int]], **request: Any) -> Answer:
        asked = {"topics": [{"name": name, "partition_indexes": indexes} for name, indexes in topics]}
        return world.ask(ApiKey.LIST_PARTITION_REASSIGNMENTS, version, **{"timeout_ms": 30_000, **asked, **request})

    return {
        "all": ask(topics=None),
        "one": ask((topic, [0, 1])),
        "no such partition": ask((topic, [9, -1])),
        "missing": ask((world.name("not-there"), [0])),
        "hostile names": ask(*((name, [0]) for name in HOSTILE)),
        "nothing": [ask(), ask((topic, []))],
        "no time": ask((topic, [0]), timeout_ms=-1),
    }


METADATA, KRAFT, GROUP, TRANSACTION, ELR, SHARE, STREAMS = (
    "metadata.version",
    "kraft.version",
    "group.version",
    "transaction.version",
    "eligible.leader.replicas.version",
    "share.version",
    "streams.version",
)
UP, SAFELY_DOWN, DOWN = 1, 2, 3


def update_features(world: World, version: int) -> Answer:
    """What is changed is changed back: the broker is everybody's."""

    def ask(*updates: tuple[str, int, int], **request: Any) -> Answer:
        asked = [
            {"feature": name, "max_version_level": level, "upgrade_type": kind, "allow_downgrade": kind != UP}
            for name, level, kind in updates
        ]
        return world.ask(ApiKey.UPDATE_FEATURES, version, feature_updates=asked, **{"timeout_ms": 30_000, **request})

    answers = {
        "as it is": ask((METADATA, 30, UP)),
        "unknown": ask(("no.such", 1, UP)),
        "unknown, to nothing": [ask(("no.such", 0, kind)) for kind in (UP, SAFELY_DOWN)],
        "without a name": [ask(("", level, UP)) for level in (0, 1)],
        "negative": [ask((name, -1, DOWN)) for name in (METADATA, KRAFT, GROUP, "no.such")],
        "beyond": [ask((name, 99, UP)) for name in (METADATA, KRAFT, GROUP, TRANSACTION, ELR, SHARE, STREAMS)],
        "the greatest": ask((METADATA, 2**15 - 1, UP)),
        "below what is supported": [ask((METADATA, level, DOWN)) for level in (6, 0)],
        "down, as an upgrade": [ask((METADATA, 29, UP)), ask((GROUP, 0, UP)), ask((KRAFT, 0, UP))],
        "kraft as it is": ask((KRAFT, 1, UP)),
        "nothing": ask(),
        "one good, one bad": [ask((GROUP, 1, UP), ("no.such", 1, UP)), ask(("no.such", 1, UP), (GROUP, 1, UP))],
        "no time": ask((GROUP, 1, UP), timeout_ms=-1),
    }
    if version == 0:
        answers["allowed to go down"] = ask((GROUP, 0, SAFELY_DOWN))
        return answers
    answers["metadata down"] = [ask((METADATA, level, kind)) for level in (29, 25, 7) for kind in (SAFELY_DOWN, DOWN)]
    answers["kraft down"] = [ask((KRAFT, 0, kind)) for kind in (SAFELY_DOWN, DOWN)]
    answers["as it is, as a downgrade"] = [ask((name, 1, SAFELY_DOWN)) for name in (GROUP, KRAFT)]
    answers["beyond, as a downgrade"] = ask((GROUP, 2, SAFELY_DOWN))
    answers["unknown kind"] = [ask((name, 0, kind)) for name in (GROUP, "no.such") for kind in (0, 4, -1)]
    answers["only validated"] = ask((GROUP, 0, SAFELY_DOWN), validate_only=True)
    answers["only validated, bad"] = ask((GROUP, 2, UP), validate_only=True)
    answers["then"] = _levels(world, {GROUP: 1})
    answers["down and up again"] = [
        _changed(world, ask, (name, below, kind), (name, level, UP))
        for name, below, level in ((GROUP, 0, 1), (TRANSACTION, 1, 2), (ELR, 0, 1), (SHARE, 0, 1), (STREAMS, 0, 1))
        for kind in (SAFELY_DOWN, DOWN)
    ]
    answers["two together"] = [
        ask((SHARE, 0, DOWN), (STREAMS, 0, DOWN)),
        _levels(world, {SHARE: 0, STREAMS: 0}),
        ask((SHARE, 1, UP), (STREAMS, 1, UP)),
        _levels(world, {SHARE: 1, STREAMS: 1}),
    ]
    answers["named twice"] = [
        ask((GROUP, 1, UP), (GROUP, 0, SAFELY_DOWN)),
        _levels(world, {GROUP: 0}),
        ask((GROUP, 0, SAFELY_DOWN), (GROUP, 1, UP)),
        _levels(world, {GROUP: 1}),
    ]
    return answers


def _changed(world: World, ask: Any, *updates: tuple[str, int, int]) -> Answer:
    """Updates, one after the other, each waited for."""
    return [(ask(update), _levels(world, {update[0]: update[1]})) for update in updates]


def _levels(world: World, expected: dict[str, int]) -> Answer:
    """The finalized features, as soon as the broker has heard of the expected levels: it follows the controller."""
    levels: dict[str, int] = {}

    def heard() -> bool:
        response = world.raw(ApiKey.API_VERSIONS, 4, client_software_name="compat", client_software_version="1")
        levels.clear()
        levels.update({each.name: each.max_version_level for each in response.finalized_features})
        return all(levels.get(name, 0) == level for name, level in expected.items())

    world.until(heard)
    return dict(sorted(levels.items()))


QUORUM = {"topic_name": "__cluster_metadata", "partitions": [{"partition_index": 0}]}


def describe_quorum(world: World, version: int) -> Answer:
    topic = world.topic(f"no-quorum-{version}")

    def ask(*topics: dict[str, Any]) -> Answer:
        return _timeless(world.ask(ApiKey.DESCRIBE_QUORUM, version, topics=list(topics)))

    def other(name: str, *indexes: int) -> dict[str, Any]:
        return {"topic_name": name, "partitions": [{"partition_index": index} for index in indexes]}

    return {
        "the quorum": ask(QUORUM),
        "of a topic": ask(other(topic, 0, 4)),
        "another partition": [ask(other("__cluster_metadata", index)) for index in (1, -1)],
        "twice": [ask(other("__cluster_metadata", 0, 0)), ask(QUORUM, QUORUM)],
        "with a topic": ask(QUORUM, other(topic, 0)),
        "hostile names": [ask(other(name, 0)) for name in HOSTILE if name != "__cluster_metadata"],
        "nothing": [ask(), ask(other("__cluster_metadata"))],
    }


PASSING = ("leaderEpoch", "highWatermark", "logEndOffset", "lastFetchTimestamp", "lastCaughtUpTimestamp")


def _timeless(value: Answer, field: str = "") -> Answer:
    """Without what passes, and where the quorum's voters are."""
    match value:
        case dict():
            return {name: _timeless(item, name) for name, item in value.items()}
        case list():
            return [_timeless(item) for item in value]
        case int() if field in PASSING and value > 0:
            return "<some>"
        case str() if field in ("host", "replicaDirectoryId") and value:
            return f"<{field}>"
    return value


def unregister_broker(world: World, version: int) -> Answer:
    """Of brokers that are not there: the only one is needed by the other cases."""
    return [world.ask(ApiKey.UNREGISTER_BROKER, version, broker_id=broker_id) for broker_id in (9, 0, -1, 2**31 - 1)]


class Voters:
    """Requests that change the quorum: its cluster, its one voter."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.cluster_id: str = world.raw(ApiKey.DESCRIBE_CLUSTER, 1, endpoint_type=1).cluster_id
        (quorum,) = world.raw(ApiKey.DESCRIBE_QUORUM, 2, topics=[QUORUM]).topics
        self.directory: bytes = quorum.partitions[0].current_voters[0].replica_directory_id

    def ask(self, api: ApiKey, version: int, voter_id: int, directory: bytes, **request: Any) -> Answer:
        key = {"cluster_id": self.cluster_id, "voter_id": voter_id, "voter_directory_id": directory}
        answer = self.world.ask(api, version, **{**key, **request})
        text = json.dumps(answer)
        for value, placeholder in ((self.cluster_id, "<cluster>"), (uuid_text(self.directory), "<directory>")):
            text = text.replace(value, placeholder)
        return json.loads(text)


def add_raft_voter(world: World, version: int) -> Answer:
    voters = Voters(world)
    host, _, port = world.address.rpartition(":")
    here = {"name": "CONTROLLER", "host": host, "port": int(port)}

    def ask(voter_id: int, directory: bytes, *listeners: dict[str, Any], **request: Any) -> Answer:
        asked = {"listeners": list(listeners), "timeout_ms": 30_000, "ack_when_committed": True}
        return voters.ask(ApiKey.ADD_RAFT_VOTER, version, voter_id, directory, **{**asked, **request})

    return {
        "itself": ask(1, voters.directory, here),
        "itself in another folder": ask(1, UNKNOWN_ID, here),
        "one that does not follow": ask(2, UNKNOWN_ID, here),
        "not waiting for it": ask(2, UNKNOWN_ID, here, ack_when_committed=False) if version >= 1 else None,
        "another cluster": ask(2, UNKNOWN_ID, here, cluster_id="another"),
        "any cluster": ask(1, UNKNOWN_ID, here, cluster_id=None),
        "no directory": ask(2, ZERO_UUID, here),
        "negative": ask(-1, UNKNOWN_ID, here),
        "no listener": ask(2, UNKNOWN_ID),
        "another listener": ask(2, UNKNOWN_ID, {**here, "name": "PLAINTEXT", "host": "elsewhere", "port": 1}),
        "itself at another listener": ask(1, UNKNOWN_ID, {**here, "name": "PLAINTEXT", "host": "elsewhere", "port": 1}),
    }


def remove_raft_voter(world: World, version: int) -> Answer:
    voters = Voters(world)

    def ask(voter_id: int, directory: bytes, **request: Any) -> Answer:
        return voters.ask(ApiKey.REMOVE_RAFT_VOTER, version, voter_id, directory, **request)

    return {
        "the only one": ask(1, voters.directory),
        "in another folder": ask(1, UNKNOWN_ID),
        "one that is none": ask(2, UNKNOWN_ID),
        "another cluster": ask(1, voters.directory, cluster_id="another"),
        "no cluster": ask(1, voters.directory, cluster_id=""),
        "any cluster": ask(2, UNKNOWN_ID, cluster_id=None),
        "no directory": ask(1, ZERO_UUID),
        "negative": ask(-1, UNKNOWN_ID),
    }


def create_partitions_oddly(world: World, version: int) -> Answer:
    topic = world.topic(f"grown-oddly-{version}")

    def ask(*topics: tuple[str, int, list[list[int]] | None], **request: Any) -> Answer:
        asked = [
            {"name": name, "count": count, "assignments": ids and [{"broker_ids": each} for each in ids]}
            for name, count, ids in topics
        ]
        return world.ask(ApiKey.CREATE_PARTITIONS, version, **{"topics": asked, "timeout_ms": 60_000, **request})

    return {
        "none, and fewer": [ask((topic, count, None)) for count in (1, 0, -1, -(2**31))],
        "named twice": ask((topic, 3, None), (topic, 4, None)),
        "named thrice, and another": ask(*((topic, 3, None),) * 3, (world.name("not-there"), 2, None)),
        "assigned to nobody": ask((topic, 2, [[]])),
        "assigned twice": ask((topic, 2, [[1, 1]])),
        "assigned to a negative": ask((topic, 2, [[-1]])),
        "assigned to two": ask((topic, 2, [[1, 2]])),
        "assigned too often": ask((topic, 2, [[1], [1], [1]])),
        "the second to a stranger": ask((topic, 3, [[1], [5]])),
        "as many, assigned": ask((topic, 1, [[1]])),
        "validated": ask((topic, 3, [[1], [1]]), validate_only=True),
        "validated, badly": ask((topic, 3, [[1]]), validate_only=True),
        "still as many": ask((topic, 1, None)),
        "hostile names": ask((topic, 2, None), *((name, 2, None) for name in HOSTILE)),
        "no topics": ask(),
        "no time": [ask((topic, 9, None), timeout_ms=time) for time in (0, -1, -(2**31))],
        "no topics and no time": ask(timeout_ms=0),
        "in the end": ask((topic, 2, None)),
    }


def no_time_for_topics(world: World, version: int) -> Answer:
    """CreateTopics and DeleteTopics that leave the controller no time."""
    name, there = world.name(f"no-time-{version}"), world.topic(f"no-time-there-{version}")
    asked = {"name": name, "num_partitions": 1, "replication_factor": 1}
    deleted: dict[str, Any] = {"topics": [{"name": there}]} if version >= 6 else {"topic_names": [there]}
    delete_version = min(version, 6)
    return [
        [
            world.ask(ApiKey.CREATE_TOPICS, version, topics=[asked], timeout_ms=time),
            world.ask(ApiKey.CREATE_TOPICS, version, topics=[], timeout_ms=time),
            world.ask(ApiKey.DELETE_TOPICS, delete_version, timeout_ms=time, **deleted),
            world.ask(ApiKey.DELETE_TOPICS, delete_version, timeout_ms=time),
        ]
        for time in (0, -1)
    ]

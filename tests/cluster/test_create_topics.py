"""CreateTopics: what is made, and what is said of what isn't."""

import pytest

from kpybroker.cluster.machines.create_topics import create_topics
from kpybroker.security.operations import CLUSTER_NAME, Operation, Resource
from kpybroker.wire.codes import Code, Refused
from kpybroker.wire.internal import metadata_records as rec
from kpybroker.wire.messages.create_topics import CreateTopicsRequest
from kpybroker.wire.primitives import ZERO_UUID

from .making import CALLER, apply, broker, cluster, config, only, partition, settings, state, topic, topic_id, wanted

ONE = cluster()
THREE = cluster(broker(1), broker(2), broker(3))


def decide(*topics, image=ONE, caller=CALLER, of=None, **fields):
    request = CreateTopicsRequest(topics=list(topics), **fields)
    ids = [topic_id(500 + n) for n in range(len(topics))]
    given = state(image) if of is None else state(image, of)
    return create_topics(given, request, caller, topic_ids=ids, seed=0)


def refused(*topics, **given):
    """(code, message) of the only topic, after making sure that nothing is written."""
    decision = decide(*topics, **given)
    assert list(decision.records) == []
    (result,) = decision.response.topics
    assert result.topic_id == ZERO_UUID
    return result.error_code, result.error_message


def test_a_topic_its_configs_its_partitions():
    decision = decide(wanted("t", 2, 1, configs=[("retention.ms", "5"), ("cleanup.policy", "compact")]))
    id_ = topic_id(500)
    assert decision.records == [
        rec.TopicRecord(name="t", topic_id=id_),
        config(2, "t", "retention.ms", "5"),
        config(2, "t", "cleanup.policy", "compact"),
        partition(id_, 0, [1]),
        partition(id_, 1, [1]),
    ]
    (result,) = decision.response.topics
    assert (result.error_code, result.error_message, result.topic_id) == (Code.NONE, None, id_)
    assert (result.num_partitions, result.replication_factor) == (2, 1)
    told = {each.name: (each.value, each.config_source) for each in result.configs}
    assert told["retention.ms"] == ("5", 1)
    assert told["segment.bytes"] == ("1073741824", 4)
    assert list(told) == sorted(told)
    assert apply(ONE, *decision.records).topics.by_name["t"].id == id_


def test_defaults_of_the_node():
    of = settings(num_partitions="3", default_replication_factor="2")
    decision = decide(wanted(), image=THREE, of=of)
    (result,) = decision.response.topics
    assert (result.num_partitions, result.replication_factor) == (3, 2)


def test_dynamic_configs_of_brokers_are_defaults_of_topics():
    image = apply(ONE, config(4, "", "log.retention.ms", "7"), config(4, "1", "log.retention.ms", "8"))
    (result,) = decide(wanted(), image=image).response.topics
    assert [(each.value, each.config_source) for each in result.configs if each.name == "retention.ms"] == [("8", 2)]


def test_a_min_insync_replicas_of_its_own_clears_eligible_leaders():
    records = decide(wanted(configs=[("min.insync.replicas", "1")])).records
    assert [type(record).__name__ for record in records] == [
        "TopicRecord",
        "ConfigRecord",
        "ClearElrRecord",
        "PartitionRecord",
    ]
    without_elr = decide(wanted(configs=[("min.insync.replicas", "1")]), image=cluster(elr=False)).records
    assert [type(record).__name__ for record in without_elr] == ["TopicRecord", "ConfigRecord", "PartitionRecord"]


def test_assignments():
    decision = decide(wanted(assignments={1: [3, 2], 0: [1, 3]}), image=THREE)
    id_ = topic_id(500)
    assert list(decision.records[1:]) == [partition(id_, 0, [1, 3]), partition(id_, 1, [3, 2])]


def test_replicas_that_are_down_are_not_in_sync():
    image = cluster(broker(1, fenced=True), broker(2), broker(3, shutting_down=True))
    made = decide(wanted(assignments={0: [1, 2, 3]}), image=image).records[1]
    assert (made.replicas, made.isr, made.leader) == ([1, 2, 3], [2], 2)


def test_validate_only_writes_nothing_and_says_the_same():
    decision = decide(wanted("t", 2), validate_only=True)
    assert list(decision.records) == []
    assert decision.response == decide(wanted("t", 2)).response


ASSIGNED = "The manual partition assignment includes "


@pytest.mark.parametrize(
    ("given", "code", "why"),
    [
        pytest.param(
            wanted(partitions=0),
            Code.INVALID_PARTITIONS,
            "Number of partitions was set to an invalid non-positive value.",
            id="no partitions",
        ),
        pytest.param(
            wanted(replicas=0),
            Code.INVALID_REPLICATION_FACTOR,
            "Replication factor must be larger than 0, or -1 to use the default value.",
            id="no replicas",
        ),
        pytest.param(
            wanted(replicas=4),
            Code.INVALID_REPLICATION_FACTOR,
            "Unable to replicate the partition 4 time(s): The target replication factor of 4 cannot be reached "
            "because only 3 broker(s) are registered or some brokers have all their log directories cordoned.",
            id="more replicas than brokers",
        ),
        pytest.param(
            wanted(replicas=1, assignments={0: [1]}),
            Code.INVALID_REQUEST,
            "A manual partition assignment was specified, but replication factor was not set to -1.",
            id="assignment and factor",
        ),
        pytest.param(
            wanted(partitions=1, assignments={0: [1]}),
            Code.INVALID_REQUEST,
            "A manual partition assignment was specified, but numPartitions was not set to -1.",
            id="assignment and count",
        ),
        pytest.param(
            wanted(assignments=[(0, [1]), (0, [2])]),
            Code.INVALID_REPLICA_ASSIGNMENT,
            "Found multiple manual partition assignments for partition 0",
            id="a partition twice",
        ),
        pytest.param(
            wanted(assignments={1: [1]}),
            Code.INVALID_REPLICA_ASSIGNMENT,
            "partitions should be a consecutive 0-based integer sequence",
            id="a gap",
        ),
        pytest.param(
            wanted(assignments={0: []}),
            Code.INVALID_REPLICA_ASSIGNMENT,
            f"{ASSIGNED}an empty replica list.",
            id="no replicas in an assignment",
        ),
        pytest.param(
            wanted(assignments={0: [9]}),
            Code.INVALID_REPLICA_ASSIGNMENT,
            f"{ASSIGNED}broker 9, but no such broker is registered.",
            id="an unknown broker",
        ),
        pytest.param(
            wanted(assignments={0: [1, 1]}),
            Code.INVALID_REPLICA_ASSIGNMENT,
            f"{ASSIGNED}the broker 1 more than once.",
            id="a broker twice",
        ),
        pytest.param(
            wanted(assignments={0: [1, 2], 1: [1]}),
            Code.INVALID_REPLICA_ASSIGNMENT,
            f"{ASSIGNED}a partition with 1 replica(s), but this is not consistent with previous partitions, which "
            "have 2 replica(s).",
            id="factors differ",
        ),
        pytest.param(
            wanted(configs=[("no.such", "1")]), Code.INVALID_CONFIG, "Unknown topic config name: no.such", id="a config"
        ),
        pytest.param(
            wanted(configs=[("retention.ms", "x")]),
            Code.INVALID_CONFIG,
            "Invalid value x for configuration retention.ms: Not a number of type LONG",
            id="a config's value",
        ),
        pytest.param(
            wanted(configs=[("a", None), ("b", None)]),
            Code.INVALID_CONFIG,
            "Null value not supported for topic configs: a,b",
            id="configs without a value",
        ),
        pytest.param(
            wanted(configs=[("follower.replication.throttled.replicas", "0:1," * 9000)]),
            Code.INVALID_CONFIG,
            "The configuration value cannot be added because it exceeds the maximum value size of 32767 bytes.",
            id="a config too long",
        ),
    ],
)
def test_what_can_not_be_made(given, code, why):
    assert refused(given, image=THREE) == (code, why)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("", "the empty string is not allowed"),
        (".", "'.' is not allowed"),
        ("..", "'..' is not allowed"),
        ("x" * 250, f"the length of '{'x' * 250}' is longer than the max allowed length 249"),
        ("a b", "'a b' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'"),
        ("größe", "'größe' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'"),
        ("a\n", "'a\n' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'"),
    ],
)
def test_names(name, why):
    assert refused(wanted(name)) == (Code.INVALID_TOPIC_EXCEPTION, f"Topic name is invalid: {why}")


def test_names_that_are_taken_or_collide():
    image = apply(ONE, *topic(1, "a.b", [1]))
    assert refused(wanted("a.b"), image=image) == (Code.TOPIC_ALREADY_EXISTS, "Topic 'a.b' already exists.")
    assert refused(wanted("a_b"), image=image) == (
        Code.INVALID_TOPIC_EXCEPTION,
        "Topic 'a_b' collides with existing topic: a.b",
    )
    gone = apply(image, rec.RemoveTopicRecord(topic_id=topic_id(1)))
    assert decide(wanted("a_b"), image=gone).records


def test_the_metadata_topic_is_nobodys():
    assert refused(wanted("__cluster_metadata")) == (
        Code.INVALID_REQUEST,
        "Creation of internal topic __cluster_metadata is prohibited.",
    )


def test_brokers_that_are_all_away():
    down = cluster(broker(1, fenced=True))
    assert refused(wanted(), image=down) == (
        Code.INVALID_REPLICATION_FACTOR,
        "Unable to replicate the partition 1 time(s): All brokers are currently fenced, or have all their log "
        "directories cordoned.",
    )
    assert refused(wanted(assignments={0: [1]}), image=down) == (
        Code.INVALID_REPLICA_ASSIGNMENT,
        "All brokers specified in the manual partition assignment for partition 0 are fenced or in controlled "
        "shutdown.",
    )


def test_whoever_says_where_replicas_go_may_say_a_cordoned_folder():
    cordoned = cluster(broker(1, cordoned=[b"directory of 001"]))
    assert len(decide(wanted(assignments={0: [1]}), image=cordoned).records) == 2


def test_topics_of_one_request_stand_for_themselves():
    decision = decide(wanted("good"), wanted("bad", 0), wanted("twice"), wanted("twice"), wanted("also_good"))
    codes = {result.name: result.error_code for result in decision.response.topics}
    assert codes == {
        "good": Code.NONE,
        "bad": Code.INVALID_PARTITIONS,
        "also_good": Code.NONE,
        "twice": Code.INVALID_REQUEST,
    }
    assert [result.error_message for result in decision.response.topics if result.name == "twice"] == [
        "Duplicate topic name."
    ]
    made = [record.name for record in decision.records if isinstance(record, rec.TopicRecord)]
    assert made == ["good", "also_good"]


def test_rights():
    may_one = only((Operation.CREATE, Resource.TOPIC, "mine"))
    decision = decide(wanted("mine"), wanted("yours"), caller=may_one)
    mine, yours = decision.response.topics
    assert mine.error_code == Code.NONE
    assert (mine.topic_config_error_code, mine.configs, mine.num_partitions) == (
        Code.TOPIC_AUTHORIZATION_FAILED,
        [],
        -1,
    )
    assert (yours.error_code, yours.error_message) == (Code.TOPIC_AUTHORIZATION_FAILED, "Authorization failed.")
    may_all = only(
        (Operation.CREATE, Resource.CLUSTER, CLUSTER_NAME), (Operation.DESCRIBE_CONFIGS, Resource.TOPIC, "a")
    )
    (made,) = decide(wanted("a"), caller=may_all).response.topics
    assert made.configs


def test_old_versions_are_not_told_of_configs():
    import msgspec.structs

    (made,) = decide(wanted(), caller=msgspec.structs.replace(CALLER, api_version=4)).response.topics
    assert (made.error_code, made.configs) == (Code.NONE, [])


@pytest.mark.parametrize(
    ("topics", "why"),
    [
        pytest.param(
            [wanted("a", 6000), wanted("b", 4001)],
            "Excessively large number of partitions per request.",
            id="partitions",
        ),
        pytest.param([wanted("a", 10_000)], "Unable to perform excessively large batch operation.", id="records"),
    ],
)
def test_a_request_that_is_too_large(topics, why):
    with pytest.raises(Refused) as raised:
        decide(*topics)
    assert (raised.value.code, raised.value.why) == (Code.POLICY_VIOLATION, why)

"""DeleteTopics and CreatePartitions."""

import msgspec.structs
import pytest

from kpybroker.cluster.machines.create_partitions import create_partitions
from kpybroker.cluster.machines.delete_topics import delete_topics
from kpybroker.security.operations import CLUSTER_NAME, Operation, Resource
from kpybroker.wire.codes import Code, Refused
from kpybroker.wire.internal import metadata_records as rec
from kpybroker.wire.messages.create_partitions import (
    CreatePartitionsAssignment,
    CreatePartitionsRequest,
    CreatePartitionsTopic,
)
from kpybroker.wire.messages.delete_topics import DeleteTopicsRequest, DeleteTopicState
from kpybroker.wire.primitives import ZERO_UUID

from .making import CALLER, apply, broker, cluster, only, partition, settings, state, topic, topic_id

A, B = topic_id(1), topic_id(2)
IMAGE = apply(cluster(broker(1), broker(2)), *topic(1, "a", [1, 2]), *topic(2, "b", [1]))
UNKNOWN_TOPIC = "This server does not host this topic-partition."
NOT_ALLOWED = Code.TOPIC_AUTHORIZATION_FAILED.message


def delete(*topics, names=(), caller=CALLER, of=None):
    """(topic ids removed, {(name, id): (code, message)})"""
    states = [DeleteTopicState(name=name, topic_id=id_) for name, id_ in topics]
    request = DeleteTopicsRequest(topics=states, topic_names=list(names), timeout_ms=0)
    given = state(IMAGE) if of is None else state(IMAGE, of)
    decision = delete_topics(given, request, caller)
    results = {
        (result.name, result.topic_id): (result.error_code, result.error_message)
        for result in decision.response.responses
    }
    assert len(results) == len(decision.response.responses)
    return [record.topic_id for record in decision.records], results


@pytest.mark.parametrize(
    ("topics", "names", "removed", "results"),
    [
        pytest.param([], ["a"], [A], {("a", A): (Code.NONE, None)}, id="by name, as before version 6"),
        pytest.param([("a", ZERO_UUID)], [], [A], {("a", A): (Code.NONE, None)}, id="by name"),
        pytest.param([(None, B)], [], [B], {("b", B): (Code.NONE, None)}, id="by id"),
        pytest.param(
            [(None, A), ("b", ZERO_UUID)],
            [],
            [A, B],
            {("a", A): (Code.NONE, None), ("b", B): (Code.NONE, None)},
            id="both",
        ),
        pytest.param(
            [], ["x"], [], {("x", ZERO_UUID): (Code.UNKNOWN_TOPIC_OR_PARTITION, UNKNOWN_TOPIC)}, id="an unknown name"
        ),
        pytest.param(
            [(None, topic_id(9))],
            [],
            [],
            {(None, topic_id(9)): (Code.UNKNOWN_TOPIC_ID, "This server does not host this topic ID.")},
            id="an unknown id",
        ),
        pytest.param(
            [(None, ZERO_UUID)],
            [],
            [],
            {(None, ZERO_UUID): (Code.INVALID_REQUEST, "Neither topic name nor id were specified.")},
            id="neither",
        ),
        pytest.param(
            [("a", A)],
            [],
            [],
            {("a", A): (Code.INVALID_REQUEST, "You may not specify both topic name and topic id.")},
            id="name and id in one",
        ),
        pytest.param(
            [], ["a", "a"], [], {("a", ZERO_UUID): (Code.INVALID_REQUEST, "Duplicate topic name.")}, id="a name twice"
        ),
        pytest.param(
            [(None, A), (None, A)], [], [], {(None, A): (Code.INVALID_REQUEST, "Duplicate topic id.")}, id="an id twice"
        ),
        pytest.param(
            [(None, A), ("a", ZERO_UUID)],
            [],
            [],
            {("a", A): (Code.INVALID_REQUEST, "The provided topic name maps to an ID that was already supplied.")},
            id="by name and by id",
        ),
    ],
)
def test_deleting(topics, names, removed, results):
    assert delete(*topics, names=names) == (removed, results)


def test_who_may_delete():
    cluster_right = only((Operation.DELETE, Resource.CLUSTER, CLUSTER_NAME))
    assert delete(names=["a"], caller=cluster_right)[0] == [A]
    owner = only((Operation.DELETE, Resource.TOPIC, "a"), (Operation.DESCRIBE, Resource.TOPIC, "a"))
    assert delete(names=["a"], caller=owner)[0] == [A]
    assert delete((None, A), caller=owner)[0] == [A]
    sees = only((Operation.DESCRIBE, Resource.TOPIC, "a"))
    assert delete(names=["a"], caller=sees) == ([], {("a", ZERO_UUID): (Code.TOPIC_AUTHORIZATION_FAILED, NOT_ALLOWED)})
    assert delete((None, A), caller=sees) == ([], {("a", A): (Code.TOPIC_AUTHORIZATION_FAILED, NOT_ALLOWED)})


def test_who_may_not_see_a_topic_learns_nothing():
    blind = only()
    missing = delete(names=["x"], caller=blind)
    there = delete(names=["a"], caller=blind)
    assert missing == ([], {("x", ZERO_UUID): (Code.TOPIC_AUTHORIZATION_FAILED, NOT_ALLOWED)})
    assert there == ([], {("a", ZERO_UUID): (Code.TOPIC_AUTHORIZATION_FAILED, NOT_ALLOWED)})
    assert delete((None, A), caller=blind) == ([], {(None, A): (Code.TOPIC_AUTHORIZATION_FAILED, NOT_ALLOWED)})


@pytest.mark.parametrize(
    ("version", "code"),
    [(1, Code.INVALID_REQUEST), (3, Code.TOPIC_DELETION_DISABLED), (6, Code.TOPIC_DELETION_DISABLED)],
)
def test_deletion_turned_off(version, code):
    with pytest.raises(Refused) as raised:
        delete(
            names=["a"],
            caller=msgspec.structs.replace(CALLER, api_version=version),
            of=settings(delete_topic_enable="false"),
        )
    assert raised.value.code is code


def grow(*topics, caller=CALLER, image=IMAGE, validate_only=False):
    request = CreatePartitionsRequest(topics=list(topics), timeout_ms=0, validate_only=validate_only)
    decision = create_partitions(state(image), request, caller, seed=0)
    return list(decision.records), {
        result.name: (result.error_code, result.error_message) for result in decision.response.results
    }


def more(name, count, assignments=None):
    given = None if assignments is None else [CreatePartitionsAssignment(broker_ids=ids) for ids in assignments]
    return CreatePartitionsTopic(name=name, count=count, assignments=given)


def test_growing():
    records, results = grow(more("b", 3))
    assert results == {"b": (Code.NONE, None)}
    assert [(record.topic_id, record.partition_id, len(record.replicas)) for record in records] == [
        (B, 1, 1),
        (B, 2, 1),
    ]
    assert sorted(apply(IMAGE, *records).topics.by_name["b"].partitions) == [0, 1, 2]
    assert grow(more("b", 3), validate_only=True) == ([], results)


def test_growing_by_assignment():
    records, _ = grow(more("a", 3, [[2, 1], [1, 2]]))
    assert records == [partition(A, 1, [2, 1]), partition(A, 2, [1, 2])]


@pytest.mark.parametrize(
    ("topic_", "code", "why"),
    [
        (more("x", 2), Code.UNKNOWN_TOPIC_OR_PARTITION, None),
        (more("b", 1), Code.INVALID_PARTITIONS, "Topic already has 1 partition(s)."),
        (
            more("b", 0),
            Code.INVALID_PARTITIONS,
            "The topic b currently has 1 partition(s); 0 would not be an increase.",
        ),
        (
            more("b", 3, [[1]]),
            Code.INVALID_REPLICA_ASSIGNMENT,
            "Attempted to add 2 additional partition(s), but only 1 assignment(s) were specified.",
        ),
        (
            more("b", 2, [[1, 2]]),
            Code.INVALID_REPLICA_ASSIGNMENT,
            "The manual partition assignment includes a partition with 2 replica(s), but this is not consistent with "
            "previous partitions, which have 1 replica(s).",
        ),
    ],
)
def test_what_can_not_grow(topic_, code, why):
    assert grow(topic_) == ([], {topic_.name: (code, why)})


def test_topics_of_one_request_stand_for_themselves():
    records, results = grow(more("a", 2), more("a", 3), more("b", 2), more("x", 2))
    assert {name: code for name, (code, _) in results.items()} == {
        "a": Code.INVALID_REQUEST,
        "b": Code.NONE,
        "x": Code.UNKNOWN_TOPIC_OR_PARTITION,
    }
    assert results["a"][1] == "Duplicate topic name."
    assert [record.topic_id for record in records] == [B]


def test_who_may_add_partitions():
    _, results = grow(more("a", 2), more("b", 2), caller=only((Operation.ALTER, Resource.TOPIC, "b")))
    assert results == {"a": (Code.TOPIC_AUTHORIZATION_FAILED, None), "b": (Code.NONE, None)}


def test_nobody_alive_for_new_partitions():
    down = apply(IMAGE, rec.FenceBrokerRecord(id=1, epoch=10), rec.FenceBrokerRecord(id=2, epoch=20))
    assert grow(more("b", 2), image=down)[1] == {
        "b": (
            Code.INVALID_REPLICATION_FACTOR,
            "All brokers are currently fenced, or have all their log directories cordoned.",
        )
    }


def test_too_many_partitions():
    """Each topic for itself: what fits into one batch is made, and nothing half."""
    refused = (Code.POLICY_VIOLATION, "Unable to perform excessively large batch operation.")
    for count in (10_002, 2**31 - 1):
        records, results = grow(more("a", 3), more("b", count))
        assert {record.topic_id for record in records} == {A}
        assert results == {"a": (Code.NONE, None), "b": refused}
    records, results = grow(more("b", 10_001), more("a", 3))
    assert len(records) == 10_000
    assert results == {"b": (Code.NONE, None), "a": refused}

"""AlterPartitionReassignments and ListPartitionReassignments (KIP-455, KIP-860)."""

import pytest

from kpybroker.cluster.machines.reassignments import alter_partition_reassignments, list_partition_reassignments
from kpybroker.wire.codes import Code
from kpybroker.wire.internal import metadata_records as rec
from kpybroker.wire.messages.alter_partition_reassignments import (
    AlterPartitionReassignmentsRequest,
    ReassignablePartition,
    ReassignableTopic,
)
from kpybroker.wire.messages.list_partition_reassignments import (
    ListPartitionReassignmentsRequest,
    ListPartitionReassignmentsTopics,
)

from .making import apply, broker, cluster, directory, state, topic, topic_id

FOO = topic_id(1)
IMAGE = apply(cluster(*(broker(number) for number in range(5))), *topic(1, "foo", [1, 2, 3], [3, 2, 1]))
WELL = (Code.NONE, None)


def alter(wanted, image=IMAGE, *, name="foo", change_factor=True):
    """`wanted`: replicas by partition, or pairs of both."""
    pairs = wanted.items() if isinstance(wanted, dict) else wanted
    partitions = [ReassignablePartition(partition_index=index, replicas=replicas) for index, replicas in pairs]
    request = AlterPartitionReassignmentsRequest(
        topics=[ReassignableTopic(name=name, partitions=partitions)], allow_replication_factor_change=change_factor
    )
    decision = alter_partition_reassignments(state(image), request)
    assert decision.response.allow_replication_factor_change == change_factor
    (answered,) = decision.response.responses
    results = [(each.error_code, each.error_message) for each in answered.partitions]
    return list(decision.records), results


def moving(image, *topics):
    """The moves under way, by topic and partition: replicas, adding, removing."""
    asked = [ListPartitionReassignmentsTopics(name=name, partition_indexes=indexes) for name, indexes in topics]
    request = ListPartitionReassignmentsRequest(topics=asked or None)
    decision = list_partition_reassignments(state(image), request)
    assert decision.records == []
    return {
        (found.name, each.partition_index): (each.replicas, each.adding_replicas, each.removing_replicas)
        for found in decision.response.topics
        for each in found.partitions
    }


def change(index, **fields):
    if "replicas" in fields:
        fields["directories"] = [directory(replica) for replica in fields["replicas"]]
    return rec.PartitionChangeRecord(partition_id=index, topic_id=FOO, **fields)


def test_another_order_is_done_at_once():
    assert alter({0: [3, 2, 1]}) == ([change(0, replicas=[3, 2, 1])], [WELL])
    assert alter({0: [1, 2, 3]}) == ([], [WELL])


def test_a_move_begins_waits_and_can_be_cancelled():
    """The situations and outcomes are those of Kafka's own controller."""
    records, results = alter({1: [0, 2, 1], 2: [0, 2, 1]})
    begun = change(1, replicas=[0, 2, 1, 3], adding_replicas=[0], removing_replicas=[3])
    assert records == [begun]
    assert results == [WELL, (Code.UNKNOWN_TOPIC_OR_PARTITION, "Unable to find partition foo:2.")]
    image = apply(IMAGE, *records)
    assert moving(image) == {("foo", 1): ([0, 2, 1, 3], [0], [3])}
    assert moving(image, ("foo", [0, 1, 9]), ("bar", [0])) == moving(image)
    assert moving(image, ("foo", [0])) == {}
    records, results = alter({0: None, 1: None}, image)
    assert records == [change(1, replicas=[2, 1, 3], leader=3, adding_replicas=[], removing_replicas=[])]
    assert results == [(Code.NO_REASSIGNMENT_IN_PROGRESS, None), WELL]
    assert moving(apply(image, *records)) == {}


def test_fewer_replicas_that_are_all_in_sync_are_enough_at_once():
    records, _ = alter({0: [1, 2]})
    assert records == [change(0, replicas=[1, 2], isr=[1, 2], leader=1)]
    assert moving(apply(IMAGE, *records)) == {}


def test_fewer_replicas_wait_until_those_that_stay_are_in_sync():
    image = apply(IMAGE, change(0, isr=[1, 3]))
    records, _ = alter({0: [1, 2]}, image)
    assert records == [change(0, removing_replicas=[3])]
    assert moving(apply(image, *records)) == {("foo", 0): ([1, 2, 3], [], [3])}


def test_a_move_whose_old_replicas_are_gone_is_cancelled_uncleanly_or_not_at_all():
    image = apply(IMAGE, *alter({0: [0, 4]})[0], change(0, isr=[4], leader=4))
    why = "Unable to revert partition assignment for foo:0 because it would require an unclean leader election."
    assert alter({0: None}, image) == ([], [(Code.INVALID_REPLICA_ASSIGNMENT, why)])
    allowed = rec.ConfigRecord(
        resource_type=2, resource_name="foo", name="unclean.leader.election.enable", value="true"
    )
    (record,), results = alter({0: None}, apply(image, allowed))
    assert results == [WELL]
    assert (record.replicas, record.isr, record.leader) == ([1, 2, 3], [1], 1)


def test_of_a_partition_that_is_named_twice_each_wish_is_written_and_the_last_counts():
    begun = change(0, replicas=[0, 1, 2, 3], adding_replicas=[0], removing_replicas=[2, 3])
    (turned, last), results = alter([(0, [3, 2, 1]), (0, [0, 1])])
    assert (turned.replicas, last, results) == ([3, 2, 1], begun, [WELL, WELL])
    assert alter([(0, [0, 1]), (0, [1, 2, 3])]) == ([begun], [WELL, WELL])


@pytest.mark.parametrize(
    ("replicas", "code", "why"),
    [
        ([], Code.INVALID_REPLICA_ASSIGNMENT, "The manual partition assignment includes an empty replica list."),
        (
            [1, 9],
            Code.INVALID_REPLICA_ASSIGNMENT,
            "The manual partition assignment includes broker 9, but no such broker is registered.",
        ),
        (
            [2, 1, 2],
            Code.INVALID_REPLICA_ASSIGNMENT,
            "The manual partition assignment includes the broker 2 more than once.",
        ),
        ([1, 2], Code.INVALID_REPLICATION_FACTOR, "The replication factor is changed from 3 to 2"),
        ([0, 1, 2, 3], Code.INVALID_REPLICATION_FACTOR, "The replication factor is changed from 3 to 4"),
    ],
)
def test_replicas_that_cannot_be(replicas, code, why):
    assert alter({0: replicas}, change_factor=False) == ([], [(code, why)])


def test_a_factor_is_counted_without_those_that_leave():
    image = apply(IMAGE, *alter({0: [0, 4, 1]})[0])
    assert alter({0: [4, 2, 3]}, image, change_factor=False)[1] == [WELL]
    why = "The replication factor is changed from 3 to 1"
    assert alter({0: [4]}, image, change_factor=False)[1] == [(Code.INVALID_REPLICATION_FACTOR, why)]


def test_what_is_not_there():
    why = "Unable to find a topic named bar."
    assert alter({0: [1], 1: None}, name="bar") == ([], [(Code.UNKNOWN_TOPIC_OR_PARTITION, why)] * 2)


def test_a_request_for_nothing():
    decision = alter_partition_reassignments(
        state(IMAGE), AlterPartitionReassignmentsRequest(topics=[], allow_replication_factor_change=False)
    )
    response = decision.response
    assert (response.error_message, response.allow_replication_factor_change, response.responses) == ("", True, [])

"""ElectLeaders: who is elected, and what is answered where nobody is (KIP-183, KIP-460)."""

import pytest

from kpybroker.cluster.machines.elect_leaders import elect_leaders
from kpybroker.cluster.replay import changed_partition
from kpybroker.wire.codes import Code, Refused
from kpybroker.wire.internal import metadata_records as rec
from kpybroker.wire.messages.elect_leaders import ElectLeadersRequest, TopicPartitions

from .making import apply, broker, cluster, state, topic, topic_id

PREFERRED, UNCLEAN = 0, 1
FOO = topic_id(1)
ALL = [broker(number) for number in range(5)]
NOT_NEEDED = (Code.ELECTION_NOT_NEEDED, Code.ELECTION_NOT_NEEDED.message)


def elect(image, *topics, kind=PREFERRED, everywhere=False):
    wanted = [TopicPartitions(topic=name, partitions=indexes) for name, indexes in topics]
    request = ElectLeadersRequest(election_type=kind, topic_partitions=None if everywhere else wanted)
    decision = elect_leaders(state(image), request)
    results = {
        (result.topic, each.partition_id): (each.error_code, each.error_message)
        for result in decision.response.replica_election_results
        for each in result.partition_result
    }
    return list(decision.records), results


def change(index, **fields):
    return rec.PartitionChangeRecord(partition_id=index, topic_id=FOO, **fields)


def led_by(*states, elr=True):
    """Topic foo: replicas, and what else each partition has."""
    image = apply(cluster(*ALL, elr=elr), *topic(1, "foo", *(list(replicas) for replicas, _ in states)))
    changes = [change(index, **fields) for index, (_, fields) in enumerate(states) if fields]
    return apply(image, *changes)


def test_the_first_replica_is_elected_if_it_is_in_sync():
    image = led_by(
        ((1, 2, 3), {"leader": 2}),
        ((2, 3, 4), {}),
        ((0, 2, 1), {"leader": 2}),
        ((4, 3), {"leader": 3, "isr": [3]}),
    )
    records, results = elect(image, ("foo", [0, 1, 2, 3]), ("bar", [0]))
    assert records == [change(0, leader=1), change(2, leader=0)]
    not_available = Code.PREFERRED_LEADER_NOT_AVAILABLE
    assert results == {
        ("foo", 0): (Code.NONE, None),
        ("foo", 1): NOT_NEEDED,
        ("foo", 2): (Code.NONE, None),
        ("foo", 3): (not_available, not_available.message),
        ("bar", 0): (Code.UNKNOWN_TOPIC_OR_PARTITION, "No such topic as bar"),
    }


@pytest.mark.parametrize(
    "away",
    [
        rec.FenceBrokerRecord(id=1, epoch=10),
        rec.BrokerRegistrationChangeRecord(broker_id=1, broker_epoch=10, in_controlled_shutdown=1),
    ],
    ids=["fenced", "on its way out"],
)
def test_a_first_replica_that_is_away_is_not_elected(away):
    image = apply(led_by(((1, 2), {"leader": 2})), away)
    assert elect(image, ("foo", [0]))[0] == []


def test_in_all_of_the_cluster_only_what_was_needed_is_told():
    image = led_by(((1, 2), {"leader": 2}), ((2, 1), {}))
    assert elect(image, everywhere=True) == ([change(0, leader=1)], {("foo", 0): (Code.NONE, None)})


def test_a_partition_that_is_named_twice_changes_once():
    image = led_by(((1, 2), {"leader": 2}))
    records, _ = elect(image, ("foo", [0, 0]), ("foo", [0]))
    assert records == [change(0, leader=1)]
    assert changed_partition(image.partition(FOO, 0), records[0]).leader_epoch == 2


@pytest.mark.parametrize("elr", [True, False])
def test_an_unclean_election_takes_any_live_replica(elr):
    dead = [rec.FenceBrokerRecord(id=1, epoch=10), rec.FenceBrokerRecord(id=3, epoch=30)]
    isr = [] if elr else [1]
    image = apply(led_by(((1, 2, 3), {"leader": -1, "isr": isr}), ((4, 2), {}), elr=elr), *dead)
    records, results = elect(image, ("foo", [0, 1]), kind=UNCLEAN)
    assert records == [change(0, leader=2, isr=[2], leader_recovery_state=1)]
    assert results == {("foo", 0): (Code.NONE, None), ("foo", 1): NOT_NEEDED}


def test_nobody_is_there_to_be_elected():
    dead = [rec.FenceBrokerRecord(id=number, epoch=number * 10) for number in (1, 2)]
    image = apply(led_by(((1, 2), {"leader": -1, "isr": []})), *dead)
    code = Code.ELIGIBLE_LEADERS_NOT_AVAILABLE
    assert elect(image, ("foo", [0]), kind=UNCLEAN) == ([], {("foo", 0): (code, code.message)})


def test_a_preferred_election_is_never_unclean():
    image = apply(
        led_by(((1, 2), {"leader": -1, "isr": []})),
        rec.ConfigRecord(resource_type=2, resource_name="foo", name="unclean.leader.election.enable", value="true"),
    )
    code = Code.PREFERRED_LEADER_NOT_AVAILABLE
    assert elect(image, ("foo", [0])) == ([], {("foo", 0): (code, code.message)})


def test_unknown_kinds():
    image = led_by(((1, 2), {}))
    with pytest.raises(Refused) as raised:
        elect(image, ("foo", [0]), kind=7)
    assert (raised.value.code, raised.value.why) == (Code.INVALID_REQUEST, "Unknown election type 7")
    assert elect(image, kind=7) == ([], {})

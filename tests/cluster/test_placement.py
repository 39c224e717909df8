"""Where new replicas go."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kpybroker.cluster.machines.placement import UsableBroker, place
from kpybroker.wire.codes import Code, Refused

RACKS = st.sampled_from([None, "a", "b", "c"])
BROKERS = st.lists(st.tuples(RACKS, st.booleans()), min_size=1, max_size=9).map(
    lambda given: [UsableBroker(id_, rack, fenced) for id_, (rack, fenced) in enumerate(given)]
)


def test_one_broker_gets_everything():
    assert place([UsableBroker(1, None, False)], partitions=3, replicas=1, seed=7) == [[1], [1], [1]]


@pytest.mark.parametrize(
    ("brokers", "replicas", "why"),
    [
        pytest.param(
            [UsableBroker(1, None, False)],
            2,
            "The target replication factor of 2 cannot be reached because only 1 broker(s) are registered or some "
            "brokers have all their log directories cordoned.",
            id="too few",
        ),
        pytest.param(
            [UsableBroker(1, None, True)],
            1,
            "All brokers are currently fenced, or have all their log directories cordoned.",
            id="none alive",
        ),
        pytest.param([], 1, "All brokers are currently fenced, or have all their log directories cordoned.", id="none"),
        pytest.param(
            [UsableBroker(1, None, False)],
            0,
            "Invalid replication factor 0: the replication factor must be positive.",
            id="no replicas",
        ),
    ],
)
def test_what_can_not_be_placed(brokers, replicas, why):
    with pytest.raises(Refused) as raised:
        place(brokers, partitions=1, replicas=replicas, seed=0)
    assert raised.value.code is Code.INVALID_REPLICATION_FACTOR
    assert raised.value.why == why


@given(BROKERS, st.integers(1, 20), st.integers(1, 9), st.integers(0, 2**31))
def test_every_placement_is_one(brokers, partitions, replicas, seed):
    live = {broker.id for broker in brokers if not broker.fenced}
    if not live or replicas > len(brokers):
        with pytest.raises(Refused):
            place(brokers, partitions=partitions, replicas=replicas, seed=seed)
        return
    placed = place(brokers, partitions=partitions, replicas=replicas, seed=seed)
    assert len(placed) == partitions
    for assignment in placed:
        assert len(set(assignment)) == len(assignment) == replicas
        assert assignment[0] in live, "who leads is alive"
    assert place(brokers, partitions=partitions, replicas=replicas, seed=seed) == placed


@given(st.integers(1, 9), st.integers(1, 3), st.integers(0, 2**31))
def test_without_racks_everyone_leads_and_holds_as_much(count, replicas, seed):
    brokers = [UsableBroker(id_, None, False) for id_ in range(count)]
    placed = place(brokers, partitions=count, replicas=min(replicas, count), seed=seed)
    assert Counter(assignment[0] for assignment in placed) == dict.fromkeys(range(count), 1)
    assert set(Counter(id_ for assignment in placed for id_ in assignment).values()) == {min(replicas, count)}


@given(st.integers(2, 4), st.integers(1, 4), st.integers(0, 2**31))
def test_racks_lead_in_turn_and_share_each_partition(racks, in_each, seed):
    brokers = [UsableBroker(rack * 10 + n, str(rack), False) for rack in range(racks) for n in range(in_each)]
    placed = place(brokers, partitions=len(brokers), replicas=min(racks, 3), seed=seed)
    assert Counter(assignment[0] // 10 for assignment in placed) == dict.fromkeys(range(racks), in_each)
    for assignment in placed:
        assert len({broker_id // 10 for broker_id in assignment}) == len(assignment)


def test_fenced_brokers_come_last():
    brokers = [UsableBroker(1, None, False), UsableBroker(2, None, True), UsableBroker(3, None, False)]
    for assignment in place(brokers, partitions=10, replicas=2, seed=3):
        assert sorted(assignment) == [1, 3]

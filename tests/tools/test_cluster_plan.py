"""Where replicas go when a broker comes or leaves: tables, and rules that hold for any cluster."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kpybroker.tools.cluster_plan import Place, Replicas, share_with, without


def topic(*replicas: Replicas) -> dict[Place, Replicas]:
    return {("t", index): each for index, each in enumerate(replicas)}


def test_every_replica_goes_to_the_emptiest_broker_and_keeps_its_rank() -> None:
    departure = without(2, topic((1, 2), (2, 3), (3, 1), (2, 4)), [1, 2, 3, 4])
    assert departure.moves == {("t", 0): (1, 4), ("t", 1): (1, 3), ("t", 3): (3, 4)}
    assert not departure.shrunk
    assert not departure.only


def test_a_broker_that_is_dead_already_is_left_too() -> None:
    assert without(2, topic((2, 1)), [1, 3]).moves == {("t", 0): (3, 1)}


def test_without_another_broker_there_are_fewer_replicas() -> None:
    departure = without(2, topic((1, 2, 3), (2,), (1, 3)), [1, 2, 3])
    assert departure.moves == {("t", 0): (1, 3), ("t", 1): (1,)}
    assert departure.shrunk == [("t", 0)]
    assert without(1, topic((1,)), [1]).only == [("t", 0)]


def test_a_new_broker_gets_its_share_from_those_that_have_most() -> None:
    before = topic((1, 2), (1, 2), (1, 3), (2, 3), (1, 2), (3, 1))
    moves = share_with(4, before, [1, 2, 3])
    after = before | moves
    assert Counter(broker for replicas in after.values() for broker in replicas) == {1: 3, 2: 3, 3: 3, 4: 3}


@pytest.mark.parametrize("before", [{}, topic((1,)), topic((1, 2, 3))])
def test_a_share_of_little_is_nothing(before: dict[Place, Replicas]) -> None:
    assert share_with(4, before, [1, 2, 3]) == {}


BROKERS = range(1, 6)
clusters = st.lists(
    st.lists(st.sampled_from(BROKERS), min_size=1, max_size=3, unique=True).map(tuple), max_size=30
).map(lambda replicas: topic(*replicas))


@given(clusters)
def test_nothing_is_left_on_a_broker_that_leaves(before: dict[Place, Replicas]) -> None:
    after = before | without(2, before, BROKERS).moves
    for place, replicas in after.items():
        assert 2 not in replicas
        assert len(set(replicas)) == len(replicas) == len(before[place]), "there are brokers enough"


@given(clusters)
def test_a_share_is_the_average_and_costs_one_move_each(before: dict[Place, Replicas]) -> None:
    moves = share_with(6, before, BROKERS)
    after = before | moves
    load = Counter(broker for replicas in after.values() for broker in replicas)
    assert load[6] == len(moves) == min(sum(map(len, before.values())) // 6, len(before))
    for place, replicas in moves.items():
        assert 6 in replicas
        assert len(set(replicas) - set(before[place])) == 1
        assert len(replicas) == len(before[place])

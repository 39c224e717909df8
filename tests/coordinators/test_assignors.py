"""The assignors of consumer groups: Kafka's results, and what any result must be.

`kafka_assignments.jsonl.gz` has what the assignor classes of Apache Kafka 4.3.1 came to: groups of random members and
topics, some of one step, some of several in which members come and go, topics grow, and the last result is the target
to start from.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kpybroker.coordinators.machines.consumer.assignment import Assignment, GroupSpec, MemberSpec, Partitions
from kpybroker.coordinators.machines.consumer.assignors import Assignor, assign
from kpybroker.coordinators.machines.consumer.java_order import copied, in_order, text_hash

RECORDED = Path(__file__).parent / "kafka_assignments.jsonl.gz"
Named = dict[str, dict[str, list[int]]]


def stories(kind: str) -> list[dict[str, Any]]:
    with gzip.open(RECORDED, "rt") as lines:
        return [story for story in map(json.loads, lines) if story["kind"] == kind]


@pytest.mark.parametrize(
    "kind", ["uniform-homogeneous", "uniform-heterogeneous", "range-homogeneous", "range-heterogeneous"]
)
def test_results_are_kafkas(kind: str) -> None:
    found = stories(kind)
    assert len(found) >= 50
    for story in found:
        target: Assignment = {}
        for step, expected in zip(story["steps"], story["results"], strict=True):
            target = _carry_out(step, target)
            assert _by_name(step, target) == {member: shares for member, shares in expected.items() if shares}


def _carry_out(step: dict[str, Any], target: Assignment) -> Assignment:
    ids = {name: bytes.fromhex(topic_id) for name, topic_id, _ in step["topics"]}
    counts = {bytes.fromhex(topic_id): count for _, topic_id, count in step["topics"]}
    members = {}
    owners: dict[bytes, dict[int, str]] = {}
    for member_id, instance_id, names in step["members"]:
        ordered = in_order(names, text_hash, copied(len(names)))
        had = target.get(member_id, {})
        members[member_id] = MemberSpec(
            instance_id, tuple(ids[name] for name in ordered if name in ids), len(names), had
        )
        for topic_id, indexes in had.items():
            owners.setdefault(topic_id, {}).update(dict.fromkeys(indexes, member_id))
    spec = GroupSpec(members, step["homogeneous"], owners, counts.__getitem__)
    return assign(Assignor(step["assignor"]), spec)


def _by_name(step: dict[str, Any], assignment: Assignment) -> Named:
    names = {bytes.fromhex(topic_id): name for name, topic_id, _ in step["topics"]}
    shares = {
        member_id: {names[topic_id]: sorted(indexes) for topic_id, indexes in partitions.items()}
        for member_id, partitions in assignment.items()
    }
    return {member_id: share for member_id, share in shares.items() if share}


# -- whatever the group


TOPICS = [bytes([number]) * 16 for number in range(5)]


@st.composite
def groups(draw: st.DrawFn) -> GroupSpec:
    """A group with a target of whatever valid kind."""
    counts = {topic_id: draw(st.integers(1, 9)) for topic_id in TOPICS}
    homogeneous = draw(st.booleans())
    everything = tuple(draw(st.lists(st.sampled_from(TOPICS), unique=True)))
    targets: dict[str, dict[bytes, list[int]]] = {f"m{number}": {} for number in range(draw(st.integers(1, 7)))}
    subscriptions = {
        member_id: everything if homogeneous else tuple(draw(st.lists(st.sampled_from(TOPICS), unique=True)))
        for member_id in targets
    }
    owners: dict[bytes, dict[int, str]] = {}
    for topic_id, count in counts.items():
        for index in range(count):
            owner = draw(st.sampled_from([None, *targets]))
            if owner is not None:
                targets[owner].setdefault(topic_id, []).append(index)
                owners.setdefault(topic_id, {})[index] = owner
    members = {
        member_id: MemberSpec(
            draw(st.sampled_from([None, f"i-{member_id}"])),
            subscriptions[member_id],
            len(subscriptions[member_id]),
            {topic_id: tuple(indexes) for topic_id, indexes in target.items()},
        )
        for member_id, target in targets.items()
    }
    return GroupSpec(members, homogeneous, owners, counts.__getitem__)


def _pairs(partitions: Partitions) -> Iterator[tuple[bytes, int]]:
    for topic_id, indexes in partitions.items():
        for index in indexes:
            yield topic_id, index


@given(groups(), st.sampled_from(Assignor))
def test_every_partition_has_one_owner_who_wants_it(spec: GroupSpec, assignor: Assignor) -> None:
    assignment = assign(assignor, spec)
    given_out = [pair for partitions in assignment.values() for pair in _pairs(partitions)]
    wanted = {topic_id for member in spec.members.values() for topic_id in member.topic_ids}
    assert sorted(given_out) == sorted((topic, index) for topic in wanted for index in range(spec.partitions_of(topic)))
    for member_id, partitions in assignment.items():
        assert partitions.keys() <= set(spec.members[member_id].topic_ids)


@given(groups())
def test_uniform_is_even_where_all_want_the_same(spec: GroupSpec) -> None:
    if spec.homogeneous:
        assignment = assign(Assignor.UNIFORM, spec)
        loads = [sum(1 for _ in _pairs(assignment.get(member_id, {}))) for member_id in spec.members]
        assert max(loads) - min(loads) <= 1


@given(groups())
def test_uniform_moves_no_more_than_it_must(spec: GroupSpec) -> None:
    """Where all want the same, everyone keeps as much of what they had as their quota lets them."""
    if not spec.homogeneous:
        return
    assignment = assign(Assignor.UNIFORM, spec)
    for member_id, member in spec.members.items():
        had = {pair for pair in _pairs(member.target) if pair[0] in member.topic_ids}
        has = set(_pairs(assignment.get(member_id, {})))
        assert len(had & has) == min(len(had), len(has))


@given(groups(), st.sampled_from(Assignor))
def test_a_result_that_is_the_target_stays(spec: GroupSpec, assignor: Assignor) -> None:
    first = assign(assignor, spec)
    members = {
        member_id: MemberSpec(member.instance_id, member.topic_ids, member.subscribed, first.get(member_id, {}))
        for member_id, member in spec.members.items()
    }
    owners: dict[bytes, dict[int, str]] = {}
    for member_id, partitions in first.items():
        for topic_id, index in _pairs(partitions):
            owners.setdefault(topic_id, {})[index] = member_id
    again = assign(assignor, GroupSpec(members, spec.homogeneous, owners, spec.partitions_of))
    if spec.homogeneous or assignor is Assignor.RANGE:
        assert {m: sorted(_pairs(p)) for m, p in again.items()} == {m: sorted(_pairs(p)) for m, p in first.items()}


def test_nobody_to_assign_to() -> None:
    for assignor in Assignor:
        assert assign(assignor, GroupSpec({}, True, {}, lambda _: 0)) == {}

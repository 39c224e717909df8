"""ISR, eligible leaders and elections of one partition (KIP-631, KIP-704, KIP-966)."""

import pytest

from kpybroker.cluster.image import EMPTY
from kpybroker.cluster.machines.partition_change import Rules, change_partition
from kpybroker.cluster.replay import changed_partition
from kpybroker.wire.internal.metadata_records import PartitionChangeRecord

from .making import apply, directory, partition, topic, topic_id

T = topic_id(1)


def made(replicas=(1, 2, 3), **fields):
    return apply(EMPTY, topic(1, "t")[0], partition(T, 0, list(replicas), **fields)).partition(T, 0)


def rules(alive=(1, 2, 3), min_isr=1, elr=True, unclean=False, offline=()):
    return Rules(
        min_insync_replicas=min_isr,
        elr_enabled=elr,
        unclean_election=unclean,
        acceptable=set(alive).__contains__,
        directory=directory,
        online=lambda _, directory: directory not in offline,
    )


def record(**fields):
    return PartitionChangeRecord(partition_id=0, topic_id=T, **fields)


@pytest.mark.parametrize(
    ("before", "under", "isr", "expected"),
    [
        pytest.param({}, rules(), None, None, id="nothing to do"),
        pytest.param({}, rules(alive=(1, 3)), [1, 3], record(isr=[1, 3]), id="a follower goes: no new epoch"),
        pytest.param({}, rules(alive=(2, 3)), [2, 3], record(isr=[2, 3], leader=2), id="the leader goes"),
        pytest.param({}, rules(alive=(3,)), [3], record(isr=[3], leader=3), id="the first live one in sync leads"),
        pytest.param(
            {},
            rules(alive=(3,), min_isr=2),
            [3],
            record(isr=[3], leader=3, eligible_leader_replicas=[1, 2]),
            id="below min.insync.replicas who leaves stays eligible",
        ),
        pytest.param(
            {"isr": [3], "leader": 3, "eligible_leader_replicas": [1, 2]},
            rules(alive=(), min_isr=2),
            [],
            record(isr=[], leader=-1, eligible_leader_replicas=[1, 2, 3], last_known_elr=[3]),
            id="the last one goes: no leader, remembered",
        ),
        pytest.param(
            {"isr": [], "leader": -1, "eligible_leader_replicas": [1, 2, 3], "last_known_elr": [3]},
            rules(alive=(2,), min_isr=2),
            None,
            record(isr=[2], leader=2, eligible_leader_replicas=[1, 3], last_known_elr=[]),
            id="an eligible one comes back: it leads",
        ),
        pytest.param(
            {"isr": [], "leader": -1, "last_known_elr": [3]},
            rules(alive=(2, 3)),
            None,
            record(isr=[3], leader=3, leader_recovery_state=1, last_known_elr=[]),
            id="nobody eligible: the last known leader, recovering",
        ),
        pytest.param(
            {"isr": [], "leader": -1, "last_known_elr": [3]}, rules(alive=(1, 2)), None, None, id="it is not back yet"
        ),
        pytest.param(
            {"isr": [], "leader": -1, "last_known_elr": [2, 3]},
            rules(alive=(2, 3)),
            None,
            None,
            id="several last known ones are an old ELR: nobody is elected",
        ),
        pytest.param(
            {"isr": [], "leader": -1, "eligible_leader_replicas": [2], "last_known_elr": [3]},
            rules(alive=(3,), min_isr=2),
            None,
            None,
            id="somebody eligible is away: the last known leader waits for it",
        ),
        pytest.param(
            {"isr": [], "leader": -1, "last_known_elr": [3]},
            rules(alive=(2,), unclean=True),
            None,
            record(isr=[2], leader=2, leader_recovery_state=1, last_known_elr=[]),
            id="unclean election, where the topic allows it",
        ),
        pytest.param(
            {"isr": [], "leader": -1, "eligible_leader_replicas": [1], "last_known_elr": [1]},
            rules(alive=(2,), unclean=True, min_isr=2),
            None,
            record(isr=[2], leader=2, leader_recovery_state=1, eligible_leader_replicas=[], last_known_elr=[]),
            id="an unclean election drops who was eligible",
        ),
        pytest.param(
            {"isr": [3], "leader": 3, "eligible_leader_replicas": [1, 2], "leader_recovery_state": 1},
            rules(alive=(1, 2, 3), min_isr=2),
            [3, 1],
            record(isr=[3, 1], eligible_leader_replicas=[]),
            id="enough in sync again: nobody needs to be eligible",
        ),
        pytest.param(
            {"isr": [1], "leader": 1},
            rules(alive=(), elr=False),
            [],
            record(leader=-1),
            id="without ELR the last one stays in the ISR",
        ),
        pytest.param(
            {"isr": [1], "leader": -1},
            rules(alive=(1,), elr=False),
            None,
            record(leader=1),
            id="and leads when it is back",
        ),
        pytest.param(
            {"isr": [1], "leader": 1, "eligible_leader_replicas": [2]},
            rules(elr=False),
            None,
            record(eligible_leader_replicas=[]),
            id="ELR was turned off",
        ),
    ],
)
def test_a_partition_changes(before, under, isr, expected):
    assert change_partition(made(**before), under, topic_id=T, index=0, isr=isr) == expected


def test_an_unclean_shutdown_is_not_eligible():
    before = made((1,), isr=[1])
    lost = change_partition(before, rules(alive=()), topic_id=T, index=0, isr=[], unclean_shutdown=1)
    assert lost == record(isr=[], leader=-1, last_known_elr=[1])
    eligible = made((1,), isr=[], leader=-1, eligible_leader_replicas=[1], last_known_elr=[1])
    lost = change_partition(eligible, rules(alive=()), topic_id=T, index=0, isr=[], unclean_shutdown=1)
    assert lost == record(eligible_leader_replicas=[])


@pytest.mark.parametrize(
    ("before", "isr", "expected"),
    [
        pytest.param(
            {"replicas": [2, 3, 1], "adding_replicas": [3], "removing_replicas": [1], "isr": [1, 2], "leader": 1},
            [1, 2, 3],
            record(
                isr=[2, 3],
                leader=2,
                replicas=[2, 3],
                removing_replicas=[],
                adding_replicas=[],
                directories=[directory(2), directory(3)],
            ),
            id="the new one is in sync: the old one leaves",
        ),
        pytest.param(
            {"replicas": [2, 3, 1], "adding_replicas": [3], "removing_replicas": [1], "isr": [1, 2], "leader": 2},
            [1, 2],
            None,
            id="it is not in sync yet",
        ),
        pytest.param(
            {"replicas": [1, 2, 3], "removing_replicas": [2, 3], "isr": [1, 2], "leader": 1},
            [1, 2],
            record(
                isr=[1],
                leader=1,
                replicas=[1],
                removing_replicas=[],
                directories=[directory(1)],
            ),
            id="dropping replicas starts a new leader epoch",
        ),
        pytest.param(
            {"replicas": [1, 2, 3], "removing_replicas": [3], "isr": [2, 3], "leader": 2},
            [2, 3],
            None,
            id="a shrinking one waits until all that stay are in sync",
        ),
    ],
)
def test_a_reassignment_ends_when_it_can(before, isr, expected):
    replicas = before.pop("replicas")
    assert change_partition(made(replicas, **before), rules(), topic_id=T, index=0, isr=isr) == expected


def test_a_replica_without_a_directory_gets_one():
    before = made((1, 2))
    shorter = changed_partition(before, record(replicas=[1], directories=[directory(1)], isr=[1]))
    assert shorter.directories == (directory(1),)
    assert change_partition(shorter, rules(), topic_id=T, index=0) is None

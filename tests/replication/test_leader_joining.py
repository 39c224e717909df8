"""Followers that have caught up when they may not join yet are taken in later, though they ask for nothing new."""

from __future__ import annotations

from kpybroker.replication.machines.leader import Decided, Heard, Leader
from kpybroker.wire.codes import Code


def leader_of_three(fenced: set[int]) -> Leader:
    """Broker 1 leads and is alone in sync; 2 and 3 have fetched up to its end."""
    leader = Leader(
        1,
        leader_epoch=4,
        partition_epoch=7,
        replicas=(1, 2, 3),
        isr=(1,),
        log_end=10,
        high_watermark=10,
        min_isr=1,
        lag_s_max=30.0,
        eligible=lambda broker_id, broker_epoch: broker_id not in fenced and broker_epoch == 50,
        now_s=0.0,
    )
    for replica in (2, 3):
        leader.fetched(replica, 10, 0, 50, Heard(1.0), 1.0)
    return leader


def test_one_joins_while_another_has_caught_up() -> None:
    leader = leader_of_three(set())
    first = leader.propose_joining(1.0, 2)
    assert first is not None
    assert leader.propose_joining(1.0, 3) is None  # one proposal at a time
    leader.answered(first, Code.NONE, Decided(4, 8, (1, 2)), 2.0)
    second = leader.propose_joining(2.0)
    assert second is not None
    assert [replica for replica, _ in second.isr] == [1, 2, 3]


def test_one_that_was_fenced_is_back() -> None:
    fenced = {2, 3}
    leader = leader_of_three(fenced)
    assert leader.propose_joining(1.0, 2) is None
    assert leader.propose_joining(2.0) is None
    fenced.discard(3)
    proposal = leader.propose_joining(2.0)
    assert proposal is not None
    assert [replica for replica, _ in proposal.isr] == [1, 3]

"""The leader's view of its followers: high watermark, in-sync replicas, and what the controller may answer."""

from __future__ import annotations

from typing import Any

import pytest

from kpybroker.replication.machines.leader import REFUSED_S, Decided, Heard, Leader, Proposal
from kpybroker.wire.codes import Code

ME, EPOCH, INCARNATION = 1, 4, 50


def leading(*, fenced: set[int] | None = None, **given: Any) -> Leader:
    """Broker 1 leads 2 and 3; its log ends at 10."""
    known: dict[str, Any] = {
        "leader_epoch": EPOCH,
        "partition_epoch": 7,
        "replicas": (1, 2, 3),
        "isr": (1, 2, 3),
        "log_end": 10,
        "high_watermark": 5,
        "min_isr": 1,
        "lag_s_max": 30.0,
        "eligible": lambda broker_id, epoch: broker_id not in (fenced or set()) and epoch == INCARNATION,
        "now_s": 0.0,
    }
    return Leader(ME, **(known | given))


def fetch(leader: Leader, replica: int, offset: int, now_s: float = 1.0, epoch: int = INCARNATION) -> bool | None:
    return leader.fetched(replica, offset, 0, epoch, Heard(now_s), now_s)


def ids(proposal: Proposal | None) -> list[int] | None:
    return None if proposal is None else [replica for replica, _ in proposal.isr]


@pytest.mark.parametrize(
    ("fetched", "given", "expected"),
    [
        pytest.param({2: 10}, {}, 5, id="one of two followers is not enough"),
        pytest.param({2: 10, 3: 8}, {}, 8, id="the slowest in sync decides"),
        pytest.param({2: 10}, {"isr": (1, 2)}, 10, id="one that is not in sync does not count"),
        pytest.param({2: 4, 3: 4}, {}, 5, id="it never goes back"),
        pytest.param({}, {"isr": (1,)}, 10, id="alone in sync"),
        pytest.param({}, {"isr": (1,), "min_isr": 2}, 5, id="under min.insync.replicas (KIP-966)"),
        pytest.param({2: 10, 3: 10}, {"min_isr": 9}, 10, id="no more are asked for than there are"),
        pytest.param({2: 9}, {"isr": (1,), "log_end": 9}, 9, id="one that is caught up"),
    ],
)
def test_high_watermark(fetched: dict[int, int], given: dict[str, Any], expected: int) -> None:
    leader = leading(**given)
    for replica, offset in fetched.items():
        fetch(leader, replica, offset)
    assert leader.high_watermark == expected


def test_it_waits_for_one_that_is_about_to_join() -> None:
    leader = leading(isr=(1,))
    fetch(leader, 2, 10)
    leader.appended(12, 2.0)
    assert leader.high_watermark == 10
    fetch(leader, 2, 12)
    assert leader.high_watermark == 12


def test_a_shrink_counts_when_it_is_confirmed_and_an_expansion_at_once() -> None:
    leader = leading(isr=(1, 2))
    fetch(leader, 2, 6)
    fetch(leader, 3, 10)
    joining = leader.propose_joining(1.0, 3)
    assert ids(joining) == [1, 2, 3]
    assert leader.maximal_isr == {1, 2, 3}
    assert joining is not None
    leader.answered(joining, Code.NONE, Decided(EPOCH, 8, (1, 2, 3)), 1.0)
    leaving = leader.propose_leaving(40.0)
    assert ids(leaving) == [1, 3], "who has everything may be silent"
    assert leaving is not None
    assert (leader.high_watermark, leader.maximal_isr) == (6, {1, 2, 3})
    leader.answered(leaving, Code.NONE, Decided(EPOCH, 9, (1, 3)), 40.0)
    assert leader.high_watermark == 10


def test_an_isr_is_proposed_in_the_order_of_ids() -> None:
    """Kafka's leaders keep it as a set of small integers."""
    leader = leading(isr=(3, 1))
    fetch(leader, 2, 10)
    assert ids(leader.propose_joining(1.0, 2)) == [1, 2, 3]


@pytest.mark.parametrize(
    ("code", "again", "pending"),
    [
        (Code.NONE, False, False),
        (Code.INELIGIBLE_REPLICA, False, False),
        (Code.OPERATION_NOT_ATTEMPTED, False, False),
        (Code.INVALID_UPDATE_VERSION, False, True),
        (Code.FENCED_LEADER_EPOCH, False, True),
        (Code.NEW_LEADER_ELECTED, False, True),
        (Code.UNKNOWN_TOPIC_ID, False, True),
        (Code.UNKNOWN_TOPIC_OR_PARTITION, False, True),
        (Code.INVALID_REQUEST, False, True),
        (Code.UNKNOWN_SERVER_ERROR, True, True),
    ],
)
def test_answers(code: Code, again: bool, pending: bool) -> None:
    leader = leading(isr=(1, 2))
    fetch(leader, 3, 10)
    proposal = leader.propose_joining(1.0, 3)
    assert proposal is not None
    assert leader.answered(proposal, code, Decided(EPOCH, 8, (1, 2, 3)), 1.0)[0] is again
    assert (leader.pending is not None) is pending
    if pending:
        leader.updated(Decided(EPOCH, 8, (1, 2, 3)), (1, 2, 3), 1.0)
        assert leader.pending is None, "the metadata says what is"


def test_what_the_controller_refuses_is_not_asked_again_at_each_fetch() -> None:
    leader = leading(isr=(1, 2))
    fetch(leader, 3, 10)
    proposal = leader.propose_joining(1.0, 3)
    assert proposal is not None
    leader.answered(proposal, Code.INELIGIBLE_REPLICA, Decided(EPOCH, 8, (1, 2)), 1.0)
    assert leader.propose_joining(1.0 + REFUSED_S / 2, 3) is None
    again = leader.propose_joining(1.0 + REFUSED_S, 3)
    assert ids(again) == [1, 2, 3]
    assert again is not None
    leader.answered(again, Code.INELIGIBLE_REPLICA, Decided(EPOCH, 8, (1, 2)), 2.0)
    assert ids(leader.propose_joining(2.0)) == [1, 2, 3], "something else has changed"


def test_answer_and_metadata_may_come_in_either_order() -> None:
    leader = leading(isr=(1, 2))
    fetch(leader, 3, 10)
    proposal = leader.propose_joining(1.0, 3)
    assert proposal is not None
    leader.answered(proposal, Code.NONE, Decided(EPOCH, 9, (1, 3)), 1.0)
    leader.updated(Decided(EPOCH, 8, (1, 2, 3)), (1, 2, 3), 1.0)
    assert (leader.partition_epoch, leader.isr) == (9, (1, 3))
    leader.updated(Decided(EPOCH, 10, (1, 2, 3)), (1, 2, 3), 1.0)
    assert leader.answered(proposal, Code.NONE, Decided(EPOCH, 11, (1,)), 1.0) == (False, False)
    assert leader.isr == (1, 2, 3), "what is no longer asked is not heard"


def test_metadata_that_an_answer_has_told_already_does_not_take_back_what_was_proposed_since() -> None:
    leader = leading(isr=(1,), lag_s_max=5.0)
    fetch(leader, 2, 10)
    first = leader.propose_joining(1.0, 2)
    fetch(leader, 3, 10)
    assert first is not None
    leader.answered(first, Code.NONE, Decided(EPOCH, 8, (1, 2)), 1.0)
    second = leader.propose_joining(1.0)
    assert ids(second) == [1, 2, 3]
    leader.updated(Decided(EPOCH, 8, (1, 2)), (1, 2, 3), 2.0)
    assert leader.pending is second
    assert leader.maximal_isr == {1, 2, 3}, "the controller may be taking it in at this moment"
    leader.appended(11, 2.0)
    fetch(leader, 2, 11, now_s=20.0)
    assert leader.high_watermark == 10


@pytest.mark.parametrize(
    ("given", "offset", "epoch"),
    [
        pytest.param({"high_watermark": 10}, 9, INCARNATION, id="below the high watermark"),
        pytest.param({}, 9, INCARNATION, id="before the leader's epoch"),
        pytest.param({"fenced": {3}}, 10, INCARNATION, id="fenced"),
        pytest.param({}, 10, INCARNATION - 1, id="an incarnation that is gone"),
    ],
)
def test_who_may_not_join(given: dict[str, Any], offset: int, epoch: int) -> None:
    leader = leading(isr=(1, 2), **given)
    fetch(leader, 3, offset, epoch=epoch)
    assert leader.propose_joining(1.0, 3) is None


def test_one_joins_while_another_has_caught_up() -> None:
    leader = leading(isr=(1,), high_watermark=10)
    fetch(leader, 2, 10)
    first = leader.propose_joining(1.0, 2)
    assert first is not None
    fetch(leader, 3, 10)
    assert leader.propose_joining(1.0, 3) is None, "one proposal at a time"
    leader.answered(first, Code.NONE, Decided(EPOCH, 8, (1, 2)), 2.0)
    assert ids(leader.propose_joining(2.0)) == [1, 2, 3]


def test_one_that_was_left_out_is_not_waited_for_before_it_is_heard_again() -> None:
    """The folder of a replica has failed, and its broker lives on."""
    leader = leading(isr=(1, 2, 3))
    heard = Heard(1.0)
    for replica in (2, 3):
        leader.fetched(replica, 10, 0, INCARNATION, heard, 1.0)
    leader.updated(Decided(EPOCH, 8, (1, 2)), (1, 2, 3), 2.0)
    assert leader.propose_joining(2.0) is None
    leader.appended(11, 2.0)
    assert leader.fetched(2, 11, 0, INCARNATION, heard, 2.0), "the high watermark moves"
    fetch(leader, 3, 11, 3.0)
    assert ids(leader.propose_joining(3.0)) == [1, 2, 3]


def test_who_no_longer_asks_for_the_partition_is_not_heard() -> None:
    leader = leading(isr=(1, 2, 3))
    heard = Heard(1.0)
    leader.fetched(3, 10, 0, INCARNATION, heard, 1.0)
    leader.unheard(heard)
    leader.updated(Decided(EPOCH, 8, (1, 2)), (1, 2, 3), 2.0)
    heard.at_s = 3.0
    assert leader.propose_joining(3.0) is None


def test_one_that_was_fenced_is_back() -> None:
    fenced = {2, 3}
    leader = leading(isr=(1,), fenced=fenced)
    for replica in (2, 3):
        fetch(leader, replica, 10)
        assert leader.propose_joining(1.0, replica) is None
    fenced.discard(3)
    assert ids(leader.propose_joining(2.0)) == [1, 3]


def test_a_silent_follower_is_not_taken_in_again() -> None:
    """Under min.insync.replicas the high watermark stands still, and who fell silent has reached it long ago."""
    leader = leading(isr=(1,), min_isr=2)
    fetch(leader, 2, 10)
    leader.appended(11, 2.0)
    assert leader.propose_joining(33.0) is None


def test_a_session_that_asks_is_heard_of_though_it_names_nothing() -> None:
    leader = leading(isr=(1, 2), replicas=(1, 2))
    heard = Heard(1.0)
    leader.fetched(2, 10, 0, INCARNATION, heard, 1.0)
    heard.at_s = 100.0
    leader.appended(11, 101.0)
    assert leader.propose_leaving(120.0) is None
    assert ids(leader.propose_leaving(131.0)) == [1]

"""The quorum's machine: epochs, votes, what is written first, what is committed."""

import pytest

from kpybroker.cluster.machines import raft_events as ev
from kpybroker.cluster.machines.raft import Raft, Role
from kpybroker.cluster.machines.raft_events import ElectionState, Entry, Key, Moment, Quorum, Voter
from kpybroker.cluster.machines.raft_log import LogView
from kpybroker.wire.codes import Code

from .making import directory


def voter(node_id):
    return Voter(id=node_id, directory_id=directory(node_id), endpoints=(("CONTROLLER", f"node{node_id}", 9093),))


def machine(*ids, me=1, kraft_version=1, log=()):
    """Node `me` of a quorum of `ids`; `log`: (base, end, epoch) of each batch."""
    view = LogView(Quorum(kraft_version, tuple(voter(id_) for id_ in ids)))
    for base, end, epoch in log:
        view.append(Entry(base, end, epoch))
    view.durable = view.end
    return Raft(me=Key(me, directory(me)), log=view)


def at(s=0.0, luck=0.0):
    return Moment(s, 1_700_000_000_000, luck)


def append(raft, count=1):
    """The leader appends, and syncs."""
    base = raft.log.end
    raft.step(ev.Appended((Entry(base, base + count, raft.epoch),)), at())
    return raft.step(ev.Durable(raft.log.end), at())


@pytest.mark.parametrize(
    ("kraft_version", "election", "log", "epoch", "write_voters"),
    [
        pytest.param(1, 0, [], 1, True, id="the first time"),
        pytest.param(1, 4, [(0, 90, 4)], 5, True, id="a log without voters"),
        pytest.param(1, 0, [(0, 90, 4)], 5, True, id="quorum-state lost"),
        pytest.param(1, 7, [(0, 90, 4)], 8, True, id="log behind"),
        pytest.param(0, 0, [], 1, False, id="voters from the configuration"),
    ],
)
def test_the_only_voter_leads_when_it_starts(kraft_version, election, log, epoch, write_voters):
    raft = machine(1, kraft_version=kraft_version, log=log)
    assert raft.step(ev.Started(ElectionState(epoch=election)), at()) == [
        ev.Persist(ElectionState(epoch=epoch, leader_id=1)),
        ev.Lead(epoch, (1,), (1,), write_voters),
    ]
    assert raft.is_leader
    assert raft.deadline_s == float("inf"), "nothing to wait for"


def test_what_is_durable_is_committed_once_the_epoch_has_begun():
    raft = machine(1, log=[(0, 10, 1)])
    raft.step(ev.Started(ElectionState(epoch=1)), at())
    assert raft.step(ev.Appended((Entry(10, 11, 2),)), at()) == []
    assert raft.step(ev.Durable(10), at()) == [], "older epochs alone are not committed"
    assert raft.step(ev.Durable(11), at()) == [ev.AdvanceHighWatermark(11)]
    assert append(raft, 4) == [ev.AdvanceHighWatermark(15)]
    assert raft.step(ev.Durable(15), at()) == [], "nothing new"


def test_what_was_not_appended_can_not_be_durable():
    raft = machine(1)
    raft.step(ev.Started(ElectionState()), at())
    with pytest.raises(AssertionError, match="not appended"):
        raft.step(ev.Durable(1), at())


def test_an_observer_never_stands():
    raft = machine(1, 2, 3, me=9)
    raft.step(ev.Started(ElectionState()), at())
    assert raft.deadline_s == float("inf")
    assert raft.fetch == ev.Fetch(None, 0, 0, 0, 0)


def test_a_former_leader_neither_leads_nor_votes_in_its_epoch_again():
    raft = machine(1, 2, 3, log=[(0, 5, 3)])
    effects = raft.step(ev.Started(ElectionState(epoch=3, leader_id=1)), at())
    assert raft.role is Role.RESIGNED
    assert {effect.to.id for effect in effects} == {2, 3}
    asked = ev.VoteRequested(Key(2, directory(2)), 3, 2, 9, False, None)
    assert not raft.step(asked, at())[-1].granted


def vote_of(candidate, epoch, last_epoch=0, last_offset=0):
    return ev.VoteRequested(Key(candidate, directory(candidate)), epoch, last_epoch, last_offset, False, None)


def test_a_vote_is_written_down_before_it_is_told_and_outlives_a_restart():
    raft = machine(1, 2, 3)
    raft.step(ev.Started(ElectionState()), at())
    effects = raft.step(vote_of(2, 1), at(0.1))
    voted = ElectionState(epoch=1, voted_id=2, voted_directory_id=directory(2))
    assert effects[-2:] == [ev.Persist(voted), ev.Reply(Code.NONE, granted=True)]
    again = machine(1, 2, 3)
    again.step(ev.Started(voted), at())
    assert again.step(vote_of(3, 1), at(0.1)) == [ev.Reply(Code.NONE, granted=False)]
    assert again.step(vote_of(2, 1), at(0.1)) == [ev.Reply(Code.NONE, granted=True)], "the same vote, asked for twice"


def test_a_leader_commits_older_epochs_with_a_record_of_its_own():
    raft = machine(1, 2, 3, log=[(0, 5, 1)])
    raft.step(ev.Started(ElectionState(epoch=1)), at())
    raft.step(ev.Tick(), at(5.0))
    assert raft.role is Role.PROSPECTIVE
    answer = ev.Answer(Code.NONE, raft.epoch, -1)
    asked = ev.SendVote(Key(2, directory(2)), raft.epoch, 1, 5, True)
    raft.step(ev.VoteAnswered(asked, answer, granted=True), at(5.1))
    assert raft.role is Role.CANDIDATE
    asked = asked._replace(epoch=raft.epoch, pre_vote=False)
    raft.step(ev.VoteAnswered(asked, answer._replace(epoch=raft.epoch), granted=True), at(5.2))
    assert raft.is_leader
    append(raft)
    fetched = ev.FetchRequested(Key(2, directory(2)), raft.epoch, 5, 1)
    raft.step(fetched, at(5.3))
    assert raft.high_watermark == 0, "a majority has offsets 0 to 4, but of epoch 1"
    raft.step(fetched._replace(offset=6, last_epoch=raft.epoch), at(5.4))
    assert raft.high_watermark == 6


def test_it_is_known_when_a_leader_was_heard_last_also_after_the_next_election():
    raft = machine(1, 2, 3)
    raft.step(ev.Started(ElectionState(epoch=1, leader_id=2)), at())
    assert raft.leader_heard is None
    asked = raft.fetch
    raft.step(ev.FetchAnswered(asked, ev.Answer(Code.NONE, 1, 2)), at(0.5))
    raft.step(ev.FetchAnswered(asked, ev.Answer(Code.FENCED_LEADER_EPOCH, 1, -1)), at(0.7))
    assert raft.leader_heard == (2, 0.5)
    raft.step(ev.BeginRequested(3, 2, (), Key(1, directory(1))), at(0.9))
    assert (raft.leader_id, raft.leader_heard) == (3, (2, 0.5)), "it has said that it leads, and answered nothing yet"


def test_a_follower_fetches_no_more_before_what_it_has_is_durable():
    raft = machine(1, 2, 3)
    raft.step(ev.Started(ElectionState(epoch=1, leader_id=2)), at())
    assert raft.fetch == ev.Fetch(2, 1, 0, 0, 0)
    raft.step(ev.Appended((Entry(0, 1, 1),)), at())
    assert raft.fetch is None
    raft.step(ev.Durable(1), at())
    assert raft.fetch == ev.Fetch(2, 1, 1, 1, 0)

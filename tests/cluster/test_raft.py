"""The quorum's machine: epochs, what is written first, what is committed."""

import pytest

from kpybroker.cluster.errors import NotAlone
from kpybroker.cluster.machines.raft import (
    AdvanceHighWatermark,
    Appended,
    Durable,
    ElectionState,
    Lead,
    Persist,
    Raft,
    Started,
    Upgraded,
    Voter,
    WriteQuorum,
)

from .making import directory

ME = Voter(id=1, directory_id=directory(1), endpoints=(("CONTROLLER", "localhost", 9093),))
OTHER = Voter(id=2, directory_id=directory(2), endpoints=())


def raft(kraft_version=1, voters=(ME,), **fields):
    return Raft(
        **{"node_id": 1, "directory_id": directory(1), "kraft_version": kraft_version, "voters": voters, **fields}
    )


def started(epoch=0, log_end=0, log_epoch=0, log_has_voters=False):
    return Started(ElectionState(epoch=epoch), log_end, log_epoch, log_has_voters)


@pytest.mark.parametrize(
    ("kraft_version", "event", "epoch", "write_voters"),
    [
        pytest.param(1, started(), 1, True, id="the first time"),
        pytest.param(1, started(epoch=4, log_end=90, log_epoch=4, log_has_voters=True), 5, False, id="again"),
        pytest.param(
            1, started(epoch=0, log_end=90, log_epoch=4, log_has_voters=True), 5, False, id="quorum-state lost"
        ),
        pytest.param(1, started(epoch=7, log_end=90, log_epoch=4, log_has_voters=True), 8, False, id="log behind"),
        pytest.param(1, started(epoch=4, log_end=90, log_epoch=4), 5, True, id="a log without voters"),
        pytest.param(0, started(), 1, False, id="voters from the configuration"),
    ],
)
def test_starting_takes_a_new_epoch_and_leads_it(kraft_version, event, epoch, write_voters):
    machine = raft(kraft_version)
    assert machine.step(event) == [
        Persist(ElectionState(epoch=epoch, leader_id=1)),
        Lead(epoch, (1,), write_voters),
    ]
    assert machine.is_leader
    assert machine.epoch == epoch
    assert machine.high_watermark == 0


def test_what_is_durable_is_committed_once_the_epoch_has_begun():
    machine = raft()
    machine.step(started(log_end=10, log_epoch=1))
    assert machine.step(Appended(11)) == []
    assert machine.step(Durable(1, 10)) == [], "older epochs alone are not committed"
    assert machine.step(Durable(1, 11)) == [AdvanceHighWatermark(11)]
    assert machine.step(Appended(15)) == []
    assert machine.step(Appended(20)) == []
    assert machine.step(Durable(1, 15)) == [AdvanceHighWatermark(15)]
    assert machine.step(Durable(1, 15)) == [], "nothing new"
    assert machine.step(Durable(1, 20)) == [AdvanceHighWatermark(20)]


def test_what_was_not_appended_can_not_be_durable():
    machine = raft()
    machine.step(started())
    with pytest.raises(AssertionError, match="not appended"):
        machine.step(Durable(1, 1))


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        pytest.param({"voters": (ME, OTHER)}, r"\[1, 2\]", id="others vote too"),
        pytest.param({"voters": (OTHER,)}, r"\[2\]", id="somebody else"),
        pytest.param({"voters": ()}, r"\[\]", id="nobody"),
        pytest.param({"directory_id": directory(3)}, "two folders were mixed", id="another folder"),
    ],
)
def test_a_quorum_that_is_not_ours_alone(fields, why):
    with pytest.raises(NotAlone, match=why):
        raft(**fields)


def test_without_voters_in_the_log_the_directory_does_not_matter():
    assert not raft(kraft_version=0, directory_id=directory(3)).is_leader


def test_the_leader_takes_the_quorum_to_kraft_version_1():
    machine = raft(kraft_version=0, voters=(Voter(id=1, directory_id=directory(1), endpoints=()),))
    machine.step(started())
    assert machine.step(Upgraded(ME.endpoints)) == [WriteQuorum()]
    assert (machine.kraft_version, machine.voters) == (1, (ME,))
    with pytest.raises(AssertionError, match="never goes down"):
        machine.step(Upgraded(ME.endpoints))

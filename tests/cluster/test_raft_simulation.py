"""Raft machines in a hostile world: see raft_simulation.py. `make campaign` runs thousands of seeds."""

import msgspec
import pytest

from kpybroker.cluster.machines import raft_leader, raft_log
from kpybroker.cluster.machines.raft import Raft
from kpybroker.cluster.machines.raft_roles import Member

from .raft_simulation import Node, World

TOKEN = 40
SEEDS_MAX = 1000
"""So many seeds find any broken rule, most of them far sooner."""


def test_what_must_hold_holds(request):
    size = request.config.getoption("campaign_size") or TOKEN
    first = int(request.config.getoption("campaign_seed"))
    for seed in range(first, first + size):
        try:
            World(seed).run()
        except AssertionError as failure:
            raise AssertionError(f"seed {seed}: {failure}") from failure


def test_a_seed_is_one_story():
    def story(seed):
        told = []

        class Telling(Node):
            def step(self, event, records=()):
                reply = super().step(event, records)
                told.append((self.world.now_s, self.key.id, event, reply))
                return reply

        world = World(seed)
        world.nodes = {id_: Telling(world, node.key, node.disk.formatted) for id_, node in world.nodes.items()}
        world.run()
        return told

    assert story(3) == story(3) != story(4)


# Rules, broken on purpose: the simulation has to notice each


def forget_votes(monkeypatch):
    """The vote is not written down."""
    persist = Node.persist

    def without_vote(self, election):
        persist(self, msgspec.structs.replace(election, voted_id=-1))

    monkeypatch.setattr(Node, "persist", without_vote)


def commit_older_epochs(monkeypatch):
    """What a majority has is committed though it is not of the leader's epoch."""
    init = raft_leader.Leadership.__init__

    def from_the_start(self, *arguments):
        init(self, *arguments)
        self.epoch_start = -1

    monkeypatch.setattr(raft_leader.Leadership, "__init__", from_the_start)


def never_truncate(monkeypatch):
    """A follower that diverges cuts nothing, and goes on behind what it has."""
    monkeypatch.setattr(raft_log.LogView, "diverges", lambda self, offset, _: None if offset <= self.end else (0, 0))


def vote_for_shorter_logs(monkeypatch):
    """A vote is given to a log that is behind."""
    requested = Raft._vote_requested

    def anyway(self, asked):
        last_epoch = max(asked.last_epoch, min(self.log.last_epoch, asked.epoch - 1))
        requested(self, asked._replace(last_epoch=last_epoch, last_offset=10**9))

    monkeypatch.setattr(Raft, "_vote_requested", anyway)


def count_what_is_not_synced(monkeypatch):
    """The leader counts itself for what it has only appended."""
    committed = raft_leader.Leadership.committed
    advance = Raft._advance

    def eager(self):
        if self.leadership is not None:
            durable, self.log.durable = self.log.durable, self.log.end
            try:
                advance(self)
            finally:
                self.log.durable = durable
        else:
            advance(self)

    assert committed
    monkeypatch.setattr(Raft, "_advance", eager)


def fetch_before_the_sync(monkeypatch):
    """A follower tells of records that it has not synced."""
    fetch = Member.fetch

    def eager(self):
        durable, self.log.durable = self.log.durable, self.log.end
        try:
            return fetch.fget(self)
        finally:
            self.log.durable = durable

    monkeypatch.setattr(Member, "fetch", property(eager))


def vote_twice(monkeypatch):
    """A second candidate of an epoch gets a vote too."""
    grants = Raft._grants

    def generous(self, asked):
        voted, self._voted = self._voted, None
        try:
            return grants(self, asked)
        finally:
            self._voted = voted

    monkeypatch.setattr(Raft, "_grants", generous)


def lead_again_after_a_restart(monkeypatch):
    """One that led when it died forgets that it did."""
    start = Member._start

    def innocent(self, election):
        start(self, msgspec.structs.replace(election, leader_id=-1, voted_id=-1))

    monkeypatch.setattr(Member, "_start", innocent)


def less_than_a_majority(monkeypatch):
    """Half of the voters are enough."""
    from kpybroker.cluster.machines.raft_events import Quorum

    monkeypatch.setattr(Quorum, "majority", property(lambda self: max(len(self.voters) // 2, 1)))


def change_voters_before_the_last_change_is_committed(monkeypatch):
    """Two changes of the voters at a time."""
    monkeypatch.setattr(raft_log.LogView, "quorum_offset", property(lambda _: -1))


BROKEN = {
    never_truncate: 3,
    vote_for_shorter_logs: 7,
    less_than_a_majority: 1,
    count_what_is_not_synced: 1,
    fetch_before_the_sync: 53,
    commit_older_epochs: 59,
    vote_twice: 332,
    lead_again_after_a_restart: 535,
    change_voters_before_the_last_change_is_committed: 203,
    forget_votes: 551,
}
"""Each rule, and the first seed that shows that it is missed. After a change of the simulation there are others: a
campaign finds them (--campaign-size 1000)."""


@pytest.mark.parametrize("mutation", BROKEN, ids=lambda mutation: mutation.__name__)
def test_a_broken_rule_is_found(monkeypatch, request, mutation):
    size = request.config.getoption("campaign_size")
    mutation(monkeypatch)
    for seed in [BROKEN[mutation]] if size is None else range(max(size, SEEDS_MAX)):
        try:
            World(seed).run()
        except Exception:
            print(f"{mutation.__name__}: after {seed + 1} seeds")
            return
    pytest.fail("not found")

"""Raft machines alone, in a world that loses, delays, doubles and reorders, on disks that forget; all from a seed.

    World(seed).run()

What happens is decided by one Random, and time is simulated: the same seed gives the same story. Nodes keep a log of
one record a batch; what was not synced may be gone after a crash, down to what was synced last, and cuts that were not
synced may be undone. After each step is checked what must always hold; at the end everything heals, and a leader must
be found, and all must agree with it.
"""

import heapq
from random import Random
from typing import NamedTuple

from kpybroker.cluster.machines import raft_events as ev
from kpybroker.cluster.machines.raft import Raft, Role
from kpybroker.cluster.machines.raft_events import Answer, ElectionState, Entry, Key, Moment, Quorum, SnapshotId, Voter
from kpybroker.cluster.machines.raft_log import LogView
from kpybroker.wire.codes import Code

REQUEST_TIMEOUT_S = 2.0
FETCH_WAIT_S = 0.5
CALM_S = 15.0
"""How long at the end nothing goes wrong."""


MISHAPS = (
    *("crash", "crash", "crash", "power", "cut", "alone", "heal", "heal"),
    *("snapshot", "snapshot", "voters", "voters", "resign", "slow"),
)


class Batch(NamedTuple):
    """One record: what it is, in which epoch it was written, and whether it says who votes."""

    id: int
    epoch: int
    quorum: Quorum | None = None


class Snapshot(NamedTuple):
    """Everything below `id.end_offset`."""

    id: SnapshotId
    batches: tuple[Batch, ...]
    quorum: Quorum


class Disk:
    """What a node keeps: a log and what was done to it since the last sync, quorum-state and snapshots."""

    def __init__(self, quorum):
        self.election = ElectionState()
        self.formatted = quorum
        self.snapshots = []
        self.log_start = 0
        self.batches = []
        """Of the log, from `log_start` on, as the node reads it."""
        self.synced = []
        self.unsynced = []
        """Appends (a batch) and cuts (an offset) in order."""

    @property
    def end(self):
        return self.log_start + len(self.batches)

    def append(self, batch):
        self.batches.append(batch)
        self.unsynced.append(batch)

    def truncate(self, offset):
        del self.batches[offset - self.log_start :]
        self.unsynced.append(offset)

    def sync(self, count):
        """The first `count` changes are durable."""
        self._apply(self.unsynced[:count])
        del self.unsynced[:count]

    def _apply(self, changes):
        for change in changes:
            if isinstance(change, Batch):
                self.synced.append(change)
            else:
                del self.synced[change - self.log_start :]

    def crash(self, rng):
        """Power goes: any number of the changes that were not synced survive, in order."""
        self._apply(self.unsynced[: rng.randint(0, len(self.unsynced))])
        self.unsynced = []
        self.batches = list(self.synced)

    def start_at(self, snapshot):
        """A snapshot is all there is."""
        self.snapshots = [snapshot]
        self.log_start = snapshot.id.end_offset
        self.batches, self.synced, self.unsynced = [], [], []

    def drop_below(self, snapshot):
        """The log begins at a snapshot."""
        count = min(snapshot.id.end_offset - self.log_start, len(self.synced))
        if count < snapshot.id.end_offset - self.log_start or self.unsynced:
            return False
        del self.batches[:count], self.synced[:count]
        self.log_start = snapshot.id.end_offset
        self.snapshots = [each for each in self.snapshots if each.id >= snapshot.id]
        return True

    def all_batches(self):
        """Everything from offset 0 on, snapshots included."""
        base = next((each for each in self.snapshots if each.id.end_offset == self.log_start), None)
        return (list(base.batches) if base else []) + self.batches


class Node:
    """A machine, its disk, and the edge that performs its effects."""

    def __init__(self, world, key, quorum):
        self.world, self.key = world, key
        self.disk = Disk(quorum)
        self.raft = None
        self.life = 0
        self.syncing = False
        self.deferred = []
        self.fetching = None
        self.alarm_s = None
        self.waiting = []

    @property
    def up(self):
        return self.raft is not None

    # Life and death

    def start(self):
        self.life += 1
        self.syncing, self.deferred, self.fetching, self.alarm_s, self.waiting = False, [], None, None, []
        disk = self.disk
        base = next((each for each in disk.snapshots if each.id.end_offset == disk.log_start), None)
        view = LogView(
            base.quorum if base else disk.formatted, start=disk.log_start, start_epoch=base.id.epoch if base else 0
        )
        for offset, batch in enumerate(disk.batches, disk.log_start):
            view.append(Entry(offset, offset + 1, batch.epoch, batch.quorum))
        view.snapshot = disk.snapshots[-1].id if disk.snapshots else None
        view.durable = view.end
        self.raft = Raft(me=self.key, log=view)
        self.step(ev.Started(disk.election))

    def crash(self):
        self.raft = None
        self.life += 1
        self.disk.crash(self.world.rng)

    # Steps

    def step(self, event, records=()):
        """Returns the reply to a request."""
        before = self.raft.high_watermark
        reply = self.perform(self.raft.step(event, self.world.moment()), records)
        assert self.raft.high_watermark >= before, "the high watermark never goes back"
        self.after()
        return reply

    def perform(self, effects, records=()):
        reply = None
        for effect in effects:
            match effect:
                case ev.Reply() | ev.FetchReply():
                    reply = effect
                case ev.Persist(election):
                    self.persist(election)
                case ev.Lead():
                    self.lead(effect)
                case ev.WriteQuorum(quorum):
                    self.append(self.world.new_batch(self.raft.epoch, quorum))
                case ev.Truncate(offset):
                    self.disk.truncate(offset)
                case ev.TakeRecords():
                    for batch in records:
                        self.append(batch)
                case ev.AdvanceHighWatermark(offset):
                    self.world.committed_by(self, offset)
                case ev.LoadSnapshot():
                    self.world.ask(self, effect.leader_id, effect)
                case _:
                    self.world.ask(self, effect.to.id, effect)
        return reply

    def persist(self, election):
        self.disk.election = election
        self.world.touched(self)

    def lead(self, lead):
        self.world.leads(self, lead.epoch)
        self.append(self.world.new_batch(lead.epoch, self.raft.quorum if lead.write_voters else None))

    def append(self, batch):
        offset = self.disk.end
        self.world.check_written(self, offset, batch)
        self.disk.append(batch)
        self.perform(
            self.raft.step(ev.Appended((Entry(offset, offset + 1, batch.epoch, batch.quorum),)), self.world.moment())
        )

    def after(self):
        """What the edge does after each step: sync, fetch, wait for the deadline, answer those who wait."""
        raft, world = self.raft, self.world
        assert raft.log.end == self.disk.end, "the machine knows the log"
        if not self.syncing and raft.log.durable < raft.log.end:
            self.sync()
        wanted = raft.fetch
        if self.fetching is not None and (wanted is None or self.fetching[:2] != wanted[:2]):
            self.fetching = None  # abandoned
        if wanted is not None and self.fetching is None:
            self.fetching = wanted
            world.later(0.001, self.fetch, self.life, wanted)
        deadline_s = raft.deadline_s
        if deadline_s < float("inf") and (
            self.alarm_s is None or self.alarm_s > deadline_s or self.alarm_s < world.now_s
        ):
            self.alarm_s = deadline_s
            world.at(max(deadline_s, world.now_s), self.tick, self.life)
        waiting, self.waiting = self.waiting, []
        for answer in waiting:
            answer()

    def tick(self, life):
        if life != self.life or not self.up:
            return
        self.alarm_s = None
        if self.world.now_s >= self.raft.deadline_s:
            self.step(ev.Tick())
        else:
            self.after()

    def sync(self):
        self.syncing = True
        count, end = len(self.disk.unsynced), self.disk.end
        self.world.later(self.world.disk_delay(self), self.synced, self.life, count, end)

    def synced(self, life, count, end):
        if life != self.life:
            return
        self.disk.sync(count)
        self.syncing = False
        self.step(ev.Durable(end))
        while self.deferred and not self.syncing and self.up:
            self.deferred.pop(0)()

    # Requests

    def fetch(self, life, wanted):
        if life == self.life and self.fetching is wanted:
            to = (
                wanted.to
                if wanted.to is not None
                else self.world.rng.choice([id_ for id_ in self.world.nodes if id_ != self.key.id] or [0])
            )
            self.world.ask(self, to, wanted)

    def failed(self, asked, refused):
        """No answer came."""
        if isinstance(asked, ev.Fetch):
            if self.fetching is not asked:
                return
            self.fetching = None
        if isinstance(asked, ev.LoadSnapshot):
            asked = ev.Fetch(asked.leader_id, asked.epoch, 0, 0, 0)
        self.step(ev.Unanswered(asked, refused))

    def answered(self, asked, response):
        """`response`: what `carry_out` of the other node made."""
        answer, rest = response
        match asked:
            case ev.Fetch():
                if self.syncing:  # the log is not cut while it is synced
                    self.deferred.append(lambda: self.answered(asked, response))
                    return
                current = self.fetching is asked
                if not current and self.world.rng.random() < 0.5:
                    return
                if current:
                    self.fetching = None
                self.step(ev.FetchAnswered(asked, answer, *rest[:-1]), rest[-1])
            case ev.SendVote():
                self.step(ev.VoteAnswered(asked, answer, rest))
            case ev.SendBegin():
                self.step(ev.BeginAnswered(asked, answer))
            case ev.SendEnd():
                self.step(ev.EndAnswered(asked, answer))
            case ev.LoadSnapshot():
                if self.syncing:
                    self.deferred.append(lambda: self.answered(asked, response))
                    return
                self.step(ev.SnapshotAnswered(asked.epoch, answer))
                if self.raft.loading != asked:
                    return
                if rest is None:
                    self.step(ev.SnapshotGivenUp())
                    return
                self.disk.start_at(rest)
                before = self.raft.high_watermark
                self.perform(self.raft.step(ev.SnapshotLoaded(rest.id, rest.quorum), self.world.moment()))
                assert self.raft.high_watermark >= before
                self.after()

    def carry_out(self, sender, asked, reply_to, deadline_s=None):
        """A request came; `reply_to` is given (Answer, what else there is)."""
        match asked:
            case ev.Fetch():
                self.serve_fetch(sender, asked, reply_to, deadline_s or self.world.now_s + FETCH_WAIT_S)
                return
            case ev.SendVote():
                reply = self.step(
                    ev.VoteRequested(sender, asked.epoch, asked.last_epoch, asked.last_offset, asked.pre_vote, asked.to)
                )
                rest = reply.granted
            case ev.SendBegin():
                reply, rest = self.step(ev.BeginRequested(sender.id, asked.epoch, (), asked.to)), None
            case ev.SendEnd():
                reply, rest = self.step(ev.EndRequested(sender.id, asked.epoch, (), asked.preferred)), None
            case ev.LoadSnapshot():
                reply = self.step(ev.SnapshotRequested(sender, asked.epoch))
                rest = next((each for each in self.disk.snapshots if each.id == asked.id), None)
        reply_to((self.answer(reply.code), rest))

    def answer(self, code):
        return Answer(code, self.raft.epoch, -1 if self.raft.leader_id is None else self.raft.leader_id)

    def serve_fetch(self, sender, asked, reply_to, deadline_s):
        reply = self.step(ev.FetchRequested(sender, asked.epoch, asked.offset, asked.last_epoch))
        leadership = self.raft.leadership
        high_watermark = -1 if leadership is None or leadership.high_watermark is None else leadership.high_watermark
        records = ()
        if reply.code == Code.NONE and reply.diverging is None and reply.snapshot is None:
            at = asked.offset - self.disk.log_start
            records = tuple(self.disk.batches[at : at + self.world.fetch_records])
        told = (
            reply.code != Code.NONE
            or records
            or reply.diverging
            or reply.snapshot
            or asked.high_watermark < high_watermark
        )
        if not told and self.world.now_s < deadline_s:
            life = self.life
            done = []

            def again():
                if life == self.life and not done:
                    done.append(True)
                    self.world.later(
                        0.0, lambda: life == self.life and self.serve_fetch(sender, asked, reply_to, deadline_s)
                    )

            seen = (self.raft.log.end, self.raft.high_watermark, self.raft.role, self.raft.epoch)

            def when_news():
                if seen != (self.raft.log.end, self.raft.high_watermark, self.raft.role, self.raft.epoch):
                    again()
                elif not done:
                    self.waiting.append(when_news)

            self.waiting.append(when_news)
            self.world.at(deadline_s, again)
            return
        rest = (high_watermark, reply.diverging, reply.snapshot, bool(records), records)
        reply_to((self.answer(reply.code), rest))

    def serve_again(self, life, *arguments):
        if life == self.life:
            self.serve_fetch(*arguments)

    # What may happen to it

    def write(self):
        if self.up and self.raft.is_leader:
            self.append(self.world.new_batch(self.raft.epoch))
            self.after()

    def take_snapshot(self):
        raft = self.raft
        if raft is None or raft.high_watermark <= raft.log.start or self.syncing or raft.loading is not None:
            return
        end = raft.high_watermark
        newest = self.disk.snapshots[-1].id.end_offset if self.disk.snapshots else 0
        batches = self.disk.all_batches()
        if end <= newest or len(batches) < end:
            return
        snapshot = Snapshot(SnapshotId(end, batches[end - 1].epoch), tuple(batches[:end]), raft.log.quorum_below(end))
        self.disk.snapshots.append(snapshot)
        start = next((each for each in self.disk.snapshots if each.id.end_offset == self.disk.log_start), None)
        kept = self.world.rng.choice(self.disk.snapshots)
        if self.world.rng.random() < 0.5 and self.disk.drop_below(kept):
            start = kept
        self.step(ev.SnapshotTaken(snapshot.id, self.disk.log_start, start.id.epoch if start else 0))

    def change_voters(self):
        """As the leader, at random: add an observer that is caught up, or remove a voter."""
        raft, rng = self.raft, self.world.rng
        if raft is None or not raft.is_leader or raft.leadership.high_watermark is None:
            return
        if raft.log.quorum_offset >= raft.leadership.high_watermark:
            return
        quorum = raft.quorum
        ids = {voter.id for voter in quorum.voters}
        now = self.world.moment()
        others = [key for key in raft.leadership.progress if raft.leadership.caught_up(key, now)]
        others = [key for key in others if key.id not in ids]
        if others and (len(ids) < 3 or rng.random() < 0.5):
            voters = (*quorum.voters, voter(rng.choice(others)))
        elif len(ids) > 1:
            gone = rng.choice(sorted(ids))
            voters = tuple(each for each in quorum.voters if each.id != gone)
        else:
            return
        self.step(ev.ChangeQuorum(Quorum(1, voters)))


def voter(key):
    return Voter(id=key.id, directory_id=key.directory_id, endpoints=())


class World:
    """Nodes, the network between them, and time."""

    node_class = Node

    def __init__(self, seed, *, seconds=10.0):
        self.rng = rng = Random(seed)
        self.seconds = seconds
        self.now_s = 0.0
        self.queue = []
        self.count = 0
        self.batches = 0
        self.committed = {}
        """Which batch is at which offset, of those that any node took for committed."""
        self.written = {}
        self.leaders = {}
        voters, observers = rng.choice([1, 2, 3, 3, 3, 3, 4, 5]), rng.choice([0, 0, 1, 2])
        keys = [Key(id_, bytes([id_]) * 16) for id_ in range(1, voters + observers + 1)]
        quorum = Quorum(1, tuple(voter(key) for key in keys[:voters]))
        self.nodes = {key.id: self.node_class(self, key, quorum) for key in keys}
        self.cut = set()
        self.loss = rng.choice([0.0, 0.02, 0.2])
        self.twice = rng.choice([0.0, 0.05])
        self.delay_s = rng.choice([0.002, 0.02, 0.3])
        self.sync_s = rng.choice([0.001, 0.01, 0.2])
        self.slow = {key.id: rng.choice([1, 1, 1, 10]) for key in keys}
        self.mishap_s = rng.choice([0.05, 0.2, 1.0])
        self.pause_s = rng.choice([0.02, 0.2, 0.5])
        self.fetch_records = rng.choice([1, 5])
        self.luck = rng.choice([1.0, 0.02])
        """How much timers differ: with little, candidates meet."""
        self.touchy = rng.choice([0.0, 0.3])
        self.away_s = rng.choice([0.05, 0.5, 2.0, 5.0])
        """How long a node that crashed is away."""
        self.changes = rng.random() < 0.5
        self.snapshots = rng.random() < 0.5
        self.calm = False
        self.doomed = 0.0
        """How many leaders die soon after they were elected."""
        self.far = {}
        """How much longer than others a message takes, by who sends it to whom."""
        match seed % 4:
            case 1:
                self.many_elections()
            case 2:
                self.short_reigns()
            case 3:
                self.uneven_ways()

    def many_elections(self):
        """Candidates that meet, and voters that die as they vote; records go over one by one."""
        self.luck, self.touchy, self.fetch_records = 0.02, 0.5, 1
        self.delay_s, self.loss = self.rng.choice([0.01, 0.03]), 0.02
        self.mishap_s, self.away_s = 0.5, self.rng.choice([0.05, 2.0])

    def short_reigns(self):
        """Leaders that die with records that few have got, and come back when others have led."""
        self.seconds *= 2
        self.luck, self.doomed, self.fetch_records = 1.0, 0.8, 1
        self.delay_s, self.sync_s, self.loss = 0.01, self.rng.choice([0.001, 0.05]), self.rng.choice([0.1, 0.3])
        self.slow = dict.fromkeys(self.slow, 1)
        self.mishap_s, self.away_s, self.pause_s = 5.0, self.rng.choice([1.0, 3.0]), 0.5

    def uneven_ways(self):
        """Some hear long before others who was elected, and voters die as they vote."""
        self.many_elections()
        self.touchy, self.away_s = 0.7, 0.05
        self.far = {(one, other): self.rng.choice([0.1, 1, 10]) for one in self.nodes for other in self.nodes}

    # Time

    def moment(self):
        return Moment(self.now_s, int(self.now_s * 1000), self.rng.random() * (1.0 if self.calm else self.luck))

    def at(self, when_s, call, *arguments):
        self.count += 1
        heapq.heappush(self.queue, (when_s, self.count, call, arguments))

    def later(self, delay_s, call, *arguments):
        self.at(self.now_s + delay_s, call, *arguments)

    def disk_delay(self, node):
        return min(self.rng.expovariate(1 / (self.sync_s * self.slow[node.key.id])), 3.0)

    def run_until(self, when_s):
        while self.queue and self.queue[0][0] <= when_s:
            self.now_s, _, call, arguments = heapq.heappop(self.queue)
            call(*arguments)
        self.now_s = when_s

    # The network

    def carries(self, sender, to):
        return (sender, to) not in self.cut and self.rng.random() >= self.loss

    def send(self, sender, to, call):
        """Have `call` happen at `to`, or not, or twice."""
        if self.carries(sender, to):
            for _ in range(2 if self.rng.random() < self.twice else 1):
                delay_s = self.delay_s * (1 if self.calm else self.far.get((sender, to), 1))
                self.later(self.rng.expovariate(1 / delay_s), call)

    def ask(self, node, to, asked):
        life, done = node.life, []

        def came(response):
            if node.life == life and (not done or self.rng.random() < 0.5):
                done.append(True)
                node.answered(asked, response)

        def failed(refused):
            if node.life == life and not done:
                done.append(True)
                node.failed(asked, refused)

        def arrive():
            other = self.nodes.get(to)
            if other is None or not other.up:
                self.send(to, node.key.id, lambda: failed(True))
            else:
                other.carry_out(node.key, asked, lambda response: self.send(to, node.key.id, lambda: came(response)))

        self.send(node.key.id, to, arrive)
        self.later(REQUEST_TIMEOUT_S, failed, False)

    # What must hold

    def new_batch(self, epoch, quorum=None):
        self.batches += 1
        return Batch(self.batches, epoch, quorum)

    def leads(self, node, epoch):
        assert self.leaders.setdefault(epoch, node.key.id) == node.key.id, f"two leaders of epoch {epoch}"
        held = node.disk.all_batches()
        for offset, batch in self.committed.items():
            assert held[offset : offset + 1] == [batch], f"the leader of {epoch} lacks what is committed"
        if not self.calm and self.rng.random() < self.doomed:
            self.later(self.rng.choice([0.0, 0.02, 0.2, 2.0]), self.stop, node, node.life)

    def check_written(self, node, offset, batch):
        """Logs that have a record of the same epoch at an offset are the same up to it."""
        before = node.raft.log.last_epoch
        assert self.written.setdefault((offset, batch.epoch), (batch.id, before)) == (batch.id, before), "logs match"

    def committed_by(self, node, offset):
        held = node.disk.all_batches()
        assert offset <= len(held), "what is committed is there"
        for at in range(max(offset - 50, 0), offset):
            known = self.committed.setdefault(at, held[at])
            assert known.id == held[at].id, f"offset {at} was committed, and is another record now"

    # The story

    def mishap(self):
        if self.calm:
            return
        rng = self.rng
        leading = [node for node in self.nodes.values() if node.up and node.raft.is_leader]
        node = rng.choice(leading if leading and rng.random() < 0.3 else list(self.nodes.values()))
        match rng.choice(MISHAPS):
            case "crash" if node.up:
                self.crash(node)
            case "power":
                for each in self.nodes.values():
                    if each.up and rng.random() < 0.7:
                        self.crash(each)
            case "cut":
                other = rng.choice(list(self.nodes))
                self.cut.add((node.key.id, other))
            case "alone":
                self.cut |= {(node.key.id, other) for other in self.nodes}
                self.cut |= {(other, node.key.id) for other in self.nodes}
            case "heal":
                self.cut.clear()
            case "snapshot" if self.snapshots:
                for each in self.nodes.values():
                    each.take_snapshot()
            case "voters" if self.changes:
                for each in self.nodes.values():
                    each.change_voters()
            case "resign" if node.up and rng.random() < 0.3:
                node.step(ev.Resign())
                self.later(0.5, self.stop, node, node.life)
            case "slow":
                self.slow[node.key.id] = rng.choice([1, 1, 20])
        self.later(rng.expovariate(1 / self.mishap_s), self.mishap)

    def touched(self, node):
        """A node has written down something: some die just then, and are back at once."""
        if not self.calm and self.rng.random() < self.touchy:
            self.later(self.rng.random() * 0.02, self.blink, node, node.life)

    def blink(self, node, life):
        if node.life == life and node.up:
            node.crash()
            self.later(self.rng.random() * 0.02, self.restart, node)

    def stop(self, node, life):
        if node.life == life and node.up:
            self.crash(node)

    def crash(self, node):
        node.crash()
        self.later(self.rng.expovariate(1 / self.away_s), self.restart, node)

    def restart(self, node):
        if not node.up:
            node.start()

    def writes(self):
        for node in self.nodes.values():
            node.write()
        self.later(self.rng.expovariate(1 / self.pause_s), self.writes)

    def run(self):
        """The whole story. Raises: AssertionError."""
        for node in self.nodes.values():
            self.later(self.rng.random(), self.restart, node)
        self.later(self.rng.random(), self.writes)
        self.later(self.rng.random() * 3, self.mishap)
        self.run_until(self.seconds)
        self.heal()
        self.run_until(self.seconds + CALM_S)
        self.check_end()

    def heal(self):
        self.calm = True
        self.cut.clear()
        self.loss = self.twice = 0.0
        self.delay_s, self.sync_s = 0.002, 0.001
        self.slow = dict.fromkeys(self.slow, 1)
        for node in self.nodes.values():
            if not node.up or node.raft.stopping:
                if node.up:
                    node.crash()
                self.later(0.1, self.restart, node)

    def check_end(self):
        leaders = [node for node in self.nodes.values() if node.raft.is_leader]
        assert len(leaders) == 1, f"{len(leaders)} leaders after all was well"
        (leader,) = leaders
        end = leader.raft.log.end
        assert leader.raft.high_watermark >= end - 20, "the leader commits"
        for node in self.nodes.values():
            assert node.raft.leader_id == leader.key.id, f"node {node.key.id} does not know the leader"
            assert node.raft.role in (Role.LEADER, Role.FOLLOWER)
            assert node.raft.high_watermark >= end - 20, f"node {node.key.id} is behind"

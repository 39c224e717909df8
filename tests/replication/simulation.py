"""One partition on several brokers and a controller, simulated: partitions as they are, logs and network pretended.

Everything comes from a seed: clocks that run apart, messages that are lost, late, doubled and in disorder, processes
that are killed, brokers that lose what was not synced. After each step what was promised is looked at (`Promises`).
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from itertools import combinations
from types import SimpleNamespace
from typing import Any, NamedTuple

from kpybroker.cluster.image import UNASSIGNED_DIRECTORY, PartitionImage
from kpybroker.replication.machines.follower import Next, after_out_of_range, what_next
from kpybroker.replication.machines.leader import Decided, Heard, Proposal
from kpybroker.replication.partition import Partition
from kpybroker.storage.leader_epochs import LeaderEpochs
from kpybroker.wire.codes import Code, Refused

LAG_S = 3.0
FETCH_TIMEOUT_S = 1.5


class Record(NamedTuple):
    epoch: int
    value: int


class SimulatedLog:
    """The part of a Log that a partition uses. A batch is a record; a crash of the machine takes what is not synced."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.synced = 0
        self.epochs = LeaderEpochs()
        self.log_start_offset = 0
        self.failure = None
        self.owes_flush = False
        self.producers = SimpleNamespace(replicated_to=lambda _: False)

    @property
    def log_end_offset(self) -> int:
        return len(self.records)

    @property
    def latest_epoch(self) -> int | None:
        return self.epochs.latest

    def append_as_leader(self, records: list[int], *, leader_epoch: int, **_: object) -> Any:
        self.epochs.assign(leader_epoch, len(self.records))
        self.records += [Record(leader_epoch, value) for value in records]
        return SimpleNamespace(last_offset=len(self.records) - 1, duplicate=False)

    def append_as_follower(self, records: list[Record], **_: object) -> Any:
        for record in records:
            self.epochs.assign(record.epoch, len(self.records))
            self.records.append(record)
        return SimpleNamespace(last_offset=len(self.records) - 1)

    def truncate_to(self, offset: int, **_: object) -> int:
        del self.records[offset:]
        self.synced = min(self.synced, len(self.records))
        self.epochs.truncate_from_end(len(self.records))
        return len(self.records)

    def lose_power(self) -> None:
        del self.records[self.synced :]
        entries: list[tuple[int, int]] = []
        for offset, record in enumerate(self.records):
            if not entries or entries[-1][0] < record.epoch:
                entries.append((record.epoch, offset))
        self.epochs = LeaderEpochs(entries)


class Metadata(NamedTuple):
    """One state of the cluster's metadata."""

    partition: PartitionImage
    brokers: dict[int, tuple[int, bool]]
    """Broker epoch, and whether it is fenced."""


class Controller:
    """What the controller does about one partition: a list of states, which brokers hear of in order."""

    def __init__(self, ids: tuple[int, ...], min_isr: int) -> None:
        self.min_isr = min_isr
        image = PartitionImage(
            replicas=ids,
            isr=ids,
            leader=ids[0],
            leader_epoch=0,
            partition_epoch=0,
            directories=(UNASSIGNED_DIRECTORY,) * len(ids),
        )
        self.states = [Metadata(image, dict.fromkeys(ids, (0, False)))]

    @property
    def now(self) -> Metadata:
        return self.states[-1]

    def _say(
        self, *, isr: tuple[int, ...], elr: tuple[int, ...], brokers: dict[int, tuple[int, bool]] | None = None
    ) -> None:
        """Record an ISR, with whatever leader follows from it."""
        old, brokers = self.now.partition, self.now.brokers if brokers is None else brokers
        if len(isr) >= self.min_isr:
            elr = ()
        leader = old.leader
        if leader not in isr or brokers[leader][1]:
            alive = [each for each in (*isr, *elr) if not brokers[each][1]]
            leader = alive[0] if alive else -1
        if leader >= 0 and leader not in isr:
            isr, elr = (leader,), tuple(each for each in (*isr, *elr) if each != leader)
        changed = (isr, elr, leader) != (old.isr, old.elr, old.leader)
        image = PartitionImage(
            replicas=old.replicas,
            isr=isr,
            elr=elr,
            leader=leader,
            leader_epoch=old.leader_epoch + (leader != old.leader),
            partition_epoch=old.partition_epoch + changed,
            directories=old.directories,
        )
        self.states.append(Metadata(image, brokers))

    def fence(self, broker: int) -> None:
        epoch, fenced = self.now.brokers[broker]
        if not fenced:
            self._leave(broker, {**self.now.brokers, broker: (epoch, True)}, lost=False)

    def register(self, broker: int, *, lost: bool) -> None:
        """A new incarnation; `lost`: it does not come from a stop that kept everything (KIP-966)."""
        epoch = len(self.states)
        self._leave(broker, {**self.now.brokers, broker: (epoch, True)}, lost=lost)

    def _leave(self, broker: int, brokers: dict[int, tuple[int, bool]], *, lost: bool) -> None:
        old = self.now.partition
        isr = tuple(each for each in old.isr if each != broker)
        elr = tuple(each for each in old.elr if each != broker)
        if not lost and len(isr) < self.min_isr and (broker in old.isr or broker in old.elr):
            elr = (*elr, broker)
        self._say(isr=isr, elr=elr, brokers=brokers)

    def unfence(self, broker: int) -> None:
        epoch, fenced = self.now.brokers[broker]
        if fenced:
            old = self.now.partition
            self._say(isr=old.isr, elr=old.elr, brokers={**self.now.brokers, broker: (epoch, False)})

    def elect(self, broker: int) -> None:
        """Move leadership to an in-sync replica."""
        old, brokers = self.now.partition, self.now.brokers
        if broker in old.isr and not brokers[broker][1] and broker != old.leader:
            image = PartitionImage(
                replicas=old.replicas,
                isr=old.isr,
                elr=old.elr,
                leader=broker,
                leader_epoch=old.leader_epoch + 1,
                partition_epoch=old.partition_epoch + 1,
                directories=old.directories,
            )
            self.states.append(Metadata(image, brokers))

    def alter_partition(self, sender: int, sender_epoch: int, proposal: Proposal) -> tuple[Code, Decided]:
        old, brokers = self.now.partition, self.now.brokers
        decided = Decided(old.leader_epoch, old.partition_epoch, old.isr)
        if brokers[sender] != (sender_epoch, False):
            return Code.STALE_BROKER_EPOCH, decided
        if proposal.leader_epoch != old.leader_epoch or sender != old.leader:
            return Code.FENCED_LEADER_EPOCH, decided
        if proposal.partition_epoch != old.partition_epoch:
            return Code.INVALID_UPDATE_VERSION, decided
        for replica, epoch in proposal.isr:
            if brokers[replica][1] or (replica != sender and epoch not in (-1, brokers[replica][0])):
                return Code.INELIGIBLE_REPLICA, decided
        elr = tuple(each for each in (*old.elr, *old.isr) if each not in dict(proposal.isr))
        self._say(isr=tuple(replica for replica, _ in proposal.isr), elr=elr)
        new = self.now.partition
        return Code.NONE, Decided(new.leader_epoch, new.partition_epoch, new.isr)


class Broker:
    """One broker: a replica of the partition, which it fetches or lets be fetched."""

    def __init__(self, world: World, me: int) -> None:
        self.world = world
        self.me = me
        self.log = SimulatedLog()
        self.former: SimulatedLog | None = None
        """What the log was before it was moved to another folder, as long as it is there."""
        self.checkpoint = 0
        self.applied = 0
        self.epoch = 0
        self.up = True
        self.lost = False
        """It has lost records, and the controller does not know yet."""
        self.rate = world.random.uniform(0.7, 1.3)
        self.asked = 0
        self.outstanding = 0
        self.heard: dict[int, Heard] = {}
        self.sessions: dict[int, tuple[int, int, int]] = {}
        """What each follower asked for last, as its session has it."""
        self.waiting: list[tuple[int, int, int]] = []
        self._begin()

    def _begin(self) -> None:
        self.partition = Partition("t", 0, bytes(16), self)  # type: ignore[arg-type]
        self.partition.lead(self.metadata.partition)
        _ = self.partition.log

    @property
    def metadata(self) -> Metadata:
        return self.world.controller.states[self.applied]

    # surroundings of the partition

    lag_s_max = LAG_S
    followers_have_readers = False
    former_life = False

    def now_s(self) -> float:
        return self.world.time_s * self.rate

    def open_log(self, _: object) -> Any:
        return self.log

    def checkpointed_high_watermark(self, _: object) -> int:
        return self.checkpoint

    def min_insync_replicas(self, _: str) -> int:
        return self.world.controller.min_isr

    def eligible(self, broker_id: int, broker_epoch: int) -> bool:
        epoch, fenced = self.metadata.brokers[broker_id]
        return not fenced and broker_epoch in (-1, epoch)

    def propose(self, partition: Partition, proposal: Proposal) -> None:
        self._ask_controller(partition, proposal)

    def _ask_controller(self, partition: Partition, proposal: Proposal) -> None:
        def answer(code: Code, decided: Decided) -> None:
            if self.partition is partition and self.up and partition.isr_answered(proposal, code, decided):
                self.world.after(0.5, lambda: self._ask_controller(partition, proposal))

        def ask() -> None:
            code, decided = self.world.controller.alter_partition(self.me, epoch, proposal)
            self.world.send(lambda: answer(code, decided))

        def again() -> None:
            leading = partition.leading
            if self.partition is partition and self.up and leading is not None and leading.pending is proposal:
                self._ask_controller(partition, proposal)

        if self.partition is partition and self.up:
            epoch = self.epoch
            self.world.send(ask)
            self.world.after(2.0, again)

    def flush(self, _: object) -> None: ...

    def met(self, *_: object) -> None: ...

    # life

    def hear_metadata(self) -> None:
        if self.up and self.applied < len(self.world.controller.states) - 1:
            brokers = self.metadata.brokers
            self.applied += 1
            self.partition.lead(self.metadata.partition)
            if self.metadata.brokers != brokers:
                self.partition.reconsider()

    def stop(self, *, lost: bool) -> None:
        if self.up:
            self.up = False
            self.partition.stop()
            if lost:
                self.log.lose_power()
                self.lost = True
                if self.former is not None:
                    self.former.lose_power()
                    if len(self.former.records) > len(self.log.records):
                        self.log = self.former  # the copy is gone on with, from what it has
            self.former = None
            if lost:
                self.checkpoint = min(self.checkpoint, len(self.log.records))

    def start(self) -> None:
        """Register, and take up the partition as the metadata has it then."""
        if not self.up:
            self.up = True
            self.world.controller.register(self.me, lost=self.lost)
            self.lost = False
            self.applied = len(self.world.controller.states) - 1
            self.epoch = self.applied
            self.heard.clear()
            self.sessions.clear()
            self.waiting.clear()
            self._begin()
            self.outstanding = 0

    def move(self) -> None:
        """The log moves to another folder: a copy that is synced in part takes its place, and is synced later."""
        if not self.up or self.former is not None:
            return
        copy = SimulatedLog()
        copy.append_as_follower(self.log.records)
        copy.synced = self.world.random.randrange(len(copy.records) + 1)
        self.former, self.log = self.log, copy
        self.partition.replace_log(copy)  # type: ignore[arg-type]
        self.world.moves += 1

        def finish() -> None:
            if self.log is copy and self.former is not None:
                copy.synced = len(copy.records)
                self.former = None

        self.world.after(self.world.random.expovariate(1.0), finish)

    def produce(self, value: int) -> None:
        try:
            appended = self.partition.append([value], now_ms=0, acks_all=True)  # type: ignore[arg-type]
        except Refused:
            return
        self.waiting.append((value, appended.last_offset, self.partition.leader_epoch))

    # following

    def fetch(self) -> None:
        partition = self.partition
        if not self.up or partition.follows is None:
            return
        log = self.log
        if log.latest_epoch is None and log.log_end_offset > partition.high_watermark:
            partition.truncate_to(partition.high_watermark, now_ms=0)
        self.asked += 1
        self.outstanding = asked = self.asked
        leader, epoch, offset = self.world.brokers[partition.follows], partition.leader_epoch, log.log_end_offset
        last = -1 if log.latest_epoch is None else log.latest_epoch
        broker_epoch = self.epoch
        self.world.send(lambda: leader.serve(self, asked, epoch, offset, last, broker_epoch))

        def give_up() -> None:
            if self.outstanding == asked:
                self.outstanding = 0
                self.fetch()

        self.world.after(FETCH_TIMEOUT_S, give_up)

    def serve(self, follower: Broker, asked: int, epoch: int, offset: int, last: int, broker_epoch: int) -> None:
        if not self.up:
            return
        partition, log = self.partition, self.log
        heard = self.heard.setdefault(follower.me, Heard(self.now_s()))
        heard.at_s = self.now_s()
        code, diverged, records = Code.NONE, None, []
        asks = (epoch, offset, broker_epoch)
        quiet = self.sessions.get(follower.me) == asks and partition.is_leader and offset == log.log_end_offset
        try:
            partition.check_leader(epoch)
            diverged = partition.divergence(last, offset) if last >= 0 else None
            if quiet:  # its session does not name the partition
                pass
            elif diverged is None:
                self.sessions[follower.me] = asks
                partition.fetched(
                    follower.me, offset=offset, log_start=0, broker_epoch=broker_epoch, says_epoch=True, heard=heard
                )
                records = log.records[offset : offset + self.world.random.randrange(1, 5)]
        except Refused as refused:
            code = refused.code
        high_watermark, end = partition.high_watermark, log.log_end_offset
        self.world.send(lambda: follower.take(asked, epoch, offset, code, diverged, records, high_watermark, end))

    def take(
        self,
        asked: int,
        epoch: int,
        offset: int,
        code: Code,
        diverged: Any,
        records: list[Record],
        high_watermark: int,
        leader_end: int,
    ) -> None:
        partition = self.partition
        if not self.up or asked != self.outstanding:
            return
        self.outstanding = 0
        if partition.follows is not None and partition.leader_epoch == epoch and self.log.log_end_offset == offset:
            match what_next(code):
                case Next.TAKE if diverged is not None:
                    partition.cut_to_leader(diverged, now_ms=0)
                case Next.TAKE:
                    partition.append_replicated(
                        records,  # type: ignore[arg-type]
                        high_watermark=high_watermark,
                        log_start=0,
                        now_ms=0,
                    )
                case Next.FIND_START:
                    restart = after_out_of_range(offset, 0, leader_end)
                    if restart.truncate_to is not None:
                        partition.truncate_to(restart.truncate_to, now_ms=0)
        self.world.after(0.05 if code is Code.NONE else 0.3, self.fetch_if_idle)

    def fetch_if_idle(self) -> None:
        if not self.outstanding:
            self.fetch()


class Promises:
    """What must hold after every step."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.acknowledged: dict[int, Record] = {}
        self.watermarks: dict[int, int] = {}
        self.latest = (0, 0)

    def look(self) -> None:
        state = self.world.controller.now.partition
        for broker in self.world.brokers.values():
            partition = broker.partition
            if broker.up and partition.is_leader:
                self._leader(broker, partition)
        leader = self.world.brokers.get(state.leader)
        if leader is not None and leader.up and leader.partition.leader_epoch == state.leader_epoch:
            self._in_sync(leader, state)
        self._agreement()

    def _leader(self, broker: Broker, partition: Partition) -> None:
        epoch, high_watermark = partition.leader_epoch, partition.high_watermark
        assert high_watermark <= len(broker.log.records), "the high watermark is within the log"
        assert self.watermarks.get(epoch, 0) <= high_watermark, "the high watermark went back within a leader epoch"
        self.watermarks[epoch] = high_watermark
        if not partition.lags_behind_its_epoch and epoch >= self.latest[0]:
            assert high_watermark >= self.latest[1], "the latest offset went back"
            self.latest = epoch, high_watermark
        for waits in list(broker.waiting):
            value, offset, in_epoch = waits
            code = partition.outcome(offset, in_epoch)
            if code is not Code.REQUEST_TIMED_OUT:
                broker.waiting.remove(waits)
                if code is Code.NONE:
                    self.acknowledged[offset] = Record(in_epoch, value)

    def _in_sync(self, leader: Broker, state: PartitionImage) -> None:
        records = leader.log.records
        for offset, record in self.acknowledged.items():
            kept = records[offset] if offset < len(records) else None
            assert kept == record, f"{record} at {offset} was acknowledged and lost"
        high_watermark = leader.partition.high_watermark
        for replica in state.isr:
            member = self.world.brokers[replica]
            if not member.lost:
                assert member.log.records[:high_watermark] == records[:high_watermark], "in sync, and without a record"

    def _agreement(self) -> None:
        brokers = [each for each in self.world.brokers.values() if each.up]
        for broker, other in combinations(brokers, 2):
            common = min(broker.partition.high_watermark, other.partition.high_watermark)
            assert broker.log.records[:common] == other.log.records[:common], "logs differ below the high watermark"


class World:
    """The simulation of one seed."""

    def __init__(self, seed: int, *, replicas: int = 3, min_isr: int = 2) -> None:
        self.random = random.Random(seed)
        self.time_s = 0.0
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        self.steps = 0
        self.faults = 0
        self.moves = 0
        ids = tuple(range(1, replicas + 1))
        self.controller = Controller(ids, min_isr)
        self.brokers = {each: Broker(self, each) for each in ids}
        self.promises = Promises(self)
        self.cut: set[frozenset[int]] = set()
        self.calm = False
        self._next_value = 0
        self._losses_left = min_isr - 1

    def after(self, delay_s: float, do: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._heap, (self.time_s + delay_s, self._count, do))

    def send(self, arrive: Callable[[], None]) -> None:
        """A message: in time, late, twice, or never."""
        chance = self.random.random()
        if not self.calm and chance < 0.1:
            return
        self.after(self.random.expovariate(10.0), arrive)
        if not self.calm and chance < 0.2:
            self.after(self.random.expovariate(0.5), arrive)

    def _disturb(self) -> None:
        """Something happens to somebody."""
        broker = self.random.choice(list(self.brokers.values()))
        roll = self.random.random()
        if roll < 0.15:
            self.faults += 1
            broker.stop(lost=False)
            self.after(self.random.expovariate(0.3), broker.start)
        elif roll < 0.2 and self._losses_left:
            self._losses_left -= 1
            self.faults += 1
            broker.stop(lost=True)
            self.after(self.random.expovariate(0.3), broker.start)
        elif roll < 0.3:
            self.controller.fence(broker.me)
        elif roll < 0.5:
            self.controller.unfence(broker.me)
        elif roll < 0.6:
            self.controller.elect(broker.me)
        elif roll < 0.7:
            broker.log.synced = len(broker.log.records)
        elif roll < 0.75:
            broker.move()
        elif roll < 0.82:
            broker.checkpoint = broker.partition.high_watermark if broker.up else broker.checkpoint
        else:
            broker.partition.tick(broker.now_s())

    def _every(self, mean_s: float, do: Callable[[], None]) -> None:
        def again() -> None:
            do()
            self.after(self.random.expovariate(1 / mean_s), again)

        self.after(self.random.expovariate(1 / mean_s), again)

    def _produce(self) -> None:
        self._next_value += 1
        self.random.choice(list(self.brokers.values())).produce(self._next_value)

    def run(self, steps: int) -> None:
        self._every(0.3, self._produce)
        self._every(0.5, lambda: None if self.calm else self._disturb())
        self._every(
            1.0, lambda: [each.partition.tick(each.now_s()) for each in self.brokers.values() if each.up] and None
        )
        for broker in self.brokers.values():
            self._every(0.3, broker.hear_metadata)
            self._every(0.6, broker.fetch_if_idle)
        self._step(steps)

    def settle(self) -> None:
        """Nothing bad happens any more: every replica comes to be in sync, and has everything."""
        self.calm = True
        for broker in self.brokers.values():
            broker.start()
            self._every(1.0, lambda broker=broker: self.controller.unfence(broker.me))  # type: ignore[misc]
        self._step(1500)
        state = self.controller.now.partition
        assert len(state.isr) == len(self.brokers), f"not all are in sync: {state}"
        leader = self.brokers[state.leader].partition
        assert leader.high_watermark >= self.promises.latest[1]
        assert leader.high_watermark > len(self.brokers[state.leader].log.records) - 30, (
            "the high watermark stands still"
        )

    def _step(self, steps: int) -> None:
        for _ in range(steps):
            self.time_s, _, do = heapq.heappop(self._heap)
            do()
            self.steps += 1
            self.promises.look()

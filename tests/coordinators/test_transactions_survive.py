"""Whatever happens to a shard of transactions: its log, read from the beginning, gives what the live shard has.

And wherever the log is cut, as a kill does: what was prepared is on its way to completion, nobody else's epoch becomes
valid again, and a cleaner changes nothing. Besides, after every step: each request is answered at once and once, epochs
of one producer id never go back, and each prepared transaction has its markers asked for by exactly one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from kpybroker.clock import Now
from kpybroker.coordinators.machines import transaction_events as events
from kpybroker.coordinators.machines.effects import Tick
from kpybroker.coordinators.machines.settings import TransactionSettings
from kpybroker.coordinators.machines.transaction_events import PRODUCER_ID_NEEDED, Outcome
from kpybroker.coordinators.machines.transaction_shard import TransactionShard
from kpybroker.coordinators.machines.transaction_state import (
    PREPARED,
    Ending,
    Expected,
    Transaction,
    to_record,
    unused,
)
from kpybroker.wire.codes import Code
from kpybroker.wire.internal.framing import encode_key, encode_value

WALL_MS = 1_700_000_000_000
IDS = ("x", "y")
PLACES = (("t", 0), ("t", 1), ("u", 0))
SETTINGS = TransactionSettings(
    timeout_ms_max=900_000,
    id_expiration_ms=60_000,
    abort_interval_ms=3_000,
    expiration_interval_ms=10_000,
    two_phase_commit=False,
    transaction_version=2,
)


class World:
    """One shard, its log, what its producers have been told, and who writes markers."""

    def __init__(self) -> None:
        self.shard = TransactionShard(SETTINGS)
        self.log: list[tuple[bytes, bytes | None]] = []
        self.now_s = 0.0
        self.producer_ids = 0
        self.refuse_next: Code | None = None
        self.told: list[tuple[str, int, int]] = []
        self.writing: set[str] = set()
        """Transactional ids whose markers somebody writes."""
        self.epochs: dict[int, int] = {}

    @property
    def now(self) -> Now:
        return Now(self.now_s, WALL_MS + round(self.now_s * 1000))

    def fresh(self) -> int:
        self.producer_ids += 1
        return self.producer_ids

    def ask(self, transactional_id: str, event: Callable[[int | None], events.Event]) -> None:
        if self.perform(event(None)) is PRODUCER_ID_NEEDED:
            response = self.perform(event(self.fresh()))
            assert response is not PRODUCER_ID_NEEDED
        else:
            response = None
        if isinstance(response, Outcome) and response.producer_id >= 0:
            self.told.append((transactional_id, response.producer_id, response.producer_epoch))

    def perform(self, event: events.Event) -> Any:
        effects = self.shard.step(event, self.now)
        if effects.records and self.refuse_next is not None:
            effects, self.refuse_next = self.shard.refused(effects, self.refuse_next, self.now), None
            assert not effects.actions
        return self.finish(effects)

    def finish(self, effects: events.Effects) -> Any:
        for record in effects.records:
            value = None if record.value is None else encode_value(record.value, record.value_version)
            self.log.append((encode_key(record.key), value))
            self.replay(self.shard, len(self.log) - 1)
        for action in effects.actions:
            match action:
                case events.WriteMarkers(transactional_id=transactional_id):
                    assert transactional_id not in self.writing, "two would write them"
                    self.writing.add(transactional_id)
                case events.NeedProducerId(transactional_id=transactional_id):
                    self.perform(events.AbortTimedOut(transactional_id, self.fresh()))
        self.check()
        responses = [response for _, response in effects.replies]
        for response in responses:
            if isinstance(response, Outcome) and response.producer_id >= 0:
                self.told.append((IDS[0], response.producer_id, response.producer_epoch))
        return responses[0] if responses else None

    def check(self) -> None:
        prepared = {key for key, txn in self.shard.transactions.items() if txn.state in PREPARED}
        self.writing &= prepared
        assert self.writing == prepared
        for txn in self.shard.transactions.values():
            assert self.epochs.get(txn.producer_id, -1) <= txn.producer_epoch, "an epoch has come back"
            self.epochs[txn.producer_id] = txn.producer_epoch

    def replay(self, shard: TransactionShard, offset: int) -> None:
        shard.apply(offset, -1, *shard.decode(*self.log[offset]))

    def loaded(self, offsets: list[int]) -> TransactionShard:
        shard = TransactionShard(SETTINGS)
        for offset in offsets:
            self.replay(shard, offset)
        return shard

    def compacted(self, *, tombstones: bool) -> list[int]:
        """The offsets that a cleaner leaves: each key's latest, with tombstones or without."""
        latest = {key: offset for offset, (key, _) in enumerate(self.log)}
        return sorted(offset for offset in latest.values() if tombstones or self.log[offset][1] is not None)

    def producer(self, transactional_id: str, which: int) -> tuple[int, int]:
        """An id and epoch that somebody was told, or that the shard has now."""
        txn = self.shard.transactions.get(transactional_id)
        if which < 4 and txn is not None:
            return txn.producer_id, txn.producer_epoch - (which == 3)
        return self.told[-1 - which % len(self.told)][1:] if self.told else (0, 0)

    # -- actions: each takes a transactional id and two small numbers

    def init(self, transactional_id: str, who: int, what: int) -> None:
        expected = Expected(*self.producer(transactional_id, who)) if what else None
        timeout_ms = 5_000 * (1 + who)
        self.ask(transactional_id, lambda new: events.InitProducerId(transactional_id, timeout_ms, expected, new, 0))

    def add(self, transactional_id: str, who: int, what: int) -> None:
        producer_id, epoch = self.producer(transactional_id, who)
        partitions = frozenset(PLACES[: 1 + what])
        self.perform(events.AddPartitions(transactional_id, producer_id, epoch, partitions, 2 * (who % 2), 0))

    def end(self, transactional_id: str, who: int, what: int) -> None:
        ending = Ending(*self.producer(transactional_id, who), what != 0, 2 * (who % 2))
        self.ask(transactional_id, lambda new: events.EndTransaction(transactional_id, ending, new, 0))

    def write(self, transactional_id: str, who: int, what: int) -> None:
        due = self.shard.markers_due(transactional_id)
        if due is None:
            return
        codes = [Code.NONE, Code.NONE, Code.NOT_LEADER_OR_FOLLOWER]
        written = {place: codes[(who + number) % (1 + what)] for number, place in enumerate(due.partitions)}
        self.perform(events.MarkersWritten(transactional_id, written))

    def exhaust(self, transactional_id: str, *_: int) -> None:
        """Another coordinator left the id with its last epoch."""
        txn = self.shard.transactions.get(transactional_id)
        if txn is not None and txn.state in PREPARED:
            return
        producer_id = self.fresh()
        new = unused(transactional_id, producer_id, 5_000, self.now.wall_ms)
        record = to_record(msgspec.structs.replace(new, producer_epoch=32766), 2)
        assert record.value is not None
        self.log.append((encode_key(record.key), encode_value(record.value)))
        self.replay(self.shard, len(self.log) - 1)
        self.reload()

    def reload(self, *_: object) -> None:
        self.shard = self.loaded(list(range(len(self.log))))
        self.writing.clear()
        self.finish(self.shard.loaded(self.now))

    def refuse(self, _: str, who: int, __: int) -> None:
        self.refuse_next = (Code.NOT_ENOUGH_REPLICAS, Code.MESSAGE_TOO_LARGE)[who % 2]

    def wait(self, _: str, who: int, what: int) -> None:
        until_s = self.now_s + (0.5, 3.0, 9.0)[what] * (1 + who)
        ticks = 0
        while (due_s := self.shard.deadline_s) <= until_s:
            self.now_s = max(self.now_s, due_s)
            self.perform(Tick())
            ticks += 1
            assert ticks < 500, "it ticks for nothing"
        self.now_s = until_s


ACTIONS: list[Callable[..., None]] = [
    World.init,
    World.init,
    World.add,
    World.add,
    World.add,
    World.end,
    World.end,
    World.write,
    World.write,
    World.exhaust,
    World.reload,
    World.refuse,
    World.wait,
]


def persisted(shard: TransactionShard) -> dict[str, Transaction]:
    return {
        key: msgspec.structs.replace(txn, last_producer_epoch=-1) for key, txn in sorted(shard.transactions.items())
    }


actions = st.tuples(st.integers(0, len(ACTIONS) - 1), st.sampled_from(IDS), st.integers(0, 7), st.integers(0, 2))


@settings(max_examples=300, deadline=None)
@given(told=st.lists(actions, max_size=60))
def test_loading_a_log_equals_the_live_state(told: list[tuple[int, str, int, int]]) -> None:
    world = World()
    for number, transactional_id, *numbers in told:
        ACTIONS[number](world, transactional_id, *numbers)
    assert persisted(world.loaded(list(range(len(world.log))))) == persisted(world.shard)
    for tombstones in (True, False):
        assert persisted(world.loaded(world.compacted(tombstones=tombstones))) == persisted(world.shard)


@settings(max_examples=100, deadline=None)
@given(told=st.lists(actions, max_size=40), cut=st.integers(0, 10))
def test_wherever_the_log_is_cut_prepared_transactions_are_completed(
    told: list[tuple[int, str, int, int]], cut: int
) -> None:
    world = World()
    for number, transactional_id, *numbers in told:
        ACTIONS[number](world, transactional_id, *numbers)
    world.refuse_next = None
    del world.log[max(0, len(world.log) - cut) :]
    world.epochs.clear()
    world.reload()
    for transactional_id in list(world.writing):
        world.write(transactional_id, 0, 0)
    assert not any(txn.state in PREPARED for txn in world.shard.transactions.values())
    for transactional_id in IDS:
        for _ in range(3):  # one fences, its markers are written, the next has its epoch
            world.init(transactional_id, 0, 0)
            world.write(transactional_id, 0, 0)
        txn = world.shard.transactions[transactional_id]
        producer = (txn.producer_id, txn.producer_epoch)
        added = world.perform(events.AddPartitions(transactional_id, *producer, frozenset(PLACES), 2, 0))
        assert added == Outcome(Code.NONE)

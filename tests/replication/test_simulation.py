"""Replication simulated: what was acknowledged survives, whatever happens; and each rule is there for a reason.

`make campaign ARGS='tests/replication/test_simulation.py --campaign-size 20000 --campaign-seed 7'` plays more seeds.
"""

from __future__ import annotations

import inspect
from types import FunctionType, ModuleType
from typing import NamedTuple

import pytest

from kpybroker.replication import partition, replica_log
from kpybroker.replication.machines import follower, leader
from tests.replication.simulation import World

STEPS = 600
TOKEN = 200
SEEDS_MAX = 500
"""So many seeds find any broken rule, as a rule within a few dozen."""


def play(seed: int) -> World:
    """Raises: AssertionError for a promise that was broken."""
    world = World(seed)
    world.run(STEPS)
    world.settle()
    return world


def test_promises_are_kept(pytestconfig: pytest.Config) -> None:
    size = pytestconfig.getoption("--campaign-size") or TOKEN
    first = int(pytestconfig.getoption("--campaign-seed"))
    acknowledged = faults = steps = moves = 0
    for seed in range(first, first + size):
        try:
            world = play(seed)
        except AssertionError as broken:
            raise AssertionError(f"seed {seed}: {broken}") from broken
        acknowledged += len(world.promises.acknowledged)
        faults += world.faults
        steps += world.steps
        moves += world.moves
    print(f"{size} seeds, {steps} steps, {faults} brokers killed, {moves} moves, {acknowledged} records acknowledged")
    assert acknowledged > 1000, "the simulation is about records that were acknowledged"
    assert faults > 100, "the simulation is about faults"


def test_a_seed_gives_the_same_history_again() -> None:
    first, second = play(7), play(7)
    assert first.time_s == second.time_s
    assert first.promises.acknowledged == second.promises.acknowledged


class Broken(NamedTuple):
    """A rule that is broken on purpose: what stands in a module's source, and what is put in its place."""

    module: ModuleType
    rule: str
    instead: str
    first_seed: int = 0
    """Of a rule that is seldom missed, not far before a seed that finds it."""


RULES = {
    "a shrink counts only when it is confirmed": Broken(
        leader, "frozenset(self.isr) | frozenset(isr)", "frozenset(isr)"
    ),
    "an expansion counts at once": Broken(leader, "frozenset(self.isr) | frozenset(isr)", "frozenset(self.isr)"),
    "the high watermark stands below min.insync.replicas": Broken(leader, "if self.under_min_isr:", "if False:"),
    "every replica of the ISR counts": Broken(leader, "replica in self.maximal_isr\n", "False\n"),
    "who joins has reached the leader's epoch": Broken(
        leader, "max(self.high_watermark, self.epoch_start)", "min(self.high_watermark, self.epoch_start) - 3"
    ),
    "who joins is the incarnation that fetched": Broken(
        leader,
        "(replica == fetched or follower.is_back)\n"
        "            and self._eligible(replica, follower.broker_epoch)\n        )\n",
        "True\n        )\n",
        first_seed=1900,
    ),
    "a follower's high watermark ends with its log": Broken(
        follower, "max(high_watermark, min(leaders, log_end))", "max(high_watermark, leaders)"
    ),
    "who fetches is told where its log departs": Broken(
        follower, "if epoch < last_fetched_epoch or end_offset < fetch_offset:", "if False:"
    ),
    "the end of the leader's epoch is told, not only its number": Broken(
        follower, "if epoch < last_fetched_epoch or end_offset < fetch_offset:", "if epoch < last_fetched_epoch:"
    ),
    "a follower cuts what its leader does not have": Broken(
        follower, "return min(end_offset, diverged.end_offset, log_end)", "return min(end_offset, log_end)"
    ),
    "what nobody else may have is not replicated at a start": Broken(
        replica_log,
        "min(checkpointed, log.log_end_offset)",
        "log.log_end_offset",
    ),
    "a quiet follower joins when nothing is in the way any more": Broken(
        partition, "if leading is not None and len(leading.isr) <= len(leading.followers):", "if False:"
    ),
    "who has led in between may have written": Broken(partition, "leader_epoch < self._led_since_epoch", "False"),
    "a new leader does not tell the latest offset yet": Broken(
        partition, "self._high_watermark < leading.epoch_start", "False"
    ),
}


def break_rule(monkeypatch: pytest.MonkeyPatch, broken: Broken) -> None:
    """Put the module's functions and methods, made from the changed source, in the place of the real ones."""
    source = inspect.getsource(broken.module)
    assert source.count(broken.rule) == 1, f"{broken.rule!r} is not (once) in {broken.module.__name__}"
    other = ModuleType(broken.module.__name__)
    exec(compile(source.replace(broken.rule, broken.instead), broken.module.__file__ or "", "exec"), other.__dict__)
    for name, new in vars(other).items():
        old = getattr(broken.module, name, None)
        if isinstance(new, FunctionType):
            for user in (broken.module, partition, replica_log):
                if getattr(user, name, None) is old:
                    monkeypatch.setattr(user, name, new)
        elif isinstance(new, type) and isinstance(old, type) and new.__module__ == other.__name__:
            for attribute, value in vars(new).items():
                if isinstance(value, FunctionType | property) and attribute != "__init__":
                    monkeypatch.setattr(old, attribute, value)


@pytest.mark.parametrize("rule", RULES)
def test_each_rule_is_missed(monkeypatch: pytest.MonkeyPatch, rule: str) -> None:
    break_rule(monkeypatch, RULES[rule])
    first = RULES[rule].first_seed
    for seed in range(first, first + SEEDS_MAX):
        try:
            play(seed)
        except AssertionError as found:
            print(f"seeds needed: {seed + 1 - first} ({found})")
            return
    pytest.fail(f"{SEEDS_MAX} seeds go well without this rule: {rule}")

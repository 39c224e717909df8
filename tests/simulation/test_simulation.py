"""Whole clusters simulated: what was promised is kept, whatever happens to machines, disks and the network.

`make campaign ARGS='tests/simulation --campaign-size 200 --campaign-seed 7'` plays more seeds, and counts for each
broken rule how many it takes to notice. A seed gives the same history every time; one that fails says what happened.
"""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial

import pytest

from .breaking import RULES, code_of
from .stories import blackouts, under_load
from .world import World

TOKEN = 2
DURATION_S = 20.0
SEEDS_MAX = 60
"""So many seeds find any broken rule."""
SOON = {
    "every replica of the ISR counts for the high watermark": 3000,
    "nothing of a transaction is shown before it has ended": 3000,
}
"""Rules that are missed in a few seconds, from that seed on: those that are broken in every run of the tests."""

IN_THE_DARK = "the metadata log is synced before it counts"
"""What the loss of one machine does not show: the others have what it had not synced."""


def play(seed: int, duration_s: float = DURATION_S) -> World:
    """Raises: whatever went wrong, with what happened before."""
    world = World(seed)
    try:
        world.play(partial(under_load, duration_s=duration_s))
    except BaseException as failure:
        failure.add_note("\n".join([f"seed {seed}:", *world.events]))
        raise
    return world


def test_promises_are_kept(pytestconfig: pytest.Config) -> None:
    size = pytestconfig.getoption("--campaign-size")
    first = int(pytestconfig.getoption("--campaign-seed"))
    acknowledged = faults = 0
    for seed in range(first, first + (size or TOKEN)):
        world = play(seed, 3 * DURATION_S if size else DURATION_S)
        acknowledged += sum(map(len, world.promises.acknowledged.values()))
        faults += world.faults.count
    print(f"{size or TOKEN} seeds, {faults} faults, {acknowledged} records acknowledged")
    assert acknowledged > 100, "the simulation is about records that were acknowledged"
    assert faults > 5, "the simulation is about faults"


def test_metadata_outlasts_blackouts(pytestconfig: pytest.Config) -> None:
    size = pytestconfig.getoption("--campaign-size") or TOKEN
    for seed in range(4, 4 + size):  # 4: once the name of the metadata log's folder was not durable
        World(seed).play(partial(blackouts, count=4 if size > TOKEN else 2))


def test_a_seed_gives_the_same_history_again() -> None:
    """In another process too, where strings have other hashes, and sets of them another order."""
    first = play(7, duration_s=5.0)
    again = (
        "from tests.simulation.test_simulation import play; world = play(7, 5.0); print(world.events, world.checksum)"
    )
    hash_seed = "1" if os.environ.get("PYTHONHASHSEED") != "1" else "2"
    told = subprocess.check_output([sys.executable, "-c", again], text=True, env={"PYTHONHASHSEED": hash_seed})
    assert told == f"{first.events} {first.checksum}\n"


@pytest.mark.parametrize("rule", RULES)
def test_each_rule_is_in_the_product(rule: str) -> None:
    assert code_of(RULES[rule])


@pytest.mark.parametrize("rule", RULES)
def test_each_rule_is_missed(monkeypatch: pytest.MonkeyPatch, pytestconfig: pytest.Config, rule: str) -> None:
    size = pytestconfig.getoption("--campaign-size")
    if size is None and rule not in SOON:
        pytest.skip("only in a campaign: it takes some seeds to notice")
    monkeypatch.setattr(RULES[rule].function, "__code__", code_of(RULES[rule]))
    for seed in range(SOON.get(rule, 0), SOON.get(rule, 0) + SEEDS_MAX):
        try:
            if rule == IN_THE_DARK:
                World(seed).play(partial(blackouts, count=4))
            else:
                play(seed, 30.0 if size is None else 3 * DURATION_S)
        except Exception as found:  # an assertion, or a group with one
            print(f"seeds needed: {seed - SOON.get(rule, 0) + 1} ({found})")
            return
    pytest.fail(f"{SEEDS_MAX} seeds go well without this rule: {rule}")

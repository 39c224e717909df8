"""The campaign of kill -9 under load, with rolls, retention and compaction going on all the time.

    make campaign ARGS='compat-tests/test_kill_campaign.py --cycles 300 --seed 1'

harness/kill_load.py says what the load is, and what must hold. Every cycle the broker is killed at a random instant,
some of them while it is still starting; each so often `kpybroker log verify` reads what the dead broker left, and
after the next start all records are read and compared. As a test it runs a few cycles, and more until logs were
rolled, deleted and compacted in between: how much a broker gets done before it is killed is up to the machine.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import pytest
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewTopic, ResourceType
from harness.admin import committed, wait_led
from harness.brokers import ChildBroker, broker_named
from harness.kill_load import LIMIT_S, PARTITIONS, SMALL, TOPICS, Group, Load, Reader

SETTINGS = {
    "log.retention.check.interval.ms": "150",
    "log.cleaner.backoff.ms": "50",
    "log.flush.scheduler.interval.ms": "300",
    "log.flush.offset.checkpoint.interval.ms": "250",
    "log.flush.start.offset.checkpoint.interval.ms": "250",
    "replica.high.watermark.checkpoint.interval.ms": "250",
    "offsets.topic.num.partitions": "2",
}
PER_S = 250
CHECK_EVERY = 15
AT_START = 0.15
LIFE_S_MAX = 1.0
START_S_MAX = 0.5
WANTED = "rolled", "deleted", "compacted"
"""What must happen in two of five cycles."""
MORE_MAX = 10
"""How many times the cycles asked for are lived through at most until it has."""
GROUP = "killed"


class Files(NamedTuple):
    """What the folders of partitions have in them."""

    bases: dict[str, list[int]]
    """Base offsets of the segments, by partition."""
    passing: set[str]
    """Suffixes of files that are there for a short time."""
    cleaned: str
    """The checkpoint of what was compacted."""


class Campaign:
    """One broker, its load, and what was seen."""

    def __init__(self, broker: ChildBroker, seed: str) -> None:
        self.broker = broker
        self.choose = random.Random(seed)
        self.seed = seed
        self.cycles = self.at_start = self.verified = 0
        self.seen = dict.fromkeys(("rolled", "deleted", "compacted", ".cleaned", ".swap", ".deleted", "torn batch"), 0)
        self.load: Load | None = None
        self.killed = True

    def run(self, cycles: int) -> None:
        """The whole of it. Raises: AssertionError, with the cycle in a note."""
        self.broker.start()
        _create_topics(self.broker.address)
        self.load = Load(self.broker.address, per_s=PER_S, seed=self.seed)
        self.group = Group(self.broker.address, GROUP)
        self.reader = Reader(self.broker.address)
        _make_offsets_small(self.broker.address)
        before = self._look()
        try:
            while self.cycles < cycles or (self.too_seldom(cycles) and self.cycles < cycles * MORE_MAX):
                self._cycle()
                now = self._look()
                self._count(before, now)
                before = now
                if self.cycles % CHECK_EVERY == 0:
                    self._verify_and_check()
                else:
                    self.broker.launch()
            self.broker.kill()
            self._verify_and_check()
        except BaseException as error:
            error.add_note(f"in cycle {self.cycles} of seed {self.seed}")
            raise
        self.load.stop()
        self.group.stop()
        self.broker.stop()
        self.killed = False
        self._verify()

    def too_seldom(self, cycles: int) -> list[str]:
        """Of what is wanted, that which did not happen in two of five of so many cycles."""
        return [what for what in WANTED if self.seen[what] < max(cycles * 2 // 5, 1)]

    def _cycle(self) -> None:
        """Live for a while, in the end be killed. A kill while it starts does not count."""
        assert self.load is not None
        while self.choose.random() < AT_START:
            time.sleep(self.choose.uniform(0, START_S_MAX))
            self.broker.kill()
            self.at_start += 1
            self.broker.launch()
        self.load.wait_for_acknowledged(1)
        time.sleep(self.choose.uniform(0, LIFE_S_MAX))
        assert self.broker.running, self.broker.last_words()
        self.broker.kill()
        self.cycles += 1

    def _look(self) -> Files:
        bases: dict[str, list[int]] = {}
        passing = set()
        for folder in self.broker.data_dir.iterdir():
            if folder.name.rpartition("-")[0] in {*TOPICS, "__consumer_offsets"}:
                names = [path.name for path in folder.iterdir()]
                bases[folder.name] = sorted(int(name[:-4]) for name in names if name.endswith(".log"))
                passing |= {Path(name).suffix for name in names}
        checkpoint = self.broker.data_dir / "cleaner-offset-checkpoint"
        return Files(bases, passing, checkpoint.read_text() if checkpoint.exists() else "")

    def _count(self, before: Files, now: Files) -> None:
        def grown(end: int) -> bool:
            return any(now.bases[name][end] > bases[end] for name, bases in before.bases.items() if bases)

        self.seen["rolled"] += grown(-1)
        self.seen["deleted"] += grown(0)
        self.seen["compacted"] += now.cleaned != before.cleaned
        for suffix in (".cleaned", ".swap", ".deleted"):
            self.seen[suffix] += suffix in now.passing

    def _verify(self) -> None:
        """What a dead broker leaves has no flaw, but for a batch that it was writing at the end of a log."""
        program = Path(sys.executable).parent / "kpybroker"
        command = [program, "log", "verify", "--stopped", "--json", self.broker.data_dir]
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
        assert done.returncode in (0, 1), done.stderr[-3000:]
        flaws = [json.loads(line) for line in done.stdout.splitlines()]
        torn = [flaw for flaw in flaws if _is_torn_end(Path(flaw["file"]), flaw["what"])]
        assert flaws == torn, flaws
        assert not torn or self.killed, torn
        self.seen["torn batch"] += len(torn)
        self.verified += 1

    def _verify_and_check(self) -> None:
        """What the dead broker left, and what it has once it lives again."""
        self._verify()
        self.broker.start()
        self._check()

    def _check(self) -> None:
        """Every record, and where the group is said to be."""
        assert self.load is not None
        self.load.pause()
        try:
            assert not self.group.flaws, self.group.flaws
            self.reader.check(self.load)
            for topic in TOPICS:
                acknowledged = dict(self.group.committed)
                for index, offset in committed(self.broker.address, GROUP, topic, PARTITIONS).items():
                    place = topic, index
                    least, most = acknowledged.get(place, -1001), self.group.consumed.get(place, -1001)
                    assert least <= offset <= most, f"{place}: committed {offset}, not from {least} to {most}"
        finally:
            self.load.resume()

    def told(self) -> str:
        """What was done and seen."""
        assert self.load is not None
        seen = ", ".join(f"{what} {times}" for what, times in self.seen.items())
        return (
            f"seed {self.seed}: {self.cycles} kills under load and {self.at_start} at start; in how many: {seen}; "
            f"{sum(self.load.acknowledged.values())} records acknowledged, {self.reader.records} read and compared, "
            f"{self.group.commits} offsets committed, {self.group.assignments} assignment(s); "
            f"{self.verified} times verified"
        )


def _is_torn_end(path: Path, what: str) -> bool:
    """Whether a flaw is a batch that was not written to its end, in the last segment of a log."""
    return what.startswith("no batch") and path.suffix == ".log" and path == max(path.parent.glob("*.log"))


def _create_topics(address: str) -> None:
    new = [NewTopic(topic, PARTITIONS, 1, config=dict(kind.config)) for topic, kind in TOPICS.items()]
    admin = AdminClient({"bootstrap.servers": address})
    for future in admin.create_topics(new).values():
        future.result(LIMIT_S)


def _make_offsets_small(address: str) -> None:
    """The group's own topic, which is there with its first member, is rolled and compacted as often as the others."""
    topic = "__consumer_offsets"
    wait_led(address, topic, int(SETTINGS["offsets.topic.num.partitions"]))
    entries = [
        ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
        for name, value in (*SMALL.items(), ("min.cleanable.dirty.ratio", "0.2"))
    ]
    admin = AdminClient({"bootstrap.servers": address})
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=entries)
    for future in admin.incremental_alter_configs([resource]).values():
        future.result(LIMIT_S)


def test_kill_9_under_load(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    choice, cycles = request.config.getoption("--broker"), request.config.getoption("--cycles")
    broker = broker_named(choice, tmp_path)
    if not isinstance(broker, ChildBroker):
        pytest.skip("kills the broker: not done to an outside one")
    broker.settings = SETTINGS
    campaign = Campaign(broker, str(request.config.getoption("--seed")))
    try:
        campaign.run(cycles)
    finally:
        broker.kill()
        if campaign.load is not None:
            print("\n" + campaign.told())
    assert not campaign.too_seldom(cycles), campaign.told()

"""The campaign of damaged data directories: `make campaign ARGS='tests/storage/test_damage.py --campaign-size 20000'`.

Whatever happens to a directory's files: opening them ends, without an error; what a reader that checks checksums gets
is what was written, or an error; and `log verify` finds every single flipped bit that anything in it contradicts.
"""

import random
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from .damaging import damaged, judge, originals

TOKEN = 250
"""Folders, where nobody asks for more."""


def test_damaged_directories(pytestconfig) -> None:
    size = pytestconfig.getoption("--campaign-size") or TOKEN
    seed = pytestconfig.getoption("--campaign-seed")
    found = []
    for number in range(size):
        rng = random.Random(f"{seed}/{number}")
        original = rng.choice(originals())
        damage = damaged(original, rng)
        if damage.files == original.files:
            continue
        with _within(60):
            try:
                wrong = judge(original, damage, rng)
            except Exception as error:
                wrong = [f"raised {error!r}"]
        found += [f"{seed}/{number}: {original.name}, {damage.told}: {what}" for what in wrong]
    assert not found, "\n".join(found)


@contextmanager
def _within(seconds: int) -> Iterator[None]:
    """Nothing hangs: what takes so long is interrupted."""

    def hung(number, frame):
        raise TimeoutError(f"not done within {seconds} s")

    before = signal.signal(signal.SIGALRM, hung)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)

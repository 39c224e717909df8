"""The campaign of a disk that fails: `make campaign ARGS='tests/storage/test_fault_campaign.py --campaign-size 100'`.

A fixed life of a data directory (`hurting.py`) is lived once for each of its operations, and that one fails, or is the
last before the process is killed or the power fails. The size is how many disks a power failure leaves, in so many
ways of losing, tearing and reordering what was not synced; without it, a few of the operations have their turn.
"""

import errno
import random
from collections.abc import Callable
from functools import partial

import pytest

from kpybroker.storage.errors import SyncFailed

from .hurting import FAR, Life, Promises, check_after, lived

TOKEN = 11
"""One operation of so many, where nobody asks for all of them."""

MAY_WAIT = (".index", ".timeindex", ".txnindex", ".cleaned")
"""Files that are written later, or removed, without a word when they can't be now."""


def length() -> int:
    """How many operations the life has when nothing fails."""
    life = lived(lambda _: None)
    assert not life.failures
    assert life.closed
    assert {what for what, _ in life.disk.trace} >= {
        "create", "list", "mkdir", "open", "read", "remove", "rename", "rmdir", "set time", "stat", "sync",
        "sync folder", "truncate", "write", "write sync",
    }  # fmt: skip
    return life.disk.operations


LENGTH = length()


def at(number: int, error: int, torn: float = 0.5) -> Life:
    """A life in which one operation fails."""

    def order(life: Life) -> None:
        life.disk.fail_at = {number: error}
        life.disk.torn = torn

    return lived(order)


def until(number: int, torn: float = 0.5) -> Life:
    """A life that ends with an operation."""

    def order(life: Life) -> None:
        life.disk.fail_from = number
        life.disk.torn = torn

    return lived(order)


def told(life: Life, number: int) -> None:
    """An error is never swallowed, where anything depends on it."""
    what, path = life.disk.trace[number - 1]
    quiet = path.endswith(MAY_WAIT)
    assert life.failures or quiet, f"{what} {path} failed, and nobody heard of it"


@pytest.fixture
def operations(pytestconfig) -> range:
    """The numbers of those that have their turn."""
    return range(1, LENGTH + 1, 1 if pytestconfig.getoption("--campaign-size") else TOKEN)


def everything(_: Promises) -> int:
    """Below which offset all is there after a kill -9."""
    return FAR


def synced(promises: Promises) -> int:
    """Below which offset all is there after a power failure."""
    return promises.synced


class Campaign:
    """Lives that are judged, and what was wrong with any of them."""

    def __init__(self) -> None:
        self.lives = 0
        self._wrong: list[str] = []

    def judge(self, name: str, life: Life, number: int | None, check: Callable[[], None]) -> None:
        """Note what `check` says of a life in which the operation of that number was hit."""
        self.lives += 1
        try:
            check()
        except Exception as error:
            where = "" if number is None else " ".join(life.disk.trace[number - 1])
            self._wrong.append(f"{name} {number or ''}: {where}: {type(error).__name__}: {str(error).splitlines()[0]}")

    def end(self) -> None:
        """Say how many there were. Raises: AssertionError with all that was wrong."""
        print(f"{self.lives} lives of {LENGTH} operations, {len(self._wrong)} of them wrong")
        assert not self._wrong, "\n".join(self._wrong)


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EMFILE], ids=errno.errorcode.get)
def test_a_temporary_failure_anywhere(operations, error):
    """Whatever it hits, it is told, and after it everything goes on to a clean end."""
    campaign = Campaign()
    for number in operations:
        life = at(number, error, torn=number % 3 / 2)

        def check(life: Life = life, number: int = number) -> None:
            told(life, number)
            if not any(isinstance(failure, SyncFailed) for failure in life.failures):
                assert life.closed, life.failures
            check_after(life, life.disk.killed(), below=everything)

        campaign.judge(errno.errorcode[error], life, number, check)
    campaign.end()


def test_the_disk_fails_anywhere(operations):
    """It is told, the log takes nothing more, and what was acknowledged is there at the next start."""
    campaign = Campaign()
    for number in operations:
        life = at(number, errno.EIO, torn=number % 3 / 2)

        def check(life: Life = life, number: int = number) -> None:
            told(life, number)
            check_after(life, life.disk.killed(), below=everything)

        campaign.judge("EIO", life, number, check)
    campaign.end()


def test_killed_anywhere(operations):
    campaign = Campaign()
    for number in operations:
        life = until(number)
        campaign.judge("killed", life, number, partial(check_after, life, life.disk.killed(), below=everything))
    campaign.end()


def test_the_power_fails_anywhere(operations, pytestconfig):
    size = pytestconfig.getoption("--campaign-size") or 1
    seed = pytestconfig.getoption("--campaign-seed")
    campaign = Campaign()
    for number in operations:
        life = until(number, torn=random.Random(f"{seed}/{number}").random())
        for disk in range(size):
            name = f"{seed}/{number}/{disk}"
            after = life.disk.crash(random.Random(name))
            campaign.judge(name, life, number, partial(check_after, life, after, below=synced))
    campaign.end()


@pytest.mark.parametrize("failures", [1, 2])
def test_the_disk_fills_up_and_gets_room_again(pytestconfig, failures):
    """With so many bytes of room, which come back after one failed step or two."""
    campaign = Campaign()
    for space in range(0, 16_000, 97 if pytestconfig.getoption("--campaign-size") else 997):

        def order(life: Life, space: int = space) -> None:
            life.disk.space = space
            life.on_temporary = lambda _: free(life)

        def free(life: Life) -> None:
            if len(life.failures) >= failures:
                life.disk.space = None

        life = lived(order)

        def check(life: Life = life) -> None:
            assert life.closed, life.failures
            check_after(life, life.disk.killed(), below=everything)

        campaign.judge(f"{space} bytes", life, None, check)
    campaign.end()

"""Members of a group that live in drivers of stock clients: a test looks at them until they are as it wants them."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Final, TypeVar

from harness.driver import ClientError, Driver

CHANGE_LIMIT_S: Final = 180.0
BETWEEN_LOOKS_S: Final = 0.05

T = TypeVar("T")


def until(ask: Callable[[], T], reached: Callable[[T], bool]) -> T:
    """Ask until the answer is as wanted. Raises: AssertionError after CHANGE_LIMIT_S."""
    deadline = time.monotonic() + CHANGE_LIMIT_S
    while not reached(answer := ask()):
        assert time.monotonic() < deadline, f"still {answer} after {CHANGE_LIMIT_S} s"
        time.sleep(BETWEEN_LOOKS_S)  # between two questions: a driver only speaks when it is asked
    return answer


class GroupMember:
    """One member, in a driver."""

    def __init__(self, driver: Driver, name: str) -> None:
        self._driver = driver
        self._name = name

    @property
    def share(self) -> frozenset[int]:
        return frozenset(self._driver.ask("look", member=self._name)["partitions"])

    @property
    def values(self) -> list[str]:
        values: list[str] = self._driver.ask("look", member=self._name)["values"]
        return values

    def commit(self) -> None:
        self._driver.ask("commit", member=self._name)

    def leave(self) -> None:
        self._driver.ask("leave", member=self._name)


class Group:
    """The members of one group: `with Group(...) as group`; those still there at its end leave."""

    def __init__(self, topic: str, group_id: str) -> None:
        self.topic = topic
        self.group_id = group_id
        self._names = (f"{group_id}-{number}" for number in itertools.count(1))
        self._members: list[GroupMember] = []

    def __enter__(self) -> Group:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        for member in list(self._members):
            try:
                self.leave(member)
            except ClientError:
                if value is None:
                    raise

    def join(self, driver: Driver, **options: str) -> GroupMember:
        name = next(self._names)
        driver.ask("join", member=name, topic=self.topic, group=self.group_id, **options)
        member = GroupMember(driver, name)
        self._members.append(member)
        return member

    def leave(self, member: GroupMember) -> None:
        self._members.remove(member)
        member.leave()


def wait_shares(members: Iterable[GroupMember], sizes: list[int]) -> None:
    """Until the members have all the partitions between them, in shares of these sizes (in any order)."""
    watched = list(members)

    def shared_out(shares: list[frozenset[int]]) -> bool:
        return sorted(map(len, shares)) == sorted(sizes) and len(frozenset().union(*shares)) == sum(sizes)

    until(lambda: [member.share for member in watched], shared_out)


def wait_values(members: Iterable[GroupMember], wanted: Iterable[str]) -> None:
    """Until the members have read all these values between them."""
    watched, still = list(members), set(wanted)
    until(lambda: len(still.difference(*(member.values for member in watched))), lambda missing: missing == 0)

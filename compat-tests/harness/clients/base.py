"""What a client adapter offers, and the group of consumers in threads that the two Python clients share."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Protocol

from harness.clients import JOIN_LIMIT_S, MEMBERS, PARTITIONS


class TextGroup(Protocol):
    """Three consumers of one group on one topic."""

    def wait_assigned(self) -> None:
        """Until each of the three has its share of the partitions. Raises: AssertionError after JOIN_LIMIT_S."""

    def wait_for(self, count: int, limit_s: float) -> bool:
        """Until they have read so many values between them; False when they have not within `limit_s`."""

    def close(self) -> list[bytes]:
        """Commit what was read and leave; all the values that they have read."""


class TextClient(ABC):
    """One client library, or tool, that can write lines and read them in a group of three."""

    name: str

    @abstractmethod
    def write(self, address: str, topic: str, codec: str, lines: Sequence[bytes]) -> None:
        """Write the lines over all partitions, acks=all; returns when each is acknowledged. Raises: AssertionError."""

    @abstractmethod
    def group(self, address: str, topic: str, group_id: str) -> TextGroup:
        """Start a group of three that begins where it has committed, or else at the beginning."""


class Member(Protocol):
    """One consumer of a client library."""

    def poll(self) -> list[bytes]:
        """The values that have come, after waiting for some for a moment."""

    def partitions(self) -> frozenset[int]:
        """The partitions that it has now."""

    def commit(self) -> bool:
        """Commit what was polled; False when the group is rebalancing, and it has to be polled first."""

    def leave(self) -> None:
        """Leave the group; what was polled has been committed."""


class ThreadedGroup:
    """Three members, each polled by a thread of its own until the group is closed.

    Members go on polling until all have committed: the first to leave makes the others rebalance, and what is committed
    during a rebalance is refused.
    """

    def __init__(self, make_member: Callable[[], Member]) -> None:
        self._make_member = make_member
        self._changed = threading.Condition()
        self._values: list[bytes] = []
        self._assigned: dict[int, frozenset[int]] = {}
        self._failures: list[BaseException] = []
        self._closing = threading.Event()
        self._committed: set[int] = set()
        self._threads = [threading.Thread(target=self._run, args=(index,), daemon=True) for index in range(MEMBERS)]
        for thread in self._threads:
            thread.start()

    def _run(self, index: int) -> None:
        try:
            member = self._make_member()
            while len(self._committed) < MEMBERS and not self._failures:
                values = member.poll()
                with self._changed:
                    self._values += values
                    self._assigned[index] = member.partitions()
                    self._changed.notify_all()
                if self._closing.is_set() and member.commit():
                    self._committed.add(index)
            member.leave()
        except BaseException as error:  # told to the test's own thread, which raises it
            with self._changed:
                self._failures.append(error)
                self._changed.notify_all()

    def _shared_out(self) -> bool:
        """Whether every partition has exactly one member, and every member its share."""
        counts = [len(partitions) for partitions in self._assigned.values()]
        all_of_them = frozenset().union(*self._assigned.values())
        return counts == [PARTITIONS // MEMBERS] * MEMBERS and len(all_of_them) == PARTITIONS

    def _wait(self, reached: Callable[[], bool], limit_s: float) -> bool:
        with self._changed:
            done = self._changed.wait_for(lambda: bool(self._failures) or reached(), limit_s)
            if self._failures:
                raise self._failures[0]
            return done

    def wait_assigned(self) -> None:
        assert self._wait(self._shared_out, JOIN_LIMIT_S), f"partitions are not shared out: {self._assigned}"

    def wait_for(self, count: int, limit_s: float) -> bool:
        return self._wait(lambda: len(self._values) >= count, limit_s)

    def close(self) -> list[bytes]:
        self._closing.set()
        deadline = time.monotonic() + JOIN_LIMIT_S
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        assert not any(thread.is_alive() for thread in self._threads), "a member did not leave the group in time"
        if self._failures:
            raise self._failures[0]
        return self._values

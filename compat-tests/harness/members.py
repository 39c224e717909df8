"""Consumers that a test makes one by one, each polled by a thread of its own, to watch a group change."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import ClassVar, Protocol

from confluent_kafka import Consumer, KafkaException
from kafka import KafkaConsumer

from harness.clients.confluent import close
from harness.clients.kafka_python import keep_joining

CHANGE_LIMIT_S = 90.0


class Polled(Protocol):
    """A consumer of some library."""

    def poll(self) -> list[bytes]: ...

    def partitions(self) -> frozenset[int]: ...

    def commit(self) -> None: ...

    def close(self) -> None: ...


class ConfluentPolled:
    """A confluent-kafka consumer; `settings` are librdkafka's."""

    DEFAULTS: ClassVar[dict[str, object]] = {
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
        "heartbeat.interval.ms": 300,
    }

    def __init__(self, address: str, topic: str, group_id: str, **settings: object) -> None:
        self._is_static = "group.instance.id" in settings
        self._consumer = Consumer({"bootstrap.servers": address, "group.id": group_id, **self.DEFAULTS, **settings})
        self._consumer.subscribe([topic])

    def poll(self) -> list[bytes]:
        values = []
        for message in self._consumer.consume(num_messages=500, timeout=0.1):
            error = message.error()
            if error is not None and not error.retriable():
                raise KafkaException(error)
            if error is None:
                values.append(message.value())
        return values

    def partitions(self) -> frozenset[int]:
        return frozenset(each.partition for each in self._consumer.assignment())

    def commit(self) -> None:
        self._consumer.commit(asynchronous=False)

    def close(self) -> None:
        if self._is_static:  # it would leave the group if it unsubscribed
            self._consumer.close()
        else:
            close(self._consumer)


class KafkaPythonPolled:
    """A kafka-python consumer; `settings` are its own."""

    def __init__(self, address: str, topic: str, group_id: str, **settings: object) -> None:
        defaults = {"auto_offset_reset": "earliest", "heartbeat_interval_ms": 300, "enable_auto_commit": False}
        self._consumer = KafkaConsumer(topic, bootstrap_servers=address, group_id=group_id, **{**defaults, **settings})

    def poll(self) -> list[bytes]:
        polled = self._consumer.poll(timeout_ms=100)
        keep_joining(self._consumer)
        return [record.value for records in polled.values() for record in records]

    def partitions(self) -> frozenset[int]:
        return frozenset(each.partition for each in self._consumer.assignment())

    def commit(self) -> None:
        self._consumer.commit()

    def close(self) -> None:
        self._consumer.close(autocommit=False)


class MemberThread:
    """Polls one consumer until it is left or stopped; keeps what it read, and every share of partitions that it had."""

    def __init__(self, make: Callable[[], Polled]) -> None:
        self.values: list[bytes] = []
        self.shares: list[frozenset[int]] = []
        self.failure: BaseException | None = None
        self._make = make
        self._changed = threading.Condition()
        self._orders: list[Callable[[Polled], None]] = []
        self._ended = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            polled = self._make()
            while not self._ended:
                values, share = polled.poll(), polled.partitions()
                with self._changed:
                    self.values += values
                    if not self.shares or self.shares[-1] != share:
                        self.shares.append(share)
                    orders, self._orders = self._orders, []
                    self._changed.notify_all()
                for order in orders:
                    order(polled)
        except BaseException as error:  # told to the test's own thread
            with self._changed:
                self.failure = error
                self._changed.notify_all()

    @property
    def share(self) -> frozenset[int]:
        """The partitions that it has now."""
        with self._changed:
            return self.shares[-1] if self.shares else frozenset()

    def wait(self, reached: Callable[[], bool], limit_s: float = CHANGE_LIMIT_S) -> None:
        """Raises: AssertionError after `limit_s`, or whatever ended the member."""
        with self._changed:
            done = self._changed.wait_for(lambda: self.failure is not None or reached(), limit_s)
            if self.failure is not None:
                raise self.failure
        assert done, f"not within {limit_s} s: it has {self.share} and {len(self.values)} values"

    def wait_values(self, count: int) -> None:
        self.wait(lambda: len(self.values) >= count)

    def commit(self) -> None:
        """Commit what it has polled."""
        self._order(lambda polled: polled.commit())

    def leave(self) -> None:
        """Leave the group, and end."""
        if self._thread.is_alive():
            self._order(lambda polled: polled.close(), last=True)
            self._thread.join(CHANGE_LIMIT_S)
        assert not self._thread.is_alive()

    def _order(self, order: Callable[[Polled], None], *, last: bool = False) -> None:
        """Have the member's own thread do something between two polls, and wait until it is done."""
        done = threading.Event()

        def carry_out(polled: Polled) -> None:
            self._ended = last
            order(polled)
            done.set()

        with self._changed:
            self._orders.append(carry_out)
        deadline = time.monotonic() + CHANGE_LIMIT_S
        while not done.wait(0.05):
            if self.failure is not None:
                raise self.failure
            assert time.monotonic() < deadline, "the member is stuck in its poll"


class Members:
    """The members of a test's groups: `with Members() as members`; those still there at its end leave."""

    def __init__(self) -> None:
        self._all: list[MemberThread] = []

    def __enter__(self) -> Members:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        for member in self._all:
            if member.failure is None:
                member.leave()

    def join(self, make: Callable[[], Polled]) -> MemberThread:
        member = MemberThread(make)
        self._all.append(member)
        return member


def wait_shares(members: Iterable[MemberThread], sizes: list[int]) -> None:
    """Until the members have all the partitions between them, in shares of these sizes (in any order)."""
    watched = list(members)

    def shared_out() -> bool:
        shares = [member.share for member in watched]
        return sorted(map(len, shares)) == sorted(sizes) and len(frozenset().union(*shares)) == sum(sizes)

    deadline = time.monotonic() + CHANGE_LIMIT_S
    while not shared_out():
        failures = [member.failure for member in watched if member.failure is not None]
        if failures:
            raise failures[0]
        assert time.monotonic() < deadline, f"shares are {[sorted(member.share) for member in watched]}, not {sizes}"
        time.sleep(0.02)  # several threads are watched at once: their conditions cannot be waited for together

"""Who is asked before a transaction's first record is written, and what clients of each age are told of the answer."""

from __future__ import annotations

from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import pytest
import trio

from kpybroker.clock import SimulatedClock
from kpybroker.coordinators.txn_verifier import Place, Support, TxnProducer, TxnVerifier
from kpybroker.storage.verification import UNVERIFIED, Guard
from kpybroker.wire.codes import Code, Refused

pytestmark = pytest.mark.simulated_time

HERE, OPEN, FENCED = ("t", 0), ("t", 1), ("t", 2)
GUARD = Guard()


class Coordinator:
    """Answers with what is left of `codes`, the last one for ever."""

    def __init__(self, *codes: Code) -> None:
        self.codes = list(codes)
        self.asked: list[tuple[str, list[Place]]] = []

    async def verify(self, _id: str, _producer: int, _epoch: int, partitions: Iterable[Place]) -> dict[Place, Code]:
        return self.answer("verify", partitions)

    async def add_partitions(
        self, _id: str, _producer: int, _epoch: int, partitions: Iterable[Place]
    ) -> dict[Place, Code]:
        return self.answer("add", partitions)

    def answer(self, what: str, partitions: Iterable[Place]) -> dict[Place, Code]:
        places = list(partitions)
        self.asked.append((what, places))
        return dict.fromkeys(places, self.codes.pop(0) if len(self.codes) > 1 else self.codes[0])


class Replicas:
    """HERE has to be asked about, OPEN is open, FENCED knows a newer epoch; all others are not there."""

    def get(self, topic: str, index: int) -> Any:
        if (topic, index) not in (HERE, OPEN, FENCED):
            raise Refused(Code.UNKNOWN_TOPIC_OR_PARTITION)

        def begin_verification(*_: Any, **__: Any) -> Guard | None:
            if (topic, index) == FENCED:
                raise Refused(Code.INVALID_PRODUCER_EPOCH)
            return GUARD if (topic, index) == HERE else None

        return SimpleNamespace(begin_verification=begin_verification)


def verifier(coordinator: Coordinator, *, enabled: bool = True) -> TxnVerifier:
    config = SimpleNamespace(
        transaction_partition_verification_enable=enabled,
        add_partitions_to_txn_retry_backoff_ms=20,
        add_partitions_to_txn_retry_backoff_max_ms=100,
        request_timeout_ms=30_000,
    )
    live: Any = SimpleNamespace(current=config)
    replicas: Any = Replicas()
    return TxnVerifier(coordinator, replicas, live, SimulatedClock(0))


def producer(support: Support) -> TxnProducer:
    return TxnProducer("txn", 7, 0, support)


@pytest.mark.parametrize(
    ("support", "verb"), [(Support.NONE, "verify"), (Support.ABORTABLE, "verify"), (Support.VERSION_2, "add")]
)
async def test_only_what_is_not_known_is_asked_about(support: Support, verb: str) -> None:
    coordinator = Coordinator(Code.NONE)
    found = await verifier(coordinator).ask(producer(support), {HERE: 0, OPEN: 3, FENCED: 0, ("nope", 0): 0})
    assert found.guards == {HERE: GUARD, OPEN: None}
    assert found.refused == {FENCED: Code.INVALID_PRODUCER_EPOCH, ("nope", 0): Code.UNKNOWN_TOPIC_OR_PARTITION}
    assert coordinator.asked == [(verb, [HERE])]


async def test_nobody_is_asked_about_what_is_open() -> None:
    coordinator = Coordinator(Code.NONE)
    await verifier(coordinator).ask(producer(Support.NONE), {OPEN: 3})
    assert coordinator.asked == []


@pytest.mark.parametrize(
    ("support", "said", "told"),
    [
        (Support.NONE, Code.TRANSACTION_ABORTABLE, Code.INVALID_TXN_STATE),
        (Support.ABORTABLE, Code.TRANSACTION_ABORTABLE, Code.TRANSACTION_ABORTABLE),
        (Support.VERSION_2, Code.TRANSACTION_ABORTABLE, Code.TRANSACTION_ABORTABLE),
        (Support.NONE, Code.PRODUCER_FENCED, Code.INVALID_PRODUCER_EPOCH),
        (Support.VERSION_2, Code.PRODUCER_FENCED, Code.INVALID_PRODUCER_EPOCH),
        (Support.NONE, Code.INVALID_PRODUCER_ID_MAPPING, Code.INVALID_PRODUCER_ID_MAPPING),
    ],
)
async def test_clients_are_told_what_they_understand(support: Support, said: Code, told: Code) -> None:
    found = await verifier(Coordinator(said)).ask(producer(support), {HERE: 0})
    assert (found.guards, found.refused) == ({}, {HERE: told})


async def test_verification_may_be_off() -> None:
    """Then nobody is asked; but partitions of version 2 are added all the same, since nobody else does."""
    coordinator = Coordinator(Code.NONE)
    off = verifier(coordinator, enabled=False)
    assert (await off.ask(producer(Support.ABORTABLE), {HERE: 0, OPEN: 0})).guards == {
        HERE: UNVERIFIED,
        OPEN: UNVERIFIED,
    }
    assert coordinator.asked == []
    assert (await off.ask(producer(Support.VERSION_2), {HERE: 0})).guards == {HERE: UNVERIFIED}
    assert coordinator.asked == [("add", [HERE])]


async def test_the_end_of_the_transaction_before_is_waited_for() -> None:
    coordinator = Coordinator(Code.CONCURRENT_TRANSACTIONS, Code.CONCURRENT_TRANSACTIONS, Code.NONE)
    found = await verifier(coordinator).ask_patiently(producer(Support.VERSION_2), {HERE: 0})
    assert (found.guards, found.refused) == ({HERE: GUARD}, {})
    assert len(coordinator.asked) == 3


async def test_but_not_for_ever() -> None:
    coordinator = Coordinator(Code.CONCURRENT_TRANSACTIONS)
    began_s = trio.current_time()
    found = await verifier(coordinator).ask_patiently(producer(Support.VERSION_2), {HERE: 0})
    assert found.refused == {HERE: Code.CONCURRENT_TRANSACTIONS}
    assert trio.current_time() - began_s == pytest.approx(0.1)


async def test_a_client_of_version_1_sends_again_by_itself() -> None:
    coordinator = Coordinator(Code.CONCURRENT_TRANSACTIONS, Code.NONE)
    found = await verifier(coordinator).ask_patiently(producer(Support.ABORTABLE), {HERE: 0})
    assert found.refused == {HERE: Code.CONCURRENT_TRANSACTIONS}

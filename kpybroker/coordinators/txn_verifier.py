"""Asking a transaction's coordinator before the first record of the transaction is written (KIP-890).

A producer of transaction version 1 has added the partition to its transaction before, and the coordinator is asked
whether that is so. One of version 2 leaves it to the partition's leader to have the partition added. Either way the
partition's guard stands between the question and the append (`storage/verification.py`).
"""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple, Protocol

import trio

from kpybroker.storage.verification import UNVERIFIED, Guard
from kpybroker.wire.codes import Code, Refused

if TYPE_CHECKING:
    from kpybroker.clock import Clock
    from kpybroker.config.live import LiveConfig
    from kpybroker.replication.replicas import Replicas

Place = tuple[str, int]
"""A partition by topic and index."""


class Coordinator(Protocol):
    """The transaction coordinator, as its partitions' leaders see it."""

    async def verify(
        self, transactional_id: str, producer_id: int, producer_epoch: int, partitions: Iterable[Place]
    ) -> Mapping[Place, Code]:
        """Whether the partitions are in the producer's transaction: AddPartitionsToTxn, verify only."""
        ...

    async def add_partitions(
        self, transactional_id: str, producer_id: int, producer_epoch: int, partitions: Iterable[Place]
    ) -> Mapping[Place, Code]:
        """Take the partitions into the producer's transaction."""
        ...


class Support(enum.Enum):
    """What a client knows of KIP-890, which the version of its request tells."""

    NONE = enum.auto()
    """It takes INVALID_TXN_STATE for what is not in its transaction."""
    ABORTABLE = enum.auto()
    """It knows TRANSACTION_ABORTABLE."""
    VERSION_2 = enum.auto()
    """Transaction version 2: partitions are added for it, each transaction has an epoch of its own."""


class TxnProducer(NamedTuple):
    """Who writes in which transaction."""

    transactional_id: str
    producer_id: int
    producer_epoch: int
    support: Support


class Verified(NamedTuple):
    """What came of asking."""

    guards: dict[Place, Guard | None]
    """For the appends that may go ahead."""
    refused: dict[Place, Code]
    """For all others."""


class TxnVerifier:
    """Asks on behalf of the partitions that this node leads."""

    def __init__(self, coordinator: Coordinator, replicas: Replicas, live: LiveConfig, clock: Clock) -> None:
        self._coordinator = coordinator
        self._replicas = replicas
        self._live = live
        self._clock = clock

    async def ask(
        self,
        producer: TxnProducer,
        batches: Mapping[Place, int],
        before: Callable[[], Awaitable[None]] = trio.lowlevel.checkpoint,
    ) -> Verified:
        """Ask about the batches that a producer is about to append, given by partition and first sequence number.

        `before`: what is done first, if the coordinator has to be asked at all.
        Codes are the coordinator's, but for what such a client would not understand; and those of a partition that
        can't be asked for, or knows that the producer is fenced.
        """
        config = self._live.current
        verifies = config.transaction_partition_verification_enable
        if producer.support is not Support.VERSION_2 and not verifies:
            return Verified(dict.fromkeys(batches, UNVERIFIED), {})
        guards: dict[Place, Guard | None] = {}
        refused: dict[Place, Code] = {}
        for place, sequence in batches.items():
            try:
                guards[place] = self._begin(producer, place, sequence)
            except Refused as refusal:
                refused[place] = refusal.code
        unknown = [place for place, guard in guards.items() if guard is not None]
        if unknown:
            await before()
            refused |= await self._ask(producer, unknown)
        if not verifies:
            guards = dict.fromkeys(guards, UNVERIFIED)
        return Verified({place: guard for place, guard in guards.items() if place not in refused}, refused)

    def _begin(self, producer: TxnProducer, place: Place, sequence: int) -> Guard | None:
        return self._replicas.get(*place).begin_verification(
            producer.producer_id,
            producer.producer_epoch,
            sequence,
            bumps_epoch=producer.support is Support.VERSION_2,
            now_ms=self._clock.wall_ms(),
        )

    async def _ask(self, producer: TxnProducer, places: list[Place]) -> dict[Place, Code]:
        """What the coordinator has against it, by partition."""
        ask = self._coordinator.verify
        if producer.support is Support.VERSION_2:
            ask = self._coordinator.add_partitions
        codes = await ask(producer.transactional_id, producer.producer_id, producer.producer_epoch, places)
        return {place: _told(code, producer.support) for place, code in codes.items() if code is not Code.NONE}

    async def ask_patiently(
        self,
        producer: TxnProducer,
        batches: Mapping[Place, int],
        before: Callable[[], Awaitable[None]] = trio.lowlevel.checkpoint,
    ) -> Verified:
        """As `ask`; while a transaction of version 2 before this one is being ended, it is asked again for a while.

        Otherwise a producer would have to send its records again, which costs more than a short wait.
        """
        config = self._live.current
        limit_s = min(config.add_partitions_to_txn_retry_backoff_max_ms, config.request_timeout_ms) / 1000
        deadline_s = self._clock.monotonic_s() + limit_s
        while True:
            verified = await self.ask(producer, batches, before)
            ending = Code.CONCURRENT_TRANSACTIONS in verified.refused.values()
            if not ending or producer.support is not Support.VERSION_2 or self._clock.monotonic_s() >= deadline_s:
                return verified
            await trio.sleep(config.add_partitions_to_txn_retry_backoff_ms / 1000)


def _told(code: Code, support: Support) -> Code:
    """The coordinator's code as a producer understands it."""
    if code is Code.PRODUCER_FENCED:
        return Code.INVALID_PRODUCER_EPOCH
    if code is Code.TRANSACTION_ABORTABLE and support is Support.NONE:
        return Code.INVALID_TXN_STATE
    return code

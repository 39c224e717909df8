"""What a shard of transactions is told, what it answers, and what it wants done.

An event that expects an answer carries a `token`; the answer comes in the same step. Where an event may need a producer
id that nobody has had, it carries one or None; with None the answer may be PRODUCER_ID_NEEDED, and nothing has been
decided: ask again with one.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final, TypeAlias

import msgspec

from kpybroker.coordinators.machines import effects
from kpybroker.coordinators.machines.effects import Tick, Token
from kpybroker.coordinators.machines.settings import TransactionSettings
from kpybroker.coordinators.machines.transaction_state import NONE, Ending, Expected, TopicPartition
from kpybroker.wire.codes import Code
from kpybroker.wire.messages.describe_transactions import TransactionState
from kpybroker.wire.messages.list_transactions import ListTransactionsResponse

# -- answers


class Outcome(msgspec.Struct, frozen=True):
    """How it went, and where it says so, the producer's id and epoch from now on."""

    code: Code
    producer_id: int = NONE
    producer_epoch: int = NONE


class Verified(msgspec.Struct, frozen=True):
    """Of each partition, whether it is in the transaction, or why it is not."""

    codes: dict[TopicPartition, Code]


class _Need(enum.Enum):
    PRODUCER_ID = enum.auto()


PRODUCER_ID_NEEDED: Final = _Need.PRODUCER_ID

Response: TypeAlias = Outcome | Verified | TransactionState | ListTransactionsResponse | _Need


# -- events


class InitProducerId(msgspec.Struct, frozen=True):
    """An InitProducerId request with a transactional id, its timeout within what is allowed."""

    transactional_id: str
    timeout_ms: int
    expected: Expected | None
    new_producer_id: int | None
    token: Token


class AddPartitions(msgspec.Struct, frozen=True):
    """Partitions that a producer writes to from now on, in the transaction that this begins if there is none."""

    transactional_id: str
    producer_id: int
    producer_epoch: int
    partitions: frozenset[TopicPartition]
    client_version: int
    token: Token


class VerifyPartitions(msgspec.Struct, frozen=True):
    """Whether partitions are in the producer's transaction (KIP-890)."""

    transactional_id: str
    producer_id: int
    producer_epoch: int
    partitions: frozenset[TopicPartition]
    token: Token


class EndTransaction(msgspec.Struct, frozen=True):
    """An EndTxn request."""

    transactional_id: str
    ending: Ending
    new_producer_id: int | None
    token: Token


class DescribeTransaction(msgspec.Struct, frozen=True):
    """One transactional id of a DescribeTransactions request."""

    transactional_id: str
    token: Token


class ListTransactions(msgspec.Struct, frozen=True):
    """The filters of a ListTransactions request; one that is empty, or negative, takes all."""

    states: frozenset[str]
    """Names of states."""
    producer_ids: frozenset[int]
    older_than_ms: int
    pattern: str | None
    """A regular expression for the whole of a transactional id."""
    token: Token


class MarkersWritten(msgspec.Struct, frozen=True):
    """What became of the markers of a prepared transaction, by partition. One that is gone has needed none: NONE."""

    transactional_id: str
    codes: Mapping[TopicPartition, Code]


class AbortTimedOut(msgspec.Struct, frozen=True):
    """The producer id that a NeedProducerId asked for."""

    transactional_id: str
    new_producer_id: int


class SettingsChanged(msgspec.Struct, frozen=True):
    """Other settings are in force: the cluster's transaction version is among them."""

    settings: TransactionSettings


Event: TypeAlias = (
    InitProducerId
    | AddPartitions
    | VerifyPartitions
    | EndTransaction
    | DescribeTransaction
    | ListTransactions
    | MarkersWritten
    | AbortTimedOut
    | SettingsChanged
    | Tick
)


# -- actions


class WriteMarkers(msgspec.Struct, frozen=True):
    """A transaction is prepared: write its markers (`TransactionShard.markers_due`) and tell with MarkersWritten."""

    transactional_id: str


class NeedProducerId(msgspec.Struct, frozen=True):
    """A transaction that has run out of time can't be aborted without another producer id: AbortTimedOut."""

    transactional_id: str


Action: TypeAlias = WriteMarkers | NeedProducerId


class Effects(effects.Effects[Response]):
    """What one step decided. Actions are of the kinds above."""

    __slots__ = ()

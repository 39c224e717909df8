"""One transactional id: what is known of it, and what it may become.

    Empty ------ partitions ------> Ongoing ------ EndTxn, timeout, another producer ------> PrepareCommit, PrepareAbort
      ^                               ^                                                               |
      | InitProducerId                | partitions                                a marker in every partition
      +----------------- CompleteCommit, CompleteAbort <----------------------------------------------+

A Transaction is never changed: each function here gives the next one, or refuses with what Kafka's coordinator answers.
The names of states and their numbers are those of the log and of DescribeTransactions.

Two kinds of client (KIP-890). Version 0, and 1, which differs in the log only: an epoch lasts until InitProducerId
bumps it, and partitions are added before they are written to. Version 2: each end of a transaction bumps the epoch, so
that nothing of it can be mistaken for the next one's; the answer to EndTxn names the new epoch, or id, and a
transaction may be aborted before it has begun.

Epochs end at 32767, which no client gets: with it the coordinator can always fence one more time. An id whose epoch has
come to 32766 is exhausted, and the next bump hands out another id.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import TypeAlias

import msgspec

from kpybroker.coordinators.machines.effects import Record
from kpybroker.wire.codes import Code, Refused
from kpybroker.wire.internal.transaction_records import PartitionsSchema, TransactionLogKey, TransactionLogValue

NONE = -1
"""No producer id, no epoch, no time."""
EPOCH_MAX = 2**15 - 1
EPOCH_BUMPED = 2
"""The transaction version from which each end of a transaction bumps the epoch."""
FLEXIBLE = 1
"""The transaction version from which records have the fields of version 1."""
NO_TIMEOUT_MS = 2**31 - 1
"""A transaction whose end somebody outside decides (KIP-939): it never times out."""

TopicPartition: TypeAlias = tuple[str, int]
NewProducerId: TypeAlias = Callable[[], int]
"""Gives a producer id that nobody has had."""


class State(enum.IntEnum):
    """Numbers of the log; `title` is the name that clients see."""

    EMPTY = 0
    ONGOING = 1
    PREPARE_COMMIT = 2
    PREPARE_ABORT = 3
    COMPLETE_COMMIT = 4
    COMPLETE_ABORT = 5
    DEAD = 6
    PREPARE_EPOCH_FENCE = 7

    @property
    def title(self) -> str:
        """As Kafka writes it: PrepareCommit."""
        return self.name.title().replace("_", "")


PREPARED = frozenset({State.PREPARE_COMMIT, State.PREPARE_ABORT})
IDLE = frozenset({State.EMPTY, State.COMPLETE_COMMIT, State.COMPLETE_ABORT})
"""No transaction is under way: an id may be used anew, or forgotten."""


class Transaction(msgspec.Struct, frozen=True, kw_only=True):
    """A transactional id as its last record has it."""

    transactional_id: str
    producer_id: int
    previous_producer_id: int = NONE
    """The producer id before the last change of anything."""
    next_producer_id: int = NONE
    """In a prepared state: the id that the producer goes on with, its own being exhausted."""
    producer_epoch: int
    last_producer_epoch: int = NONE
    """The epoch that the same producer had before (KIP-360). Not in the log: after a reload nobody has had one."""
    timeout_ms: int
    state: State
    partitions: frozenset[TopicPartition] = frozenset()
    start_ms: int = NONE
    updated_ms: int
    client_version: int = 0
    """The transaction version of the client that made the last change."""

    @property
    def exhausted(self) -> bool:
        """Whether its epoch can't be bumped for a client any more."""
        return _exhausted(self.producer_epoch)


def _exhausted(epoch: int) -> bool:
    return epoch >= EPOCH_MAX - 1


def _next(txn: Transaction, **changes: object) -> Transaction:
    return msgspec.structs.replace(txn, previous_producer_id=txn.producer_id, **changes)


# -- records


def to_record(txn: Transaction, server_version: int) -> Record:
    """The record that says all this, in the form of the cluster's transaction version."""
    flexible = server_version >= FLEXIBLE
    topics: dict[str, list[int]] = {}
    for topic, index in sorted(txn.partitions):
        topics.setdefault(topic, []).append(index)
    schemas = [PartitionsSchema(topic=topic, partition_ids=indexes) for topic, indexes in topics.items()]
    value = TransactionLogValue(
        producer_id=txn.producer_id,
        previous_producer_id=txn.previous_producer_id if flexible else NONE,
        next_producer_id=txn.next_producer_id if flexible else NONE,
        producer_epoch=txn.producer_epoch,
        transaction_timeout_ms=txn.timeout_ms,
        transaction_status=txn.state,
        transaction_partitions=None if txn.state is State.EMPTY else schemas,
        transaction_last_update_timestamp_ms=txn.updated_ms,
        transaction_start_timestamp_ms=txn.start_ms,
        client_transaction_version=txn.client_version if flexible else 0,
    )
    return Record(TransactionLogKey(transactional_id=txn.transactional_id), value, 1 if flexible else 0)


def from_record(transactional_id: str, value: TransactionLogValue, last_producer_epoch: int) -> Transaction:
    """What a record says. Raises: ValueError for a state that there is not."""
    return Transaction(
        transactional_id=transactional_id,
        producer_id=value.producer_id,
        previous_producer_id=value.previous_producer_id,
        next_producer_id=value.next_producer_id,
        producer_epoch=value.producer_epoch,
        last_producer_epoch=last_producer_epoch,
        timeout_ms=value.transaction_timeout_ms,
        state=State(value.transaction_status),
        partitions=frozenset(
            (schema.topic, index) for schema in value.transaction_partitions or () for index in schema.partition_ids
        ),
        start_ms=value.transaction_start_timestamp_ms,
        updated_ms=value.transaction_last_update_timestamp_ms,
        client_version=value.client_transaction_version,
    )


# -- InitProducerId


class Expected(msgspec.Struct, frozen=True):
    """Which id and epoch a producer says that it has (KIP-360)."""

    producer_id: int
    epoch: int


def unused(transactional_id: str, producer_id: int, timeout_ms: int, now_ms: int) -> Transaction:
    """A transactional id that nobody has used: what its first InitProducerId starts from."""
    return Transaction(
        transactional_id=transactional_id,
        producer_id=producer_id,
        producer_epoch=NONE,
        timeout_ms=timeout_ms,
        state=State.EMPTY,
        updated_ms=now_ms,
    )


def check_expected(txn: Transaction, expected: Expected | None) -> None:
    """Raises: Refused(PRODUCER_FENCED) for a producer whose id is another's by now.

    An id that is no longer the producer's is let through if its epoch was exhausted: the answer that named the new one
    may have been lost.
    """
    if expected is None or txn.producer_epoch == NONE or expected.producer_id == txn.producer_id:
        return
    if expected.producer_id != txn.previous_producer_id or not _exhausted(expected.epoch):
        raise Refused(Code.PRODUCER_FENCED)


def initialized(
    txn: Transaction, expected: Expected | None, timeout_ms: int, new_producer_id: NewProducerId, now_ms: int
) -> Transaction:
    """An idle id taken up by a producer: with the next epoch, or another producer id. Raises: Refused."""
    producer_id = txn.producer_id
    if txn.exhausted and (expected is None or expected.epoch == txn.producer_epoch):
        producer_id, epoch = new_producer_id(), 0
        last = NONE if expected is None else txn.producer_epoch
    else:
        epoch, last = _bumped(txn, expected)
    return _next(
        txn,
        producer_id=producer_id,
        producer_epoch=epoch,
        last_producer_epoch=last,
        timeout_ms=timeout_ms,
        state=State.EMPTY,
        partitions=frozenset(),
        start_ms=NONE,
        updated_ms=now_ms,
    )


def _bumped(txn: Transaction, expected: Expected | None) -> tuple[int, int]:
    """The epoch that follows, and the last epoch. Raises: Refused."""
    if txn.exhausted:
        raise Refused(Code.UNKNOWN_SERVER_ERROR)  # Kafka's coordinator stumbles here, too
    if expected is None:
        return txn.producer_epoch + 1, NONE
    if txn.producer_epoch in (NONE, expected.epoch):
        return txn.producer_epoch + 1, txn.producer_epoch
    if expected.epoch == txn.last_producer_epoch:
        return txn.producer_epoch, txn.last_producer_epoch  # asked again: the answer was lost
    raise Refused(Code.PRODUCER_FENCED)


# -- AddPartitionsToTxn


def check_at_rest(txn: Transaction) -> None:
    """Raises: Refused(CONCURRENT_TRANSACTIONS) while a transaction is being ended.

    Before version 2 that is asked after whose transaction it is, since then before it: the producer may have been told
    of an id that is its own only when the end is complete.
    """
    if txn.state in PREPARED:
        raise Refused(Code.CONCURRENT_TRANSACTIONS)


def check_producer(txn: Transaction, producer_id: int, producer_epoch: int) -> None:
    """Raises: Refused unless it is the producer's."""
    if txn.producer_id != producer_id:
        raise Refused(Code.INVALID_PRODUCER_ID_MAPPING)
    if txn.producer_epoch != producer_epoch:
        raise Refused(Code.PRODUCER_FENCED)


def with_partitions(
    txn: Transaction, partitions: frozenset[TopicPartition], client_version: int, now_ms: int
) -> Transaction | None:
    """The transaction with these partitions besides, begun if none is under way; None if it has them all."""
    ongoing = txn.state is State.ONGOING
    if ongoing and partitions <= txn.partitions:
        return None
    return _next(
        txn,
        state=State.ONGOING,
        partitions=txn.partitions | partitions,
        start_ms=txn.start_ms if ongoing else now_ms,
        updated_ms=now_ms,
        client_version=client_version,
    )


# -- EndTxn


class Ending(msgspec.Struct, frozen=True):
    """Who wants a transaction ended, and how."""

    producer_id: int
    epoch: int
    committed: bool
    client_version: int


def ended(txn: Transaction, ending: Ending, new_producer_id: NewProducerId, now_ms: int) -> Transaction | None:
    """The transaction prepared for its end; None if it has come to that end: asked again. Raises: Refused."""
    if ending.client_version < EPOCH_BUMPED:
        return _ended_v1(txn, ending, now_ms)
    return _ended_v2(txn, ending, new_producer_id, now_ms)


def _ended_v1(txn: Transaction, ending: Ending, now_ms: int) -> Transaction | None:
    check_producer(txn, ending.producer_id, ending.epoch)
    check_at_rest(txn)
    if txn.state is State.ONGOING:
        return _prepared(txn, ending.committed, now_ms)
    _check_same_end(txn, ending.committed)
    return None


def _check_same_end(txn: Transaction, committed: bool) -> None:
    """Raises: Refused unless this is the end that the transaction has come to."""
    if txn.state is not (State.COMPLETE_COMMIT if committed else State.COMPLETE_ABORT):
        raise Refused(Code.INVALID_TXN_STATE)


def _ended_v2(txn: Transaction, ending: Ending, new_producer_id: NewProducerId, now_ms: int) -> Transaction | None:
    """With the producer's epoch it is the next transaction's end; with the one before, the last one's asked again.

    Nothing may be committed that has not begun, but aborted: the client may not know whether anything of it came here.
    """
    check_at_rest(txn)
    overflown = (
        txn.previous_producer_id == ending.producer_id and ending.epoch == EPOCH_MAX - 1 and txn.producer_epoch == 0
    )
    ended_before = txn.state in (State.COMPLETE_COMMIT, State.COMPLETE_ABORT)
    again = ended_before and (overflown or txn.producer_epoch == ending.epoch + 1)
    if txn.producer_id != ending.producer_id and not overflown:
        raise Refused(Code.INVALID_PRODUCER_ID_MAPPING)
    if not again and ending.epoch != txn.producer_epoch:
        raise Refused(Code.PRODUCER_FENCED)
    if txn.state is State.ONGOING:
        return _prepared_v2(txn, ending.committed, new_producer_id, now_ms)
    if again:
        _check_same_end(txn, ending.committed)
        return None
    if ending.committed:
        raise Refused(Code.INVALID_TXN_STATE)
    return msgspec.structs.replace(_prepared_v2(txn, False, new_producer_id, now_ms), start_ms=now_ms)


def _prepared(txn: Transaction, committed: bool, now_ms: int) -> Transaction:
    state = State.PREPARE_COMMIT if committed else State.PREPARE_ABORT
    return _next(txn, state=state, next_producer_id=NONE, updated_ms=now_ms, client_version=0)


def _prepared_v2(txn: Transaction, committed: bool, new_producer_id: NewProducerId, now_ms: int) -> Transaction:
    """As `_prepared`, with the next epoch; an exhausted id is ended with 32767, and followed by another id."""
    next_id = new_producer_id() if txn.exhausted else NONE
    return msgspec.structs.replace(
        _prepared(txn, committed, now_ms),
        next_producer_id=next_id,
        producer_epoch=min(txn.producer_epoch + 1, EPOCH_MAX),
        last_producer_epoch=txn.producer_epoch,
        client_version=EPOCH_BUMPED,
    )


def fenced(txn: Transaction, server_version: int, new_producer_id: NewProducerId, now_ms: int) -> Transaction:
    """An ongoing transaction aborted without its producer, whose epoch is not valid any more."""
    if server_version >= EPOCH_BUMPED:
        return _prepared_v2(txn, False, new_producer_id, now_ms)
    return msgspec.structs.replace(
        _prepared(txn, False, now_ms),
        producer_epoch=min(txn.producer_epoch + 1, EPOCH_MAX),
        last_producer_epoch=NONE,
    )


def completed(txn: Transaction, now_ms: int) -> Transaction:
    """A prepared transaction that has its marker in every partition."""
    assert txn.state in PREPARED
    after = _next(
        txn,
        state=State.COMPLETE_COMMIT if txn.state is State.PREPARE_COMMIT else State.COMPLETE_ABORT,
        next_producer_id=NONE,
        partitions=frozenset(),
        updated_ms=now_ms,
    )
    if txn.client_version >= EPOCH_BUMPED and txn.next_producer_id != NONE:
        # The last epoch stays what the client has seen last: 32766, although 32767 came between.
        return msgspec.structs.replace(after, producer_id=txn.next_producer_id, producer_epoch=0)
    return after

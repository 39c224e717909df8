"""Transactions as DescribeTransactions and ListTransactions show them."""

from __future__ import annotations

from collections.abc import Iterable

from kpybroker.clock import Now
from kpybroker.coordinators.machines.patterns import compile_pattern
from kpybroker.coordinators.machines.transaction_events import ListTransactions
from kpybroker.coordinators.machines.transaction_state import State, TopicPartition, Transaction
from kpybroker.wire.codes import Code
from kpybroker.wire.messages.describe_transactions import TopicData, TransactionState
from kpybroker.wire.messages.list_transactions import ListTransactionsResponse
from kpybroker.wire.messages.list_transactions import TransactionState as ListedTransaction

_TITLES = frozenset(state.title for state in State)


def describe(txn: Transaction, partitions: Iterable[TopicPartition]) -> TransactionState:
    """A transactional id; of a prepared transaction, the partitions that have no marker yet."""
    topics: dict[str, list[int]] = {}
    for topic, index in sorted(partitions):
        topics.setdefault(topic, []).append(index)
    return TransactionState(
        error_code=Code.NONE,
        transactional_id=txn.transactional_id,
        transaction_state=txn.state.title,
        transaction_timeout_ms=txn.timeout_ms,
        transaction_start_time_ms=txn.start_ms,
        producer_id=txn.producer_id,
        producer_epoch=txn.producer_epoch,
        topics=[TopicData(topic=topic, partitions=indexes) for topic, indexes in topics.items()],
    )


def described_error(transactional_id: str, code: Code) -> TransactionState:
    """A transactional id that could not be described."""
    return TransactionState(
        error_code=code,
        transactional_id=transactional_id,
        transaction_state="",
        transaction_timeout_ms=0,
        transaction_start_time_ms=0,
        producer_id=0,
        producer_epoch=0,
        topics=[],
    )


def list_transactions(event: ListTransactions, known: Iterable[Transaction], now: Now) -> ListTransactionsResponse:
    """Those that all filters take. Whoever has no transaction has had none since the epoch began: that is old."""
    pattern = compile_pattern(event.pattern) if event.pattern else None
    listed = [
        ListedTransaction(
            transactional_id=txn.transactional_id, producer_id=txn.producer_id, transaction_state=txn.state.title
        )
        for txn in known
        if (not event.states or txn.state.title in event.states)
        and (not event.producer_ids or txn.producer_id in event.producer_ids)
        and (event.older_than_ms < 0 or now.wall_ms - txn.start_ms > event.older_than_ms)
        and (pattern is None or pattern.fullmatch(txn.transactional_id) is not None)
    ]
    return ListTransactionsResponse(
        throttle_time_ms=0,
        error_code=Code.NONE,
        unknown_state_filters=unknown_states(event.states),
        transaction_states=listed,
    )


def unknown_states(states: frozenset[str]) -> list[str]:
    """Those of the names that no state has."""
    return sorted(states - _TITLES)


def listed_error(code: Code) -> ListTransactionsResponse:
    """Nothing can be listed."""
    return ListTransactionsResponse(
        throttle_time_ms=0, error_code=code, unknown_state_filters=[], transaction_states=[]
    )

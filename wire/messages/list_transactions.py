"""ListTransactions (API 66): the transactions that a broker coordinates, by state, producer id and age (KIP-664)."""

from typing import Annotated

from kpybroker.wire.schema import Int16, Int32, Int64, Message, Since, Struct, message


@message(key=66, versions="0-2", flexible="0+")
class ListTransactionsRequest(Message):
    state_filters: list[str]
    producer_id_filters: list[Int64]
    duration_filter: Annotated[Int64, Since(1)] = -1
    transactional_id_pattern: Annotated[str | None, Since(2)] = None


class TransactionState(Struct):
    transactional_id: str
    producer_id: Int64
    transaction_state: str


@message(key=66, versions="0-2", flexible="0+")
class ListTransactionsResponse(Message):
    throttle_time_ms: Int32
    error_code: Int16
    unknown_state_filters: list[str]
    transaction_states: list[TransactionState]

"""DescribeTransactions (API 65): state of transactions by transactional id (KIP-664)."""

from kpybroker.wire.schema import Int16, Int32, Int64, Message, Struct, message


@message(key=65, versions="0", flexible="0+")
class DescribeTransactionsRequest(Message):
    transactional_ids: list[str]


class TopicData(Struct):
    topic: str
    partitions: list[Int32]


class TransactionState(Struct):
    error_code: Int16
    transactional_id: str
    transaction_state: str
    transaction_timeout_ms: Int32
    transaction_start_time_ms: Int64
    producer_id: Int64
    producer_epoch: Int16
    topics: list[TopicData]


@message(key=65, versions="0", flexible="0+")
class DescribeTransactionsResponse(Message):
    throttle_time_ms: Int32
    transaction_states: list[TransactionState]

"""Records of __transaction_state: where each transactional id stands (KIP-98)."""

from typing import Annotated

from kpybroker.wire.schema import Int8, Int16, Int32, Int64, Message, Struct, Tag, message


@message(key=0, versions="0")
class TransactionLogKey(Message):
    """Which transactional id it is."""

    transactional_id: str


class PartitionsSchema(Struct):
    topic: str
    partition_ids: list[Int32]


@message(key=0, versions="0-1", flexible="1+")
class TransactionLogValue(Message):
    """Producer id, epoch, state and partitions of a transaction."""

    producer_id: Int64
    previous_producer_id: Annotated[Int64, Tag(0, since=1)] = -1
    next_producer_id: Annotated[Int64, Tag(1, since=1)] = -1
    producer_epoch: Int16
    next_producer_epoch: Annotated[Int16, Tag(3, since=1)] = -1
    transaction_timeout_ms: Int32
    transaction_status: Int8
    transaction_partitions: list[PartitionsSchema] | None
    transaction_last_update_timestamp_ms: Int64
    transaction_start_timestamp_ms: Int64
    client_transaction_version: Annotated[Int16, Tag(2, since=1)] = 0

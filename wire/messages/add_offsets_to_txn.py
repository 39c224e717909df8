"""AddOffsetsToTxn (API 25): take the committed offsets of a consumer group into a transaction."""

from kpybroker.wire.schema import Int16, Int32, Int64, Message, message


@message(key=25, versions="0-4", flexible="3+")
class AddOffsetsToTxnRequest(Message):
    transactional_id: str
    producer_id: Int64
    producer_epoch: Int16
    group_id: str


@message(key=25, versions="0-4", flexible="3+")
class AddOffsetsToTxnResponse(Message):
    throttle_time_ms: Int32
    error_code: Int16

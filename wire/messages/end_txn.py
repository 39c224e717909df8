"""EndTxn (API 26): commit or abort a transaction."""

from typing import Annotated

from kpybroker.wire.schema import IGNORABLE, Int16, Int32, Int64, Message, Since, message


@message(key=26, versions="0-5", flexible="3+")
class EndTxnRequest(Message):
    transactional_id: str
    producer_id: Int64
    producer_epoch: Int16
    committed: bool


@message(key=26, versions="0-5", flexible="3+")
class EndTxnResponse(Message):
    throttle_time_ms: Int32
    error_code: Int16
    producer_id: Annotated[Int64, Since(5), IGNORABLE] = -1
    producer_epoch: Annotated[Int16, Since(5), IGNORABLE] = -1

"""AllocateProducerIds (API 67): a broker asks the controller for a block of producer ids (KIP-730)."""

from kpybroker.wire.schema import Int16, Int32, Int64, Message, message


@message(key=67, versions="0", flexible="0+")
class AllocateProducerIdsRequest(Message):
    broker_id: Int32
    broker_epoch: Int64 = -1


@message(key=67, versions="0", flexible="0+")
class AllocateProducerIdsResponse(Message):
    throttle_time_ms: Int32
    error_code: Int16
    producer_id_start: Int64
    producer_id_len: Int32

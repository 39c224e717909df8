"""AlterClientQuotas (API 49): set and remove quotas of users, client ids and addresses (KIP-546)."""

from kpybroker.wire.schema import Float64, Int16, Int32, Message, Struct, message


class EntityData(Struct):
    entity_type: str
    entity_name: str | None


class OpData(Struct):
    key: str
    value: Float64
    remove: bool


class RequestEntryData(Struct):
    entity: list[EntityData]
    ops: list[OpData]


@message(key=49, versions="0-1", flexible="1+")
class AlterClientQuotasRequest(Message):
    entries: list[RequestEntryData]
    validate_only: bool


class ResponseEntryData(Struct):
    error_code: Int16
    error_message: str | None
    entity: list[EntityData]


@message(key=49, versions="0-1", flexible="1+")
class AlterClientQuotasResponse(Message):
    throttle_time_ms: Int32
    entries: list[ResponseEntryData]

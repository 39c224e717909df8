"""ControllerRegistration (API 70): a controller tells the active controller its endpoints and features (KIP-919)."""

from kpybroker.wire.schema import Int16, Int32, Message, Struct, Uint16, Uuid, message


class Listener(Struct):
    name: str
    host: str
    port: Uint16
    security_protocol: Int16


class Feature(Struct):
    name: str
    min_supported_version: Int16
    max_supported_version: Int16


@message(key=70, versions="0", flexible="0+")
class ControllerRegistrationRequest(Message):
    controller_id: Int32
    incarnation_id: Uuid
    zk_migration_ready: bool
    listeners: list[Listener]
    features: list[Feature]


@message(key=70, versions="0", flexible="0+")
class ControllerRegistrationResponse(Message):
    throttle_time_ms: Int32
    error_code: Int16
    error_message: str | None

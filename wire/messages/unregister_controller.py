"""UnregisterController (API 94): remove the registration of a controller that will not come back."""

from kpybroker.wire.schema import Int16, Int32, Message, message


@message(key=94, versions="0", flexible="0+")
class UnregisterControllerRequest(Message):
    controller_id: Int32


@message(key=94, versions="0", flexible="0+")
class UnregisterControllerResponse(Message):
    throttle_time_ms: Int32
    error_code: Int16
    error_message: str | None

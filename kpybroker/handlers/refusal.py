"""The response to a request that is declined as a whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from kpybroker.wire.primitives import ZERO_UUID
from kpybroker.wire.schema import ArrayOf, Kind, fields_of

if TYPE_CHECKING:
    from kpybroker.handlers.finder import Handler
    from kpybroker.wire.codes import Refused
    from kpybroker.wire.schema import Message

_ERROR = ("error_code", "error_message")
_EMPTY: dict[str, object] = {"string": "", "bytes": b"", "records": b"", "bool": False, "uuid": ZERO_UUID}
"""The value of a field that has none to tell, by its type; numbers are 0."""


def refusal(
    handler: Handler, request: Message, version: int, refused: Refused, response_class: type[Message]
) -> Message:
    """The API's response that says no: in its handler's own form, else its error code and empty otherwise."""
    own_form = getattr(handler, "refuse", None)
    if own_form is not None:
        response: Message = own_form(request, version, refused)
        return response
    values: dict[str, object] = {}
    required = {field.name for field in msgspec.structs.fields(response_class) if field.required}  # type: ignore[arg-type]
    for field in fields_of(response_class):
        if field.name in _ERROR and version not in field.versions:
            continue
        if field.name == "error_code":
            values[field.name] = refused.code
        elif field.name == "error_message":
            values[field.name] = refused.message
        elif field.name not in required:
            continue
        elif isinstance(field.type, ArrayOf):
            values[field.name] = []
        elif isinstance(field.type, Kind):
            values[field.name] = _EMPTY.get(field.type.name, 0)
    return response_class(**values)  # type: ignore[arg-type]

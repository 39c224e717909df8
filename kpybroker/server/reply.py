"""From a response message to the parts of its frame, ready to be sent."""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING

from kpybroker.server.transport import Part
from kpybroker.wire.codec import encode_parts

if TYPE_CHECKING:
    from kpybroker.wire.schema import Message

_HEADER = Struct(">ii")  # size, correlation id
_FLEXIBLE_HEADER = Struct(">iiB")  # size, correlation id, no tagged fields

__all__ = ["Part", "reply_parts"]


def reply_parts(correlation_id: int, flexible_header: bool, response: Message, version: int) -> list[Part]:
    """The frame of a response: size, response header (v1 if `flexible_header`, else v0), body."""
    parts = encode_parts(response, version)
    size = sum(map(len, parts))
    if flexible_header:
        head = _FLEXIBLE_HEADER.pack(size + 5, correlation_id, 0)
    else:
        head = _HEADER.pack(size + 4, correlation_id)
    if parts and isinstance(parts[0], bytes):
        parts[0] = head + parts[0]
    else:
        parts.insert(0, head)
    return parts

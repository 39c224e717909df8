"""What stands before every request and response. Which version of the header: see `api_keys`."""

import struct
from struct import Struct as Packer
from typing import Annotated, NamedTuple

from kpybroker.wire.api_keys import APIS
from kpybroker.wire.errors import MalformedMessage
from kpybroker.wire.primitives import read_uvarint
from kpybroker.wire.schema import NEVER_COMPACT, Int16, Int32, Message, message


@message(versions="1-2", flexible="2+")
class RequestHeader(Message):
    """What stands before every request. The client id keeps its old encoding in version 2 too."""

    request_api_key: Int16
    request_api_version: Int16
    correlation_id: Int32
    client_id: Annotated[str | None, NEVER_COMPACT]


@message(versions="0-1", flexible="1+")
class ResponseHeader(Message):
    """What stands before every response. An ApiVersions response has version 0, whatever its own version."""

    correlation_id: Int32


class RequestStart(NamedTuple):
    """What dispatch needs of a request's header."""

    api_key: int
    api_version: int
    correlation_id: int
    client_id: str | None
    body_offset: int
    """Where the body begins in the frame."""


_START = Packer(">hhih")


def parse_request_header(frame: bytes | memoryview) -> RequestStart:
    """The header at the beginning of a request's frame, without building a message. Raises: MalformedMessage.

    Of an API that is not known, and of a version that its API does not have, the client id is read and nothing more is
    made of it: the caller refuses such a request.
    """
    try:
        api_key, api_version, correlation_id, length = _START.unpack_from(frame)
    except struct.error:
        raise MalformedMessage(f"{len(frame)} bytes are no header", message="RequestHeader") from None
    offset = _START.size
    client_id = None
    if length >= 0:
        end = offset + length
        if end > len(frame):
            raise MalformedMessage("client id is cut short", message="RequestHeader", offset=offset)
        try:
            client_id = str(frame[offset:end], "utf-8")
        except UnicodeDecodeError:
            raise MalformedMessage("client id is not UTF-8", message="RequestHeader", offset=offset) from None
        offset = end
    api = APIS.get(api_key)
    if api is not None and api.request_header_version(api_version) > 1:
        offset = _skip_tags(frame, offset)
    return RequestStart(api_key, api_version, correlation_id, client_id, offset)


def _skip_tags(frame: bytes | memoryview, offset: int) -> int:
    """The offset after the tagged fields of a header; there are none so far that mean anything to a broker."""
    if offset < len(frame) and frame[offset] == 0:
        return offset + 1
    try:
        count, offset = read_uvarint(frame, offset)
        for _ in range(count):
            _, offset = read_uvarint(frame, offset)
            size, offset = read_uvarint(frame, offset)
            offset += size
    except IndexError:
        offset = len(frame) + 1
    if offset > len(frame):
        raise MalformedMessage("tagged fields are cut short", message="RequestHeader", offset=len(frame))
    return offset

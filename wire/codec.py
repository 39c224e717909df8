"""Bytes to messages and back, at any version of the message.

The declarations (`schema.py`) are not interpreted: the first use of a (message, version, direction) writes Python
source for just that, straight down the fields (`decode_source.py`, `encode_source.py`), compiles it and keeps it on
the class. The fast code does not know where it is; when it fails, a second rendering of the same declaration, which
does, runs once more over the same input to say which field at which byte is wrong.
"""

from collections.abc import Callable
from struct import error as StructError  # noqa: N812
from typing import Any, TypeVar

from kpybroker.wire.errors import MalformedMessage, UnencodableMessage, UnsupportedVersion
from kpybroker.wire.primitives import Region
from kpybroker.wire.schema import Message

MessageT = TypeVar("MessageT", bound=Message)

Part = bytes | memoryview | Region


def decode(cls: type[MessageT], version: int, data: bytes | memoryview) -> MessageT:
    """The message that all of `data` is.

    Records fields are views of `data`; everything else is copied. Raises: MalformedMessage, also for bytes left over;
    UnsupportedVersion if the message has no such version.
    """
    try:
        decoder = cls.decoders[version]
    except KeyError:
        decoder = _decoder(cls, version)
    try:
        decoded: MessageT = decoder(data, 0, True)
    except DECODE_FAULTS as fault:
        fault.__traceback__ = None  # lets go of what was decoded so far, before it is decoded once more
        raise _malformed(cls, version, data, 0, True) from fault
    return decoded


def decode_prefix(cls: type[MessageT], version: int, data: bytes | memoryview, offset: int = 0) -> tuple[MessageT, int]:
    """The message that begins at `offset`, and the offset after it. Raises: as `decode`."""
    try:
        decoder = cls.decoders[version]
    except KeyError:
        decoder = _decoder(cls, version)
    try:
        decoded: tuple[MessageT, int] = decoder(data, offset, False)
    except DECODE_FAULTS as fault:
        fault.__traceback__ = None
        raise _malformed(cls, version, data, offset, False) from fault
    return decoded


def encode(message: Message, version: int) -> bytes:
    """The bytes of `message` at `version`.

    Raises: UnsupportedVersion if there is no such version, or if it lacks a field that is set to something other than
    its default and may not be dropped; UnencodableMessage for a value of the wrong type or size, and for a file region.
    """
    try:
        encoder = message.encoders[version]
    except KeyError:
        encoder = _encoder(type(message), version)
    try:
        encoded = encoder(message)
    except ENCODE_FAULTS as fault:
        raise _unencodable(message, version) from fault
    if type(encoded) is bytes:
        return encoded
    try:
        return b"".join(encoded)
    except TypeError:
        raise UnencodableMessage(
            "a region has no bytes here: use encode_parts", message=type(message).__name__, version=version
        ) from None


def encode_parts(message: Message, version: int) -> list[Part]:
    """As `encode`, in parts: records are passed through as they are, what stands between them is one part each."""
    try:
        encoder = message.encoders[version]
    except KeyError:
        encoder = _encoder(type(message), version)
    try:
        encoded = encoder(message)
    except ENCODE_FAULTS as fault:
        raise _unencodable(message, version) from fault
    return [encoded] if type(encoded) is bytes else encoded


DECODE_FAULTS = (StructError, IndexError, UnicodeDecodeError, MalformedMessage)
"""What the fast decoders raise."""

ENCODE_FAULTS = (StructError, AttributeError, TypeError, ValueError, OverflowError, UnencodableMessage)
"""What the fast encoders raise."""


def _malformed(cls: type[Message], version: int, data: bytes | memoryview, start: int, whole: bool) -> MalformedMessage:
    from kpybroker.wire.decode_source import explain

    return explain(cls, version, data, start, whole)


def _unencodable(message: Message, version: int) -> UnencodableMessage:
    from kpybroker.wire.encode_source import explain

    return explain(message, version)


def _decoder(cls: type[Message], version: int) -> Callable[..., Any]:
    from kpybroker.wire.decode_source import compile_decoder

    _check_version(cls, version)
    decoder = cls.decoders[version] = compile_decoder(cls, version)
    return decoder


def _encoder(cls: type[Message], version: int) -> Callable[..., Any]:
    from kpybroker.wire.encode_source import compile_encoder

    _check_version(cls, version)
    encoder = cls.encoders[version] = compile_encoder(cls, version)
    return encoder


def _check_version(cls: type[Message], version: int) -> None:
    if version not in cls.VERSIONS:
        raise UnsupportedVersion("no such version", message=cls.__name__, version=version)

"""The smallest pieces of the wire format: variable-length integers, UUIDs as text, regions of a file.

Unsigned varints are those of KIP-482: seven bits a byte, lowest first, at most five bytes.
"""

from binascii import Error as Base64Error
from binascii import a2b_base64, b2a_base64
from typing import Protocol

from kpybroker.wire.errors import MalformedMessage

ZERO_UUID = bytes(16)
"""Kafka's "no id": the default of every uuid field."""

STRING_BYTES_MAX = 0x7FFF
"""No string field may be longer, in flexible versions either: Java refuses it on both sides."""


class Region(Protocol):
    """Bytes that live elsewhere (a range of a file): they have a length and are passed through untouched."""

    def __len__(self) -> int: ...


def uuid_text(uuid: bytes) -> str:
    """The 22 characters in which Kafka prints an id: base64url without padding."""
    return b2a_base64(uuid, newline=False).decode("ascii").translate(_TO_URL_SAFE).rstrip("=")


def uuid_from_text(text: str) -> bytes:
    """The 16 bytes of an id from its text form. Raises: ValueError if it isn't one."""
    try:
        uuid = a2b_base64(text.translate(_FROM_URL_SAFE) + "=" * (-len(text) % 4), strict_mode=True)
    except (Base64Error, ValueError):
        raise ValueError(f"not an id: {text!r}") from None
    if len(uuid) != 16:
        raise ValueError(f"not an id of 16 bytes: {text!r}")
    return uuid


_TO_URL_SAFE = str.maketrans("+/", "-_")
_FROM_URL_SAFE = str.maketrans("-_+/", "+/!!")  # "!" is in no alphabet: plain base64 is not an id


def uvarint(number: int) -> bytes:
    """`number` (0 to 2**32 - 1) as an unsigned varint."""
    if number < 0x80:
        return bytes((number,))
    if number < 0x4000:
        return bytes((number & 0x7F | 0x80, number >> 7))
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def read_uvarint(data: bytes | memoryview, position: int) -> tuple[int, int]:
    """The unsigned varint at `position`, and the position after it.

    Raises: IndexError where the data ends, MalformedMessage if it goes on after five bytes or beyond 32 bits.
    """
    first = data[position]
    if first < 0x80:
        return first, position + 1
    return read_uvarint_rest(data, position + 1, first)


def read_uvarint_rest(data: bytes | memoryview, position: int, first: int) -> tuple[int, int]:
    """As `read_uvarint`, when the first byte was read already and is not the last."""
    second = data[position]
    if second < 0x80:
        return first & 0x7F | second << 7, position + 1
    number = first & 0x7F | (second & 0x7F) << 7
    for shift in (14, 21, 28):
        position += 1
        byte = data[position]
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            if number > 0xFFFFFFFF:
                break
            return number, position + 1
    raise MalformedMessage("unsigned varint beyond 32 bits", offset=position)

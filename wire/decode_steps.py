"""What generated decoders call where straight-line code would not pay: the rare, the long and the wrong."""

from kpybroker.wire.errors import MalformedMessage
from kpybroker.wire.primitives import STRING_BYTES_MAX, read_uvarint, read_uvarint_rest

TAGS_MAX = 64
"""Most tagged fields of one struct: no message has a tenth of that, and two bytes make one."""


def long_length(data: bytes | memoryview, p: int, n: int) -> tuple[int, int]:
    """The rest of a compact length whose first byte is 0 (null, which the field can't be) or has more to come."""
    if n == 0:
        raise MalformedMessage("null where there must be a value", offset=p)
    return read_uvarint_rest(data, p, n)


def long_text(data: bytes | memoryview, p: int, n: int) -> tuple[int, int]:
    """As `long_length`, for a string."""
    n, p = long_length(data, p, n)
    if n > STRING_BYTES_MAX + 1:
        raise MalformedMessage(f"a string of {n - 1} bytes (limit {STRING_BYTES_MAX})", offset=p)
    return n, p


def tag_count(data: bytes | memoryview, p: int) -> tuple[int, int]:
    """How many tagged fields a struct has."""
    count, p = read_uvarint(data, p)
    if count > TAGS_MAX:
        raise MalformedMessage(f"{count} tagged fields (limit {TAGS_MAX})", offset=p)
    return count, p


def next_tag(data: bytes | memoryview, p: int, limit: int) -> tuple[int, int, int]:
    """Number of the tagged field at `p`, where it ends, and where its value begins."""
    tag, p = read_uvarint(data, p)
    size, p = read_uvarint(data, p)
    if p + size > limit:
        raise MalformedMessage("a tagged field goes on behind the end")
    return tag, p + size, p


def unknown_tags(data: bytes | memoryview, p: int, limit: int) -> tuple[tuple[tuple[int, bytes], ...], int]:
    """The tagged fields of a struct of which we know none, and where they end."""
    count, p = tag_count(data, p)
    found = []
    for _ in range(count):
        tag, end, p = next_tag(data, p, limit)
        found.append((tag, bytes(data[p:end])))
        p = end
    return tuple(found), p


def wrong(why: str) -> None:
    raise MalformedMessage(why)


def left_over(count: int) -> None:
    """Refuse bytes behind the message."""
    raise MalformedMessage(f"{count} bytes left over")

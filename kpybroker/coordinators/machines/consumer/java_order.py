"""The order in which a Java HashMap is walked, and Kafka's own hash table.

Kafka's assignors walk hash maps of members, topics and partitions, so who gets which partition depends on that order.
To come to the same assignments, the same order is taken: by bucket, and within a bucket as the keys came.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection, Iterable
from functools import lru_cache
from typing import TypeVar

K = TypeVar("K")

_LEAST_BUCKETS = 16
_MASK = 0xFFFFFFFF
_LONG = 0xFFFFFFFFFFFFFFFF
_FIBONACCI = -7046029254386353131
_TEXTS_KEPT = 8192


@lru_cache(_TEXTS_KEPT)
def text_hash(text: str) -> int:
    """String.hashCode, unsigned."""
    data = text.encode("utf-16-le", "surrogatepass")
    result = 0
    for unit in struct.unpack(f"<{len(data) // 2}H", data):
        result = (31 * result + unit) & _MASK
    return result


def uuid_hash(uuid: bytes) -> int:
    """Uuid.hashCode of Kafka, unsigned."""
    high, low = struct.unpack(">QQ", uuid)
    both: int = high ^ low
    return (both >> 32) ^ (both & _MASK)


def number_hash(number: int) -> int:
    """Integer.hashCode of a number that is not negative."""
    return number


def grown(size: int) -> int:
    """How many buckets a map has that got so many entries one by one."""
    return grown_from(_LEAST_BUCKETS, size)


def copied(size: int) -> int:
    """How many buckets a set has that was made from a collection of so many (`new HashSet<>(collection)`)."""
    wanted = max(size * 4 // 3 + 1, _LEAST_BUCKETS)
    return 1 << (wanted - 1).bit_length()


def in_order(keys: Iterable[K], hash_of: Callable[[K], int], buckets: int) -> list[K]:
    """The keys as a map of so many buckets is walked."""
    mask = buckets - 1

    def bucket(key: K) -> int:
        number = hash_of(key)
        return (number ^ (number >> 16)) & mask

    return sorted(keys, key=bucket)


def sized(size: int) -> int:
    """How many buckets a map has that was made for so many entries (`new HashMap<>(size)`) and got them."""
    return grown_from(1 << (size - 1).bit_length() if size > 1 else 1, size)


def grown_from(buckets: int, size: int) -> int:
    """How many buckets a map has that had so many, and got entries until there were `size`."""
    while size > buckets * 3 // 4:
        buckets *= 2
    return buckets


def timeline_order(keys: Collection[str], most: int = 0) -> list[str]:
    """Texts as Kafka's own hash table for a coordinator's state is walked: by the high bits of a multiplied hash, and
    within a slot the last first.

    `most`: how many there once were; such a table does not shrink.
    """
    slots = 2
    while max(len(keys), most) * 3 > slots * 4:
        slots *= 2
    shift = 65 - slots.bit_length()

    def slot(key: str) -> int:
        number = text_hash(key)
        signed = number - (1 << 32) if number >> 31 else number
        return (signed * _FIBONACCI & _LONG) >> shift

    ordered = list(keys)
    ordered.reverse()
    return sorted(ordered, key=slot)


def copied_numbers(numbers: Collection[int]) -> list[int]:
    """Partition numbers as a HashSet made from a collection of them is walked."""
    return in_order(numbers, number_hash, copied(len(numbers)))

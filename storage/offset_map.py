"""The latest offset of each key in the part of a log that is to be compacted, in bounded memory.

Kafka keeps a table of fixed size, of hashes and offsets. Here it is a dictionary, which grows only as far as there are
keys. A short key stands for itself, a longer one is told by a hash under a secret of its own for each map, so that
nobody can make two keys that look the same. A full map is no failure: what lies behind the last offset that it covers
is kept, and compacted the next time.
"""

from hashlib import blake2b

_HASH_BYTES = 16
ENTRY_BYTES = 160
"""What an entry takes at most, with its share of the table: key and offset are objects of their own."""


class OffsetMap:
    """Keys and the offset of their last record, up to `entries_max` of them."""

    __slots__ = ("_offsets", "_secret", "entries_max", "latest_offset")

    def __init__(self, entries_max: int, secret: bytes) -> None:
        self.entries_max = entries_max
        self._offsets: dict[bytes, int] = {}
        self._secret = secret
        self.latest_offset = -1  # the map tells of every record up to this one, included

    def __len__(self) -> int:
        return len(self._offsets)

    @property
    def is_full(self) -> bool:
        """Whether no further key may be added."""
        return len(self._offsets) >= self.entries_max

    def put(self, key: bytes, offset: int) -> None:
        """The record at `offset` has `key`; offsets grow."""
        self._offsets[key if len(key) < _HASH_BYTES else self._hash(key)] = offset
        self.latest_offset = offset

    def get(self, key: bytes) -> int:
        """The offset of the key's last record, -1 if there is none."""
        return self._offsets.get(key if len(key) < _HASH_BYTES else self._hash(key), -1)

    def _hash(self, key: bytes) -> bytes:
        return blake2b(key, digest_size=_HASH_BYTES, key=self._secret).digest()

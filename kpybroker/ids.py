"""The seam to chance: every identifier and every random choice of a node comes from here.

Without a seed the numbers are the operating system's (unguessable, and never the same in two processes); with one they
repeat, which a simulation needs. Machines do not hold an `Ids`: what they need comes in with the event.
"""

from __future__ import annotations

import random
from binascii import b2a_base64
from collections.abc import MutableSequence, Sequence
from typing import TypeVar

T = TypeVar("T")


class Ids:
    """Identifiers and random choices. `seed` None: from the operating system; a number: the same sequence each time."""

    def __init__(self, seed: int | None = None) -> None:
        self._random: random.Random = random.SystemRandom() if seed is None else random.Random(seed)

    def uuid(self) -> bytes:
        """16 bytes of a version-4 UUID, as Kafka makes topic, directory, cluster and incarnation ids.

        Never one whose base64url text starts with "-": command-line tools would take that for an option. Kafka's
        reserved ids, the lowest 100, are no version-4 UUIDs.
        """
        while True:
            number = self._random.getrandbits(128)
            number = number & ~(0xF << 76) | 4 << 76  # version 4
            number = number & ~(0x3 << 62) | 2 << 62  # the RFC 4122 variant
            raw = number.to_bytes(16, "big")
            # The first six bits make the first character; 62 is "-" in the URL-safe alphabet.
            if raw[0] >> 2 != 62:
                return raw

    def uuid_text(self) -> str:
        """A new id as Kafka prints it: 22 characters of base64url without padding."""
        return b2a_base64(self.uuid(), newline=False).decode("ascii").translate(_URL_SAFE).rstrip("=")

    def member_id(self, client_id: str) -> str:
        """A classic-group member id as Kafka's coordinator makes it: the client id (or instance id), "-", a UUID."""
        text = self.uuid().hex()
        return f"{client_id}-{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"

    def randrange(self, stop: int) -> int:
        """A number from 0 up to and excluding `stop`. Raises: ValueError if `stop` is not positive."""
        return self._random.randrange(stop)

    def uniform(self, low: float, high: float) -> float:
        """A number between the bounds: back-offs, jitter, election timeouts."""
        return self._random.uniform(low, high)

    def choice(self, among: Sequence[T]) -> T:
        """One of a non-empty sequence. Raises: IndexError if it is empty."""
        return self._random.choice(among)

    def shuffle(self, items: MutableSequence[T]) -> None:
        """Put the items into a random order, in place."""
        self._random.shuffle(items)


_URL_SAFE = str.maketrans("+/", "-_")

"""What can be wrong with bytes on the wire or in a log, and with a message that is to become bytes.

WireError
  MalformedMessage        bytes from elsewhere that are not the message they claim to be; the peer's fault
    UnknownRecord         a record of an internal log that is newer than we are
    CorruptRecords        the same for record batches, with a kind that maps to one of Kafka's error codes
  UnencodableMessage      a message of ours that has no bytes at that version; our fault
    UnsupportedVersion    ... because the version, or a field in that version, does not exist
  JsonMismatch            JSON that is not the message it claims to be (tools only)
"""

from enum import StrEnum


class WireError(Exception):
    """Base of everything that wire raises about bytes and messages."""


class MalformedMessage(WireError):
    """Bytes that are not what they should be: cut short, a length that cannot be, text that is not UTF-8.

    `message` and `version` say what was being read ("" and -1: a frame, no message yet), `field` is the path to the
    field in the declaration's names ("topics.partitions.index"), `offset` counts bytes from the start of the buffer
    (-1: unknown).
    """

    def __init__(self, why: str, *, message: str = "", version: int = -1, field: str = "", offset: int = -1) -> None:
        super().__init__()
        self.why = why
        self.message = message
        self.version = version
        self.field = field
        self.offset = offset

    def __str__(self) -> str:
        place = self.message
        if self.version >= 0:
            place += f" v{self.version}"
        if self.field:
            place += f" {self.field}"
        if self.offset >= 0:
            place += f" at byte {self.offset}"
        return f"{place.strip()}: {self.why}" if place else self.why


class UnknownRecord(MalformedMessage):
    """A record of an internal log whose type, or version, we have no declaration of: newer than what we know.

    `type` is its number. A coordinator keeps such records and passes over them; in the metadata log they are fatal.
    """

    def __init__(self, why: str, type: int) -> None:  # noqa: A002
        super().__init__(why)
        self.type = type


class UnencodableMessage(WireError):
    """A message that cannot be written at `version`; `field` is the path to the value that stands in the way."""

    def __init__(self, why: str, *, message: str = "", version: int = -1, field: str = "") -> None:
        super().__init__(why)
        self.why = why
        self.message = message
        self.version = version
        self.field = field

    def __str__(self) -> str:
        return f"{self.message} v{self.version} {self.field}".rstrip() + f": {self.why}"


class UnsupportedVersion(UnencodableMessage):
    """No such version of the message, or a value set that this version cannot carry and must not lose."""


class JsonMismatch(WireError):
    """A JSON value that is not the message it should be; `path` leads to it ("topics[0].name", "" is the whole)."""

    def __init__(self, why: str, path: str = "") -> None:
        super().__init__(why)
        self.why = why
        self.path = path

    def __str__(self) -> str:
        return f"{self.path}: {self.why}" if self.path else self.why


# ---- records: the owner of wire/records adds below this line ----


class RecordsFault(StrEnum):
    """What is wrong with a record batch. Each kind ends in the error code that Kafka's broker answers for it."""

    CORRUPT = "corrupt"
    """Bad size, magic or checksum: CORRUPT_MESSAGE."""
    INVALID = "invalid"
    """A batch whose records break the rules (lengths, counts, offsets, headers): INVALID_RECORD."""
    UNREADABLE = "unreadable"
    """No such codec, or a length that no reader gets past: UNKNOWN_SERVER_ERROR."""
    UNDECOMPRESSABLE = "undecompressable"
    """The compressed stream is damaged or ends early: UNKNOWN_SERVER_ERROR."""
    TRUNCATED = "truncated"
    """The buffer ends before the batch does; from a producer no batch at all: INVALID_RECORD."""
    TOO_LARGE = "too large"
    """Decompressing would go over the limit that the caller set: MESSAGE_TOO_LARGE."""


class CorruptRecords(MalformedMessage):
    """Bytes that cannot be a batch or its records; `kind` says in which way and decides the error code."""

    def __init__(self, kind: RecordsFault, why: str) -> None:
        super().__init__(why, message="records")
        self.kind = kind

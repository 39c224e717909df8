"""Requests that mean no good: frames of every API that a broker advertises, at every version, damaged or made up.

Three kinds, in turn: Java's vectors as they are, vectors with damaged bytes, and messages made from the declarations
with extremes in every field, names of every kind, and batches that are sound, damaged or bombs. What they name is
theirs alone: topics and groups of those who work have names that nobody here comes upon, and no request is made that
would change the broker for everybody (`spares`).
"""

from __future__ import annotations

import gzip
import json
import random
import struct
import zlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from kpybroker.wire.api_keys import APIS, ApiKey
from kpybroker.wire.codec import decode_prefix, encode
from kpybroker.wire.errors import WireError
from kpybroker.wire.headers import RequestHeader, parse_request_header
from kpybroker.wire.records.batch import build_batch
from kpybroker.wire.records.record import Record
from kpybroker.wire.schema import ArrayOf, Kind, Message, Struct, StructOf, fields_of

VECTORS = Path(__file__).parents[3] / "tests/data/messages/clients-requests.jsonl.gz"
VECTOR_BYTES_MAX = 20_000
BYTES = (0, 1, 0x7F, 0x80, 0xFF)
CLIENT_IDS = ("hostile", "", None, "h\u00e9", "x" * 300)
NAMES = (
    *("hostile-a", "hostile-b", "hostile.a", "hostile_a", "", ".", "..", "a/b", "a\\b", "../../etc/passwd", "a" * 249),
    *("a" * 250, "a" * 32_000, "\u00e9", "\U0001f4a3", "\x00", "a\nb", "-1", "CON", "hostile a", "hostile:9092"),
    *("__consumer_offsets", "__cluster_metadata", "__transaction_state", "cleanup.policy", "retention.ms", "range"),
)
NUMBERS = (0, 1, 2, 3, 10, 100, 1000, 65_535, 65_536, 1_000_000)
DOUBLES = (0.0, 1.0, -1.0, 0.5, 1e300, 5e-324, float("inf"), float("-inf"), float("nan"))
WIDTHS = {"int8": 8, "int16": 16, "uint16": 16, "int32": 32, "uint32": 32, "int64": 64}
BOMB_BYTES = 30_000_000
FOR_EVERYBODY = {ApiKey.UNREGISTER_BROKER, ApiKey.REMOVE_RAFT_VOTER, ApiKey.ADD_RAFT_VOTER, ApiKey.UPDATE_FEATURES}
"""They are sent as vectors only: made up, they could mean this broker."""
DESTRUCTIVE = FOR_EVERYBODY | {
    *(ApiKey.DELETE_TOPICS, ApiKey.DELETE_RECORDS, ApiKey.CREATE_PARTITIONS, ApiKey.ELECT_LEADERS),
    *(ApiKey.ALTER_CONFIGS, ApiKey.INCREMENTAL_ALTER_CONFIGS, ApiKey.ALTER_PARTITION_REASSIGNMENTS),
    ApiKey.ALTER_CLIENT_QUOTAS,
}
"""What is sent of these is looked at first."""


class Sound(NamedTuple):
    """A frame that is well formed."""

    key: int
    version: int
    frame: bytes


def frame_of(key: int, version: int, body: bytes, client_id: str | None = "hostile") -> bytes:
    """Header and body, without the size."""
    header = RequestHeader(request_api_key=key, request_api_version=version, correlation_id=1, client_id=client_id)
    return encode(header, APIS[key].request_header_version(version)) + body


def vectors(served: dict[int, tuple[int, int]]) -> list[Sound]:
    """Java's requests of the APIs and versions that are served."""
    keys = {f"{APIS[key].name}Request": key for key in served if key in APIS}
    found = []
    with gzip.open(VECTORS, "rt", encoding="utf-8") as lines:
        for vector in map(json.loads, lines):
            key, version = keys.get(vector["message"], -1), vector["version"]
            if key >= 0 and served[key][0] <= version <= served[key][1] and len(vector["hex"]) <= 2 * VECTOR_BYTES_MAX:
                found.append(Sound(key, version, frame_of(key, version, bytes.fromhex(vector["hex"]))))
    return found


class Hostile:
    """Gives one request after the other, the same ones for the same seed."""

    def __init__(self, served: dict[int, tuple[int, int]], seed: int) -> None:
        self.served = {key: versions for key, versions in served.items() if key in APIS}
        self._chance = random.Random(seed)
        self._vectors = vectors(served)
        self._versions = [
            (key, version)
            for key, (first, last) in self.served.items()
            for version in range(first, last + 1)
            if APIS[key].schema[0] <= version <= APIS[key].schema[1] and key not in FOR_EVERYBODY
        ]

    def __iter__(self) -> Iterator[bytes]:
        """Frames with their sizes, without end."""
        while True:
            frame = self._chance.choice((self._vector, self._damaged, self._damaged, self._made, self._made))()
            if frame is not None and spares(frame):
                yield struct.pack(">i", len(frame)) + frame

    def _vector(self) -> bytes:
        return self._chance.choice(self._vectors).frame

    def _damaged(self) -> bytes:
        chance = self._chance
        damaged = bytearray(chance.choice(self._vectors).frame)
        for _ in range(chance.randrange(1, 6)):
            damaged[chance.randrange(8, len(damaged))] = chance.choice((*BYTES, chance.randrange(256)))
        if chance.random() < 0.2:
            del damaged[chance.randrange(8, len(damaged)) :]
        elif chance.random() < 0.1:
            damaged += chance.randbytes(chance.randrange(1, 100))
        return bytes(damaged)

    def _made(self) -> bytes | None:
        key, version = self._chance.choice(self._versions)
        message = self._struct(APIS[key].request_class(), version, 0)
        try:
            return frame_of(key, version, encode(message, version), self._chance.choice(CLIENT_IDS))
        except (ValueError, OverflowError, struct.error, WireError):  # there are values that this version has not
            return None

    def _struct(self, cls: type[Struct], version: int, depth: int) -> Any:
        values = {}
        for field in fields_of(cls):
            if version not in field.versions or (field.tag is not None and self._chance.random() < 0.5):
                values[field.name] = field.zero
            elif version in field.nullable and self._chance.random() < 0.15:
                values[field.name] = None
            else:
                values[field.name] = self._value(field.type, version, depth)
        return cls(**values)

    def _value(self, kind: Any, version: int, depth: int) -> Any:
        chance = self._chance
        match kind:
            case ArrayOf(element=element):
                count = chance.choice((0, 1, 1, 2, 3) if depth or chance.random() < 0.98 else (500,))
                return [self._value(element, version, depth + 1) for _ in range(count)]
            case StructOf(type=nested):
                return self._struct(nested, version, depth + 1)
            case Kind(name="bool"):
                return chance.random() < 0.5
            case Kind(name="string"):
                return chance.choice(NAMES)
            case Kind(name="bytes"):
                return chance.randbytes(chance.choice((0, 1, 10, 300)))
            case Kind(name="records"):
                return self._records()
            case Kind(name="uuid"):
                return chance.choice((bytes(16), b"\x00" * 15 + b"\x01", chance.randbytes(16)))
            case Kind(name="float64"):
                return chance.choice(DOUBLES)
        bits = WIDTHS[kind.name]
        if kind.name.startswith("u"):
            return chance.choice((0, 1, 2**bits - 1))
        edges = (-1, -2, 2 ** (bits - 1) - 1, -(2 ** (bits - 1)))
        return chance.choice((*(number for number in NUMBERS if number < 2 ** (bits - 1)), *edges))

    def _records(self) -> bytes:
        chance = self._chance
        records = bytearray(chance.choice(batches()))
        for _ in range(chance.choice((0, 0, 1, 3))):
            if records:
                records[chance.randrange(len(records))] = chance.choice((*BYTES, chance.randrange(256)))
        if len(records) > 21 and chance.random() < 0.7:  # past the checksum, to whatever looks closer
            from crc32c import crc32c

            records[17:21] = struct.pack(">I", crc32c(bytes(records[21:])))
        return bytes(records)


@cache
def batches() -> tuple[bytes, ...]:
    """Batches that are sound, and some that are small and become large."""
    few = [Record(timestamp=1_700_000_000_000 + index, key=b"k", value=b"v" * 50) for index in range(5)]
    sound = [build_batch(few, codec=codec) for codec in ("none", "gzip", "snappy", "lz4", "zstd")]
    large = [Record(timestamp=1_700_000_000_000, key=None, value=bytes(BOMB_BYTES))]
    bombs = [build_batch(large, codec=codec) for codec in ("gzip", "zstd", "lz4")]
    return b"", *sound, *sound, *(bomb for bomb in bombs if len(bomb) < 1_000_000), gzip_without_end(sound[1])


def gzip_without_end(batch: bytes) -> bytes:
    """A batch whose records are one gzip stream of nothing but zeros."""
    squeeze = zlib.compressobj(9, zlib.DEFLATED, 31)
    data = squeeze.compress(bytes(BOMB_BYTES)) + squeeze.flush()
    head = bytearray(batch[:61])
    head[8:12] = struct.pack(">i", 49 + len(data))
    return bytes(head) + data


def spares(frame: bytes) -> bool:
    """Whether a request leaves alone what is everybody's: the broker's settings, everybody's quotas, large topics."""
    (key,) = struct.unpack_from(">h", frame)
    if key not in DESTRUCTIVE:
        return True
    if b"__consumer_offsets" in frame:
        return False
    try:
        header = parse_request_header(frame)
        request, _ = decode_prefix(APIS[key].request_class(), header.api_version, frame, header.body_offset)
    except (WireError, KeyError):  # what cannot be read changes nothing
        return True
    return _spares(key, request)


def _spares(key: int, request: Message) -> bool:
    match key:
        case ApiKey.ALTER_CLIENT_QUOTAS:
            return not any(part.entity_name is None for entry in request.entries for part in entry.entity)  # type: ignore[attr-defined]
        case ApiKey.ALTER_CONFIGS | ApiKey.INCREMENTAL_ALTER_CONFIGS:
            return not any(resource.resource_type in (4, 8) for resource in request.resources)  # type: ignore[attr-defined]
        case ApiKey.UNREGISTER_BROKER | ApiKey.REMOVE_RAFT_VOTER:
            return 1 not in (getattr(request, "broker_id", 0), getattr(request, "voter_id", 0))
    return True
